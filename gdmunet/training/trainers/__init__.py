"""The trainer's hooks, and every trainer by name: the method, its ablations and its rivals."""
