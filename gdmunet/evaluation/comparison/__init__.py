"""Several trainers side by side on the same cases: statistics, paired differences, costs, and their tables as files.

Builds on `scores`; does not train or predict (`gdmunet.workflows.compare` does).
"""
