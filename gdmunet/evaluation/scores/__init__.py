"""Scores of a folder of predictions: match files, score cases, put them together, print them.

Builds on `distributions`; knows no trainer and draws no page.
"""
