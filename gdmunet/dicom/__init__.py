"""DICOM series in and out: scan and choose, check the geometry, read as a volume, write a CT series."""
