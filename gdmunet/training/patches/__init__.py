"""What a training step sees: patches of prepared cases, augmented, in batches."""
