"""The commands one after the other on small phantoms, and what they say to bad input."""

import json
import re
import shlex
import shutil

import numpy as np
import pytest

from gdmunet.cli import (
    ensemble,
    evaluate,
    export_model,
    find_best_configuration,
    import_model,
    plan_and_preprocess,
    predict,
    preprocess,
    report,
    train,
)
from gdmunet.conversion.phantoms import make_phantom_demo
from gdmunet.imageio import read_volume
from gdmunet.workflows.requests.shared import DEFAULT_TRAINER

PLANS = "gdmPlans_tiny"
TRAINING = ["--epochs", "1", "--set", "iterations_per_epoch=2", "validation_patches=2", "-device", "cpu", "-np", "0"]


class Workplace:
    """Three folders, and commands that are run on them."""

    def __init__(self, folder):
        self.folder = folder
        self.raw, self.preprocessed, self.results = (folder / name for name in ("raw", "preprocessed", "results"))
        self.dataset = self.raw / "Dataset502_DemoPhantoms"

    def plan(self, *words):
        folders = ["--raw", str(self.raw), "--preprocessed", str(self.preprocessed)]
        return plan_and_preprocess.main(
            ["-np", "1", "--no_pbar", "-device", "cpu", "-tr", "FidelityTrainer", *folders, *words]
        )

    def train(self, *words):
        folders = ["--raw", str(self.raw), "--preprocessed", str(self.preprocessed), "--results", str(self.results)]
        return train.main(["-tr", "FidelityTrainer", *words, "--no_pbar", *folders])

    def predict(self, *words):
        return predict.main([*map(str, words), "--no_pbar", "-device", "cpu", "--results", str(self.results)])

    def model(self):
        return next(self.results.glob("Dataset502_DemoPhantoms/*"))

    def copy(self, folder):
        shutil.copytree(self.folder, folder)
        return Workplace(folder)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Planned, preprocessed and trained for two steps."""
    work = Workplace(tmp_path_factory.mktemp("work"))
    make_phantom_demo(work.raw, cases=4, size=16, show_progress=False)
    assert work.plan("-d", "502", "-pl", "tiny", "-c", "3d_fullres", "--verify_dataset_integrity") == 0
    assert work.train("502", "3d_fullres", "0", "-p", PLANS, *TRAINING) == 0
    return work


def error_of(capsys):
    text = capsys.readouterr().err
    assert "Traceback" not in text
    return text


def test_planning_prints_its_reasons_and_writes_readable_files(tmp_path, capsys):
    work = Workplace(tmp_path)
    make_phantom_demo(work.raw, cases=4, size=16, show_progress=False)
    assert work.plan("-d", "502", "-pl", "tiny", "--no_pp") == 0
    printed = capsys.readouterr().out
    assert "because" in printed
    assert "spacing" in printed
    assert "patch" in printed
    folder = work.preprocessed / "Dataset502_DemoPhantoms"
    assert json.loads((folder / f"{PLANS}.json").read_text())["planner"] == "tiny"
    assert (folder / "dataset_fingerprint.json").is_file()
    assert not list(folder.glob(f"{PLANS}_*/*.b2nd"))


def test_planning_and_preprocessing_name_the_next_command_and_it_runs(tmp_path, capsys):
    work = Workplace(tmp_path)
    make_phantom_demo(work.raw, cases=4, size=16, show_progress=False)

    def next_words(command):
        last = capsys.readouterr().out.splitlines()[-1]
        name, *words = shlex.split(last.removeprefix("next: "))
        assert last.startswith("next: ")
        assert name == command
        return words

    assert work.plan("-d", "502", "-pl", "tiny", "--no_pp", "-c", "3d_fullres") == 0
    assert preprocess.main([*next_words("gdm_preprocess"), "--no_pbar"]) == 0
    short = ["-tr", "FidelityTrainer", *TRAINING, "--no_pbar", "--results", str(work.results)]
    assert train.main([*next_words("gdm_train"), *short]) == 0
    assert "-m" in next_words("gdm_predict")


def test_the_printed_plan_shares_the_memory_out(trained, tmp_path, capsys):
    work = trained.copy(tmp_path / "work")
    planning = ["-d", "502", "-pl", "tiny", "-c", "3d_fullres", "-tr", "GDMTrainer", "-encoder", "tiny", "--no_pp"]
    capsys.readouterr()
    assert work.plan(*planning) == 0
    printed = " ".join(capsys.readouterr().out.split())
    parts = ("generator", "encoder", "feature bank", "output gradients")
    found = re.search("predicted peak: " + ", ".join(rf"{part} (\d+) %" for part in parts), printed)
    assert found, printed
    assert abs(sum(map(int, found.groups())) - 100) <= 2  # each is rounded


def test_prediction_needs_no_flags_when_there_is_one_model(trained, tmp_path, capsys):
    out = tmp_path / "predictions"
    assert trained.predict("-i", trained.dataset / "imagesTs", "-o", out) == 0
    assert "Dataset502_DemoPhantoms" in capsys.readouterr().out
    predicted = read_volume(out / "head_003.nii.gz")
    target = read_volume(trained.dataset / "targetsTs" / "head_003.nii.gz")
    assert predicted.geometry.difference(target.geometry) is None
    masks = ["-mask", str(trained.dataset / "masksTs")]
    words = ["-ref", str(trained.dataset / "targetsTs"), "-pred", str(out), "--csv", str(tmp_path / "t.csv"), *masks]
    assert evaluate.main([*words, "-d", "502", "--raw", str(trained.raw), "--no_pbar"]) == 0
    mae = json.loads((out / "summary.json").read_text())["cases"]["head_003"]["mae"]
    mask = read_volume(trained.dataset / "masksTs" / "head_003.nii.gz").array > 0
    assert mae == pytest.approx(np.abs(predicted.array - target.array)[mask].mean(), rel=1e-5)
    assert "head_003" in (tmp_path / "t.csv").read_text()


def test_preprocessing_again_leaves_finished_cases(trained, capsys):
    folders = ["--raw", str(trained.raw), "--preprocessed", str(trained.preprocessed), "--no_pbar", "-np", "1"]
    assert preprocess.main(["-d", "502", "-p", PLANS, *folders]) == 0
    assert "3d_fullres: 0 cases prepared, 3 unchanged" in capsys.readouterr().out
    assert preprocess.main(["-d", "502", "-p", "other", *folders]) == 1
    text = error_of(capsys)
    assert "no plans other" in text
    assert PLANS in text
    assert "remedy" in text


def test_verification_lists_every_problem(tmp_path, capsys):
    work = Workplace(tmp_path)
    make_phantom_demo(work.raw, cases=4, size=16, show_progress=False)
    for split, name in (("Tr", "head_001"), ("Ts", "head_003")):
        file = work.dataset / f"targets{split}" / f"{name}.nii.gz"
        file.write_bytes(file.read_bytes()[:-40])
    assert work.plan("-d", "502", "-pl", "tiny", "--verify_dataset_integrity") == 1
    text = error_of(capsys)
    assert "head_001" in text
    assert "head_003" in text


def test_settings_from_flags_are_in_the_name_of_the_results(trained):
    name = trained.model().name
    assert name.startswith("FidelityTrainer")
    assert "epochs" in name
    assert name.endswith(f"__{PLANS}__3d_fullres")


def test_a_trained_fold_is_not_trained_over(trained, capsys):
    before = {p: p.stat().st_mtime_ns for p in trained.model().rglob("*.safetensors")}
    assert trained.train("502", "3d_fullres", "0", "-p", PLANS, *TRAINING) == 1
    assert "--overwrite" in error_of(capsys)
    assert before == {p: p.stat().st_mtime_ns for p in trained.model().rglob("*.safetensors")}


def test_nothing_to_continue_is_an_error(trained, capsys):
    assert trained.train("502", "3d_fullres", "1", "-p", PLANS, *TRAINING, "--c") == 1
    assert "continue" in error_of(capsys)


def test_an_unknown_data_set_lists_the_known_ones(trained, capsys):
    assert trained.plan("-d", "77") == 1
    text = error_of(capsys)
    assert "data set 77 is unknown" in text
    assert "Dataset502_DemoPhantoms" in text
    assert "remedy" in text
    assert trained.train("77", "3d_fullres", *TRAINING) == 1
    assert "data set 77 is unknown" in error_of(capsys)


def test_unknown_plans_configuration_trainer_and_setting_name_what_there_is(trained, capsys):
    for words, hints in (
        (["502", "3d_fullres", "-p", "other"], ["no plans other", PLANS]),
        (["502", "3d_fulres", "-p", PLANS], ["configuration 3d_fulres", "3d_fullres"]),
        (["502", "3d_fullres", "-p", PLANS, "-tr", "FidelityTrainr"], ["FidelityTrainr", "did you mean"]),
        (["502", "3d_fullres", "-p", PLANS, "--set", "epoch=3"], ["no setting epoch", "did you mean epochs"]),
    ):
        assert trained.train(*words) == 1
        text = error_of(capsys)
        assert all(hint in text for hint in hints), text


def test_several_models_are_listed_with_the_flags_that_choose(trained, tmp_path, capsys):
    work = trained.copy(tmp_path / "work")
    other = work.model().with_name(f"OtherTrainer__{PLANS}__3d_fullres")
    shutil.copytree(work.model(), other)
    words = ["-i", work.dataset / "imagesTs", "-o", tmp_path / "out"]
    assert work.predict(*words) == 1
    text = error_of(capsys)
    assert "several trained models fit" in text
    assert "-tr OtherTrainer" in text
    assert "-tr FidelityTrainer" in text
    assert not (tmp_path / "out").exists()
    assert work.predict(*words, "-tr", "OtherTrainer") == 0


def test_the_output_folder_may_not_be_the_input_folder(trained, capsys):
    images = trained.dataset / "imagesTs"
    before = sorted(p.name for p in images.iterdir())
    assert trained.predict("-i", images, "-o", images) == 1
    text = error_of(capsys)
    assert "output folder is the input folder" in text
    assert "-o" in text
    assert sorted(p.name for p in images.iterdir()) == before


def test_a_folder_without_cases_is_named(trained, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert trained.predict("-i", tmp_path / "empty", "-o", tmp_path / "out") == 1
    text = error_of(capsys)
    assert "no cases" in text
    assert "empty" in text
    assert "CASE_0000.nii.gz" in text


def test_a_wrong_key_of_dataset_json_names_the_nearest(tmp_path, capsys):
    work = Workplace(tmp_path)
    make_phantom_demo(work.raw, cases=4, size=16, show_progress=False)
    file = work.dataset / "dataset.json"
    file.write_text(file.read_text().replace('"target_name"', '"target_nam"'))
    assert work.plan("-d", "502") == 1
    text = error_of(capsys)
    assert "target_nam: unknown key, did you mean target_name?" in text
    assert str(file) in text


def test_a_training_set_without_cases_is_an_error(tmp_path, capsys):
    work = Workplace(tmp_path)
    make_phantom_demo(work.raw, cases=4, size=16, show_progress=False)
    shutil.rmtree(work.dataset / "imagesTr")
    assert work.plan("-d", "502") == 1
    assert "there are no cases" in error_of(capsys)


def test_a_target_without_image_and_the_reverse_are_named(tmp_path, capsys):
    work = Workplace(tmp_path)
    make_phantom_demo(work.raw, cases=4, size=16, show_progress=False)
    (work.dataset / "targetsTr" / "head_001.nii.gz").rename(tmp_path / "head_001.nii.gz")
    assert work.plan("-d", "502") == 1
    text = error_of(capsys)
    assert "image without target" in text
    assert "case: head_001" in text
    assert "remedy" in text


def test_a_model_travels_as_a_zip(trained, tmp_path, capsys):
    archive = tmp_path / "model.zip"
    assert export_model.main(["-o", str(archive), "--results", str(trained.results)]) == 0
    assert import_model.main([str(archive), "--results", str(tmp_path / "elsewhere")]) == 0
    assert import_model.main([str(archive), "--results", str(tmp_path / "elsewhere")]) == 1
    assert "--overwrite" in error_of(capsys)
    out = tmp_path / "predictions"
    words = ["-i", str(trained.dataset / "imagesTs"), "-o", str(out), "-device", "cpu", "--no_pbar"]
    assert predict.main([*words, "--results", str(tmp_path / "elsewhere")]) == 0


def test_the_best_configuration_and_an_ensemble(trained, tmp_path, capsys):
    words = ["502", "--raw", str(trained.raw), "--results", str(trained.results), "--no_pbar"]
    assert find_best_configuration.main(words) == 0
    assert "gdm_predict -i INPUT_FOLDER" in capsys.readouterr().out
    targets = str(trained.dataset / "targetsTs")
    shutil.copytree(targets, tmp_path / "a")
    words = ["-i", str(tmp_path / "a"), targets, "-o", str(tmp_path / "mean"), "--no_pbar"]
    assert ensemble.main(words) == 0
    mean, first = (read_volume(f / "head_003.nii.gz").array for f in (tmp_path / "mean", tmp_path / "a"))
    assert np.array_equal(mean, first)


def test_with_no_network_the_method_trains_with_the_built_in_encoder_and_says_so(tmp_path, capsys):
    work = Workplace(tmp_path)
    make_phantom_demo(work.raw, cases=4, size=16, show_progress=False)
    folders = ["--raw", str(work.raw), "--preprocessed", str(work.preprocessed), "--no_pbar"]
    planning = ["-d", "502", "-c", "3d_fullres", "-pl", "tiny", "-np", "1", "-device", "cpu"]
    assert plan_and_preprocess.main([*planning, *folders]) == 0
    text = " ".join(capsys.readouterr().out.split())  # the table wraps its lines
    assert "encoder (3D)" in text
    assert "mini-random (built in)" in text
    assert "too slow without a GPU" in text
    plans = json.loads((work.preprocessed / "Dataset502_DemoPhantoms" / f"{PLANS}.json").read_text())
    assert plans["trainer"] == DEFAULT_TRAINER
    assert plans["configurations"]["3d_fullres"]["encoder"]["spec"] == "mini-random"
    short = ["--iterations", "2", "--set", "iterations_per_epoch=2", "feature_start=0.5", "bank_patches=2",
             "validation_patches=2", "-np", "0", "-device", "cpu"]  # fmt: skip
    words = ["502", "3d_fullres", "0", "-p", PLANS, "--results", str(work.results), *short]
    assert train.main([*words, *folders]) == 0
    text = capsys.readouterr().out
    assert "GDMTrainer" in text
    assert "encoder mini-random" in text
    assert "joins at iteration 1 of 2" in text


def test_plans_for_a_trainer_without_encoder_have_one_where_it_is_asked_for(trained, tmp_path, capsys):
    """The remedy of GDMTrainer's error, and the recipe of documentation/how_to/compare_trainers.md."""
    work = trained.copy(tmp_path / "work")
    planning = ["-d", "502", "-pl", "tiny", "-c", "3d_fullres", "-tr", "AdversarialTrainer"]
    training = ["502", "3d_fullres", "0", "-p", PLANS, "-tr", "GDMTrainer", *TRAINING]
    training[-4:-4] = ["feature_start=0.5", "bank_patches=2"]
    assert work.plan(*planning, "--no_pp") == 0
    assert planned_encoder(work) is None
    assert work.train(*training) == 1
    assert "gdm_plan_experiment -d Dataset502_DemoPhantoms -pl tiny -encoder auto" in error_of(capsys)
    assert work.plan(*planning, "-encoder", "tiny", "--no_pp") == 0
    assert planned_encoder(work)["spec"] == "tiny"
    assert predicted_memory(work)["encoder"] == 0  # the rival's step, not GDMTrainer's, is the larger
    assert work.plan(*planning, "-encoder", "auto") == 0
    assert planned_encoder(work)["spec"] == "mini-random"
    assert work.train(*training) == 0
    fidelity = [*planning[:-1], "FidelityTrainer"]
    assert work.plan(*fidelity, "-encoder", "mini", "--no_pp") == 0
    assert predicted_memory(work)["encoder"] > 0  # plans with an encoder have room for it, whatever the trainer


def test_an_encoder_file_without_its_name_is_refused_whatever_the_trainer(trained, tmp_path, capsys):
    work = trained.copy(tmp_path / "work")
    assert work.plan("-d", "502", "-pl", "tiny", "--no_pp", "-encoder_path", str(tmp_path / "weights.pt")) == 1
    assert "--encoder-path needs the name" in error_of(capsys)


def planned_encoder(work):
    return planned_configuration(work)["encoder"]


def predicted_memory(work):
    return planned_configuration(work)["predicted_memory"]


def planned_configuration(work):
    plans = json.loads((work.preprocessed / "Dataset502_DemoPhantoms" / f"{PLANS}.json").read_text())
    return plans["configurations"]["3d_fullres"]


def test_every_command_names_the_next_one_and_it_runs(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, folder in (("RAW", trained.raw), ("PREPROCESSED", trained.preprocessed)):
        monkeypatch.setenv(f"GDM_{name}", str(folder))
    # The training ends with the command that predicts.
    assert trained.train("502", "3d_fullres", "0", "-p", PLANS, *TRAINING, "--val") == 0
    mains = {"gdm_predict": predict.main, "gdm_evaluate": evaluate.main, "gdm_report": report.main}
    for name, main in mains.items():
        words = shlex.split(capsys.readouterr().out.splitlines()[-1].removeprefix("next: "))
        assert words[0] == name
        assert main(words[1:]) == 0
    assert (tmp_path / "predictions" / "summary.json").is_file()
    assert (tmp_path / "predictions" / "report.html").is_file()
