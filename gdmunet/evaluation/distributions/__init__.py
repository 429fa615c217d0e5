"""Generated against real volumes as distributions of encoder features."""
