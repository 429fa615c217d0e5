"""gdm_train's function: what it refuses, what it leaves behind, and several processes."""

import dataclasses
import json
import signal

import pytest
import torch
from toy import DATASET, toy_volumes

from gdmunet.checkpoint import load_weights
from gdmunet.claims import ClaimSpec
from gdmunet.cli.train import main
from gdmunet.dataset import DatasetDescriptor
from gdmunet.errors import QUEUE_AGAIN, GdmError, Stopped
from gdmunet.imageio import write_volume
from gdmunet.networks import build_network
from gdmunet.owners import Owner
from gdmunet.plans import load_plans
from gdmunet.results import FoldFolder
from gdmunet.serialization import save_json
from gdmunet.workflows.requests.training import TrainRequest
from gdmunet.workflows.train import train

SHORT = {"epochs": "1", "iterations_per_epoch": "3", "validation_patches": "2"}


def request(**changes) -> TrainRequest:
    return TrainRequest(
        **{"dataset": "901", "configuration": "3d_fullres", "settings": SHORT, "device": "cpu", "processes": 0,
           "trainer": "FidelityTrainer", "show_progress": False} | changes
    )  # fmt: skip


@pytest.fixture
def folders(toy):
    """The toy data set, raw files as well, which whole-volume validation reads."""
    _, folders = toy
    raw = folders.raw / DATASET
    for seed in range(4):
        volumes = toy_volumes(f"case_{seed}", seed)
        write_volume(raw / "imagesTr" / f"case_{seed}_0000.nii.gz", volumes.conditions[0], volumes.geometry)
        write_volume(raw / "targetsTr" / f"case_{seed}.nii.gz", volumes.target, volumes.geometry)
        write_volume(raw / "masksTr" / f"case_{seed}.nii.gz", volumes.mask, volumes.geometry)
    save_json(DatasetDescriptor({"0": "MR"}, "CT", ".nii.gz", 4, mask=True), raw / "dataset.json")
    return folders


def test_a_run_leaves_checkpoints_journal_and_scored_volumes(folders):
    model = train(request(), folders)
    fold = model / "fold_0"
    assert model.name.startswith("FidelityTrainer-epochs=1-")
    for name in ("checkpoint_final.safetensors", "checkpoint_best.safetensors", "resume.pt", "progress.png",
                 "training_log.txt", "settings.json", "validation/case_3.nii.gz"):  # fmt: skip
        assert (fold / name).is_file(), name
    summary = json.loads((fold / "validation" / "summary.json").read_text())
    assert set(summary["cases"]) == {"case_3"}
    assert summary["mean"]["mae"] > 0
    assert (model / "plans.json").is_file()
    assert not FoldFolder(fold).running.exists()


def test_starting_over_needs_overwrite_and_continuing_needs_something(folders):
    with pytest.raises(GdmError, match="nothing to continue"):
        train(request(continue_training="latest"), folders)
    train(request(fold="all"), folders)
    with pytest.raises(GdmError, match="or start over with --overwrite") as error:
        train(request(fold="all"), folders)
    assert words_of(error.value)[:3] == ["901", "3d_fullres", "all"]
    assert "--c" in words_of(error.value)
    train(request(fold="all", overwrite=True), folders)
    train(request(fold="all", continue_training="latest"), folders)


def test_a_job_that_is_queued_again_starts_goes_on_or_finds_its_work_done(folders, capsys, monkeypatch):
    auto = request(fold="all", continue_training="auto")
    model = train(auto, folders)
    before = (model / "fold_all" / "journal.jsonl").read_bytes()
    train(auto, folders)
    assert "fold_all is finished already" in capsys.readouterr().out
    assert (model / "fold_all" / "journal.jsonl").read_bytes() == before
    FoldFolder(model / "fold_all").finished.unlink()
    FoldFolder(model / "fold_all").checkpoint("final").unlink()
    assert train(auto, folders) == model
    assert " 0 iterations to go" in capsys.readouterr().out

    def stopped(*_):
        raise Stopped(signal.SIGTERM)

    monkeypatch.setattr("gdmunet.workflows.train._train_here", stopped)
    for asked, status in ((request(continue_training="auto"), QUEUE_AGAIN), (request(), 143)):
        with pytest.raises(Stopped) as end:
            train(asked, folders)
        assert end.value.status == status


def test_a_training_continues_after_a_line_of_its_journal_was_half_written(folders):
    model = train(request(fold="all"), folders)
    journal = model / "fold_all" / "journal.jsonl"
    whole = journal.read_text()
    journal.write_text(whole + whole[: len(whole) // 2])
    train(request(fold="all", continue_training="latest"), folders)
    assert journal.read_text() == whole


def words_of(error: GdmError) -> list[str]:
    """The command of a remedy as `gdm_train` is given it."""
    assert error.command is not None
    assert error.command.words[0] == "gdm_train"
    return list(error.command.words[1:])


def stopped_run(folders, **changes):
    """A run that was stopped after its first epoch: its state is there, its final weights are not."""
    model = train(request(**changes), folders)
    for fold in model.glob("fold_*"):
        (fold / "checkpoint_final.safetensors").unlink()
    return model


def test_continuing_with_other_settings_lists_the_runs_that_can_be_continued(folders, tmp_path, capsys):
    """The folder's name holds the settings: without the same ones there is no run to be found."""
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from gdmunet.training.trainers.fidelity import FidelityTrainer\n"
        "class Mine(FidelityTrainer):\n    epochs = 1\n    sharpness: float = 0.5\n"
    )
    changed = SHORT | {"betas": "0.8,0.95", "mirror": "false", "iterations": "none"}
    model = stopped_run(folders, fold="all", settings=changed)
    own = stopped_run(folders, fold="all", trainer=f"{mine}:Mine", settings=SHORT | {"sharpness": "0.7"})
    train(request(fold="all", settings=SHORT | {"seed": "7"}), folders)  # finished: nothing to continue
    before = sorted(folders.results.rglob("*"))
    for trainer, wanted in (("FidelityTrainer", model), (f"{mine}:Mine", own)):
        with pytest.raises(GdmError, match="nothing to continue") as error:
            train(request(fold="0", trainer=trainer, settings={}, continue_training="latest"), folders)
        assert sorted(folders.results.rglob("*")) == before
        places = [word for name in ("raw", "preprocessed", "results")
                  for word in (f"--{name}", str(getattr(folders, name)))]  # fmt: skip
        commands = [line.split() for line in str(error.value).splitlines() if "gdm_train" in line]
        assert commands[0] == ["gdm_train", *words_of(error.value)]
        assert len(commands) == (1 if trainer == "FidelityTrainer" else 2)
        spelled = next(words for words in commands if ("Mine" in " ".join(words)) == ("Mine" in trainer))
        assert main([*spelled[1:], *places, "-np", "0", "--no_pbar"]) == 0
        assert f"model: {wanted}" in capsys.readouterr().out
        assert (wanted / "fold_all" / "checkpoint_final.safetensors").is_file()
        (wanted / "fold_all" / "checkpoint_final.safetensors").unlink()


def test_a_start_says_the_settings_that_differ_and_no_others(folders, capsys):
    train(request(fold="all"), folders)
    said = capsys.readouterr().out
    (line,) = [line for line in said.splitlines() if line.startswith("settings")]
    assert line == "settings that differ from FidelityTrainer: epochs=1, iterations_per_epoch=3, validation_patches=2"


def test_plans_need_no_name_where_there_are_no_others(folders):
    file = folders.preprocessed / DATASET / "gdmPlans.json"
    plans = load_plans(file)
    save_json(dataclasses.replace(plans, name="gdmPlans_M"), file.with_name("gdmPlans_M.json"))
    assert train(request(fold="all"), folders).name.endswith("__gdmPlans__3d_fullres")
    save_json(dataclasses.replace(plans, name="small"), file.with_name("small.json"))
    file.unlink()
    with pytest.raises(GdmError, match="several plans") as error:
        train(request(fold="all"), folders)
    assert error.value.found == "gdmPlans_M, small"
    assert "-p" in str(error.value)
    file.with_name("gdmPlans_M.json").unlink()
    (folders.preprocessed / DATASET / "gdmPlans_3d_fullres").rename(folders.preprocessed / DATASET / "small_3d_fullres")
    assert train(request(fold="all"), folders).name.endswith("__small__3d_fullres")


def test_a_fold_in_training_is_left_alone(folders):
    model = train(request(fold="all"), folders)
    running, me = FoldFolder(model / "fold_all").running, Owner.present()
    claim = ClaimSpec(me, "token", "training")
    for asked in (request(fold="all", overwrite=True), request(fold="all", validate="final")):
        save_json(claim, running)
        with pytest.raises(GdmError, match="trained or validated by another process"):
            train(asked, folders)
    save_json(dataclasses.replace(claim, owner=dataclasses.replace(me, started=1)), running)
    train(request(fold="all", overwrite=True), folders)


def test_unprepared_cases_are_named(folders):
    store = folders.preprocessed / DATASET / "gdmPlans_3d_fullres"
    (store / "case_2.json").unlink()
    with pytest.raises(GdmError, match="case_2") as error:
        train(request(), folders)
    assert "gdm_preprocess" in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "777"}, "Dataset901_Toy"),
        ({"configuration": "3d_lowres"}, "3d_fullres, 2d"),
        ({"plans": "gdmPlans_M"}, "found: gdmPlans"),
        ({"trainer": "Fidelity"}, "did you mean FidelityTrainer"),
        ({"settings": {"epoch": "3"}}, "did you mean epochs"),
        ({"fold": "9"}, "expected: 0, 1, all"),
    ],
)
def test_what_is_unknown_is_answered_with_what_is_known(folders, changes, message):
    with pytest.raises(GdmError, match=message):
        train(request(**changes), folders)


def test_weights_of_another_scale_are_said(folders, capsys):
    """A start from weights whose intensities or voxels meant something else is allowed, and named."""
    first = train(request(fold="all"), folders)
    weights = first / "fold_all" / "checkpoint_final.safetensors"
    train(request(fold="0", pretrained_weights=weights), folders)
    assert "another scale" not in capsys.readouterr().out
    plans = load_plans(first / "plans.json")
    configuration = plans.configurations["3d_fullres"]
    target = dataclasses.replace(configuration.target_normalization, offset=12.5)
    other = dataclasses.replace(configuration, target_normalization=target, spacing=(9.0, 9.0, 9.0))
    save_json(dataclasses.replace(plans, configurations={"3d_fullres": other}), first / "plans.json")
    moved = first.with_name("elsewhere")
    first.rename(moved)
    train(request(fold="1", pretrained_weights=moved / "fold_all" / weights.name), folders)
    said = capsys.readouterr().out
    assert "were trained at another scale: voxel size 9 x 9 x 9 mm, and here voxel size" in said
    assert "target normalization offset 12.5, and here" in said
    (moved / "plans.json").unlink()
    train(request(fold="1", overwrite=True, pretrained_weights=moved / "fold_all" / weights.name), folders)
    assert "is not compared with that of the plans" in capsys.readouterr().out


def test_pretrained_weights_are_the_start(folders):
    first = train(request(fold="all"), folders)
    weights = first / "fold_all" / "checkpoint_final.safetensors"
    frozen = SHORT | {"learning_rate": "0.0", "weight_decay": "0.0"}
    second = train(request(fold="all", settings=frozen, pretrained_weights=weights), folders)
    before, after = (load_weights(p / "fold_all" / "checkpoint_final.safetensors") for p in (first, second))
    for name, _ in build_network(before.network).named_parameters():  # the statistics of batch norm move on
        torch.testing.assert_close(after.state_dict[name], before.state_dict[name])
