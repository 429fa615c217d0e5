"""What a predicted series is called, and where it may not lie."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gdmunet.errors import GdmError
from gdmunet.inference.predictor import Predictor
from gdmunet.version import __version__

if TYPE_CHECKING:
    from gdmunet.dicom.writing import SeriesLabel


def check_apart(output: Path, folders: dict[str, Path]) -> None:
    """Refuse output that is, holds or lies in a source folder: replacing a prediction would delete the source."""
    sources = {folder.resolve() for folder in folders.values()}
    above = {folder for source in sources for folder in source.parents}
    for name in folders:
        written = (output / name).resolve()
        if written in above or sources & {written, *written.parents}:
            raise GdmError(
                "the folder of a predicted series is, holds or lies in the folder of a source series",
                case=name,
                file=written,
                expected="a folder elsewhere, so that a source is neither read as a prediction nor overwritten",
                remedy="give another --dicom-out",
            )


def series_label(predictor: Predictor) -> SeriesLabel:
    """The texts of the series that a predictor makes."""
    from gdmunet.dicom.writing import SeriesLabel

    source = predictor.source
    model = f"{source.folder.parent.name} {source.folder.name}" if source else "a network given as an object"
    channels = " and ".join(predictor.descriptor.channels)
    target = predictor.descriptor.target_name
    place = "" if predictor.realism is None else f"realism {predictor.realism:g}"
    return SeriesLabel(
        f"Synthetic {target}{f', {place}' if place else ''}",
        f"Synthetic {target}: predicted from {channels} by gdmunet {__version__}, model {model}"
        f"{f', {place} of 0 to 1' if place else ''}; not acquired by a scanner.",
        source.folder.parent.name if source else "",
    )
