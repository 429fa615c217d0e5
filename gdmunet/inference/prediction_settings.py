"""The settings of a folder of predictions: written beside them, and compared before others are added to them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from gdmunet.device import Precision
from gdmunet.errors import GdmError
from gdmunet.inference.cases.source import CaseSource
from gdmunet.inference.options import PredictionOptions
from gdmunet.inference.predictor import Predictor
from gdmunet.paths import is_url
from gdmunet.quantities import counted
from gdmunet.sampler_spec import ONE_STEP, SamplerSpec
from gdmunet.serialization import load_json
from gdmunet.splits import named
from gdmunet.version import __version__
from gdmunet.volume_formats.files import find_volumes

SETTINGS_FILE = "prediction_settings.json"
# Beside the predictions: conditions that were reconstructed from scans.
CONDITIONS = "conditions"
# They round a prediction in another way, and are said; the weights stand for the folder that they lie in.
_MACHINE = ("device", "precision")
# A map that is missing is predicted; the volumes are the same with and without.
_NOT_COMPARED = (*_MACHINE, "gdmunet_version", "uncertainty", "weights", "model")
_FOLDERS = ("mask_folder", "input_folder")


@dataclass(frozen=True)
class PredictionSpec:
    """The content of prediction_settings.json: model and options of a folder of predictions.

    Attributes
    ----------
    mask_folder
        Folder of the body masks, or its URL; None: the bodies were derived from the conditions.
    input_folder
        Folder of the conditions, or its URL; None: they were given one by one, or an earlier version wrote the file.
    weights
        Fold to sha256 of its weights, as their checkpoint carries it; empty: not known.
    reading
        Choices that change what is read, such as the series of DICOM folders; empty: none, or not known.
    """

    model: str | None
    folds: tuple[str, ...]
    checkpoint: str | None
    configuration: str
    step_size: float
    tta: bool
    precision: Precision
    device: str
    skip_empty: bool
    mask_folder: str | None
    as_float: bool
    uncertainty: bool
    sampler: SamplerSpec = ONE_STEP
    samples: int = 1
    seed: int = 0
    fast: bool = False
    realism: float | None = None
    input_folder: str | None = None
    weights: dict[str, str] = field(default_factory=dict)
    reading: dict[str, str] = field(default_factory=dict)
    gdmunet_version: str = __version__

    def conditions_in(self, folder: Path) -> Path | None:
        """Folder of the conditions of the predictions in `folder`; None: not known, given one by one, or behind a URL.

        Conditions that were reconstructed from scans lie beside their predictions.
        """
        if self.reading.get("kind") in ("sinogram", "simulate"):
            return folder / CONDITIONS
        return Path(self.input_folder) if self.input_folder and not is_url(self.input_folder) else None

    def differences(self, earlier: PredictionSpec) -> list[tuple[str, str]]:
        """What makes other predictions than `earlier`, as pairs of texts: of the earlier ones, and of these."""
        theirs, present = vars(earlier), vars(self)
        names = [name for name in present if name not in _NOT_COMPARED and theirs[name] != present[name]]
        names = [name for name in names if name not in _FOLDERS or not _same_folder(theirs[name], present[name])]
        # Earlier versions said neither.
        names = [name for name in names if name not in ("input_folder", "reading") or theirs[name]]
        if earlier.weights and self.weights:
            names += ["model"] if earlier.weights != self.weights else []
        elif not _same_folder(earlier.model, self.model):
            names += ["model"]
        return [(_text(name, earlier), _text(name, self)) for name in names]


def settings_of(predictor: Predictor, cases: CaseSource, options: PredictionOptions) -> PredictionSpec:
    """The settings of a run."""
    source, asked = predictor.source, predictor.options
    return PredictionSpec(
        model=str(source.folder) if source else None,
        folds=source.folds if source else (),
        checkpoint=source.checkpoint if source else None,
        configuration=predictor.configuration.name,
        step_size=asked.step_size,
        tta=asked.tta,
        precision=predictor.precision,
        device=str(predictor.device),
        skip_empty=asked.skip_empty,
        mask_folder=cases.place_of(cases.mask_folder),
        as_float=options.as_float,
        uncertainty=options.uncertainty,
        sampler=predictor.sampler,
        samples=asked.samples,
        seed=asked.seed,
        fast=asked.fast,
        realism=predictor.realism,
        input_folder=cases.place_of(cases.input_folder),
        weights=source.weights if source else {},
        reading=cases.reading(),
    )


def compare_with_earlier(
    folder: Path, settings: PredictionSpec, identifiers: Collection[str], options: PredictionOptions
) -> list[str]:
    """Refuse to add predictions to those of other settings; lines about what is there and cannot be compared.

    Parameters
    ----------
    identifiers
        Cases whose predictions will be in the folder after this run, old or new.

    Raises
    ------
    GdmError
        The folder was begun with other settings, and the run goes on in it or does a part of its cases.
    """
    file = folder / SETTINGS_FILE
    there = sorted(find_volumes(folder)) if folder.is_dir() else []
    goes_on = options.continue_prediction or options.num_parts > 1
    if not there:
        return []
    earlier = _earlier(file, goes_on)
    if earlier is None:
        text = f"note: {folder} holds {counted(there, 'volume')}, and {file.name} does not say how they were predicted"
        return [text] if goes_on else []
    differing = settings.differences(earlier)
    if goes_on and differing:
        raise GdmError(
            "the folder was begun with other settings, so its predictions would not belong together",
            file=file,
            found="; ".join(theirs for theirs, _ in differing),
            expected="; ".join(present for _, present in differing),
            remedy="give another folder with -o; or predict all cases anew, without --continue_prediction and in one "
            "part, or with the settings that are there",
        )
    others = [name for name in there if name not in identifiers]
    if differing and others:
        return [f"note: {counted(others, 'volume')} of an earlier prediction stay in {folder}: {named(others)}"]
    return _machine_lines(earlier, settings) if goes_on else []


def _earlier(file: Path, needed: bool) -> PredictionSpec | None:
    if not file.is_file():
        return None
    try:
        return load_json(PredictionSpec, file)
    except GdmError as error:
        if needed:
            error.remedy = "predict all cases anew, without --continue_prediction, or give another folder with -o"
            raise
        return None  # it is replaced


def _machine_lines(earlier: PredictionSpec, settings: PredictionSpec) -> list[str]:
    lines = []
    if any(vars(earlier)[name] != vars(settings)[name] for name in _MACHINE):
        lines.append(
            f"note: the predictions that are there were made in {earlier.precision} on {earlier.device}, the others "
            f"are made in {settings.precision} on {settings.device}"
        )
    if settings.weights and not earlier.weights:
        lines.append("note: an earlier version made the predictions that are there; their weights cannot be compared")
    return lines


def _same_folder(first: str | None, second: str | None) -> bool:
    if first is None or second is None or is_url(first) or is_url(second):
        return first == second
    return Path(first).resolve() == Path(second).resolve()


def _text(name: str, spec: PredictionSpec) -> str:
    value = vars(spec)[name]
    if name == "model" and spec.weights:
        hashes = ", ".join(f"fold {fold} {digest[:12]}" for fold, digest in spec.weights.items())
        return f"model {value} (weights of {hashes})"
    if isinstance(value, dict):
        value = ", ".join(f"{key} {item}" for key, item in value.items()) or "none"
    return f"{name} {' '.join(value) if isinstance(value, tuple) else value}"
