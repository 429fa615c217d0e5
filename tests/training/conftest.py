"""The toy data set."""

from toy_fixture import toy  # noqa: F401
