"""Sources of the cases of a prediction, and the files beside each prediction."""
