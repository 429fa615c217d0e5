"""Commands: parse the line, find the folders, call the functions. No logic."""
