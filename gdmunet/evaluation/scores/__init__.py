"""Scores of predictions against references, case by case and over groups."""
