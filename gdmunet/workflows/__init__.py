"""The work of each command, as a function of one request: find everything, refuse early, run, write."""
