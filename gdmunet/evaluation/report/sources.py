"""Read a folder that a page can show: an evaluation, a training or a comparison, and its volumes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gdmunet.dataset import DatasetDescriptor, load_descriptor
from gdmunet.dataset_names import DESCRIPTOR_FILE, condition_name, split_of
from gdmunet.errors import GdmError
from gdmunet.evaluation.comparison.paired import Comparison, load_comparison
from gdmunet.evaluation.report.cases import CasePaths
from gdmunet.evaluation.report.content import PREDICTION, ReportContent
from gdmunet.evaluation.scores.dial_curve import DialCurve
from gdmunet.evaluation.scores.summary import EvaluationSpec, Summary, load_summary
from gdmunet.journal import read_journal
from gdmunet.results import COMPARISON_FILE, DIAL_FILE, JOURNAL_FILE, SUMMARY_FILE, FoldFolder, ModelFolder, ModelName
from gdmunet.serialization import load_json, read_json
from gdmunet.volume_formats.files import find_volumes

if TYPE_CHECKING:
    from gdmunet.inference.prediction_settings import PredictionSpec


@dataclass(frozen=True)
class VolumeFolders:
    """Folders that the user names in place of those of the summary; None: look for them.

    `channel` is the condition's channel that is shown.
    """

    conditions: Path | None = None
    references: Path | None = None
    masks: Path | None = None
    channel: int = 0


@dataclass(frozen=True)
class _DataFolders:
    """Folders of one data set's volumes, and texts about what could not be found."""

    references: Path | None
    masks: Path | None
    conditions: Path | None
    descriptor: DatasetDescriptor | None
    notes: tuple[str, ...]


def read_content(folder: Path, folders: VolumeFolders | None = None) -> ReportContent:
    """Find the kind of `folder` and read it.

    Raises
    ------
    GdmError
        The folder is none of the three, or a file of it cannot be read.
    """
    folder, folders = Path(folder), folders or VolumeFolders()
    if not folder.is_dir():
        raise GdmError("the folder is missing", file=folder, remedy="check the path")
    if (folder / COMPARISON_FILE).is_file():
        return _read_comparison(folder, folders)
    if (folder / JOURNAL_FILE).is_file():
        return _read_training(folder, folders)
    if (folder / SUMMARY_FILE).is_file():
        summary = load_summary(folder / SUMMARY_FILE)
        content = _with_volumes(ReportContent("evaluation", folder, folder.resolve().name, {}), summary, folders)
        return replace(content, origin=content.origin | _date_of(folder / SUMMARY_FILE))
    folds = ", ".join(fold.path.name for fold in ModelFolder(folder).folds() if fold.journal.is_file())
    raise GdmError(
        "the folder holds nothing that a report can show",
        file=folder,
        found=f"trained folds: {folds}" if folds else "none of the three files",
        expected=f"{SUMMARY_FILE} (an evaluation), {JOURNAL_FILE} (a trained fold) or {COMPARISON_FILE}",
        remedy=f"give a fold, such as {folder / folds.split(',')[0]}" if folds else "score the predictions first",
    )


def _read_training(folder: Path, folders: VolumeFolders) -> ReportContent:
    resolved, fold = folder.resolve(), FoldFolder(folder)
    content = ReportContent(
        "training",
        folder,
        f"{resolved.parent.name}, {resolved.name}",
        {},
        journal=read_journal(fold.journal),
        training=_read_settings(fold.settings),
        origin=_named_model(resolved.parent, resolved.name) | _date_of(fold.journal),
    )
    validation = fold.summary("final")
    if not validation.is_file():
        validation = fold.summary("best")
    if not validation.is_file():
        return replace(content, notes=("The fold has no validation on whole volumes (yet).",))
    dial = validation.with_name(DIAL_FILE)
    if dial.is_file():
        content = replace(content, dial=load_json(DialCurve, dial))
    return _with_volumes(content, load_summary(validation), folders, validation.parent)


def _read_settings(file: Path) -> dict[str, Any]:
    """The trainer's settings; none if the file is not there."""
    settings = read_json(file) if file.is_file() else {}
    if not isinstance(settings, dict):
        raise GdmError("the trainer's settings are not an object", file=file, remedy="put the file back, or remove it")
    return settings


def _with_volumes(
    content: ReportContent, summary: Summary, folders: VolumeFolders, beside: Path | None = None
) -> ReportContent:
    """Add scores and volumes; the predictions lie beside summary.json, or else where they were scored."""
    beside = beside or content.folder
    predictions = find_volumes(beside)
    if not any(name in predictions for name in summary.cases):
        elsewhere = Path(summary.settings.prediction_folder)
        predictions = find_volumes(elsewhere) if summary.settings.prediction_folder and elsewhere.is_dir() else {}
    notes = () if predictions else ("No predicted volumes were found, so no pictures are shown.",)
    made, unread = _predicted_with(beside)
    data_folders = _find_folders(summary.settings, folders, made.conditions_in(beside) if made else None)
    return replace(
        content,
        scores={PREDICTION: summary.cases},
        summary=summary,
        settings=summary.settings,
        files=_list_files(summary.cases, {PREDICTION: predictions}, data_folders, folders.channel)
        if predictions
        else (),
        notes=(*content.notes, *unread, *notes, *data_folders.notes),
        origin=content.origin or _origin(made),
        **_names(data_folders, folders.channel),
    )


def _read_comparison(folder: Path, folders: VolumeFolders) -> ReportContent:
    comparison = load_comparison(folder / COMPARISON_FILE)
    predictions: dict[str, dict[str, Path]] = {}
    notes = []
    for row in comparison.rows:
        place = Path(row.prediction_folder) if row.prediction_folder else None
        if place is not None and not place.is_dir() and (folder / place).is_dir():
            place = folder / place
        if place is not None and place.is_dir():
            predictions[row.trainer] = find_volumes(place)
        elif row.failure is None:
            notes.append(f"The predicted volumes of {row.trainer} were not found ({place or 'no folder is given'}).")
    data_folders = _find_folders(comparison.settings, folders)
    names = dict.fromkeys(name for row in comparison.rows for name in row.cases)
    return ReportContent(
        "comparison",
        folder,
        comparison.title or folder.resolve().name,
        {row.trainer: row.cases for row in comparison.rows},
        settings=comparison.settings,
        comparison=comparison,
        files=_list_files(names, predictions, data_folders, folders.channel),
        notes=(*notes, *data_folders.notes),
        origin=_origin_of_comparison(comparison, folder) | _date_of(folder / COMPARISON_FILE),
        **_names(data_folders, folders.channel),
    )


def _predicted_with(folder: Path) -> tuple[PredictionSpec | None, tuple[str, ...]]:
    """The settings of the predictions in a folder, if they lie there, and what could not be read."""
    from gdmunet.inference.prediction_settings import SETTINGS_FILE, PredictionSpec  # torch, which a page needs not

    file = folder / SETTINGS_FILE
    if not file.is_file():
        return None, ()
    try:
        return load_json(PredictionSpec, file), ()
    except GdmError as error:
        return None, (f"{file.name} could not be read: {error.problem}",)


def _origin(made: PredictionSpec | None) -> dict[str, str]:
    """Model, data set and version of predictions, for the page's head."""
    if made is None:
        return {}
    version = {"Predicted by": f"gdmunet {made.gdmunet_version}"}
    if made.model is None:
        return version
    return _named_model(Path(made.model), f"fold {', '.join(made.folds)}, {made.checkpoint} weights") | version


def _origin_of_comparison(comparison: Comparison, folder: Path) -> dict[str, str]:
    """What all trainers share: plans, data set and version, by the first row whose predictions are there."""
    for row in comparison.rows:
        for place in (Path(row.prediction_folder), folder / row.prediction_folder) if row.prediction_folder else ():
            made, _ = _predicted_with(place)
            if made is not None:
                return {name: value for name, value in _origin(made).items() if name != "Model"}
    return {}


def _named_model(model: Path, more: str) -> dict[str, str]:
    """Trainer, plans, configuration and data set of a model's folder, by its path."""
    name = ModelName.parse(model.name)
    if name is None:
        return {"Model": f"{model} ({more})"}
    return {
        "Model": f"{name.trainer}, {more}",
        "Plans": f"{name.plans}, configuration {name.configuration}",
        "Data set": ModelFolder(model).dataset,
    }


def _date_of(file: Path) -> dict[str, str]:
    return {"Date": time.strftime("%Y-%m-%d %H:%M", time.localtime(file.stat().st_mtime))} if file.is_file() else {}


def _find_folders(settings: EvaluationSpec, folders: VolumeFolders, predicted_from: Path | None = None) -> _DataFolders:
    """The user's folders, else those of the prediction and of the summary.

    Without such a folder the conditions lie beside the targets in a raw data set.
    """
    notes = []
    references = folders.references or Path(settings.reference_folder)
    if not (settings.reference_folder or folders.references) or not references.is_dir():
        notes.append(
            f"The targets were not found ({references}), so no pictures are shown: name them with --reference."
        )
        return _DataFolders(None, None, None, None, tuple(notes))
    masks = folders.masks or (Path(settings.mask_folder) if settings.mask_folder else None)
    if masks is not None and not masks.is_dir():
        notes.append(f"The masks were not found ({masks}): errors are shown everywhere. Name them with --mask.")
        masks = None
    dataset = references.resolve().parent
    descriptor = load_descriptor(dataset) if (dataset / DESCRIPTOR_FILE).is_file() else None
    split = split_of(references.resolve())
    known = predicted_from if predicted_from is not None and predicted_from.is_dir() else None
    conditions = folders.conditions or known or (split.images if split else None)
    if conditions is None or not conditions.is_dir() or conditions == references.resolve():
        notes.append("The conditions were not found: name their folder with --input.")
        return _DataFolders(references, masks, None, descriptor, tuple(notes))
    return _DataFolders(references, masks, conditions, descriptor, tuple(notes))


def _list_files(
    names: Iterable[str], predictions: Mapping[str, Mapping[str, Path]], data_folders: _DataFolders, channel: int
) -> tuple[CasePaths, ...]:
    if data_folders.references is None:
        return ()
    targets = find_volumes(data_folders.references)
    masks = find_volumes(data_folders.masks) if data_folders.masks else {}
    conditions = find_volumes(data_folders.conditions) if data_folders.conditions else {}
    return tuple(
        CasePaths(
            name,
            conditions.get(condition_name(name, channel), conditions.get(name)),
            targets.get(name),
            masks.get(name),
            {label: files[name] for label, files in predictions.items() if name in files},
        )
        for name in names
    )


def _names(data_folders: _DataFolders, channel: int) -> dict[str, Any]:
    descriptor = data_folders.descriptor
    if descriptor is None:
        return {}
    if channel >= len(descriptor.channels):
        raise GdmError(
            "the condition has no such channel",
            found=channel,
            expected=f"0 to {len(descriptor.channels) - 1}",
            remedy="choose a channel that is there",
        )
    condition, target = descriptor.channels[channel], descriptor.target_name
    return {"condition_name": condition, "target_name": target, "comparable": descriptor.in_unit_of_target(channel)}
