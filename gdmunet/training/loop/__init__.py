"""The course of a training: steps, epochs, validation, journal, checkpoints, interruption."""
