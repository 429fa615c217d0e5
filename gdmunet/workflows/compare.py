"""A comparison of trainers from plans to page: train missing folds, predict with a measured cost, score, write."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gdmunet import commands
from gdmunet.checkpoint import load_weights
from gdmunet.claims import Claim
from gdmunet.dataset import DatasetDescriptor, find_dataset, groups_of, load_descriptor
from gdmunet.dataset_names import RawFolders
from gdmunet.errors import GdmError
from gdmunet.evaluation.comparison.files import write_comparison
from gdmunet.evaluation.comparison.paired import Comparison, Cost, TrainerRow, row_from_summary
from gdmunet.evaluation.comparison.paired import compare as compare_rows
from gdmunet.evaluation.comparison.unsharp import tuned_filters, write_filtered
from gdmunet.evaluation.distributions.judge import JudgedFiles, JudgeOptions
from gdmunet.evaluation.report.page import PageOptions, write_page
from gdmunet.evaluation.report.sources import read_content
from gdmunet.evaluation.scores.evaluate import EvaluationOptions, evaluate_folders
from gdmunet.evaluation.scores.summary import EvaluationSpec, Summary, save_summary
from gdmunet.evaluation.scores.volume_files import EvaluationFolders, match_files
from gdmunet.journal import read_journal
from gdmunet.metrics import OwnMetricSpec, own_metrics
from gdmunet.paths import Folders, downloads_allowed
from gdmunet.plans import Configuration, Plans
from gdmunet.preprocessing.mask_folders import scored_masks
from gdmunet.progress import say
from gdmunet.promises import check_promised
from gdmunet.results import REPORT_FILE, SUMMARY_FILE, FoldFolder, ModelFolder, ResultsFolder
from gdmunet.serialization import load_json, to_json
from gdmunet.training.loop.state import changed_settings
from gdmunet.training.trainers.planned_sizes import as_planned
from gdmunet.training.trainers.registry import find_trainer
from gdmunet.training.trainers.trainer import Trainer
from gdmunet.workflows.measured_prediction import MEASUREMENT_FILE, Measurement, PredictionTask, measure_in_new_process
from gdmunet.workflows.planned import find_planned
from gdmunet.workflows.requests.completion import complete
from gdmunet.workflows.requests.spelling import command_line
from gdmunet.workflows.requests.training import CompareRequest, TrainRequest
from gdmunet.workflows.train import train
from gdmunet.workflows.training_run import Run

# End of the name of a folder of filtered predictions, beside the unfiltered ones.
FILTERED = "__unsharp"
# Encoders that need no download; the second is random. One that trained a generator does not judge.
DEFAULT_JUDGES = ("mini", "tiny")


@dataclass(frozen=True)
class WrittenComparison:
    """The comparison, its files, and the encoders that judged."""

    comparison: Comparison
    files: tuple[Path, ...]
    judges: tuple[str, ...]


def compare(request: CompareRequest, folders: Folders) -> WrittenComparison:
    """Train missing folds, predict and score every fold's held-out cases, and write the comparison.

    Weights, and predictions of the same weights, are kept if they exist already. A trainer that fails becomes a row
    that says why.

    Raises
    ------
    GdmError
        Unknown data set, plans, configuration, fold, trainer or setting; a judge that trained a generator; or no
        trainer that could be scored.
    """
    plans = find_planned(folders, request.dataset, request.plans)
    plans.configuration(request.configuration)
    for fold in request.folds:
        plans.fold(fold)  # fold all holds no case out
    trainers = [find_trainer(name) for name in request.trainers]
    if len({trainer.__name__ for trainer in trainers}) < len(trainers):
        names = ", ".join(trainer.__name__ for trainer in trainers)
        raise GdmError("a comparison needs trainers of different names", found=names, remedy="name each trainer once")
    judges, own = choose_judges(request, plans, trainers), own_metrics(request.metric)
    raw = find_dataset(folders.raw, plans.dataset_name)
    descriptor = load_descriptor(raw)
    results = ResultsFolder(folders.results)
    output = request.output or results.comparison(plans.dataset_name, plans.name, request.configuration)
    run = _Run(request, folders, plans, descriptor, raw, output, judges, own)
    with Claim.on_folder(output, "comparison"):
        return _written(run, trainers)


def _written(run: _Run, trainers: Sequence[type[Trainer]]) -> WrittenComparison:
    request, output = run.request, run.output
    rows, settings = run.rows(dict(zip(request.trainers, trainers, strict=True)))
    title = f"{run.plans.dataset_name}, {request.configuration}, {run.plans.name}, folds {' '.join(request.folds)}"
    title += "".join(f", {name}={value}" for name, value in request.overrides.items())
    groups = {name: groups_of(run.descriptor, name) for row in rows for name in row.cases}
    comparison = compare_rows(rows, settings, groups, title=title)
    files = write_comparison(comparison, output)
    options = PageOptions(show_progress=False)
    page = write_page(read_content(output), output / REPORT_FILE, options)
    return WrittenComparison(comparison, (*files, page.file), run.judges)


def choose_judges(request: CompareRequest, plans: Plans, trainers: Sequence[type[Trainer]]) -> tuple[str, ...]:
    """The encoders of the distances; never the one that some generator was trained with."""
    spec = plans.configuration(request.configuration).encoder
    trained_with = spec.spec if spec is not None and any(trainer.uses_encoder for trainer in trainers) else None
    if not request.judge:
        return tuple(name for name in DEFAULT_JUDGES if name != trained_with)
    if trained_with in request.judge:
        raise GdmError(
            "an encoder cannot judge a generator that was trained with it",
            found=f"--judge {trained_with}, which is the encoder of the plans {plans.name}",
            remedy="name another one ({command} shows them), or omit --judge",
            command=commands.list_encoders(),
        )
    return request.judge


def _refuse_other_weights(fold: FoldFolder, request: TrainRequest) -> None:
    """Refuse to replace weights that can neither be compared nor be trained on, such as an imported checkpoint_best."""
    trained = fold.trained_files()
    if trained:
        raise GdmError(
            "the fold has weights, but neither final ones to compare nor a state to continue from",
            file=fold.path,
            found=", ".join(file.name for file in trained),
            expected=f"{fold.checkpoint('final').name} or {fold.resume.name}",
            remedy="import the final weights, or train the fold anew with {command}, which replaces what is there",
            command=command_line(replace(request, overwrite=True)),
        )


def _refuse_other_settings(weights: Path, request: TrainRequest, configuration: Configuration) -> None:
    """A folder's name has the settings that a user gave, not the defaults, which another version may have changed."""
    trainer = as_planned(find_trainer(request.trainer).derive(request.overrides), configuration)
    saved, present = load_weights(weights).metadata.settings, to_json(trainer.settings())
    if changed := changed_settings(saved, present, saved.keys() & present.keys()):
        raise GdmError(
            "the defaults of the trainer have changed since the fold was trained",
            file=weights,
            found="; ".join(changed),
            remedy="train it anew with {command}, or compare with the version that trained it",
            command=command_line(replace(request, overwrite=True)),
        )


@dataclass(frozen=True)
class _Run:
    """One comparison in work."""

    request: CompareRequest
    folders: Folders
    plans: Plans
    descriptor: DatasetDescriptor
    raw: Path
    output: Path
    judges: tuple[str, ...]
    own: tuple[OwnMetricSpec, ...]

    def rows(self, trainers: dict[str, type[Trainer]]) -> tuple[list[TrainerRow], EvaluationSpec]:
        """A row for each trainer, and the settings of the first one's scores.

        Any failure but the user's own end of the run is a row as well; if all fail, the first failure's remedy is the
        comparison's.
        """
        rows: list[TrainerRow] = []
        settings: list[EvaluationSpec] = []
        failures: list[GdmError] = []
        for name, trainer in trainers.items():
            try:
                row, how = self._row(name, trainer)
                settings.append(how)
            except Exception as error:
                failure = (
                    error
                    if isinstance(error, GdmError)
                    else GdmError(
                        f"{type(error).__name__}: {error}",
                        remedy="this is a fault of gdmunet: report it with this text",
                    )
                )
                complete(failure, self.folders)
                failures.append(failure)
                row = TrainerRow(trainer.__name__, failure=str(failure))
            rows.append(row)
        if not settings:
            reasons = "; ".join(f"{row.trainer}: {row.failure}" for row in rows)
            remedy, command = failures[0].remedy, failures[0].command
            raise GdmError("no trainer could be scored", found=reasons, remedy=remedy, command=command)
        return [*rows, *(self.filtered_row(row) for row in rows if row.failure is None)], settings[0]

    def _row(self, name: str, trainer: type[Trainer]) -> tuple[TrainerRow, EvaluationSpec]:
        """The settings that all trainers share are in the names of the folders and in the title, not in every row."""
        shown, label = trainer.__name__, trainer.derive(self.request.overrides).__name__
        for fold in self.request.folds:
            self._train(name, label, fold)
        measured = self._predict(label)
        summary = self._evaluate(self.output / label)
        return row_from_summary(shown, summary, self._cost(label, measured)), summary.settings

    def filtered_row(self, row: TrainerRow) -> TrainerRow:
        """The row of a trainer's predictions behind the best unsharp mask."""
        predictions = Path(row.prediction_folder or "")
        folder = self.output / f"{predictions.name}{FILTERED}"
        matched = match_files(self._scored_folders(predictions), self._cases())
        files = [JudgedFiles(one.identifier, one.reference, one.prediction, one.mask) for one in matched.complete]
        filters = tuned_filters(
            files, self._judge(), self.descriptor.target_name, show_progress=self.request.show_progress
        )
        write_filtered(files, filters, folder)
        return row_from_summary(f"{row.trainer} + unsharp mask", self._evaluate(folder))

    def _train(self, name: str, label: str, fold: str) -> None:
        folder = self._model(label).fold(fold)
        interrupted = folder.resume.is_file()
        request = TrainRequest(
            dataset=self.request.dataset,
            configuration=self.request.configuration,
            fold=fold,
            trainer=name,
            plans=self.plans.name,
            settings=self.request.overrides,
            device=self.request.device,
            processes=self.request.processes,
            show_progress=self.request.show_progress,
        )
        if (weights := folder.checkpoint("final")).is_file():
            _refuse_other_settings(weights, request, self.plans.configuration(request.configuration))
            for line in Run.of(request, self.folders).belonging.check_own("final"):
                say(line)
            if folder.is_finished or not interrupted:
                return  # weights alone were imported
        if not interrupted:
            _refuse_other_weights(folder, request)
        train(replace(request, continue_training="latest" if interrupted else None), self.folders)

    def _predict(self, label: str) -> Measurement:
        """Predict the folds' held-out cases, each by its own fold's weights, in a process whose memory is its own."""
        task = PredictionTask(
            model=self._model(label),
            folds=self.request.folds,
            raw=self.raw,
            output=self.output / label,
            device=self.request.device,
        )
        file = task.output / MEASUREMENT_FILE
        with contextlib.suppress(GdmError):  # missing, or damaged: it is measured anew
            earlier = load_json(Measurement, file)
            if earlier.weights == task.weights() and all(path.is_file() for path in task.files(self.descriptor)):
                check_promised(task.files(self.descriptor))
                return earlier
        measured = measure_in_new_process(task)
        check_promised([file, *task.files(self.descriptor)])
        return measured

    def _evaluate(self, predictions: Path) -> Summary:
        summary = evaluate_folders(
            self._scored_folders(predictions),
            EvaluationOptions(
                descriptor=self.descriptor,
                identifiers=self._cases(),
                checkpoint="final",
                judge=self._judge(),
                own_metrics=self.own,
                show_progress=self.request.show_progress,
            ),
        )
        save_summary(summary, predictions / SUMMARY_FILE)
        return summary

    def _cases(self) -> set[str]:
        return {case for fold in self.request.folds for case in self.plans.fold(fold).validation}

    def _scored_folders(self, predictions: Path) -> EvaluationFolders:
        masks = scored_masks(self.raw, self.folders.preprocessed / self.plans.dataset_name, self.descriptor)
        return EvaluationFolders(RawFolders(self.raw).targets, predictions, masks)

    def _judge(self) -> JudgeOptions:
        return JudgeOptions(
            self.judges, self.folders.encoders, self.request.judge_file, allow_download=downloads_allowed()
        )

    def _cost(self, label: str, measured: Measurement) -> Cost:
        journals = [self._model(label).fold(fold).journal for fold in self.request.folds]
        rows = [row for file in journals if file.is_file() for row in read_journal(file)]
        return Cost(
            network_passes=float(measured.passes),
            seconds=measured.seconds,
            peak_memory_mb=measured.peak_memory_mb,
            training_seconds=sum(row.get("seconds") or 0.0 for row in rows) if rows else None,
            parameters=measured.parameters,
        )

    def _model(self, label: str) -> ModelFolder:
        results = ResultsFolder(self.folders.results)
        return results.model(self.plans.dataset_name, label, self.plans.name, self.request.configuration)
