"""Several trainers side by side on the same cases: statistics, paired differences, costs, and their tables as files.

Builds on `scores`; trains and predicts nothing (`gdmunet.workflows.compare` does).
"""
