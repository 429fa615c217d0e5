"""A derived body is derived once: the fingerprint writes it, preprocessing reads it while everything is as it was."""

import os

import numpy as np
import pytest

from gdmunet.imageio import read_volume, write_volume
from gdmunet.preprocessing import preprocessor
from gdmunet.preprocessing.fingerprint import extract_fingerprint
from gdmunet.workflows.preprocess import preprocess

CASE = "case_0"


@pytest.fixture
def derivations(monkeypatch):
    """Counts how often a body is derived."""
    derive, seen = preprocessor.derive_body_mask, []

    def counted(*arguments):
        seen.append(1)
        return derive(*arguments)

    monkeypatch.setattr(preprocessor, "derive_body_mask", counted)
    return seen


@pytest.fixture
def pipeline(raw_dataset, make_plans, make_configuration, tmp_path, derivations):
    """A measured data set without masks, and a function that prepares it and gives the number of derivations."""
    folder, prepared = raw_dataset(mask=False), tmp_path / "prepared"
    extract_fingerprint(folder, prepared, show_progress=False)
    plans = make_plans(make_configuration())

    def prepare():
        derivations.clear()
        done = preprocess(folder, prepared, plans, ["3d_fullres"], 1, False, True)[0]
        return len(derivations), done.store

    prepare.folder, prepare.mask = folder, prepared / f"derived_masks/{CASE}.nii.gz"
    return prepare


def test_preprocessing_derives_nothing_after_the_fingerprint(pipeline):
    assert pipeline()[0] == 0


def test_the_mask_that_is_read_is_the_one_that_would_be_derived(pipeline):
    store = pipeline()[1]
    read, source = store.open(CASE).mask[:], store.open(CASE).properties.mask_source
    for file in pipeline.mask.parent.iterdir():
        file.unlink()
    count, store = pipeline()
    assert count == len(store.identifiers())
    np.testing.assert_array_equal(store.open(CASE).mask[:], read)
    assert source == store.open(CASE).properties.mask_source == "derived"


def test_a_mask_that_was_changed_is_derived_again(pipeline):
    volume = read_volume(pipeline.mask)
    array = volume.array.copy()
    array[0, 0, 0] = 1 - array[0, 0, 0]
    write_volume(pipeline.mask, array.astype(np.uint8), volume.geometry)
    assert pipeline()[0] == 1


def test_a_damaged_mask_is_derived_again(pipeline):
    pipeline.mask.write_bytes(b"rubbish")
    assert pipeline()[0] == 1


def test_a_changed_condition_has_its_body_derived_again(pipeline):
    os.utime(pipeline.folder / f"imagesTr/{CASE}_0000.nii.gz", ns=(5, 5))
    assert pipeline()[0] == 1


def test_a_body_of_earlier_rules_is_derived_again(pipeline, monkeypatch):
    monkeypatch.setattr("gdmunet.preprocessing.known_body.RULE", 2)
    assert pipeline()[0] > 1
