"""A small evaluation, training and comparison on disk, for the tests of the report."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from gdmunet.evaluation.comparison.files import write_comparison
from gdmunet.evaluation.comparison.paired import Cost, TrainerRow, compare, row_from_summary
from gdmunet.evaluation.distributions.judgement import Judgement
from gdmunet.evaluation.scores.evaluate import EvaluationOptions, evaluate_folders
from gdmunet.evaluation.scores.summary import Summary, save_summary
from gdmunet.evaluation.scores.volume_files import EvaluationFolders
from gdmunet.geometry import Geometry
from gdmunet.imageio import write_volume
from gdmunet.serialization import save_json

SHAPE = (12, 20, 16)
GRID = Geometry(SHAPE, (3.0, 1.0, 1.5), (5.0, 6.0, 7.0))
# A name that would end an element, a script or an attribute of a page that forgets to escape it.
EVIL = "<img src=x onerror=alert(1)>'\"&<"
# The same danger in a file's name, where a slash cannot stand.
EVIL_CASE = "case_</script>".replace("/", "\N{DIVISION SLASH}") + "<b>&'x'"


def make_volumes(root: Path, names: dict[str, float]) -> Path:
    """A raw data set of MR and CT whose test cases have predictions off by the given HU; returns the predictions."""
    raw, predictions = root / "Dataset501_Sample", root / "predictions"
    random = np.random.default_rng(0)
    inside = np.zeros(SHAPE, bool)
    inside[2:10, 3:17, 3:13] = True
    for name, error in names.items():
        target = np.where(inside, random.normal(0, 300, SHAPE), -1000).round().astype(np.int16)
        write_volume(raw / "imagesTs" / f"{name}_0000.nii.gz", (target // 4 + 300).astype(np.int16), GRID)
        write_volume(raw / "targetsTs" / f"{name}.nii.gz", target, GRID)
        write_volume(raw / "masksTs" / f"{name}.nii.gz", inside, GRID)
        write_volume(predictions / f"{name}.nii.gz", (target + error).astype(np.int16), GRID)
    descriptor = {"channel_names": {"0": "MR"}, "target_name": "CT", "file_ending": ".nii.gz", "numTraining": 0}
    save_json(descriptor | {"mask": True}, raw / "dataset.json")
    return predictions


def make_evaluation(root: Path, names: dict[str, float]) -> tuple[Path, Summary]:
    """Predictions with their summary.json, grouped by region."""
    predictions = make_volumes(root, names)
    raw = root / "Dataset501_Sample"
    groups = {name: {"region": EVIL if k else "head"} for k, name in enumerate(names)}
    folders = EvaluationFolders(raw / "targetsTs", predictions, raw / "masksTs")
    summary = evaluate_folders(folders, EvaluationOptions(groups=groups, show_progress=False))
    save_summary(summary, predictions / "summary.json")
    return predictions, summary


def make_training(root: Path, epochs: int = 5) -> Path:
    """A trained fold with a journal and no validation."""
    fold = root / "SomeTrainer__gdmPlans__3d_fullres" / "fold_0"
    fold.mkdir(parents=True)
    rows = [
        {
            "epoch": k, "iteration": 50 * (k + 1), "loss_fidelity": 1 / (k + 1), "loss_drift": None if k == 1 else 0.5,
            "validation_mae": 60.0 - k, "validation_mae_ema": 61.0 - k, "unit": "HU", "learning_rate": 1e-3,
            "seconds": 12.0, "weight_first": 0.3, "weight_second": 0.7,
        }
        for k in range(epochs)
    ]  # fmt: skip
    (fold / "journal.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    save_json({"epochs": epochs, "name": EVIL}, fold / "settings.json")
    return fold


def make_comparison(root: Path, names: dict[str, float]) -> Path:
    """A comparison of two trainers, of which the second is better, and a failed one."""
    _, summary = make_evaluation(root, names)
    other = root / "other"
    raw = root / "Dataset501_Sample"
    for name, error in names.items():
        from gdmunet.imageio import read_volume

        target = read_volume(raw / "targetsTs" / f"{name}.nii.gz").array
        write_volume(other / f"{name}.nii.gz", (target + error / 2).astype(np.int16), GRID)
    folders = EvaluationFolders(raw / "targetsTs", other, raw / "masksTs")
    second = evaluate_folders(folders, EvaluationOptions(show_progress=False))
    rows = [
        row_from_summary("First", summary, Cost(1, 0.5, 800.0)),
        replace(
            row_from_summary("Second", second, Cost(20, 10.0, 900.0)), judgements=(Judgement("tiny", "", 2.0, 0.1),)
        ),
        TrainerRow("Failed", failure=f"out of memory {EVIL}"),
    ]
    folder = root / "comparison"
    write_comparison(compare(rows, summary.settings, title="Sample"), folder)
    return folder
