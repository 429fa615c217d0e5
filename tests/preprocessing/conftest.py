"""Small raw data sets."""

from raw_samples import make_configuration, make_plans, raw_dataset  # noqa: F401
