"""Cases that are DICOM series: found in a folder, read for prediction, and predicted CTs written as series."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gdmunet.dataset import Case
from gdmunet.dicom.files import dicom_files, is_dicom, slice_name, structures_name
from gdmunet.errors import GdmError
from gdmunet.imageio import CaseVolumes, Volume
from gdmunet.inference.cases.dicom_output import check_apart, series_label
from gdmunet.inference.cases.files import with_masks
from gdmunet.inference.cases.memory import gather_case
from gdmunet.inference.cases.source import CaseSource
from gdmunet.inference.options import PredictionOptions
from gdmunet.inference.prediction import Prediction
from gdmunet.inference.predictor import Predictor
from gdmunet.quantities import counted
from gdmunet.volume_formats.table import ending_of

if TYPE_CHECKING:
    from gdmunet.dicom.series import Series
    from gdmunet.dicom.structures import StructureSet


def find_dicom_folders(folder: Path) -> dict[str, Path] | None:
    """Case to its folder: the folder itself where DICOM files lie in it, else its sub-folders that hold some.

    None where there are volumes of another format, or no DICOM file at all.
    """
    folder = Path(folder)
    entries = sorted(p for p in folder.iterdir() if not p.name.startswith(".")) if folder.is_dir() else []
    if any(ending_of(path) for path in entries):
        return None
    if any(path.is_file() and is_dicom(path) for path in entries):
        return {folder.resolve().name: folder}
    folders_of_cases = {path.name: path for path in entries if path.is_dir()}
    holds = {name: next(dicom_files(path), None) is not None for name, path in folders_of_cases.items()}
    if not any(holds.values()):
        return None
    for name, there in holds.items():
        if not there:
            raise GdmError(
                "the folder of a case holds no DICOM file",
                case=name,
                file=folders_of_cases[name],
                expected="one folder of DICOM files per case",
                remedy="add its files, or move the folder elsewhere",
            )
    return folders_of_cases


@dataclass(frozen=True)
class DicomOptions:
    """Options for reading and writing DICOM series.

    Attributes
    ----------
    series
        UID or number of the series of each channel; may be empty for one channel if there is one series.
    fix_geometry
        Whether series that do not form a regular grid are resampled, instead of refused.
    output
        Folder that gets ``CASE/CT_0001.dcm``, ...; None: no DICOM is written.
    accept
        Checks of the series that are insisted on (see `gdmunet.dicom.agreement.check_case_series`).
    copy_structures
        Whether the structure sets that refer to the first channel's series are copied into the folders of `output`,
        ``CASE/RS_0001.dcm``, ..., and refer to the predicted series there.
    """

    series: tuple[str, ...] = ()
    fix_geometry: bool = False
    output: Path | None = None
    accept: tuple[str, ...] = ()
    copy_structures: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.series, str):
            raise TypeError("series is a tuple of texts")
        if self.copy_structures and self.output is None:
            raise ValueError("structure sets are copied beside a written series: output is not given")


@dataclass(frozen=True)
class _Source:
    """What a case was read from, kept until its prediction is written."""

    series: Series
    structures: tuple[StructureSet, ...]


def open_dicom(
    folder: Path, predictor: Predictor, options: DicomOptions | None = None, mask_folder: Path | None = None
) -> DicomCases | None:
    """The DICOM cases of a folder, or None if it holds files of another format.

    Raises
    ------
    GdmError
        The options ask for DICOM, and the folder holds none.
    """
    folders, options = find_dicom_folders(folder), options or DicomOptions()
    if folders is None:
        if replace(options, accept=()) != DicomOptions():
            raise GdmError(
                "--series, --fix-geometry and --dicom-out need DICOM input",
                file=folder,
                found="no DICOM files, or volumes of another format beside them",
                expected="a folder of one DICOM series, or of one sub-folder per case",
                remedy="check -i; predictions of other formats can be converted to DICOM afterwards",
            )
        return None
    return DicomCases(Path(folder), folders, predictor, options, mask_folder)


class DicomCases(CaseSource):
    """Reads the series of each case and remembers it until the prediction is written.

    Parameters
    ----------
    folder, folders
        The folder that was given, and case to its folder in it.
    predictor
        Predictor, which says the needed channels and the predicted modality.
    options
        Choice of the series that are read, and the folder of those that are written.
    mask_folder
        Body masks ``CASE.ext``; None: the body is derived from the condition.

    Attributes
    ----------
    notes
        Texts about changes of the geometry, with the case.

    Raises
    ------
    GdmError
        Not one series per channel, DICOM output of a model that does not predict CT, or output that would meet a
        source.
    """

    def __init__(
        self,
        folder: Path,
        folders: dict[str, Path],
        predictor: Predictor,
        options: DicomOptions,
        mask_folder: Path | None = None,
    ) -> None:
        series, output = options.series, options.output
        self.input_folder, self.mask_folder = folder, mask_folder
        self._folders, self._output, self._fix_geometry = folders, output, options.fix_geometry
        self._accept, self._copy_structures = options.accept, options.copy_structures
        self._channels = predictor.descriptor.channels
        self._wanted: list[str | None] = list(series) if series else [None]
        self._label = series_label(predictor)
        self._sources: dict[str, _Source] = {}
        self.notes: list[str] = []
        if len(self._wanted) != len(self._channels):
            raise GdmError(
                "every channel of the model needs a series",
                found=f"{len(series)} series",
                expected=f"{len(self._channels)}: {', '.join(self._channels)}",
                remedy="name them with --series, by number or UID, in this order",
            )
        if output is not None:
            check_apart(output, folders)
        if output is not None and not predictor.descriptor.hounsfield:
            raise GdmError(
                "only a predicted CT can be written as a DICOM series",
                found=f"a model that predicts {predictor.descriptor.target_name}",
                remedy="omit --dicom-out",
            )

    def list_cases(self) -> list[Case]:
        """The cases; the folder of its series stands where a case of files has its condition."""
        conditions = {name: (folder,) for name, folder in self._folders.items()}
        return with_masks(conditions, self.mask_folder)

    def reading(self) -> dict[str, str]:
        """The series of each channel, and whether uneven slices were resampled."""
        series = " ".join(wanted or "the only one" for wanted in self._wanted)
        return {"series": series, "fix_geometry": str(self._fix_geometry)}

    def read(self, case: Case) -> CaseVolumes:
        """Read the series of a case, one per channel, and its mask where there is one."""
        from gdmunet.dicom.agreement import ChannelSeries, check_case_series
        from gdmunet.dicom.reading import read_series  # here: most predictions read other files, without pydicom
        from gdmunet.dicom.series import choose_series, left_out_of, scan_series

        name, folder = case.identifier, case.conditions[0]
        found = scan_series(folder, name)
        chosen = [choose_series(found, wanted, folder=folder, case=name) for wanted in self._wanted]
        matched = [ChannelSeries(series, folder, word) for series, word in zip(chosen, self._channels, strict=True)]
        self.notes += check_case_series(matched, name, self._accept)
        volumes: list[Volume] = []
        for series in chosen:
            read = read_series(series, self._fix_geometry, name)
            self.notes += [f"{name}: resampled onto a regular grid; {repair}" for repair in read.repairs]
            volumes.append(read.volume)
        structures = self._structures(chosen[0], found, volumes[0], name)
        if len(chosen) == 1:
            copied = {one.file for one in structures}
            others = [series for series in found if not copied.issuperset(series.files)]
            self.notes += left_out_of(folder, others, chosen[0], name)
        self._sources[name] = _Source(chosen[0], structures)
        return gather_case(volumes, self._channels, case.mask, identifier=name)

    def _structures(
        self, source: Series, found: Sequence[Series], volume: Volume, case: str
    ) -> tuple[StructureSet, ...]:
        """The structure sets that go along; refused before anything is computed."""
        from gdmunet.dicom.structures import structure_sets_of

        if not self._copy_structures:
            return ()
        structures = structure_sets_of(source, found, volume.geometry, case)
        what = counted(structures, "structure set") if structures else "no structure set"
        self.notes.append(f"{case}: {what} of the series in its folder, copied with the predicted series")
        return structures

    def check_output(self, identifiers: Sequence[str], replace: bool) -> None:
        """Refuse a DICOM folder that is there already, before anything is computed.

        With `replace`, only one that holds anything but a series that gdmunet wrote.
        """
        from gdmunet.dicom.writing import check_replaceable

        for name in identifiers:
            if self._output is None or not any((self._output / name).glob("*")):
                continue
            check_replaceable(self._output / name, name)
            if not replace:
                raise GdmError(
                    "the case has a DICOM series already",
                    case=name,
                    file=self._output / name,
                    expected="no such folder: each series is written into one of its own",
                    remedy="give another --dicom-out, remove the folder, or add --continue_prediction",
                )

    def has(self, identifier: str) -> bool:
        """Nothing is left to write for the case; folders of series appear whole."""
        if self._output is None:
            return True
        folder = self._output / identifier
        if not self._copy_structures or not any(folder.glob("*")):
            return any(folder.glob("*"))
        return (folder / structures_name(1)).is_file() or not self._waiting_structures(identifier)

    def _waiting_structures(self, identifier: str) -> bool:
        """Whether there are structure sets to copy."""
        from gdmunet.dicom.series import choose_series, scan_series
        from gdmunet.dicom.structures import has_structure_sets

        folder = self._folders[identifier]
        found = scan_series(folder, identifier)
        return has_structure_sets(choose_series(found, self._wanted[0], folder=folder, case=identifier), found)

    def files_beside(self, identifier: str) -> list[Path]:
        """The first slice of the series that is written."""
        return [self._output / identifier / slice_name(1)] if self._output is not None else []

    def write(self, prediction: Prediction) -> None:
        """Write a prediction as a CT series of its source's patient and study."""
        from gdmunet.dicom.writing import write_ct_series

        source = self._sources.pop(prediction.identifier)
        if self._output is not None:
            volume = Volume(prediction.array, prediction.geometry)
            folder = self._output / prediction.identifier
            write_ct_series(
                folder,
                volume,
                self._label,
                reference=source.series,
                replace=True,
                structures=source.structures,
            )

    def finish(self, cases: Sequence[Case], predicted: Collection[str], options: PredictionOptions) -> list[str]:
        """Texts about changes of the geometry, with the case."""
        return self.notes
