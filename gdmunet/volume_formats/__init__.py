"""File formats of volumes, one file for each: every format here is read and written everywhere (`interface`)."""
