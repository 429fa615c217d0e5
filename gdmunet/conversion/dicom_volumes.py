"""One DICOM series to a volume file, and one CT volume file to a DICOM series."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gdmunet.dicom.reading import DicomVolume, read_series
from gdmunet.dicom.series import choose_series, left_out_of, scan_series
from gdmunet.dicom.writing import SeriesLabel, write_ct_series
from gdmunet.errors import GdmError
from gdmunet.imageio import Volume, read_volume, write_volume
from gdmunet.version import __version__
from gdmunet.volume_formats.table import FILE_ENDINGS, ending_of, stem_of


@dataclass(frozen=True)
class WrittenSeries:
    """A volume file that became a DICOM series; `rounded` says that its values were not whole HU."""

    uid: str
    slices: int
    rounded: bool


@dataclass(frozen=True)
class ConvertedSeries:
    """A DICOM series that became a volume file, and lines about the files of its folder that are not in it."""

    volume: DicomVolume
    left_out: tuple[str, ...]


def series_to_volume(
    folder: Path, file: Path, series: str | None = None, fix_geometry: bool = False, case: str | None = None
) -> ConvertedSeries:
    """Read one series of a folder and write it as a volume.

    Parameters
    ----------
    file
        Its ending says the format. Whole numbers become int16 (int32), others float32: no value changes.
    series
        UID or number; None: the only one that is a volume.
    fix_geometry
        Whether slices that do not form a regular grid are resampled.

    Raises
    ------
    GdmError
        The errors of `choose_series` and `read_series`, or an unknown ending.
    """
    if ending_of(file) is None:
        raise GdmError(
            "the output is not a volume file",
            file=file,
            expected=f"a name that ends in {', '.join(FILE_ENDINGS)}",
            remedy="end the name of -o in one of these",
        )
    found = scan_series(folder, case)
    chosen = choose_series(found, series, folder=folder, case=case)
    read = read_series(chosen, fix_geometry, case)
    write_exactly(file, read.volume)
    return ConvertedSeries(read, tuple(left_out_of(folder, found, chosen, Path(folder).name)))


def write_exactly(file: Path, volume: Volume) -> None:
    """Write a volume in the smallest type that changes none of its values."""
    write_volume(file, _smallest(volume.array), volume.geometry)


def volume_to_series(
    file: Path, folder: Path, reference: Path | None = None, series: str | None = None, description: str | None = None
) -> WrittenSeries:
    """Write a CT volume file as a DICOM series.

    Parameters
    ----------
    reference
        Folder of the series that the CT was made from: its patient, study and frame of reference are kept. None: a
        new study of a patient without a name, whose ID is the name of the file.
    series
        UID or number of the reference series; None: the only one that is a volume.
    description
        Text that viewers list, after "Synthetic:" if it does not begin with that word; None: Synthetic CT.
    """
    volume = read_volume(file)
    source = choose_series(scan_series(reference), series, folder=reference) if reference else None
    text = description or "Synthetic CT"
    if not text.lower().startswith("synthetic"):  # further back a viewer's list, or DICOM's 64 characters, may cut it
        text = f"Synthetic: {text}"  # no list of series may show it as an acquired one
    label = SeriesLabel(text, f"{text}: written from a volume file by gdmunet {__version__}, not by a scanner.")
    identifier = stem_of(file)
    uid = write_ct_series(folder, volume, label, reference=source, patient_id=identifier)
    return WrittenSeries(uid, len(volume.array), _smallest(volume.array).dtype.kind == "f")


def _smallest(array: np.ndarray) -> np.ndarray:
    low, high = array.min(), array.max()
    kind = np.int16 if low >= -(2**15) and high < 2**15 else np.int32
    if max(-low, high) > 2**24 or any((plane != np.rint(plane)).any() for plane in array):
        return array  # above 2^24 not every whole number is a float32
    return array.astype(kind)
