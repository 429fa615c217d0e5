"""Every remedy that is a command is run as it is printed, and the command that failed then gets past its error."""

import ast
import importlib
import json
import re
import shlex
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from dicom_samples import make_series, make_stored
from toy_segmenter import segmenter_folder

from gdmunet.checkpoint import load_weights, save_weights
from gdmunet.consents import read_consents
from gdmunet.conversion.phantoms import make_phantom_demo
from gdmunet.encoders.base import VolumeUnits
from gdmunet.encoders.choice import EncoderOptions, choose_encoder
from gdmunet.encoders.loading import load_encoder
from gdmunet.encoders.registry import FAMILIES
from gdmunet.errors import CommandLine, GdmError
from gdmunet.imageio import read_volume
from gdmunet.plans import STANDARD_HU, load_plans
from gdmunet.provenance import plans_hash
from gdmunet.results import ResultsFolder
from gdmunet.training.loop import loop
from gdmunet.training.trainers.fidelity import FidelityTrainer
from gdmunet.training.watch import DeadProcessError
from gdmunet.workflows.requests.shared import DEFAULT_TRAINER

ROOT = Path(__file__).parents[2]
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
DATASET = "Dataset502_DemoPhantoms"
PLANS = "gdmPlans_tiny"
SHORT = ["--iterations", "1", "--set", "iterations_per_epoch=1", "validation_patches=1", "-np", "0", "-device", "cpu"]
PLANNING = ["-np", "1", "-device", "cpu", "-c", "3d_fullres", "--no_pbar"]


class Workplace:
    """Three folders that are given by flags, and commands that are run on them."""

    def __init__(self, folder):
        self.folders = {name: folder / f"my {name}" for name in ("raw", "preprocessed", "results")}
        self.raw = self.folders["raw"] / DATASET
        self.preprocessed = self.folders["preprocessed"] / DATASET
        self.results = ResultsFolder(self.folders["results"])

    def command(self, name, *words, folders=("raw", "preprocessed")):
        typed = [word for kind in folders for word in (f"--{kind}", self.folders[kind])]
        return CommandLine(name, *words, *typed)

    def plan(self, *words):
        return self.command("gdm_plan_and_preprocess", "-d", 502, "-pl", "tiny", *PLANNING, *words)

    def train(self, *words, trainer="FidelityTrainer"):
        """Training with flags that a remedy must keep."""
        words = ("-p", PLANS, "-tr", trainer, "--no_pbar", *words, *SHORT)
        return self.command("gdm_train", 502, "3d_fullres", *words, folders=self.folders)

    def compare(self, *words):
        words = ("-tr", "FidelityTrainer", "-p", PLANS, "--no_pbar", *words, *SHORT)
        return self.command("gdm_compare", 502, "3d_fullres", *words, folders=self.folders)

    def pretrain(self):
        words = ("-d", 502, "-p", PLANS, "--crop", 16, "--iterations", 1, "-device", "cpu", "--no_pbar")
        return self.command("gdm_pretrain_encoder", *words, folders=("preprocessed", "results"))

    def fold(self):
        return next(iter(self.results.models())).fold(0)


def run(command):
    """Run a command as its console script does; its error, or None."""
    module, _, function = SCRIPTS[command.words[0]].partition(":")
    main = getattr(importlib.import_module(module), function)
    try:
        assert main.__wrapped__(list(command.words[1:])) in (0, None)
    except GdmError as error:
        return error
    return None


def describe(work, **changes):
    """Change dataset.json."""
    file = work.raw / "dataset.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def mend(command, problem, remedy):
    """The command fails with the problem, the remedy is run as it is printed, and the command gets past the problem."""
    error = run(command)
    assert error is not None
    assert re.search(problem, error.problem), error
    assert error.command is not None
    assert str(error.command) in str(error)
    assert re.fullmatch(remedy, " ".join(error.command.words)), error.command
    assert run(error.command) is None
    again = run(command)
    assert again is None or again.problem != error.problem, again
    return again


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Raw data, planned and prepared."""
    work = Workplace(tmp_path_factory.mktemp("made"))
    make_phantom_demo(work.folders["raw"], cases=4, size=16, show_progress=False)
    assert run(work.plan("-tr", "FidelityTrainer")) is None
    return work


@pytest.fixture
def work(made, tmp_path):
    """A copy of the prepared data set."""
    for name in ("raw", "preprocessed"):
        shutil.copytree(made.folders[name], tmp_path / f"my {name}")
    return Workplace(tmp_path)


def test_raw_data_alone_is_planned_and_prepared(work):
    shutil.rmtree(work.preprocessed)
    assert (
        mend(work.train(), "not planned yet", "gdm_plan_and_preprocess -d 502 -pl tiny --raw .* --preprocessed .*")
        is None
    )


def test_plans_of_another_name_are_made(work):
    command = work.command("gdm_preprocess", "-d", 502, "-p", "mine", "-np", 1, "--no_pbar")
    mend(command, "no plans mine", f"gdm_plan_and_preprocess -d {DATASET} -overwrite_plans_name mine --raw .*")


def test_cases_that_are_not_prepared_are_prepared_for_the_plans_of_the_user(work):
    shutil.rmtree(work.preprocessed / f"{PLANS}_3d_fullres")
    remedy = f"gdm_preprocess -d 502 -c 3d_fullres -p {PLANS} --raw .* --preprocessed .*"
    assert mend(work.train(), "no case is prepared", remedy) is None


def test_an_encoder_without_prepared_cases_has_them_prepared(work, monkeypatch):
    monkeypatch.setenv("GDM_RAW", str(work.folders["raw"]))
    shutil.rmtree(work.preprocessed / f"{PLANS}_3d_fullres")
    remedy = f"gdm_preprocess -d {DATASET} -c 3d_fullres -p {PLANS} --preprocessed .*"
    assert mend(work.pretrain(), "no case is prepared", remedy) is None


def test_an_encoder_whose_case_is_not_prepared_has_it_prepared(work, monkeypatch):
    monkeypatch.setenv("GDM_RAW", str(work.folders["raw"]))
    for file in (work.preprocessed / f"{PLANS}_3d_fullres").glob("head_00[01].json"):
        file.unlink()
    remedy = f"gdm_preprocess -d {DATASET} -c 3d_fullres -p {PLANS} --preprocessed .*"
    assert mend(work.pretrain(), "the case is not prepared", remedy) is None


def test_a_damaged_case_is_prepared_anew(work, monkeypatch):
    monkeypatch.setenv("GDM_RAW", str(work.folders["raw"]))
    for file in (work.preprocessed / f"{PLANS}_3d_fullres").glob("*.b2nd"):
        file.write_bytes(file.read_bytes()[:100])
    remedy = f"gdm_preprocess -d {DATASET} -c 3d_fullres -p {PLANS} --clean --preprocessed .*"
    assert mend(work.pretrain(), "the bytes of a prepared case have changed", remedy) is None


def test_cases_of_other_plans_are_prepared_anew(work):
    again = ("-d", 502, "-pl", "tiny", "-c", "3d_fullres", "-device", "cpu", "-tr", "FidelityTrainer")
    assert run(work.command("gdm_plan_experiment", *again, "-overwrite_target_spacing", 13, 13, 13)) is None
    remedy = f"gdm_preprocess -d {DATASET} -c 3d_fullres -p {PLANS} --raw .* --preprocessed .*"
    assert mend(work.train(), "was not prepared for the plans", remedy) is None


def test_a_fold_of_other_plans_goes_on_with_its_own_again(work):
    assert run(work.train()) is None
    assert run(work.plan("-tr", "FidelityTrainer", "-overwrite_target_spacing", 13, 13, 13)) is None
    for going_on in ("--c", "--val", "--val_best"):
        error = run(work.train(going_on))
        assert error.problem == f"fold 0 was trained with other plans than the present plans {PLANS} have"
        copied = re.fullmatch("copy (.*) over (.*) and run .command.,.*", error.remedy)
        shutil.copy(copied[1], copied[2])
        assert error.command.words[:7] == ("gdm_preprocess", "-d", DATASET, "-c", "3d_fullres", "-p", PLANS)
        assert run(error.command) is None
        assert run(work.train(going_on)) is None
        assert run(work.plan("-tr", "FidelityTrainer", "-overwrite_target_spacing", 13, 13, 13)) is None


def test_own_splits_are_planned_and_trained_by_command(work):
    """As users of nnU-Net write them; an overlap and a case that no fold uses are said before anything is trained."""
    splits = work.preprocessed / "my_splits.txt"
    names = sorted({file.name[:8] for file in (work.raw / "targetsTr").iterdir()})
    overlapping = [{"train": names[:2], "val": [names[1]]}]
    splits.write_text(json.dumps(overlapping))
    error = run(work.plan("-tr", "FidelityTrainer", "--splits", splits))
    assert error.case == names[1] or names[1] in str(error)
    own = [{"train": names[1:], "val": [names[0]]}, {"train": [names[0]], "val": [names[1]]}]
    splits.write_text(json.dumps(own))
    assert run(work.plan("-tr", "FidelityTrainer", "--splits", splits)) is None
    folds = load_plans(work.preprocessed / f"{PLANS}.json").folds
    assert [(list(fold.training), list(fold.validation)) for fold in folds] == [
        (fold["train"], fold["val"]) for fold in own
    ]
    assert run(work.train()) is None
    assert json.loads((work.fold().split).read_text()) == {"training": names[1:], "validation": [names[0]]}
    assert list(json.loads(work.fold().summary("final").read_text())["cases"]) == [names[0]]


def test_a_fold_beside_folds_of_other_plans_gets_plans_of_another_name(work):
    assert run(work.train()) is None
    assert run(work.plan("-tr", "FidelityTrainer", "-overwrite_target_spacing", 13, 13, 13)) is None
    other = work.command(*work.train().words[:3], 1, *work.train().words[3:], folders=())
    error = run(other)
    assert error.problem == f"the model's fold 0 was trained with other plans than the present plans {PLANS} have"
    assert {"-overwrite_plans_name", f"{PLANS}_2"} <= set(error.command.words)
    assert run(error.command) is None
    made, meant = (load_plans(work.preprocessed / f"{name}.json") for name in (f"{PLANS}_2", PLANS))
    assert made.configurations["3d_fullres"].spacing == meant.configurations["3d_fullres"].spacing
    words = [f"{PLANS}_2" if word == PLANS else word for word in other.words]
    assert run(CommandLine(*words)) is None


def test_weights_without_a_state_are_trained_on_from_them(work):
    """Such as those of a run that an earlier version was killed in, before its first resume state."""
    assert run(work.train()) is None
    fold = work.fold()
    for file in (fold.resume, fold.checkpoint("final"), fold.checkpoint("latest")):
        file.unlink()
    best = fold.checkpoint("best")
    for words, problem in (((), "trained already"), (("--c",), "there is nothing to continue")):
        error = run(work.train(*words))
        assert problem in error.problem
        assert "--c" not in error.command.words
        assert {"--overwrite", "-pretrained_weights", str(best)} <= set(error.command.words)
    assert run(error.command) is None
    assert fold.resume.is_file()


def test_another_length_is_another_training_from_the_weights_of_the_first(work):
    assert run(work.train()) is None
    longer = [word if word != "1" else "2" for word in work.train("--c").words]
    assert longer.count("2") == 1, "the iterations alone"
    error = run(CommandLine(*longer))
    assert "another length is another training" in error.problem
    assert "--c" not in error.command.words
    assert {"-pretrained_weights", str(work.fold().checkpoint("final"))} <= set(error.command.words)
    assert run(error.command) is None
    assert len(work.results.models()) == 2


def test_what_was_never_trained_is_trained(work):
    error = run(work.train("--c"))
    assert error.problem == "there is nothing to continue"
    assert set(error.command.words) == set(work.train().words)
    assert run(error.command) is None


def test_a_damaged_state_leaves_the_weights(work):
    assert run(work.train()) is None
    fold = work.fold()
    fold.resume.write_bytes(fold.resume.read_bytes()[:-1000])
    error = run(work.train("--c"))
    assert error.problem == "the resume state cannot be read"
    assert {"--overwrite", "-pretrained_weights"} <= set(error.command.words)
    assert str(fold.checkpoint("latest")) in error.command.words
    assert run(error.command) is None
    assert run(work.train("--c")) is None


@pytest.mark.parametrize("content", ['{"dataset_name": "Data', "", "[1, 2", "\x00"])
def test_damaged_plans_do_not_keep_others_from_their_place(work, content, capsys):
    plans = work.preprocessed / f"{PLANS}.json"
    whole = load_plans(plans)
    plans.write_text(content)
    assert run(work.plan("-tr", "FidelityTrainer")) is None
    assert plans_hash(load_plans(plans), "3d_fullres") == plans_hash(whole, "3d_fullres")
    assert plans.with_name(f"{PLANS}.json.damaged").read_text() == content
    assert "could not be read" in capsys.readouterr().out


def many_series(folder, cases=("case_1",)):
    """Cases whose condition folder holds series 1 and, larger, 2; the target is series 3."""
    for case in cases:
        for number in (1, 2):
            stored = make_stored()
            make_series(folder / case / "condition" / str(number), stored[: 2 + number], number=number)
        make_series(folder / case / "target", make_stored()[:4], number=3)


def test_a_series_of_a_case_of_a_data_set_is_chosen(tmp_path):
    many_series(tmp_path / "dicom")
    words = ("-i", tmp_path / "dicom", "-d", 510, "-n", "Series", "--channel", "CT", "--target", "CT")
    command = CommandLine("gdm_convert_dicom", *words, "--raw", tmp_path / "raw", "--no_pbar")
    again = mend(command, "several DICOM series", ".* --series case_1/condition=2.*")
    assert again.problem == "data set 510 is there already"
    assert read_volume(tmp_path / "raw/Dataset510_Series/imagesTr/case_1_0000.nii.gz").array.shape[0] == 4


def test_the_series_of_one_file_is_chosen(tmp_path):
    many_series(tmp_path / "dicom")
    words = ("-i", tmp_path / "dicom/case_1/condition", "-o", tmp_path / "ct.nii.gz")
    error = run(CommandLine("gdm_convert_dicom", *words))
    assert error.problem == "the folder holds several DICOM series"
    assert error.command.words[-2:] == ("--series", "2")
    assert run(error.command) is None
    assert read_volume(tmp_path / "ct.nii.gz").array.shape[0] == 4


def test_a_time_series_is_not_told_to_be_resampled(tmp_path):
    make_series(tmp_path / "dicom", make_stored(), along=np.repeat(np.arange(3) * 2.0, 2))
    words = ("gdm_convert_dicom", "-i", tmp_path / "dicom", "-o", tmp_path / "ct.nii.gz")
    errors = [run(CommandLine(*words, *more)) for more in ((), ("--fix-geometry",))]
    assert errors[0].problem == errors[1].problem == "two slices of the series lie at one position and differ"
    assert "--fix-geometry" not in errors[0].remedy


def test_a_missing_fingerprint_is_measured(work):
    (work.preprocessed / "dataset_fingerprint.json").unlink()
    command = work.command("gdm_plan_experiment", "-d", 502, "-pl", "tiny", "-c", "3d_fullres", "-device", "cpu")
    assert mend(command, "no fingerprint yet", f"gdm_extract_fingerprint -d {DATASET} --raw .*") is None


def test_a_fingerprint_of_other_cases_is_measured_anew(work):
    for file in work.raw.glob("*Tr/head_000*"):
        file.unlink()
    describe(work, numTraining=2)
    command = work.command("gdm_plan_experiment", "-d", 502, "-pl", "tiny", "-c", "3d_fullres", "-device", "cpu")
    assert mend(command, "does not fit the cases", f"gdm_extract_fingerprint -d {DATASET} --raw .*") is None


def test_plans_of_another_target_are_made_anew(work):
    describe(work, target_name="CBCT")
    command = work.command("gdm_preprocess", "-d", 502, "-p", PLANS, "-np", 1, "--no_pbar")
    assert mend(command, "another data set", f"gdm_plan_and_preprocess -d {DATASET} -pl tiny --raw .*") is None


def test_plans_without_an_encoder_get_one(work):
    remedy = f"gdm_plan_experiment -d {DATASET} -pl tiny -encoder auto --raw .*"
    mend(work.train("--overwrite", trainer="GDMTrainer"), "needs a frozen encoder", remedy)


def test_plans_without_a_segmenter_get_one(work, monkeypatch, tmp_path):
    """The command names a folder as its usage does; here it is there."""
    (tmp_path / "MODEL_FOLDER").symlink_to(segmenter_folder(3))
    monkeypatch.chdir(tmp_path)
    remedy = f"gdm_plan_experiment -d {DATASET} -pl tiny -c 3d_fullres -encoder segmenter:MODEL_FOLDER --raw .*"
    trainer = "AnatomicalFeatureTrainer"
    error = mend(work.train("--overwrite", trainer=trainer), "needs a frozen segmenter", remedy)
    assert error is None or error.command.words[0] == "gdm_preprocess", error


def test_a_training_out_of_memory_is_planned_for_less(work, monkeypatch):
    plans = work.preprocessed / f"{PLANS}.json"
    before = load_plans(plans).configurations["3d_fullres"]
    take_step, planned = loop.take_step, before.predicted_memory.total

    def ask_for_memory(trainer, *arguments):
        if trainer.configuration.predicted_memory.total == planned:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return take_step(trainer, *arguments)

    monkeypatch.setattr(loop, "take_step", ask_for_memory)
    error = run(work.train())
    assert error.problem.endswith("ran out of memory while training")
    assert {"-gpu_memory_target", "-overwrite_plans_name", f"{PLANS}_2"} <= set(error.command.words)
    assert run(error.command) is None
    assert load_plans(plans).configurations["3d_fullres"] == before, "weights of these plans keep them"
    smaller = load_plans(plans.with_stem(f"{PLANS}_2")).configurations["3d_fullres"]
    assert smaller.predicted_memory.total < 0.8 * planned
    assert run(CommandLine(*(f"{PLANS}_2" if word == PLANS else word for word in work.train().words))) is None


def test_one_patient_is_trained_on_fold_all_with_the_flags_of_the_user(work):
    for file in work.raw.glob("*Tr/head_*"):
        if not file.name.startswith("head_000"):
            file.unlink()
    describe(work, numTraining=1)
    assert run(work.plan("-tr", "FidelityTrainer", "--no_pp")) is None
    error = run(work.train())
    assert error.problem == "fold 0 is not in the plans"
    assert "one patient alone cannot be split" in str(error)
    shutil.rmtree(work.preprocessed / f"{PLANS}_3d_fullres")
    unprepared = run(error.command)
    assert (unprepared.problem, unprepared.found) == ("no case is prepared", "0 prepared cases")
    assert unprepared.expected == "every case of the only patient"
    assert run(unprepared.command) is None
    assert run(error.command) is None
    assert error.command.words[:4] == ("gdm_train", "502", "3d_fullres", "all")
    assert {"--iterations", "FidelityTrainer", PLANS, "validation_patches=1"} <= set(error.command.words)


def test_a_stopped_training_is_continued(work):
    assert run(work.train()) is None
    work.fold().checkpoint("final").unlink()
    error = run(work.train())
    assert "trained already" in error.problem
    assert "--c" in error.command.words
    other = run(work.train("--c", "--set", "learning_rate=0.5"))
    assert "nothing to continue in a run with these settings" in other.problem
    # Settings are spelled one by one, as the folder's name has them; every other flag is the user's own.
    same = set(error.command.words) - {"--iterations", "1"} | {"iterations=1"}
    assert set(other.command.words) == same
    assert run(other.command) is None


def test_a_fold_that_has_been_trained_is_continued(work):
    assert run(work.train()) is None
    error = run(work.train())
    assert "trained already" in error.problem
    assert "--c" in error.command.words
    assert run(error.command) is None


def test_a_number_of_gpus_that_does_not_fit_becomes_one_that_does(work, monkeypatch):
    """Training itself by two processes has tests of its own."""
    sizes = []
    monkeypatch.setattr("gdmunet.workflows.train.run_crew", lambda *given: sizes.append(given[2]))
    monkeypatch.setattr("gdmunet.workflows.train.check_promised", lambda *_: None)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    error = run(work.train("-num_gpus", 3))
    assert "a batch of 2 cannot be shared by 3 processes" in error.problem
    assert run(error.command) is None
    assert sizes == [2]
    words = list(work.train("-num_gpus", 4).words)
    device = words.index("-device")
    error = run(CommandLine(*words[:device], *words[device + 2 :]))
    assert "more GPUs were asked for than there are" in error.problem
    assert run(error.command) is None
    assert sizes == [2]


def test_jobs_that_cannot_share_a_batch_get_fewer_gpus(work, monkeypatch):
    pytest.importorskip("submitit", reason="submitit is not installed: pip install 'gdmunet[slurm]'")
    queued = []
    monkeypatch.setattr(
        "gdmunet.workflows.submission.submit.run_on_workstation", lambda *given: queued.extend(given[1]) or 0
    )
    training = work.train("-num_gpus", 3).words
    error = run(CommandLine("gdm_submit", "--executor", "local", "--gpus", "3", "--", *training))
    assert "a batch of 2 cannot be shared by 3 processes" in error.problem
    assert error.command.words[:5] == ("gdm_submit", "--executor", "local", "--gpus", "2")
    assert run(error.command) is None
    assert len(queued) == 1


def test_a_launcher_that_started_another_number_is_left_out(work, monkeypatch):
    sizes = []
    monkeypatch.setattr("gdmunet.workflows.train.run_crew", lambda *given: sizes.append(given[2]))
    monkeypatch.setattr("gdmunet.workflows.train.check_promised", lambda *_: None)
    launched = {"RANK": "0", "WORLD_SIZE": "4", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    with monkeypatch.context() as launcher:
        for name, value in launched.items():
            launcher.setenv(name, value)
        error = run(work.train("-num_gpus", 2))
    assert "torchrun has started another number of processes" in error.problem
    assert run(error.command) is None
    assert sizes == [2]


def test_a_training_whose_process_died_is_continued(work, monkeypatch):
    assert run(work.train()) is None

    def die(*_):
        raise DeadProcessError("a training process died", remedy="use fewer processes")

    monkeypatch.setattr("gdmunet.workflows.train.run_crew", die)
    error = run(work.train("--c", "-num_gpus", 2))
    assert error.problem == "a training process died"
    assert {"--c", "-num_gpus"} <= set(error.command.words)
    assert str(error).endswith(f"use fewer processes; then go on with {error.command}")
    monkeypatch.setattr("gdmunet.workflows.train.run_crew", lambda *_: None)
    assert run(error.command) is None


def test_a_model_that_is_not_there_is_trained(work, monkeypatch, tmp_path):
    for name, folder in work.folders.items():
        monkeypatch.setenv(f"GDM_{name.upper()}", str(folder))
    for name, value in {"epochs": 1, "iterations_per_epoch": 1, "validation_patches": 1}.items():
        monkeypatch.setattr(FidelityTrainer, name, value)
    monkeypatch.setattr("gdmunet.training.trainers.registry.named_trainers", lambda: {DEFAULT_TRAINER: FidelityTrainer})
    words = ("-i", work.raw / "imagesTs", "-o", tmp_path / "out", "-d", 502, "-c", "3d_fullres", "-p", PLANS)
    command = CommandLine("gdm_predict", *words, "-device", "cpu", "--no_pbar")
    assert mend(command, "no trained model", f"gdm_train 502 3d_fullres -p {PLANS}") is None


def test_realism_of_a_model_without_a_dial_is_left_out(work, tmp_path):
    assert run(work.train()) is None
    model = work.fold().path.parent
    words = ("-i", work.raw / "imagesTs", "-o", tmp_path / "out", "-m", model, "--realism", 1, "-f", 0)
    command = CommandLine("gdm_predict", *words, "-chk", "final", "-device", "cpu", "--no_pbar")
    error = run(command)
    assert error.problem == "the model has no dial for realism"
    assert "--realism" not in error.command.words
    assert {"-f", "final", str(model)} <= set(error.command.words)
    assert run(error.command) is None


def test_a_fold_with_foreign_weights_is_trained_anew_for_a_comparison(work):
    assert run(work.train()) is None
    fold = work.fold()
    fold.checkpoint("final").unlink()
    fold.resume.unlink(missing_ok=True)
    error = run(work.compare())
    assert error.problem == "no trainer could be scored"
    assert "neither final ones" in str(error)
    assert "--overwrite" in error.command.words
    assert "-np" in error.command.words
    assert run(error.command) is None
    assert run(work.compare()) is None


def test_a_fold_of_other_defaults_is_trained_anew_for_a_comparison(work):
    assert run(work.train()) is None
    file = work.fold().checkpoint("final")
    stored = load_weights(file)
    stored.metadata.settings["learning_rate"] = 0.5
    save_weights(file, stored.state_dict, stored.network, stored.metadata)
    error = run(work.compare())
    assert error.problem == "no trainer could be scored"
    assert "defaults of the trainer have changed" in str(error)
    assert run(error.command) is None
    assert run(work.compare()) is None


def test_another_judge_is_found_in_the_list(work):
    assert run(work.plan("-encoder", "tiny")) is None
    error = run(work.compare("-tr", "GDMTrainer", "--judge", "tiny"))
    assert "an encoder cannot judge" in error.problem
    assert error.command.words == ("gdm_download_encoder", "--list")
    assert run(error.command) is None


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["-encoder", "ct-fm", "-c", "2d"], "no 2D form"),
        (["-encoder", "ct-fm", "-c", "3d_fullres"], "not trained for this target"),
        (["-encoder_path", "weights.safetensors", "-c", "3d_fullres"], "--encoder-path needs the name"),
    ],
)
def test_another_encoder_is_found_in_the_list(work, words, problem, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("GDM_ENCODERS", str(tmp_path))
    for family in FAMILIES.values():
        if family.source:
            (tmp_path / family.name).mkdir()
            (tmp_path / family.name / family.source.name).touch()
    if "target" in problem:
        describe(work, target_name="MR")
    error = run(work.command("gdm_plan_experiment", "-d", 502, "-pl", "tiny", "-device", "cpu", *words))
    assert problem in error.problem, error
    assert error.command.words == ("gdm_download_encoder", "--list")
    assert run(error.command) is None
    assert "mini" in capsys.readouterr().out


def test_code_that_plans_name_is_allowed(monkeypatch, tmp_path):
    file, consents = tmp_path / "own.py", tmp_path / "consents.json"
    file.write_text("from gdmunet.encoders.mini import build_tiny as factory\n")
    monkeypatch.setenv("GDM_CONSENTS", str(consents))
    units = VolumeUnits(STANDARD_HU, -1024.0, "CT")
    planned = choose_encoder(f"{file}:factory", units, 3, EncoderOptions(tmp_path)).spec
    with pytest.raises(GdmError, match="nobody on this machine has allowed") as raised:
        load_encoder(planned, units, tmp_path, read_consents(consents))
    assert run(raised.value.command) is None
    assert load_encoder(planned, units, tmp_path, read_consents(consents)).levels == planned.levels


@pytest.mark.parametrize("damaged", [False, True])
def test_weights_that_are_missing_or_damaged_are_fetched(work, hub, monkeypatch, tmp_path, damaged):
    source = FAMILIES["ct-fm"].source
    hub.files[source.url(hub="")] = b"weights"
    monkeypatch.setenv("GDM_ENCODERS", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    words = ("-d", 502, "-pl", "tiny", "-device", "cpu", "-c", "3d_fullres", "-encoder", "ct-fm")
    command = work.command("gdm_plan_experiment", *words)
    file = tmp_path / "ct-fm" / source.name
    if damaged:
        assert run(_online(CommandLine("gdm_download_encoder", "ct-fm"), hub, monkeypatch)) is None
        file.write_bytes(b"other")
    error = run(command)
    assert ("not the expected ones" if damaged else "not on this machine") in error.problem
    assert error.command.words == ("gdm_download_encoder", "ct-fm")
    if damaged:
        file.unlink()  # as the remedy says
    assert run(_online(error.command, hub, monkeypatch)) is None
    again = run(command)
    assert again.problem != error.problem
    assert again.file == file  # the stand-in's content is not an encoder


def _online(command, hub, monkeypatch):
    """The same download from the stand-in of the hub."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return CommandLine(*command.words, "--hub", hub.url)


def test_a_model_that_may_not_be_sent_is_packed(work, monkeypatch, tmp_path):
    assert run(work.train()) is None
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    error = run(CommandLine("gdm_push_model", "-m", next(iter(work.results.models())).path, "lab/ct"))
    assert "nothing is pushed" in error.problem
    assert run(error.command) is None
    assert (tmp_path / "model.zip").is_file()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="Linux alone has /proc")
@pytest.mark.parametrize("name", ["gdm_plan_and_preprocess", "gdm_extract_fingerprint"])
def test_a_folder_that_cannot_be_made_is_not_a_matter_of_disk_space(made, name):
    words = ("-d", 502, "--raw", made.folders["raw"], "--preprocessed", "/proc/x", "-np", 1, "--no_pbar")
    error = run(CommandLine(name, *words))
    assert "cannot make the folder" in error.problem
    assert "choose another folder" in error.remedy
    assert "disk space" not in error.remedy


# The functions that make a command for a remedy, and the tests above that run it.
def test_a_part_that_is_missing_is_made(work, capsys):
    fingerprint = work.preprocessed / "dataset_fingerprint.json"
    fingerprint.unlink()
    words = ("-d", 502, "-np", 1, "--no_pbar", "--num_parts", 2, "--part_id")
    assert run(work.command("gdm_extract_fingerprint", *words, 0)) is None
    assert not fingerprint.exists()
    lines = capsys.readouterr().out.splitlines()
    (said,) = [line for line in lines if line.strip().startswith("gdm_extract_fingerprint")]
    assert run(CommandLine(*shlex.split(said))) is None
    assert fingerprint.exists()


EXECUTED = {
    "workflows/parts.py say_missing": [test_a_part_that_is_missing_is_made],
    "consents.py require": [test_code_that_plans_name_is_allowed],
    "encoders/choice.py choose_encoder": [test_another_encoder_is_found_in_the_list],
    "encoders/loading.py _cached_weights": [test_weights_that_are_missing_or_damaged_are_fetched],
    "encoders/loading.py _check_serves": [test_another_encoder_is_found_in_the_list],
    "encoders/loading.py missing_weights": [test_weights_that_are_missing_or_damaged_are_fetched],
    "inference/trained_models.py resolve_model": [test_a_model_that_is_not_there_is_trained],
    "plan_folder.py find_plans": [test_plans_of_another_name_are_made],
    "preprocessing/casestore.py preparation": [test_a_damaged_case_is_prepared_anew],
    "preprocessing/casestore.py _readable": [test_a_damaged_case_is_prepared_anew],
    "preprocessing/casestore.py _record": [
        test_an_encoder_whose_case_is_not_prepared_has_it_prepared,
        test_cases_of_other_plans_are_prepared_anew,
    ],
    "training/loop/belonging.py _plans_error": [test_a_fold_of_other_plans_goes_on_with_its_own_again],
    "training/loop/belonging.py _planning_under_another_name": [
        test_a_fold_beside_folds_of_other_plans_gets_plans_of_another_name
    ],
    "training/loop/memory_check.py _planning_for": [test_a_training_out_of_memory_is_planned_for_less],
    "training/loop/opening.py check_encoder": [
        test_plans_without_an_encoder_get_one,
        test_plans_without_a_segmenter_get_one,
    ],
    "workflows/hub.py push_model": [test_a_model_that_may_not_be_sent_is_packed],
    "workflows/compare.py choose_judges": [test_another_judge_is_found_in_the_list],
    "workflows/compare.py _refuse_other_weights": [test_a_fold_with_foreign_weights_is_trained_anew_for_a_comparison],
    "workflows/compare.py _refuse_other_settings": [test_a_fold_of_other_defaults_is_trained_anew_for_a_comparison],
    "workflows/continuing.py anew_from": [
        test_weights_without_a_state_are_trained_on_from_them,
        test_what_was_never_trained_is_trained,
        test_a_damaged_state_leaves_the_weights,
    ],
    "workflows/continuing.py nothing_to_continue": [
        test_another_length_is_another_training_from_the_weights_of_the_first
    ],
    "workflows/continuing.py _runs": [test_a_stopped_training_is_continued],
    "workflows/encoder_data.py find": [test_an_encoder_without_prepared_cases_has_them_prepared],
    "workflows/plan.py _load_fingerprint": [
        test_a_missing_fingerprint_is_measured,
        test_a_fingerprint_of_other_cases_is_measured_anew,
    ],
    "workflows/planned.py find_planned": [test_raw_data_alone_is_planned_and_prepared],
    "workflows/predict.py _predictor": [test_realism_of_a_model_without_a_dial_is_left_out],
    "workflows/convert_dicom.py _with_choice": [
        test_a_series_of_a_case_of_a_data_set_is_chosen,
        test_the_series_of_one_file_is_chosen,
    ],
    "workflows/preprocess.py _check_plans": [test_plans_of_another_target_are_made_anew],
    "workflows/train.py _lead_on": [test_a_training_whose_process_died_is_continued],
    "workflows/submission/jobs.py check_jobs": [test_jobs_that_cannot_share_a_batch_get_fewer_gpus],
    "workflows/training_run.py check_start": [test_a_fold_that_has_been_trained_is_continued],
    "workflows/training_run.py _check_gpus": [test_a_number_of_gpus_that_does_not_fit_becomes_one_that_does],
    "workflows/training_run.py _check_shares": [test_a_number_of_gpus_that_does_not_fit_becomes_one_that_does],
    "workflows/training_run.py check_launch": [test_a_launcher_that_started_another_number_is_left_out],
    "workflows/training_run.py _check_prepared": [
        test_cases_that_are_not_prepared_are_prepared_for_the_plans_of_the_user
    ],
    "workflows/training_run.py _check_fold": [test_one_patient_is_trained_on_fold_all_with_the_flags_of_the_user],
}
PACKAGE = ROOT / "gdmunet"
# These spell the commands, or name the next one, which tests of their own run.
MAKERS = {"commands.py", "workflows/requests/spelling.py", "workflows/requests/completion.py"}


def makes_a_command(node):
    function = node.func if isinstance(node, ast.Call) else None
    if isinstance(function, ast.Name):
        return function.id in ("command_line", "CommandLine")
    if isinstance(function, ast.Attribute):
        owner = function.value.id if isinstance(function.value, ast.Name) else None
        return owner == "commands" or function.attr == "preparation"
    return False


def functions_of_the_package():
    for file in sorted(PACKAGE.rglob("*.py")):
        name = file.relative_to(PACKAGE).as_posix()
        if name not in MAKERS and not name.startswith("cli/"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef):
                    yield f"{name} {node.name}", node


def test_every_remedy_that_is_a_command_is_run():
    makers = {name for name, node in functions_of_the_package() if any(map(makes_a_command, ast.walk(node)))}
    assert makers == set(EXECUTED)


ERRORS = {
    "GdmError",
    "ClaimedError",
    "UnchosenSeriesError",
    "RequestError",
    "UnreadableStateError",
    "UnsharedBatchError",
    "DeadProcessError",
    "NoDialError",
}
# Errors without a remedy of their own: whoever reads the file completes them, and says what to do with such a file.
COMPLETED = {"foreign.py", "formats.py", "ranges.py", "serialization.py"}


def is_reading(node):
    """A block in which ``foreign.reading`` gives errors their remedy."""
    return isinstance(node, ast.With) and any(
        isinstance(item.context_expr, ast.Call)
        and getattr(item.context_expr.func, "id", None) == "reading"
        and any(keyword.arg == "remedy" for keyword in item.context_expr.keywords)
        for item in node.items
    )


def test_every_error_has_a_remedy():
    without = []
    for file in sorted(PACKAGE.rglob("*.py")):
        name = file.relative_to(PACKAGE).as_posix()
        tree = ast.parse(file.read_text(encoding="utf-8"))
        completed = {id(inner) for node in ast.walk(tree) if is_reading(node) for inner in ast.walk(node)}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in ERRORS:
                continue
            if id(node) in completed:
                continue
            given = {keyword.arg for keyword in node.keywords}
            if not given & {"remedy", "command", None} and name not in COMPLETED:
                without.append(f"{name}:{node.lineno}: {ast.unparse(node)[:100]}")
    assert without == []


def test_the_subclasses_of_the_error_are_known():
    """So that none of them is left out of the check above."""
    for module in sorted(PACKAGE.rglob("*.py")):
        importlib.import_module(".".join(module.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
    names = {"GdmError"}
    todo = [GdmError]
    while todo:
        for kind in todo.pop().__subclasses__():
            if kind.__module__.startswith("gdmunet"):
                names.add(kind.__name__)
            todo.append(kind)
    assert names == ERRORS


def test_no_remedy_names_a_command_in_its_prose():
    prose = {
        (name, text.value)
        for name, node in functions_of_the_package()
        for keyword in ast.walk(node)
        if isinstance(keyword, ast.keyword) and keyword.arg == "remedy"
        for text in ast.walk(keyword.value)
        if isinstance(text, ast.Constant) and re.search(r"\bgdm_[a-z]", str(text.value))
    }
    assert prose == set()
