"""Evaluation as a command runs it: groups, ranges and label maps from the request, scores to files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gdmunet.atomic import check_writable, remove
from gdmunet.conversion.held_out import read_groups
from gdmunet.conversion.synthrad_files import challenge_groups
from gdmunet.dataset import DatasetDescriptor, find_dataset, groups_of, load_descriptor
from gdmunet.dataset_names import DESCRIPTOR_FILE
from gdmunet.evaluation.distributions.judge import JudgeOptions
from gdmunet.evaluation.report.page import write_scores_page
from gdmunet.evaluation.scores.evaluate import EvaluationOptions, evaluate_folders, evaluate_part
from gdmunet.evaluation.scores.segmentation import Segmenter, segment_folder
from gdmunet.evaluation.scores.summary import Summary, save_summary
from gdmunet.evaluation.scores.summary_text import write_csv
from gdmunet.evaluation.scores.synthrad import challenge_structures, challenge_year, check_challenge
from gdmunet.evaluation.scores.volume_files import EvaluationFolders, match_files, missing_error
from gdmunet.metrics import own_metrics
from gdmunet.part_results import FOLDER
from gdmunet.parts import OpenParts
from gdmunet.paths import Folders, downloads_allowed
from gdmunet.plausibility.findings import Finding
from gdmunet.plausibility.names import check_groups, leftovers
from gdmunet.progress import say
from gdmunet.promises import check_promised
from gdmunet.volume_formats.files import find_volumes, left_out_of
from gdmunet.workflows.parts import has_scheduler, say_missing, share_of
from gdmunet.workflows.requests.evaluation import EvaluateRequest


def evaluate(request: EvaluateRequest, folders: Folders) -> Summary | OpenParts:
    """Score a folder of predictions, or a part, and write the summary and the tables that were asked for.

    A part writes them if it finds the scores of all others.

    Raises
    ------
    GdmError
        Unknown data set; files that are missing or do not fit together; a challenge without what it needs.
    """
    check_writable(*request.files)  # before the work, not after it
    descriptor = load_descriptor(find_dataset(folders.raw, request.dataset)) if request.dataset else None
    groups, findings = _groups(request, descriptor)
    year = request.range
    if request.synthrad:
        asked = {"mask": request.mask, "fov": request.fov, "data_range": request.data_range}
        check_challenge(**{name: value is not None for name, value in asked.items()})
        year = year or challenge_year(groups)
    given = (request.reference, request.prediction, request.mask, request.fov, request.labels_ref, request.labels_pred)
    for line in left_out_of(given):
        say(line)
    options = EvaluationOptions(
        descriptor=descriptor,
        range_name=year,
        data_range=request.data_range,
        groups=groups,
        structures=challenge_structures(groups) if request.synthrad else None,
        judge=_judge(request, folders),
        allow_missing=request.allow_missing,
        processes=request.processes,
        show_progress=request.show_progress,
        accept=request.accept,
        findings=tuple(findings),
        own_metrics=own_metrics(request.metric),
    )
    summary = _scored(request, options)
    if isinstance(summary, OpenParts):
        say_missing(summary, request, folders)
        return summary
    _write(summary, request)
    return summary


def _scored(request: EvaluateRequest, options: EvaluationOptions) -> Summary | OpenParts:
    part = share_of(request)
    if part.is_whole and not has_scheduler(request):
        return evaluate_folders(_folders(request), options)
    kept = request.summary_file.parent / FOLDER / request.summary_file.stem
    summary = evaluate_part(_folders(request), options, part, kept)
    if part.is_whole:
        remove(kept)
    return summary


def _write(summary: Summary, request: EvaluateRequest) -> None:
    save_summary(summary, request.summary_file)
    if request.csv:
        write_csv(summary, request.csv)
    if request.html:
        write_scores_page(summary, request.html)
    check_promised(request.files)


def _folders(request: EvaluateRequest) -> EvaluationFolders:
    """The folders of the request; with ``--segment`` the label maps that are made here, which may take long."""
    if request.segment is None:
        labels: tuple[Path | None, Path | None] = (request.labels_ref, request.labels_pred)
        return EvaluationFolders(request.reference, request.prediction, request.mask, request.fov, *labels)
    segmenter = Segmenter.of(request.segment)
    plain = EvaluationFolders(request.reference, request.prediction, request.mask, request.fov)
    plain.check()
    matched = match_files(plain, None)
    if matched.problems and not request.allow_missing:
        raise missing_error(matched, request.prediction)  # before the work, not after it
    own = request.segmentation_folder
    sides = {"prediction": {files.identifier: files.prediction for files in matched.complete}}
    if request.labels_ref is None:
        sides["reference"] = {files.identifier: files.reference for files in matched.complete}
    for side, volumes in sides.items():
        made = segment_folder(segmenter, volumes, own / side, request.show_progress)
        say(f"label maps of the {side}s: {made} made, {len(volumes) - made} kept, in {own / side}")
    return replace(plain, reference_labels=request.labels_ref or own / "reference", predicted_labels=own / "prediction")


def _judge(request: EvaluateRequest, folders: Folders) -> JudgeOptions | None:
    if not request.judge:
        return None
    return JudgeOptions(request.judge, folders.encoders, request.judge_file, allow_download=downloads_allowed())


def _groups(
    request: EvaluateRequest, descriptor: DatasetDescriptor | None
) -> tuple[dict[str, dict[str, str]], list[Finding]]:
    """The groups of every reference: of SynthRAD's identifiers, the data set, the table; later ones win.

    References that the data set or the table leaves out are findings: they would be missing from the scores by group.
    """
    table = read_groups(request.groups) if request.groups else {}
    names = find_volumes(request.reference) if request.reference.is_dir() else {}
    known = challenge_groups(names) if request.synthrad else {}
    findings = leftovers(names, table, f"the table {request.groups}", partial=True)
    if descriptor is not None:
        findings += leftovers(names, descriptor.groups, f"groups in {DESCRIPTOR_FILE}", partial=True)
    groups = {
        name: known.get(name, {}) | (groups_of(descriptor, name) if descriptor else {}) | table.get(name, {})
        for name in names
    }
    check_groups(groups)
    return groups, findings
