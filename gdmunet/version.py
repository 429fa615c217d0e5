"""The version, said once: files, commands, pages and the distribution read it here."""

__version__ = "0.1.0"
