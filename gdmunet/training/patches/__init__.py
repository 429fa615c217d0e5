"""The input of a training step: patches of prepared cases, augmented, in batches."""
