"""Trainers and their parts: patches, augmentation, journal, resume."""
