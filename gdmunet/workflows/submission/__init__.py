"""Commands as jobs of a batch system or of this machine."""
