"""What each command does, as a function of one request: find everything, refuse early, run, write."""
