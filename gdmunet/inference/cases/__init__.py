"""Where the cases of a prediction come from, and what is written beside each."""
