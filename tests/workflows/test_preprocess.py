"""Preparing whole folders: what is unchanged is left alone, and a failure harms nothing that was finished."""

import dataclasses
import errno
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from gdmunet.errors import GdmError
from gdmunet.owners import temporary_beside
from gdmunet.provenance import cases_hash
from gdmunet.workers import on_scheduler
from gdmunet.workflows.preprocess import preprocess

NAMES = ("case_0", "case_1", "case_2")


@pytest.fixture
def prepare(raw_dataset, make_plans, tmp_path):
    """Prepare the data set; gives what was done."""
    folder = raw_dataset()

    def run(plans=None, processes=1, clean=False):
        plans = plans or make_plans()
        return preprocess(folder, tmp_path / "prepared", plans, ["3d_fullres"], processes, False, clean)[0]

    run.folder = folder
    return run


def stored_bytes(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_every_training_case_is_prepared(prepare, tmp_path):
    done = prepare()
    assert done.folder == tmp_path / "prepared/plans_3d_fullres"
    assert (done.prepared, done.unchanged, done.removed) == (NAMES, (), ())
    stored = done.store.open("case_1")
    raw = sitk.GetArrayFromImage(sitk.ReadImage(str(prepare.folder / "targetsTr/case_1.nii.gz")))
    (z, _), (y, _), (x, _) = stored.properties.crop_box
    value = stored.properties.target_map.invert(stored.target[0])[3, 4, 5]
    assert value == pytest.approx(raw[z + 3, y + 4, x + 5], abs=0.01)


def test_a_second_run_does_nothing(prepare):
    before = stored_bytes(prepare().folder)
    again = prepare()
    assert (again.prepared, again.unchanged) == ((), NAMES)
    assert stored_bytes(again.folder) == before


@pytest.mark.filterwarnings("ignore")  # dask's own, in its threads
def test_workers_of_a_scheduler_write_the_same_files(prepare):
    pytest.importorskip("distributed", reason="Dask is not installed: pip install 'gdmunet[dask]'")
    before = stored_bytes(prepare().folder)
    with on_scheduler("local:2"):
        again = prepare(clean=True)
    assert again.prepared == NAMES
    assert stored_bytes(again.folder) == before


def test_clean_prepares_all_again(prepare):
    prepare()
    assert prepare(clean=True).prepared == NAMES


def test_only_a_changed_case_is_prepared_again(prepare):
    prepare()
    os.utime(prepare.folder / "masksTr/case_1.nii.gz", ns=(5, 5))
    again = prepare()
    assert (again.prepared, again.unchanged) == (("case_1",), ("case_0", "case_2"))


def test_another_spacing_prepares_all_again(prepare, make_plans, make_configuration):
    prepare()
    assert prepare(make_plans(make_configuration(spacing=(3.0, 4.0, 4.0)))).prepared == NAMES


def test_what_does_not_change_a_case_does_not_prepare_it_again(prepare, make_plans, make_configuration):
    prepare()
    other = dataclasses.replace(make_configuration(), batch_size=9)
    assert prepare(make_plans(other)).unchanged == NAMES


@pytest.mark.parametrize("change", ["order", "transpose", "target_normalization"])
def test_the_recipe_knows_every_setting_that_matters(change, make_plans, make_configuration):
    plans, configuration = make_plans(), make_configuration()
    other = {
        "order": 1,
        "transpose": (1, 0, 2),
        "target_normalization": dataclasses.replace(configuration.target_normalization, scale=7.0),
    }[change]
    changed = dataclasses.replace(configuration, **{change: other})
    assert cases_hash(changed, plans.dataset) != cases_hash(configuration, plans.dataset)


def test_a_case_that_left_the_data_set_is_removed(prepare):
    done = prepare()
    for path in prepare.folder.glob("*/case_2*"):
        path.unlink()
    descriptor = prepare.folder / "dataset.json"
    descriptor.write_text(descriptor.read_text().replace('"numTraining": 3', '"numTraining": 2'))
    assert prepare().removed == ("case_2",)
    assert not list(done.folder.glob("case_2*"))


def test_leftovers_of_a_killed_run_are_removed(prepare):
    folder = prepare().folder
    of_this_process = temporary_beside(folder / "case_0.b2nd")
    of_a_dead_one = folder / of_this_process.name.replace(f"-{os.getpid()}-", "-2147483646-", 1)
    for left in (of_this_process, of_a_dead_one):
        left.write_bytes(b"half a case")
    prepare(clean=True)
    assert list(folder.glob(".tmp-*")) == [of_this_process]


def test_several_processes_prepare_the_same(prepare, make_plans):
    alone = stored_bytes(prepare(make_plans(name="alone")).folder)
    together = stored_bytes(prepare(make_plans(name="together"), processes=2).folder)
    assert alone == together


def test_a_broken_case_is_named_and_finished_ones_stay(prepare):
    (prepare.folder / "targetsTr/case_2.nii.gz").write_bytes(b"rubbish")
    with pytest.raises(GdmError) as caught:
        prepare()
    assert "case_2" in str(caught.value)
    assert "targetsTr/case_2.nii.gz" in str(caught.value)


def test_a_full_disk_names_the_case_and_the_next_run_goes_on(prepare, monkeypatch):
    write = Path.write_bytes

    def full(path, content):
        if "case_1" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(GdmError, match="No space left") as caught:
        prepare()
    assert "case_1" in str(caught.value)
    monkeypatch.undo()
    again = prepare()
    assert (again.prepared, again.unchanged) == (("case_1", "case_2"), ("case_0",))


def test_plans_of_another_data_set_are_refused(prepare, make_plans):
    with pytest.raises(GdmError, match="another data set"):
        prepare(dataclasses.replace(make_plans(), dataset_name="Dataset008_Other"))


def test_an_unknown_configuration_lists_the_known_ones(prepare, make_plans, tmp_path):
    with pytest.raises(GdmError, match="3d_fullres"):
        preprocess(prepare.folder, tmp_path / "prepared", make_plans(), ["4d"], 1, False)


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.uint16, np.int32, np.float32, np.float64])
def test_any_number_type_of_a_file_works(prepare, kind):
    path = prepare.folder / "imagesTr/case_0_0000.nii.gz"
    image = sitk.ReadImage(str(path))
    array = sitk.GetArrayFromImage(image).clip(-20, 100)
    changed = sitk.GetImageFromArray((array + (0 if np.issubdtype(kind, np.signedinteger) else 20)).astype(kind))
    changed.CopyInformation(image)
    sitk.WriteImage(changed, str(path))
    done = prepare()
    stored = done.store.open("case_0")
    assert np.isfinite(stored.condition[:]).all()
    assert stored.condition[:].std() > 0
