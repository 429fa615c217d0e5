"""Score a folder of predictions against a folder of references."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from gdmunet.dataset import DatasetDescriptor, groups_of
from gdmunet.evaluation.distributions.judge import JudgedFiles, JudgeOptions, judge_files
from gdmunet.evaluation.distributions.judgement import Verdict
from gdmunet.evaluation.scores.case_scores import CaseScores, score_case
from gdmunet.evaluation.scores.range_choice import RangeChoice, choose_range
from gdmunet.evaluation.scores.summary import EvaluationSpec, Summary, package_versions, summarize
from gdmunet.evaluation.scores.volume_files import (
    EvaluationFolders,
    MatchedFiles,
    ScoredFiles,
    match_files,
    missing_error,
)
from gdmunet.metrics import EvaluationRange, ImageScores, OwnMetricSpec
from gdmunet.part_results import CaseWork, CrewOptions, KeptResults, all_kept, key_of, run_part
from gdmunet.parts import OpenParts, PartOptions
from gdmunet.plausibility.findings import Finding, check_names, settle
from gdmunet.provenance import UNKNOWN, ProvenanceSpec
from gdmunet.workers import check_processes, run_in_workers

_TITLE = "evaluating"


@dataclass(frozen=True)
class EvaluationOptions:
    """Options of an evaluation.

    Attributes
    ----------
    descriptor
        Description of the data set; its target decides the range (see `choose_range`) and it gives the groups.
    range_name, data_range
        Range of HU of that SynthRAD year, or low and high end in the target's unit; at most one of them.
    identifiers
        The only cases to score, such as a fold's validation cases among all references; None: every file of both
        folders.
    groups
        Identifier to kind of group to group; None: those of `descriptor`.
    structures
        Identifier to the labels that count there; None, or a case that is not named: all of its reference's.
    judge
        Encoders whose features compare predictions and references as distributions, and the classifier's options; None:
        no such comparison.
    checkpoint
        Name of the weights that made the predictions; only recorded.
    provenance
        Hashes of what these weights were made from; only recorded.
    allow_missing
        Whether a case that cannot be scored becomes a row with its error, in place of ending the evaluation.
    processes
        Worker processes; a volume of 512x512x133 needs about 2.5 GB in each.
    accept
        Checks of plausibility whose findings are accepted.
    findings
        Doubts that are known before, such as about names of groups; the summary lists them with those of the volumes.
    own_metrics
        Metrics of the user's own (`gdmunet.metrics.own_metrics`), which every case is scored with as well.

    Raises
    ------
    GdmError
        Two ranges, a range that does not fit the target, or no process.
    """

    descriptor: DatasetDescriptor | None = None
    range_name: EvaluationRange | None = None
    data_range: tuple[float, float] | None = None
    identifiers: Collection[str] | None = None
    groups: Mapping[str, Mapping[str, str]] | None = None
    structures: Mapping[str, Collection[int]] | None = None
    judge: JudgeOptions | None = None
    checkpoint: str | None = None
    provenance: ProvenanceSpec = UNKNOWN
    allow_missing: bool = False
    processes: int = 1
    show_progress: bool = True
    accept: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    own_metrics: tuple[OwnMetricSpec, ...] = ()

    def __post_init__(self) -> None:
        choose_range(self.descriptor, self.range_name, self.data_range)
        check_processes(self.processes)
        check_names(self.accept)

    @property
    def range_choice(self) -> RangeChoice:
        """The range that the scores refer to."""
        return choose_range(self.descriptor, self.range_name, self.data_range)


def evaluate_folders(folders: EvaluationFolders, options: EvaluationOptions | None = None) -> Summary:
    """Score every case; files are matched by name without ending, endings may differ.

    Parameters
    ----------
    folders
        Folders of the volumes; without masks the scores are over the whole volume, and the summary says so.

    Raises
    ------
    GdmError
        Names the case: missing or surplus prediction, missing mask, different grids, empty mask, NaN or infinity,
        unreadable file. With `allow_missing` only if no case can be scored.
    """
    options = options or EvaluationOptions()
    matched = _match(folders, options)
    return _summary(matched, _score_cases(matched, options), folders, options)


def evaluate_part(
    folders: EvaluationFolders, options: EvaluationOptions, part: PartOptions, kept_folder: Path
) -> Summary | OpenParts:
    """Score a part of the cases; once the scores of all are kept, the summary, which is that of one run.

    Parameters
    ----------
    kept_folder
        Folder in which the scores of single cases are kept; those whose files and settings are unchanged stay.

    Raises
    ------
    GdmError
        The same as those of `evaluate_folders`.
    """
    matched = _match(folders, options)
    kept = KeptResults(kept_folder, CaseScores)
    items = _items(matched, options)
    work = [CaseWork(name, score_case, arguments, _key(arguments[0], options)) for name, arguments in items]
    run_part(work, kept, part, CrewOptions(options.processes, options.show_progress, _TITLE))
    found = all_kept(work, kept, part)
    if isinstance(found, OpenParts):
        return found
    scored = {one.name: scores for one, scores in zip(work, found, strict=True)}
    return _summary(matched, scored, folders, options)


def _summary(
    matched: MatchedFiles, scored: Mapping[str, CaseScores], folders: EvaluationFolders, options: EvaluationOptions
) -> Summary:
    verdict = _judge(matched, scored, options)
    summary = put_together(_with_verdict(scored, verdict), folders, options, matched.problems)
    return replace(summary, distributions=verdict.judgements)


def _key(files: ScoredFiles, options: EvaluationOptions) -> str:
    """Hash of the files of a case and of the settings of its scores."""
    paths = {field.name: getattr(files, field.name) for field in fields(files) if field.name != "identifier"}
    stats = {kind: (path.name, path.stat()) for kind, path in paths.items() if path is not None}
    labels = (options.structures or {}).get(files.identifier)
    return key_of(
        {kind: (name, stat.st_size, stat.st_mtime_ns) for kind, (name, stat) in stats.items()},
        options.range_choice,
        None if labels is None else sorted(labels),
        options.allow_missing,
        options.own_metrics,
    )


def score_cases(folders: EvaluationFolders, options: EvaluationOptions) -> dict[str, CaseScores]:
    """The scores of every case alone, by identifier: a part of an evaluation that several processes share.

    Raises
    ------
    GdmError
        The same as those of `evaluate_folders`.
    """
    return _score_cases(_match(folders, options), options)


def put_together(
    scored: Mapping[str, CaseScores],
    folders: EvaluationFolders,
    options: EvaluationOptions,
    problems: Mapping[str, str] | None = None,
) -> Summary:
    """The summary of scored cases; `problems`: identifier to the files that the others lack."""
    results = {**(problems or {}), **{name: case.scores for name, case in scored.items()}}
    groups = options.groups
    if groups is None and options.descriptor is not None:
        groups = {name: groups_of(options.descriptor, name) for name in sorted(results)}
    summary = summarize(results, _describe(folders, options, scored), groups)
    doubts = [*options.findings, *(finding for case in scored.values() for finding in case.findings)]
    return replace(summary, warnings=tuple(settle(doubts, options.accept)))


def _match(folders: EvaluationFolders, options: EvaluationOptions) -> MatchedFiles:
    folders.check()
    matched = match_files(folders, options.identifiers)
    if matched.problems and not options.allow_missing:
        raise missing_error(matched, folders.prediction)
    return matched


def _items(matched: MatchedFiles, options: EvaluationOptions) -> list[tuple[str, tuple[Any, ...]]]:
    """Each case, and the arguments with which it is scored."""
    choice, structures = options.range_choice, options.structures or {}
    return [
        (
            files.identifier,
            (files, choice, structures.get(files.identifier), options.allow_missing, options.own_metrics),
        )
        for files in matched.complete
    ]


def _score_cases(matched: MatchedFiles, options: EvaluationOptions) -> dict[str, CaseScores]:
    items = _items(matched, options)
    scored = run_in_workers(score_case, items, options.processes, options.show_progress, _TITLE)
    return {name: case for (name, _), case in zip(items, scored, strict=True)}


def _describe(
    folders: EvaluationFolders, options: EvaluationOptions, scored: Mapping[str, CaseScores]
) -> EvaluationSpec:
    choice = options.range_choice
    given = {kind: str(folder) for kind, folder in folders.given.items()}
    return EvaluationSpec(
        range=choice.name,
        value_range=choice.value_range,
        hounsfield=choice.hounsfield,
        mask="given" if folders.mask else "none",
        reference_folder=given["reference"],
        prediction_folder=given["prediction"],
        mask_folder=given.get("mask"),
        fov_folder=given.get("fov"),
        label_folders=(given["reference_labels"], given["predicted_labels"]) if "reference_labels" in given else None,
        checkpoint=options.checkpoint,
        provenance=options.provenance,
        case_ranges={name: case.value_range for name, case in scored.items() if case.value_range},
        versions=package_versions(),
        own_metrics=options.own_metrics,
    )


def _judge(matched: MatchedFiles, scored: Mapping[str, CaseScores], options: EvaluationOptions) -> Verdict:
    """Distances between all scored predictions and their references; nothing without a judge or a scored case."""
    files = [
        JudgedFiles(files.identifier, files.reference, files.prediction, files.mask)
        for files in matched.complete
        if isinstance(scored[files.identifier].scores, ImageScores)
    ]
    if options.judge is None or not files:
        return Verdict(())
    unknown = "CT" if options.range_choice.hounsfield else "other"
    modality = options.descriptor.target_name if options.descriptor else unknown
    return judge_files(files, options.judge, modality, show_progress=options.show_progress)


def _with_verdict(scored: Mapping[str, CaseScores], verdict: Verdict) -> dict[str, CaseScores]:
    """The cases' scores with those that the judge gave to each."""
    return {
        name: replace(case, scores=case.scores.with_values(verdict.scores_of(name)))
        if isinstance(case.scores, ImageScores)
        else case
        for name, case in scored.items()
    }
