"""From a trained model and a condition to a prediction in physical units."""
