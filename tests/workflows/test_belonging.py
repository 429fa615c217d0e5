"""What a fold was trained with is compared before anything goes on from it, is averaged with it, or is scored by it."""

import dataclasses
import json
import shutil

import pytest
from toy import DATASET, toy_volumes
from toy_fixture import prepared_toy

from gdmunet.checkpoint import load_metadata, load_weights, save_weights
from gdmunet.dataset import DatasetDescriptor, Fold
from gdmunet.errors import GdmError
from gdmunet.imageio import write_volume
from gdmunet.inference.predictor import Predictor
from gdmunet.paths import Folders
from gdmunet.plans import load_plans
from gdmunet.provenance import UNKNOWN
from gdmunet.results import ModelFolder
from gdmunet.serialization import load_json, save_json
from gdmunet.workflows.preprocess import preprocess
from gdmunet.workflows.requests.training import CompareRequest, TrainRequest
from gdmunet.workflows.train import train

SHORT = {"iterations": "1", "iterations_per_epoch": "1", "validation_patches": "1"}
PLANS = "gdmPlans"
OWN = "from gdmunet.training.trainers.fidelity import FidelityTrainer\nclass Mine(FidelityTrainer):\n"


def request(**changes) -> TrainRequest:
    return TrainRequest(
        **{"dataset": "901", "configuration": "3d_fullres", "settings": SHORT, "device": "cpu", "processes": 0,
           "trainer": "FidelityTrainer", "show_progress": False} | changes
    )  # fmt: skip


def write_raw(folders, cases):
    raw = folders.raw / DATASET
    for seed in range(cases):
        volumes = toy_volumes(f"case_{seed}", seed)
        write_volume(raw / "imagesTr" / f"case_{seed}_0000.nii.gz", volumes.conditions[0], volumes.geometry)
        write_volume(raw / "targetsTr" / f"case_{seed}.nii.gz", volumes.target, volumes.geometry)
        write_volume(raw / "masksTr" / f"case_{seed}.nii.gz", volumes.mask, volumes.geometry)
    save_json(DatasetDescriptor({"0": "MR"}, "CT", ".nii.gz", cases, mask=True), raw / "dataset.json")


def prepare(folders):
    plans = load_plans(plans_file(folders))
    preprocess(folders.raw / DATASET, folders.preprocessed / DATASET, plans, ["3d_fullres"], 1, False)


def plans_file(folders):
    return folders.preprocessed / DATASET / f"{PLANS}.json"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The toy data set with fold 0 of the built-in trainer and of one of the user's own."""
    root = tmp_path_factory.mktemp("trained")
    _, folders = prepared_toy(root)
    write_raw(folders, 4)
    (root / "mine.py").write_text(OWN + "    pass\n")
    train(request(), folders)
    train(request(trainer=f"{root / 'mine.py'}:Mine"), folders)
    return root


@pytest.fixture
def folders(trained, tmp_path):
    for name in ("raw", "preprocessed", "results"):
        shutil.copytree(trained / name, tmp_path / name)
    shutil.copy(trained / "mine.py", tmp_path)
    return Folders(tmp_path / "raw", tmp_path / "preprocessed", tmp_path / "results")


def model_of(folders, trainer="FidelityTrainer"):
    return ModelFolder(next(folders.results.glob(f"{DATASET}/{trainer}-*")))


def other_spacing(plans):
    configuration = dataclasses.replace(plans.configuration("3d_fullres"), spacing=(1.25, 1.25, 1.25))
    return dataclasses.replace(plans, configurations={**plans.configurations, "3d_fullres": configuration})


def other_target_map(plans):
    old = plans.configuration("3d_fullres")
    target = dataclasses.replace(old.target_normalization, offset=100.0)
    configuration = dataclasses.replace(old, target_normalization=target)
    return dataclasses.replace(plans, configurations={**plans.configurations, "3d_fullres": configuration})


def other_network(plans):
    old = plans.configuration("3d_fullres")
    configuration = dataclasses.replace(old, network=dataclasses.replace(old.network, block="residual"))
    return dataclasses.replace(plans, configurations={**plans.configurations, "3d_fullres": configuration})


def other_folds(plans):
    names = [*plans.folds[0].training, *plans.folds[0].validation]
    return dataclasses.replace(plans, folds=tuple(Fold(tuple(names[1:]), tuple(names[:1])) for _ in range(2)))


def change_plans(folders, change):
    """Plans made anew under the name that is used, and the cases prepared for them."""
    save_json(change(load_plans(plans_file(folders))), plans_file(folders))
    prepare(folders)


GOING_ON = {"--c": {"continue_training": "latest"}, "--val": {"validate": "final"}, "--val_best": {"validate": "best"}}
CHANGES = {
    "voxel size": (other_spacing, "with other plans", "voxel size 1 x 1 x 1 mm"),
    "target map": (other_target_map, "with other plans", "target normalization offset 0.0"),
    "network": (other_network, "with other plans", "network block plain"),
    "split": (other_folds, "with another split", "trained on before, held out by the plans: case_0"),
}


@pytest.mark.parametrize("act", GOING_ON)
@pytest.mark.parametrize("what", CHANGES)
def test_a_fold_goes_on_only_with_the_plans_and_the_split_it_was_trained_with(folders, act, what):
    change, problem, found = CHANGES[what]
    before = model_of(folders).plans.read_bytes()
    change_plans(folders, change)
    with pytest.raises(GdmError, match=f"fold 0 was trained {problem}") as error:
        train(request(**GOING_ON[act]), folders)
    assert found in str(error.value.found)
    assert model_of(folders).plans.read_bytes() == before
    # The remedy, as it is written: the file is copied, the command is run.
    shutil.copy(model_of(folders).plans, plans_file(folders))
    assert error.value.command.words[0] == "gdm_preprocess"
    prepare(folders)
    train(request(**GOING_ON[act]), folders)


@pytest.mark.parametrize("what", CHANGES)
def test_folds_of_one_model_share_plans_and_folds(folders, what):
    """A new fold under a used name of plans never replaces the plans that the others are predicted with."""
    change, _, found = CHANGES[what]
    before = model_of(folders).plans.read_bytes()
    change_plans(folders, change)
    with pytest.raises(GdmError, match="the model's fold 0 was trained with other") as error:
        train(request(fold="1"), folders)
    assert what == "split" or found in str(error.value.found)
    assert "-overwrite_plans_name" in error.value.command.words
    assert f"{PLANS}_2" in error.value.command.words
    assert model_of(folders).plans.read_bytes() == before
    assert not model_of(folders).fold(1).path.exists()


def test_a_fold_alone_starts_over_with_new_plans(folders):
    change_plans(folders, other_spacing)
    train(request(overwrite=True), folders)
    assert load_plans(model_of(folders).plans).configuration("3d_fullres").spacing == (1.25, 1.25, 1.25)


def test_folds_of_two_voxel_sizes_are_never_averaged(folders):
    """Also if a version before hashes were compared has mixed them."""
    model = model_of(folders)
    shutil.copytree(model.fold(0).path, model.fold(1).path)
    for name in ("best", "final", "latest"):
        stored = load_weights(model.fold(1).checkpoint(name))
        metadata = dataclasses.replace(
            stored.metadata, fold="1", provenance=dataclasses.replace(stored.metadata.provenance, plans="0" * 64)
        )
        save_weights(model.fold(1).checkpoint(name), stored.state_dict, stored.network, metadata)
    with pytest.raises(GdmError, match="does not belong to the plans beside it"):
        Predictor.from_folder(model.path)
    Predictor.from_folder(model.path, ("0",))


def test_cases_that_arrive_do_not_move_to_the_other_side(folders):
    """Planned anew with more cases: held-out scores would contain a case that was trained on."""
    write_raw(folders, 5)
    names = [f"case_{i}" for i in range(5)]
    change_plans(folders, lambda plans: dataclasses.replace(
        plans, folds=(Fold(tuple(names[1:]), ("case_0",)), Fold(tuple(names[:1]), tuple(names[1:])))
    ))  # fmt: skip
    for act in GOING_ON.values():
        with pytest.raises(GdmError, match="with another split") as error:
            train(request(**act), folders)
        assert "trained on before, held out by the plans: case_0" in error.value.found
        assert "new: case_4" in error.value.found


def test_a_fold_of_all_cases_knows_its_cases(folders):
    train(request(fold="all"), folders)
    write_raw(folders, 5)
    prepare(folders)
    with pytest.raises(GdmError, match="fold all was trained with another split") as error:
        train(request(fold="all", continue_training="latest"), folders)
    assert "new: case_4" in error.value.found
    assert "-overwrite_plans_name" in error.value.command.words


@pytest.mark.parametrize("act", [*GOING_ON, "fold 1"])
def test_two_trainers_of_one_class_name_are_not_one_model(folders, tmp_path, act):
    mine = f"{tmp_path / 'mine.py'}:Mine"
    changes = GOING_ON.get(act, {"fold": "1"})
    (tmp_path / "mine.py").write_text(OWN + "    def prepare(self):\n        self.other = True\n")
    with pytest.raises(GdmError, match="another class of the name Mine"):
        train(request(trainer=mine, **changes), folders)
    (tmp_path / "mine.py").write_text(OWN + '    """Words, which change nothing."""\n    # Nor do these.\n    pass\n')
    train(request(trainer=mine, **changes), folders)


def test_a_users_class_of_a_built_in_name_is_another_trainer(folders, tmp_path):
    (tmp_path / "own.py").write_text(OWN.replace("Mine(Fid", "FidelityTrainer(Fid") + "    pass\n")
    with pytest.raises(GdmError, match="another class of the name FidelityTrainer"):
        train(request(trainer=f"{tmp_path / 'own.py'}:FidelityTrainer", fold="1"), folders)


@pytest.mark.parametrize("command", ["gdm_train", "gdm_pretrain_encoder"])
def test_cases_that_were_prepared_for_other_plans_are_not_trained_on(folders, command):
    from gdmunet.workflows.pretrain_encoder import pretrain_encoder
    from gdmunet.workflows.requests.encoders import PretrainEncoderRequest

    save_json(other_spacing(load_plans(plans_file(folders))), plans_file(folders))
    asked = {
        "gdm_train": request(fold="1", settings=SHORT | {"seed": "1"}),
        "gdm_pretrain_encoder": PretrainEncoderRequest(dataset="901", device="cpu", iterations=1, crop=16),
    }
    run = {"gdm_train": train, "gdm_pretrain_encoder": pretrain_encoder}[command]
    with pytest.raises(GdmError, match="was not prepared for the plans gdmPlans as they are") as error:
        run(asked[command], folders)
    assert "voxels of 1 x 1 x 1 mm" in error.value.found
    assert error.value.command.words[0] == "gdm_preprocess"


def test_a_comparison_does_not_score_a_fold_of_another_split(folders):
    from gdmunet.workflows.compare import compare

    change_plans(folders, other_folds)
    asked = CompareRequest(
        dataset="901", configuration="3d_fullres", trainers=("FidelityTrainer",), settings=SHORT, device="cpu",
        processes=0, show_progress=False,
    )  # fmt: skip
    with pytest.raises(GdmError, match="no trainer could be scored") as error:
        compare(asked, folders)
    assert "with another split" in error.value.found


def test_everything_derived_carries_the_hashes(folders):
    import torch

    fold = model_of(folders).fold(0)
    carried = load_metadata(fold.checkpoint("final")).provenance
    assert None not in (carried.plans, carried.split, carried.settings, carried.trainer)
    assert carried.encoder is None, "the trainer uses none"
    assert torch.load(fold.resume, weights_only=True)["provenance"] == dataclasses.asdict(carried)
    assert json.loads(fold.summary().read_text())["settings"]["provenance"] == dataclasses.asdict(carried)
    settings = json.loads((fold.validation() / "prediction_settings.json").read_text())
    assert set(settings["weights"]) == {"0"}
    assert load_json(Fold, fold.split) == load_plans(plans_file(folders)).folds[0]


@pytest.mark.parametrize("act", GOING_ON)
def test_results_without_hashes_are_compared_as_far_as_they_go_and_stay_usable(folders, act, capsys):
    fold = model_of(folders).fold(0)
    for name in ("best", "final", "latest"):
        stored = load_weights(fold.checkpoint(name))
        metadata = dataclasses.replace(stored.metadata, provenance=UNKNOWN)
        save_weights(fold.checkpoint(name), stored.state_dict, stored.network, metadata)
    train(request(**GOING_ON[act]), folders)
    assert "fold 0 was trained by an earlier version of gdmunet; its trainer could not be compared" in (
        capsys.readouterr().out
    )
    change_plans(folders, other_folds)
    with pytest.raises(GdmError, match="with another split"):
        train(request(**GOING_ON[act]), folders)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [({"fold": "00"}, "fold 00 is not in the plans"), ({"trainer": "My__Trainer"}, "a trainer of this name"),
     ({"trainer": "Trailing_"}, "a trainer of this name"), ({"trainer": "L" + "o" * 250 + "ng"}, "too long")],
)  # fmt: skip
def test_what_cannot_be_found_again_cannot_be_trained(folders, tmp_path, changes, problem):
    name = changes.get("trainer")
    if name:
        (tmp_path / "own.py").write_text(OWN.replace("Mine", name) + "    pass\n")
        changes = {"trainer": f"{tmp_path / 'own.py'}:{name}", "settings": {}}
    before = sorted(folders.results.rglob("*"))
    with pytest.raises(GdmError, match=problem):
        train(request(**changes), folders)
    assert sorted(folders.results.rglob("*")) == before


@pytest.mark.parametrize("name", ["a__b", "a_", "../plans", "my plans", ".hidden", "ä/b", ""])
def test_plans_and_configurations_of_such_names_are_refused(folders, name):
    from gdmunet.workflows.requests.declaration import RequestError
    from gdmunet.workflows.requests.planning import PlanExperimentRequest

    with pytest.raises(RequestError, match="plans of this name could be trained, but not found again"):
        PlanExperimentRequest(dataset=("901",), overwrite_plans_name=name)
    content = json.loads(plans_file(folders).read_text())
    content["configurations"] = {name: content["configurations"]["3d_fullres"] | {"name": name}}
    plans_file(folders).write_text(json.dumps(content))
    # Words that are no file's name are refused where plans are read.
    with pytest.raises(GdmError, match=r"a configuration of this name|the configuration is not a name of a file"):
        train(request(configuration=name), folders)


@pytest.mark.parametrize("place", ["name", "configuration"])
def test_plans_that_were_copied_by_hand_say_their_own_name(folders, place):
    """As nnU-Net's users copy a plans file: results would be kept under the name of the first."""
    plans = load_plans(plans_file(folders))
    if place == "name":
        save_json(plans, plans_file(folders).with_name("copied.json"))
        changes = {"plans": "copied"}
    else:
        content = json.loads(plans_file(folders).read_text())
        content["configurations"]["larger"] = content["configurations"]["3d_fullres"]
        plans_file(folders).write_text(json.dumps(content))
        changes = {"configuration": "larger"}
    with pytest.raises(GdmError, match=r"call themselves by another name|a configuration has two names"):
        train(request(**changes), folders)


def test_plans_with_a_case_in_both_halves_are_not_trained_on(folders):
    plans = load_plans(plans_file(folders))
    first = plans.folds[0]
    mixed = Fold(first.training, (*first.validation, first.training[-1]))
    save_json(dataclasses.replace(plans, folds=(mixed, *plans.folds[1:])), plans_file(folders))
    with pytest.raises(GdmError, match="a case is in both halves of fold 0") as error:
        train(request(settings=SHORT | {"seed": "2"}), folders)
    assert error.value.case == first.training[-1]
