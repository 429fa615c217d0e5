"""A stand-in for a model hub."""

from loopback_hub import hub  # noqa: F401
