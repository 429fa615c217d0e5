"""One frozen dataclass for each command: type, default, help and flag of an option are said there and nowhere else.

The modules are imported one by one, so that ``--help`` of a command reads its own request alone.
"""
