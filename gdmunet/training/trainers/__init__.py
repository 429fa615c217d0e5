"""What a trainer is, and every trainer by name: the method, its ablations and its rivals."""
