"""Cases that are volume files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from gdmunet.dataset import Case, DatasetDescriptor
from gdmunet.errors import GdmError
from gdmunet.imageio import CaseVolumes, read_case
from gdmunet.inference.cases.conditions import FindVolumes, find_conditions
from gdmunet.inference.cases.source import CaseSource
from gdmunet.quantities import counted
from gdmunet.volume_formats.files import find_volumes, left_out_of
from gdmunet.volume_formats.table import FILE_ENDINGS, ending_of


class FileCases(CaseSource):
    """Files as a user names them: see `find_conditions` for the names that they may have.

    Parameters
    ----------
    inputs
        One folder, one folder for each channel, or files.
    descriptor
        Description of the data set, with channels and ending.
    mask
        Folder of body masks ``CASE.ext``, or the mask of the only case; None: the body is derived from the condition.
    """

    def __init__(self, inputs: Path | Sequence[Path], descriptor: DatasetDescriptor, mask: Path | None = None) -> None:
        self._inputs = (Path(inputs),) if isinstance(inputs, str | Path) else tuple(map(Path, inputs))
        first, parents = self._inputs[0], {path.resolve().parent for path in self._inputs}
        if ending_of(first) is None or first.is_dir():
            self.input_folder = first
        elif len(parents) == 1:
            self.input_folder = first.parent
        self.mask_folder, self._descriptor = mask, descriptor

    def list_cases(self) -> list[Case]:
        """The cases, sorted by name."""
        return with_masks(find_conditions(self._inputs, self._descriptor), self.mask_folder)

    def left_out(self) -> list[str]:
        """What lies beside the conditions and the masks in a folder that was named."""
        return left_out_of([*(path for path in self._inputs if path.is_dir()), self.mask_folder])

    def reading(self) -> dict[str, str]:
        """The folders of further channels, if each channel has one of its own."""
        folders = [path for path in self._inputs if path.is_dir()]
        return {f"folder of channel {i}": str(path) for i, path in enumerate(folders) if i > 0}

    def read(self, case: Case) -> CaseVolumes:
        """Read the files of a case."""
        return read_case(case)


class ListedCases(CaseSource):
    """Cases of files that are listed already, such as those that a fold holds out.

    Parameters
    ----------
    cases
        The cases with their masks.
    mask_folder
        Folder of those masks, which is only recorded.
    """

    def __init__(self, cases: Sequence[Case], mask_folder: Path | None = None) -> None:
        self._cases, self.mask_folder = list(cases), mask_folder

    def list_cases(self) -> list[Case]:
        """The given cases."""
        return self._cases

    def read(self, case: Case) -> CaseVolumes:
        """Read the files of a case."""
        return read_case(case)


def with_masks(
    conditions: Mapping[str, tuple[Path, ...]], mask: Path | None, volumes_of: FindVolumes = find_volumes
) -> list[Case]:
    """Cases of these conditions with the masks ``CASE.ext`` of a folder, or with the one mask of the only case.

    Raises
    ------
    GdmError
        A case without a mask, although there is a folder of masks; one mask for several cases.
    """
    if mask is not None and mask.is_file():
        if len(conditions) > 1:
            raise GdmError(
                "one mask cannot be that of several cases",
                file=mask,
                found=counted(conditions, "case"),
                expected="a folder of masks, named as their cases",
                remedy="give the folder of the masks to --mask",
            )
        return [Case(identifier, paths, mask=mask) for identifier, paths in conditions.items()]
    masks = volumes_of(mask) if mask is not None and mask.is_dir() else {}
    if mask is not None:
        for identifier in conditions:
            if identifier not in masks:
                raise GdmError(
                    "image without mask",
                    case=identifier,
                    file=mask / f"{identifier}{FILE_ENDINGS[0]}",
                    found="no such file",
                    expected="a mask for every case",
                    remedy="add the mask, or predict without --mask: the body is then derived from the condition",
                )
    return [Case(identifier, paths, mask=masks.get(identifier)) for identifier, paths in conditions.items()]
