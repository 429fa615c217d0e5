"""When things happen in a training: steps, epochs, validation, journal, checkpoints, interruption."""
