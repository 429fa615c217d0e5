"""Small data sets, raw and prepared."""

from raw_samples import make_configuration, make_plans, raw_dataset  # noqa: F401
from toy_fixture import toy  # noqa: F401
