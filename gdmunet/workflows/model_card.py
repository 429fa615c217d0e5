"""The card of a model: what it does, what it was made from, how well it does it, and what it is not for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gdmunet.checkpoint import load_metadata
from gdmunet.encoders.registry import parse_spec
from gdmunet.evaluation.scores.summary import Statistics, Summary, load_summary
from gdmunet.inference.trained_models import choose_folds
from gdmunet.metrics import metrics_in
from gdmunet.plans import Configuration, Plans, load_plans
from gdmunet.quantities import counted
from gdmunet.results import CheckpointName, ModelFolder
from gdmunet.version import __version__

_NOT_SAID = "not said"


@dataclass(frozen=True)
class CardFacts:
    """What only the one who shares a model knows.

    Attributes
    ----------
    repository
        ``owner/name``.
    licence
        Licence of the weights; None: the card says that it is not said.
    archive, sha256
        File of the model in the repository, and its hash.
    checkpoint
        Name of the weights in it.
    """

    repository: str
    licence: str | None
    archive: str
    sha256: str
    checkpoint: CheckpointName


def model_card(folder: Path, facts: CardFacts, folds: Sequence[str] | None = None) -> str:
    """The text of README.md, with the front matter that hubs read.

    Parameters
    ----------
    folder
        Folder of the model.
    folds
        Folds that are shared; None: all numbered ones that have the checkpoint.

    Raises
    ------
    GdmError
        The model's files cannot be read.
    """
    model, plans = ModelFolder(Path(folder)), load_plans(ModelFolder(Path(folder)).plans)
    shared = choose_folds(folder, folds, facts.checkpoint)
    configuration = plans.configuration(model.name.configuration)
    parts = [_front(facts, plans), _purpose(facts, model, plans), _making(model, plans, configuration, shared, facts)]
    for fold in shared:
        file = model.fold(fold).summary()
        parts += [_scores(fold, load_summary(file))] if file.is_file() else []
    return "\n\n".join([*parts, _weights(model, shared, facts), ""])


def _front(facts: CardFacts, plans: Plans) -> str:
    lines = [f"license: {facts.licence}"] if facts.licence else []
    tags = ["medical", "gdmunet", "image-to-image", *(["synthetic-ct"] if plans.dataset.hounsfield else [])]
    return "\n".join(["---", *lines, "library_name: gdmunet", "tags:", *(f"- {tag}" for tag in tags), "---"])


def _task(plans: Plans) -> str:
    return f"{' and '.join(plans.dataset.channels)} to {plans.dataset.target_name}"


def _purpose(facts: CardFacts, model: ModelFolder, plans: Plans) -> str:
    task = _task(plans)
    return f"""# {facts.repository.partition("/")[2]}: {task}

A model of [gdmunet](https://github.com/gdmunet/gdmunet) {__version__} that predicts {task} in 3D, trained on
the data set {model.dataset}.

```bash
gdm_predict -m hf:{facts.repository} -i INPUT_FOLDER -o OUTPUT_FOLDER
```

## Intended use

Research. The model is not a medical device and was not assessed as one: do not use its images for the diagnosis or the
treatment of a patient. It was trained on the scanners, sequences and patients of its data set alone; test it on your
own before you rely on it."""


def _making(
    model: ModelFolder, plans: Plans, configuration: Configuration, folds: Sequence[str], facts: CardFacts
) -> str:
    cases = {case for fold in plans.folds for case in (*fold.training, *fold.validation)}
    name = model.name
    rows = {
        "task": _task(plans),
        "data set": f"{model.dataset}, {counted(cases, 'case')}",
        "spacing": " x ".join(f"{value:g}" for value in configuration.spacing) + " mm (z, y, x)",
        "patch": " x ".join(map(str, configuration.patch_size)) + " voxels",
        "configuration": f"{name.configuration} of the plans {name.plans}",
        "trainer": name.trainer,
        "folds": " ".join(folds),
        "encoder": _encoder(configuration),
        "licence of the weights": facts.licence or _NOT_SAID,
        "version": f"gdmunet {__version__}",
    }
    return "\n".join(["## How it was made", "", "| | |", "|---|---|", *(f"| {k} | {v} |" for k, v in rows.items())])


def _encoder(configuration: Configuration) -> str:
    """Name and licence of the frozen encoder that a training used."""
    if configuration.encoder is None:
        return "none"
    family = parse_spec(configuration.encoder.spec).family
    # What follows a family's name may be a path of the machine that trained.
    return f"{family.name} (licence: {family.licence})" if family else "one of the author's own (licence: not said)"


def _scores(fold: str, summary: Summary) -> str:
    """Means over the cases that a fold held out, all and by region."""
    unit = summary.settings.target_unit
    metrics = [metric for metric in metrics_in(summary.metrics) if metric.main]
    heads = ["cases", *(metric.head(unit) for metric in metrics)]

    def row(name: str, values: Statistics) -> str:
        cells = [metric.text(values.mean.get(metric.name), unit) for metric in metrics]
        return f"| {name} | {' | '.join(cells)} |"

    how = _without_places(summary.settings.describe(), summary)
    lines = [f"## Scores of fold {fold}", "", f"Means over the cases that were held out; {how}.", ""]
    lines += [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    lines.append(row(f"all ({len(summary.cases) - summary.failed})", summary.statistics))
    for kind, groups in summary.groups.items():
        if kind != "patient":  # one by one they would name the patients of the data set
            lines += [row(f"{kind} {group}", values) for group, values in groups.items()]
    return "\n".join(lines)


def _without_places(text: str, summary: Summary) -> str:
    """Folders of the machine that trained are nobody's business."""
    for folder in (summary.settings.mask_folder, summary.settings.fov_folder):
        text = text.replace(f"masks of {folder}", "body masks").replace(f"fields of view of {folder}", "fields of view")
    return text


def _weights(model: ModelFolder, folds: Sequence[str], facts: CardFacts) -> str:
    lines = ["## Weights", "", "| file | sha256 |", "|---|---|", f"| `{facts.archive}` | `{facts.sha256}` |", ""]
    for fold in folds:
        found = load_metadata(model.fold(fold).checkpoint(facts.checkpoint))
        lines.append(
            f"* fold {fold}, {facts.checkpoint}: {counted(found.epoch, 'epoch')}, gdmunet {found.gdmunet_version}"
        )
    return "\n".join(lines)
