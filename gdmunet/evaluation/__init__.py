"""Folder against folder: scores, groups, naive references."""
