import dataclasses
import shutil
import stat
import zipfile

import numpy as np
import pytest
from prediction_samples import SPACING, make_model

from gdmunet.checkpoint import load_weights, save_weights
from gdmunet.errors import GdmError
from gdmunet.inference import Predictor
from gdmunet.inference.archive import export_model, import_model
from gdmunet.plan_versions import PLANS_FORMAT

MODEL = "Dataset999_Test/FidelityTrainer__plain__3d"


def files_of(folder) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def archive(model_folder, tmp_path):
    (model_folder / "fold_0" / "resume.pt").write_bytes(b"a pickle")
    (model_folder / "fold_0" / "settings.json").write_text("{}")
    (model_folder / "fold_0" / "training_log.txt").write_text("secret paths")
    return export_model(model_folder, tmp_path / "model.zip")


def test_a_model_survives_the_round_trip(archive, model_folder, tmp_path, head):
    imported = import_model(archive, tmp_path / "elsewhere")
    assert imported == tmp_path / "elsewhere" / MODEL
    before, after = (
        Predictor.from_folder(folder).predict(head, spacing=SPACING) for folder in (model_folder, imported)
    )
    np.testing.assert_array_equal(before.array, after.array)
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["Dataset999_Test"]


def test_only_plans_weights_and_settings_are_packed(archive):
    with zipfile.ZipFile(archive) as file:
        assert sorted(file.namelist()) == [
            f"{MODEL}/fold_0/checkpoint_best.safetensors",
            f"{MODEL}/fold_0/settings.json",
            f"{MODEL}/fold_1/checkpoint_best.safetensors",
            f"{MODEL}/plans.json",
        ]


def test_some_folds_can_be_packed(model_folder, tmp_path):
    export_model(model_folder, tmp_path / "one.zip", ("1",))
    folder = import_model(tmp_path / "one.zip", tmp_path / "elsewhere")
    assert files_of(folder) == ["fold_1/checkpoint_best.safetensors", "plans.json"]


@pytest.mark.parametrize(("name", "content"), [("settings.json", ""), ("split.json", '{"training": ["a"')])
def test_a_damaged_text_beside_the_weights_does_not_travel(archive, model_folder, tmp_path, name, content):
    (model_folder / "fold_0" / name).write_text(content)
    with pytest.raises(GdmError, match=name):
        export_model(model_folder, tmp_path / "damaged.zip")
    assert not (tmp_path / "damaged.zip").exists()
    with zipfile.ZipFile(archive) as whole, zipfile.ZipFile(tmp_path / "foreign.zip", "w") as foreign:
        for member in whole.namelist():
            if not member.endswith(name):
                foreign.writestr(member, whole.read(member))
        foreign.writestr(f"{MODEL}/fold_0/{name}", content)
    with pytest.raises(GdmError, match=name):
        import_model(tmp_path / "foreign.zip", tmp_path / "elsewhere")
    assert not list((tmp_path / "elsewhere").glob("Dataset*"))


def test_weights_of_a_configuration_that_the_plans_lack_are_refused_by_file(model_folder, tmp_path):
    file = model_folder / "fold_0" / "checkpoint_best.safetensors"
    whole = load_weights(file)
    foreign = dataclasses.replace(whole.metadata, configuration="3d_other")
    save_weights(file, whole.state_dict, whole.network, foreign)
    with pytest.raises(GdmError, match="3d_other is not in the plans") as caught:
        export_model(model_folder, tmp_path / "model.zip", ("0",))
    assert caught.value.file == file


def test_an_existing_model_is_replaced_only_when_asked(archive, model_folder):
    results = model_folder.parents[1]
    (model_folder / "mine.txt").write_text("keep me")
    with pytest.raises(GdmError, match=r"there already[\s\S]*--overwrite"):
        import_model(archive, results)
    assert (model_folder / "mine.txt").exists()
    import_model(archive, results, overwrite=True)
    assert not (model_folder / "mine.txt").exists()
    assert (model_folder / "plans.json").exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    "name",
    [
        "../evil.json",
        "/etc/evil.json",
        f"{MODEL}/../../../evil.json",
        f"{MODEL}/fold_0/../../../../checkpoint_best.safetensors",
        "Dataset999_Test/..__a__b/plans.json/../../../x",
        f"{MODEL}\\..\\evil.json",
        f"{MODEL}/fold_0/resume.pt",
        f"{MODEL}/fold_0/code.py",
        "Dataset999_Test/.hidden__plain__3d/plans.json",
        f"{MODEL}/plans.json",
    ],
)
def test_an_archive_with_a_foreign_or_escaping_name_is_refused_whole(archive, tmp_path, name):
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(name, "evil")  # the last name is in it already: a second file of one name
    before = files_of(tmp_path)
    with pytest.raises(GdmError, match="nothing was unpacked"):
        import_model(archive, tmp_path / "elsewhere")
    assert files_of(tmp_path) == before


def test_a_link_in_an_archive_is_refused(archive, tmp_path):
    link = zipfile.ZipInfo(f"{MODEL}/fold_2/settings.json")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(link, "/etc/passwd")
    with pytest.raises(GdmError, match="nothing was unpacked"):
        import_model(archive, tmp_path / "elsewhere")


def test_damaged_and_foreign_archives_leave_nothing(archive, tmp_path):
    whole = archive.read_bytes()
    damaged = bytearray(whole)
    damaged[whole.index(b"safetensors") + 600] ^= 1
    for content in (whole[: len(whole) // 2], b"no zip at all", bytes(damaged)):
        archive.write_bytes(content)
        with pytest.raises(GdmError, match="damaged"):
            import_model(archive, tmp_path / "elsewhere")
    assert files_of(tmp_path / "elsewhere") == []
    with pytest.raises(GdmError, match="missing"):
        import_model(tmp_path / "none.zip", tmp_path / "elsewhere")


def test_an_archive_whose_model_does_not_load_leaves_nothing(archive, tmp_path):
    with zipfile.ZipFile(archive) as file:
        weights = file.read(f"{MODEL}/fold_0/checkpoint_best.safetensors")
        plans = file.read(f"{MODEL}/plans.json").decode().replace(f'"version": {PLANS_FORMAT.version}', '"version": 99')
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(f"{MODEL}/plans.json", plans)
        file.writestr(f"{MODEL}/fold_0/checkpoint_best.safetensors", weights)
    with pytest.raises(GdmError, match="newer version"):
        import_model(archive, tmp_path / "elsewhere")
    assert files_of(tmp_path / "elsewhere") == []


def test_a_model_with_a_broken_fold_is_not_exported(model_folder, tmp_path):
    shutil.copy(model_folder / "plans.json", model_folder / "fold_1" / "checkpoint_best.safetensors")
    with pytest.raises(GdmError, match="not a checkpoint of gdmunet"):
        export_model(model_folder, tmp_path / "model.zip")
    assert not (tmp_path / "model.zip").exists()


def test_the_exported_folder_can_be_made_again_by_name(tmp_path):
    folder = make_model(tmp_path / "results", ("all",), checkpoint="final")
    export_model(folder, tmp_path / "model.zip", "all", "final")
    assert files_of(import_model(tmp_path / "model.zip", tmp_path / "b")) == [
        "fold_all/checkpoint_final.safetensors",
        "plans.json",
    ]
