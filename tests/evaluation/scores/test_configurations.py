import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from gdmunet.dataset import DatasetDescriptor
from gdmunet.errors import GdmError
from gdmunet.evaluation.scores.configurations import CandidateOptions, find_best_configuration
from gdmunet.evaluation.scores.evaluate import EvaluationOptions, evaluate_folders
from gdmunet.evaluation.scores.summary import load_summary, save_summary
from gdmunet.evaluation.scores.volume_files import EvaluationFolders
from gdmunet.geometry import Geometry
from gdmunet.imageio import read_volume, write_volume
from gdmunet.provenance import ProvenanceSpec
from gdmunet.serialization import save_json

SHAPE = (8, 9, 10)
GRID = Geometry(SHAPE, (2.0, 1.0, 1.0))
FOLDS = {"0": ("a", "b"), "1": ("c",)}
FULL, LOW = "FidelityTrainer__gdmPlans__3d_fullres", "FidelityTrainer__gdmPlans__3d_lowres"


class Study:
    """Three cases, and models whose predictions are off by a number inside the mask and by 500 outside."""

    def __init__(self, folder: Path) -> None:
        self.raw, self.results = folder / "raw", folder / "results"
        self.dataset = self.raw / "Dataset501_Study"
        names = [name for names in FOLDS.values() for name in names]
        save_json(DatasetDescriptor({"0": "MR"}, "CT", ".mha", len(names), mask=True), self.dataset / "dataset.json")
        random = np.random.RandomState(0)
        self.mask = np.zeros(SHAPE, bool)
        self.mask[1:-1, 1:-1, 1:-1] = True
        self.targets = {name: np.round(random.normal(0, 200, SHAPE)).astype(np.int16) for name in names}
        for name, target in self.targets.items():
            write_volume(self.dataset / "targetsTr" / f"{name}.mha", target, GRID)
            write_volume(self.dataset / "masksTr" / f"{name}.mha", self.mask, GRID)

    def add_model(
        self, name: str, error: int, folds: tuple[str, ...] = ("0", "1"), masked: bool = True, checkpoint: str = "final"
    ) -> Path:
        model = self.results / "Dataset501_Study" / name
        for fold in folds:
            validation = model / f"fold_{fold}" / "validation"
            for case in FOLDS[fold]:
                prediction = self.targets[case] + np.where(self.mask, error, 500).astype(np.int16)
                write_volume(validation / f"{case}.mha", prediction, GRID)
            (model / f"fold_{fold}" / "checkpoint_final.safetensors").touch()
            summary = evaluate_folders(
                EvaluationFolders(self.dataset / "targetsTr", validation, self.dataset / "masksTr" if masked else None),
                EvaluationOptions(identifiers=FOLDS[fold], checkpoint=checkpoint, show_progress=False),
            )
            save_summary(summary, validation / "summary.json")
        (model / "plans.json").touch()
        return model

    def find(self, **options):
        return find_best_configuration(self.results, self.raw, 501, CandidateOptions(show_progress=False, **options))


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path)


def test_the_model_with_the_lowest_mae_is_best(study):
    study.add_model(FULL, 10)
    study.add_model(LOW, 30)
    best = study.find()
    assert best.best.name == FULL
    assert best.best.mean["mae"] == 10
    assert best.cases == ("a", "b", "c")
    assert best.best.folds == ("0", "1")
    text = (study.results / "Dataset501_Study" / "inference_instructions.txt").read_text()
    command = "gdm_predict -i INPUT_FOLDER -o OUTPUT_FOLDER -d 501 -c 3d_fullres -tr FidelityTrainer -p gdmPlans -f 0 1"
    assert f"{command} -chk final" in text
    assert "gdm_ensemble" not in text
    assert "dynamic range 4095" in text


def test_a_pair_wins_where_the_errors_cancel(study):
    study.add_model(FULL, 10)
    study.add_model(LOW, -12)
    best = study.find()
    assert best.best.models == (FULL, LOW)
    assert best.best.mean["mae"] == 1
    assert [candidate.mean["mae"] for candidate in best.candidates] == [1, 10, 12]
    assert "-c 3d_lowres" in best.instructions
    assert "gdm_ensemble -i OUTPUT_FOLDER_1 OUTPUT_FOLDER_2 -o OUTPUT_FOLDER" in best.instructions
    folder = study.results / "Dataset501_Study" / "ensembles" / f"{FULL}___{LOW}"
    assert load_summary(folder / "summary.json").mean["mae"] == 1
    np.testing.assert_array_equal(read_volume(folder / "c.mha").array[study.mask], study.targets["c"][study.mask] - 1)


def test_without_ensembles_only_models_are_compared(study):
    study.add_model(FULL, 10)
    study.add_model(LOW, -12)
    assert [candidate.name for candidate in study.find(ensembles=False).candidates] == [FULL, LOW]


def test_the_mean_is_over_cases_not_over_folds(study):
    model = study.add_model(FULL, 10)
    write_volume(model / "fold_1" / "validation" / "c.mha", study.targets["c"] + np.int16(40), GRID)
    folders = EvaluationFolders(study.dataset / "targetsTr", model / "fold_1" / "validation", study.dataset / "masksTr")
    options = EvaluationOptions(identifiers=["c"], checkpoint="final", show_progress=False)
    summary = evaluate_folders(folders, options)
    save_summary(summary, model / "fold_1" / "validation" / "summary.json")
    assert study.find().best.mean["mae"] == 20


def test_different_cases_are_refused_with_the_folds_and_the_remedy(study):
    study.add_model(FULL, 10)
    study.add_model(LOW, 5, folds=("0",))
    with pytest.raises(GdmError, match=rf"different cases(.|\n)*{LOW}: folds 0(.|\n)*not in both: c(.|\n)*--folds 0"):
        study.find()
    best = study.find(folds=["0"])
    assert best.best.name == LOW
    assert best.cases == ("a", "b")


def test_different_settings_are_refused(study):
    study.add_model(FULL, 10)
    study.add_model(LOW, 5, masked=False)
    with pytest.raises(GdmError, match=r"different settings(.|\n)*whole volume"):
        study.find()
    study.add_model(LOW, 5, checkpoint="best")
    with pytest.raises(GdmError, match=r"different settings(.|\n)*checkpoint best"):
        study.find()


def test_filters_choose_models(study):
    study.add_model(FULL, 10)
    study.add_model("OtherTrainer__gdmPlans__3d_fullres", 5)
    assert [c.name for c in study.find(trainers=["FidelityTrainer"]).candidates] == [FULL]
    with pytest.raises(GdmError, match=r"no model has been validated(.|\n)*no trained model that fits"):
        study.find(configurations=["2d"])


def test_a_pair_without_kept_predictions_is_named_and_skipped(study):
    study.add_model(FULL, 10)
    (study.add_model(LOW, -12) / "fold_0" / "validation" / "b.mha").unlink()
    best = study.find()
    assert best.best.name == FULL
    assert best.skipped == {f"{FULL} + {LOW}": f"{LOW} keeps no validation prediction of b"}
    assert "not averaged" in best.table()


def test_a_validation_with_a_failed_case_is_refused(study):
    model = study.add_model(FULL, 10)
    validation = model / "fold_0" / "validation"
    (validation / "b.mha").unlink()
    folders = EvaluationFolders(study.dataset / "targetsTr", validation, study.dataset / "masksTr")
    options = EvaluationOptions(identifiers=FOLDS["0"], allow_missing=True, show_progress=False)
    summary = evaluate_folders(folders, options)
    save_summary(summary, validation / "summary.json")
    with pytest.raises(GdmError, match=r"without scores(.|\n)*case: b(.|\n)*no prediction"):
        study.find()


def test_a_case_that_two_folds_hold_out_is_counted_once_and_said(study):
    model = study.add_model(FULL, 10)
    shutil.copytree(model / "fold_0", model / "fold_2")
    best = study.find()
    assert best.cases == ("a", "b", "c")
    (note,) = best.notes
    assert "2 cases are held out by several folds" in note
    assert note.endswith(": a, b")
    assert note in best.table()


@pytest.mark.parametrize("name", ["plans", "encoder", "trainer"])
def test_folds_that_were_trained_with_different_things_are_not_one_model(study, name):
    model = study.add_model(FULL, 10)
    for fold, digest in (("0", "a" * 64), ("1", "b" * 64)):
        file = model / f"fold_{fold}" / "validation" / "summary.json"
        summary = load_summary(file)
        settings = dataclasses.replace(summary.settings, provenance=ProvenanceSpec(**{name: digest}))
        save_summary(dataclasses.replace(summary, settings=settings), file)
    with pytest.raises(GdmError, match=f"trained with different {name}, so their scores are not of one model"):
        study.find()
    assert study.find(folds=("1",)).best.folds == ("1",)
