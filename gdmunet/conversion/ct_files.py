"""CT volumes that are to be scanned: files by identifier, in the inputs of a command."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from gdmunet.errors import GdmError
from gdmunet.volume_formats.files import find_volumes, unique_files
from gdmunet.volume_formats.table import FILE_ENDINGS, ending_of, stem_of


def find_ct_files(inputs: Sequence[Path]) -> dict[str, Path]:
    """Identifier to file, for CT files and the volumes of folders; the identifier is the name without its ending.

    Raises
    ------
    GdmError
        A missing path, a file of an unknown ending, two files of one identifier, or no file at all.
    """
    ct_files = unique_files(_named_volumes(inputs))
    if not ct_files:
        raise GdmError(
            "there are no CT volumes",
            file=inputs[0] if inputs else None,
            expected="files that end in " + " ".join(FILE_ENDINGS),
            remedy="convert DICOM series to volumes first",
        )
    return dict(sorted(ct_files.items()))


def _named_volumes(inputs: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    for path in inputs:
        if not path.exists():
            raise GdmError("the input is missing", file=path, remedy="check the path")
        for file in find_volumes(path).values() if path.is_dir() else [path]:
            ending = ending_of(file)
            if ending is None:
                raise GdmError(
                    "not a volume",
                    file=file,
                    expected=" ".join(FILE_ENDINGS),
                    remedy="give volumes, or folders of volumes; convert DICOM series first",
                )
            yield stem_of(file), file
