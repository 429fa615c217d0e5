"""Generated against real volumes as distributions of encoder features.

The lowest room of the evaluation: it knows files of volumes and encoders, no summary.
"""
