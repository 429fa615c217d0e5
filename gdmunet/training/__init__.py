"""Trainers, and what they need: patches, augmentation, journal, resume."""
