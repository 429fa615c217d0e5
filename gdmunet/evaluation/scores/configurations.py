"""Which trained model of a data set is the best, or which pair of models together?"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from gdmunet.atomic import write_text
from gdmunet.dataset import find_dataset, load_descriptor
from gdmunet.dataset_names import RawFolders, dataset_number
from gdmunet.errors import GdmError
from gdmunet.evaluation.scores.evaluate import EvaluationOptions, evaluate_folders
from gdmunet.evaluation.scores.summary import EvaluationSpec, save_summary
from gdmunet.evaluation.scores.summary_text import aligned
from gdmunet.evaluation.scores.validations import Validation, check_comparable, mean_scores, read_validation
from gdmunet.evaluation.scores.volume_files import EvaluationFolders
from gdmunet.inference.ensemble import write_mean
from gdmunet.metrics import DECIDING, METRICS
from gdmunet.preprocessing.mask_folders import given_masks
from gdmunet.progress import track
from gdmunet.quantities import counted
from gdmunet.results import MODEL_LAYOUT, SUMMARY_FILE, ModelFolder, ResultsFolder
from gdmunet.serialization import save_json
from gdmunet.workers import check_processes


@dataclass(frozen=True)
class CandidateOptions:
    """Choice of the models that are compared.

    Attributes
    ----------
    trainers, plans, configurations
        The only names to compare; None: all.
    folds
        The only folds to compare on; None: all numbered folds that were validated (``all`` holds out no cases).
    ensembles
        Whether every pair of models is averaged as well.
    """

    trainers: Collection[str] | None = None
    plans: Collection[str] | None = None
    configurations: Collection[str] | None = None
    folds: Sequence[str] | None = None
    ensembles: bool = True
    processes: int = 1
    show_progress: bool = True

    def __post_init__(self) -> None:
        check_processes(self.processes)

    def fits(self, model: ModelFolder) -> bool:
        """Whether the model is one to compare."""
        return (
            (self.trainers is None or model.name.trainer in self.trainers)
            and (self.plans is None or model.name.plans in self.plans)
            and (self.configurations is None or model.name.configuration in self.configurations)
        )


@dataclass(frozen=True)
class Candidate:
    """One model, or two whose predictions are averaged, with the scores of its validation cases.

    Attributes
    ----------
    name
        Name of the model folder; of a pair both, with `` + `` between.
    models
        Names of one or two model folders.
    folds
        Folds that the scores come from.
    mean
        Metric to mean over the validation cases of these folds.
    """

    name: str
    models: tuple[str, ...]
    folds: tuple[str, ...]
    mean: dict[str, float]


@dataclass(frozen=True)
class BestConfiguration:
    """All candidates, best first, and the commands that predict with the best.

    Attributes
    ----------
    skipped
        Pair to the reason why it was not averaged.
    instructions
        Commands, as written to inference_instructions.txt.
    notes
        Lines for people: cases that several folds hold out.
    """

    dataset: str
    cases: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    skipped: dict[str, str]
    settings: EvaluationSpec
    instructions: str
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> Candidate:
        """The candidate with the best mean of the deciding metric."""
        return self.candidates[0]

    def table(self) -> str:
        """The candidates with their main scores, best first."""
        unit = self.settings.target_unit
        metrics = [m for m in METRICS.values() if m.main and any(m.name in c.mean for c in self.candidates)]
        rows = [["model", *(metric.head(unit) for metric in metrics)]]
        rows += [[c.name, *(metric.text(c.mean.get(metric.name), unit) for metric in metrics)] for c in self.candidates]
        lines = [
            f"{self.dataset}: {counted(self.cases, 'validation case')}; {self.settings.describe()}",
            *aligned(rows),
        ]
        lines += [f"not averaged: {pair}: {reason}" for pair, reason in self.skipped.items()]
        lines += self.notes
        return "\n".join(lines)


def find_best_configuration(
    results_folder: Path, raw_folder: Path, dataset: int | str, options: CandidateOptions | None = None
) -> BestConfiguration:
    """Compare the models of a data set on the validation cases of their folds, and pairs of them averaged.

    Writes ``best_configuration.json`` and ``inference_instructions.txt`` to the data set's results folder, and the
    averaged predictions with their summary.json to ``ensembles/`` in it.

    Parameters
    ----------
    results_folder, raw_folder
        The folders that hold ``DatasetXXX_Name``; the references are the raw targets.
    dataset
        Number or name.

    Raises
    ------
    GdmError
        No validated model; models that were validated on different cases, ranges or masks; a case without scores.
    """
    options = options or CandidateOptions()
    places, results = ResultsFolder(Path(results_folder)), find_dataset(results_folder, dataset)
    validations = _read_validations(results, places, options)
    check_comparable(validations)
    candidates = [_candidate([validation], mean_scores(validation.cases)) for validation in validations]
    skipped: dict[str, str] = {}
    for pair in itertools.combinations(validations, 2) if options.ensembles else ():
        reason = _why_not_averaged(pair)
        if reason:
            skipped[_name(pair)] = reason
            continue
        raw = find_dataset(raw_folder, results.name)
        candidates.append(_candidate(pair, _score_average(pair, places, raw, options)))
    best = _choose(results.name, candidates, validations, skipped)
    save_json(best, places.best_configuration(results.name))
    write_text(places.instructions(results.name), f"{best.table()}\n\n{best.instructions}\n")
    return best


def _read_validations(results: Path, places: ResultsFolder, options: CandidateOptions) -> list[Validation]:
    """The validations of the models that fit; at least one, else an error."""
    models = [model for model in places.models() if model.dataset == results.name and options.fits(model)]
    validations = [validation for model in models if (validation := read_validation(model, options.folds))]
    if not validations:
        raise GdmError(
            "no model has been validated",
            file=results,
            found=", ".join(model.path.name for model in models) or "no trained model that fits",
            expected=f"{MODEL_LAYOUT}/fold_0/validation/{SUMMARY_FILE}",
            remedy="validate a trained fold with the command that trained it and --val",
        )
    return validations


def _choose(
    dataset: str, candidates: Sequence[Candidate], validations: Sequence[Validation], skipped: dict[str, str]
) -> BestConfiguration:
    # A single model comes first in the list, so it wins a tie against a pair that costs twice as much.
    ranked = sorted(candidates, key=lambda candidate: METRICS[DECIDING].badness(candidate.mean[DECIDING]))
    models = {validation.model.path.name: validation.model for validation in validations}
    return BestConfiguration(
        dataset=dataset,
        cases=tuple(sorted(validations[0].cases)),
        candidates=tuple(ranked),
        skipped=skipped,
        settings=validations[0].settings,
        instructions=_instructions(
            [models[name] for name in ranked[0].models], ranked[0].folds, validations[0].settings.checkpoint
        ),
        notes=tuple(note for validation in validations for note in validation.notes),
    )


def _candidate(validations: Sequence[Validation], mean: dict[str, float]) -> Candidate:
    names = tuple(validation.model.path.name for validation in validations)
    return Candidate(_name(validations), names, validations[0].folds, mean)


def _name(validations: Sequence[Validation]) -> str:
    return " + ".join(validation.model.path.name for validation in validations)


def _why_not_averaged(pair: Sequence[Validation]) -> str | None:
    for validation in pair:
        missing = sorted(set(validation.cases) - set(validation.files))
        if missing:
            return f"{validation.model.path.name} keeps no validation prediction of {', '.join(missing[:5])}"
    return None


def _score_average(
    pair: Sequence[Validation], places: ResultsFolder, raw: Path, options: CandidateOptions
) -> dict[str, float]:
    """Average the validation predictions of two models, score them as the models were scored."""
    descriptor = load_descriptor(raw)
    settings = pair[0].settings
    folder = places.ensemble(raw.name, [validation.model for validation in pair])
    names = sorted(pair[0].cases)
    for name in track(f"averaging {folder.name}", names, options.show_progress):
        files = [validation.files[name] for validation in pair]
        write_mean(name, files, folder / f"{name}{descriptor.file_ending}")
    masks = given_masks(raw, descriptor) or Path(settings.mask_folder or "")
    value_range = settings.value_range
    summary = evaluate_folders(
        EvaluationFolders(RawFolders(raw).targets, folder, masks if settings.mask == "given" else None),
        EvaluationOptions(
            descriptor=descriptor,
            range_name=settings.range if settings.range in ("2023", "2025") else None,
            data_range=(value_range.low, value_range.high) if settings.range == "given" and value_range else None,
            identifiers=names,
            checkpoint=settings.checkpoint,
            processes=options.processes,
            show_progress=options.show_progress,
        ),
    )
    save_summary(summary, folder / SUMMARY_FILE)
    return mean_scores(summary.cases)


def _instructions(models: Sequence[ModelFolder], folds: Sequence[str], checkpoint: str | None) -> str:
    weights = f" -chk {checkpoint}" if checkpoint else ""
    number = dataset_number(models[0].dataset)
    outputs = ["OUTPUT_FOLDER"] if len(models) == 1 else [f"OUTPUT_FOLDER_{k}" for k in range(1, len(models) + 1)]
    lines = ["Predict new cases with the best of them (put your own folders in place of the capitals):", ""]
    for model, output in zip(models, outputs, strict=True):
        lines.append(
            f"gdm_predict -i INPUT_FOLDER -o {output} -d {number} -c {model.name.configuration} "
            f"-tr {model.name.trainer} -p {model.name.plans} -f {' '.join(folds)}{weights}"
        )
    if len(models) > 1:
        lines.append(f"gdm_ensemble -i {' '.join(outputs)} -o OUTPUT_FOLDER")
    return "\n".join(lines)
