"""The fingerprint of a data set in parts: measurements of single cases on disk, put together once all are there."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from gdmunet.atomic import remove
from gdmunet.claims import Claim
from gdmunet.dataset import Case, list_cases, load_descriptor
from gdmunet.part_results import FOLDER, CaseWork, CrewOptions, KeptResults, all_kept, alone, key_of, run_part
from gdmunet.parts import OpenParts, PartOptions
from gdmunet.plans import FINGERPRINT_FILE
from gdmunet.plausibility.findings import check_names
from gdmunet.preprocessing.case_fingerprint import (
    CaseFingerprint,
    MeasuredCase,
    measure_apart,
    read_samples,
    source_files,
)
from gdmunet.preprocessing.fingerprint import (
    Fingerprint,
    arguments_of,
    load_if_unchanged,
    put_together,
    say_doubts,
    verify_dataset,
)
from gdmunet.serialization import save_json
from gdmunet.workers import check_processes

_TURN = ".running_parts.json"


@dataclass(frozen=True)
class FingerprintingOptions:
    """Choices for measuring a part of the cases, as in `extract_fingerprint`."""

    processes: int = 1
    show_progress: bool = True
    verify: bool = False
    accepted: Collection[str] = ()

    def __post_init__(self) -> None:
        check_processes(self.processes)
        check_names(self.accepted)


def extract_part(
    dataset_folder: Path, preprocessed_folder: Path, part: PartOptions, options: FingerprintingOptions
) -> Fingerprint | OpenParts:
    """Measure a part of the training cases; whoever finds all of them measured writes dataset_fingerprint.json.

    The file is that of a run over all cases at once, bit for bit. What is kept of single cases is then removed. Where
    the file is there and no source file has changed since, it is read instead.

    Raises
    ------
    GdmError
        A case that cannot be used, or, once all are measured, is not what it claims to be; another process does the
        same part.
    """
    dataset, preprocessed = Path(dataset_folder), Path(preprocessed_folder)
    descriptor = load_descriptor(dataset)
    if options.verify:
        verify_dataset(dataset, descriptor, options.processes, options.show_progress, options.accepted, part)
    cases = list_cases(dataset, descriptor)
    file = preprocessed / FINGERPRINT_FILE
    fingerprint: Fingerprint | OpenParts | None = load_if_unchanged(file, cases)
    if fingerprint is None:
        kept = KeptResults(preprocessed / FOLDER, CaseFingerprint, ("{}.npz",))
        work = [
            CaseWork(
                case.identifier,
                measure_apart,
                (*arguments_of(case, descriptor, preprocessed), kept.files(case.identifier)[1]),
                key_of(source_files(case), arguments_of(case, descriptor, Path())[1:]),
            )
            for case in cases
        ]
        crew = CrewOptions(options.processes, options.show_progress, "fingerprint")
        with Claim.on_folder(preprocessed, "fingerprint", part):
            run_part(work, kept, part, crew)
            with alone(preprocessed / _TURN, "putting parts together"):
                fingerprint = load_if_unchanged(file, cases) or _merged(cases, work, kept, part)
                if isinstance(fingerprint, Fingerprint):
                    save_json(fingerprint, file)
                    remove(kept.folder)
    if isinstance(fingerprint, Fingerprint):
        say_doubts(fingerprint, dataset, descriptor, options.accepted)
    return fingerprint


def _merged(
    cases: Sequence[Case],
    work: Sequence[CaseWork[CaseFingerprint]],
    kept: KeptResults[CaseFingerprint],
    part: PartOptions,
) -> Fingerprint | OpenParts:
    found = all_kept(work, kept, part)
    if isinstance(found, OpenParts):
        return found
    return put_together(
        cases,
        [
            MeasuredCase(one, read_samples(kept.files(case.identifier)[1], one.intensities))
            for case, one in zip(cases, found, strict=True)
        ],
    )
