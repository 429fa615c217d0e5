"""Cases that are volume files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from gdmunet.dataset import Case, DatasetDescriptor, list_images
from gdmunet.errors import GdmError
from gdmunet.imageio import CaseVolumes, read_case
from gdmunet.inference.cases.source import CaseSource
from gdmunet.volume_formats.files import find_volumes, left_out_of
from gdmunet.volume_formats.table import ending_of


class FileCases(CaseSource):
    """A folder of ``CASE_0000.ext``, one file for each channel, in the ending of the model's data set.

    Parameters
    ----------
    folder
        The folder.
    descriptor
        Description of the data set, with channels and ending.
    mask_folder
        Body masks ``CASE.ext``; None: the body is derived from the condition.
    """

    def __init__(self, folder: Path, descriptor: DatasetDescriptor, mask_folder: Path | None = None) -> None:
        self.input_folder, self.mask_folder, self._descriptor = Path(folder), mask_folder, descriptor

    def list_cases(self) -> list[Case]:
        """The folder's cases, sorted by name."""
        assert self.input_folder is not None
        images = list_images(self.input_folder, self._descriptor)
        return with_masks(images, self.mask_folder, self._descriptor.file_ending)

    def left_out(self) -> list[str]:
        """What lies beside the conditions and the masks."""
        return left_out_of([self.input_folder, self.mask_folder])

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


def with_masks(conditions: Mapping[str, tuple[Path, ...]], mask_folder: Path | None, ending: str) -> list[Case]:
    """Cases of these conditions with the masks ``CASE.ext`` of a folder.

    Raises
    ------
    GdmError
        A case without a mask, although there is a folder of masks.
    """
    cases = []
    masks = find_volumes(mask_folder) if mask_folder and mask_folder.is_dir() else {}
    for identifier, paths in conditions.items():
        mask = masks.get(identifier) if mask_folder else None
        if mask_folder is not None and (mask is None or ending_of(mask) != ending):
            raise GdmError(
                "image without mask",
                case=identifier,
                file=mask_folder / f"{identifier}{ending}",
                found="no such file",
                expected="a mask for every case",
                remedy="add the mask, or predict without --mask: the body is then derived from the condition",
            )
        cases.append(Case(identifier, paths, mask=mask))
    return cases
