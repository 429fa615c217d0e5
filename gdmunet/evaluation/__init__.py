"""The quality of predictions: folder against folder, as distributions, trainer against trainer, and as pages.

Four rooms, each building on those before it: `distributions`, `scores`, `comparison`, `report`.
"""
