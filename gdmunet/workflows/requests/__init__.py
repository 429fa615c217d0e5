"""One frozen dataclass for each command: type, default, help and flag of an option are said there and nowhere else."""
