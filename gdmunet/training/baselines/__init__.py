"""Rivals of the method, on the same plans, data, masks, journal, checkpoints and predictor."""
