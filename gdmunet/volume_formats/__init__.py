"""File formats of volumes, one file for each: what is put here is read and written everywhere (`interface`)."""
