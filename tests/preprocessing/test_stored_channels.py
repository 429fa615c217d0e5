"""Channels in types of 16 bits: exact to half a HU, chosen by the plans, and never clipped to fit."""

import json
from dataclasses import replace

import numpy as np
import pytest
from prediction_samples import make_configuration, make_descriptor
from test_casestore import prepared_case

from gdmunet.dataset import DatasetDescriptor
from gdmunet.errors import GdmError
from gdmunet.preprocessing.casestore import CaseStore
from gdmunet.preprocessing.intensity_rules import plan_storage
from gdmunet.preprocessing.normalization import IntensityMap
from gdmunet.provenance import cases_hash
from gdmunet.storage_spec import StorageSpec

HU = IntensityMap(-1024.0, 3071.0, 37.5, 213.7)
MR = IntensityMap(0.0, 900.0, 300.0, 120.0)
PLANNED = StorageSpec(("float16", "int16"), "int16")


@pytest.fixture
def store(tmp_path):
    return CaseStore(tmp_path / "Dataset001_A", "plans", "3d_fullres")


def case_of(maps, target_map, hounsfield):
    """A case whose last condition and target hold those values in HU (z, y, x), the first an MR."""
    case = prepared_case(shape=hounsfield.shape)
    values = (hounsfield.astype(np.float32) - np.float32(HU.offset)) / np.float32(HU.scale)
    condition = np.stack([case.condition[0], values])
    properties = replace(case.properties, condition_maps=maps, target_map=target_map)
    return replace(case, condition=condition, target=values[None], properties=properties)


def test_whole_hounsfield_units_come_back_bit_for_bit(store):
    whole = np.random.default_rng(0).integers(-1024, 3072, (12, 15, 17))
    case = case_of((MR, HU), HU, whole)
    assert store.write(case, (8, 8, 8), storage=PLANNED) == ()
    stored = store.open("head")
    assert np.array_equal(stored.target[:], case.target)
    assert np.array_equal(stored.condition[1], case.condition[1])
    error = np.abs(stored.condition[0] - case.condition[0])
    assert 0 < error.max() <= np.abs(case.condition[0]).max() / 2048


def test_between_whole_units_the_error_is_half_a_unit_at_most(store):
    case = case_of((MR, HU), HU, np.random.default_rng(1).uniform(-1024, 3071, (12, 15, 17)))
    store.write(case, storage=PLANNED)
    error = np.abs(HU.scale * (store.open("head").target[:] - case.target))
    assert 0.4 < error.max() < 0.502


def test_the_file_is_half_as_large(store):
    noise = case_of((MR, HU), HU, np.random.default_rng(2).normal(0, 300, (40, 40, 40)).round())
    sizes = []
    for storage in (None, PLANNED):
        store.write(noise, storage=storage)
        sizes.append((store.folder / "head.b2nd").stat().st_size)
    assert sizes[1] < 0.6 * sizes[0]


@pytest.mark.parametrize(
    "key",
    [np.s_[:, 3:9, 2:11, 5:17], np.s_[1, 3:9, 2:11], np.s_[-1], np.s_[..., 4], np.s_[0:1, 7], np.s_[:, 2, 3, 4],
     np.s_[::-1, 3], np.s_[0:0]],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("widened", [False, True])
def test_slices_are_those_of_the_whole(store, key, widened):
    case = case_of((MR, HU), HU, np.random.default_rng(3).integers(-900, 900, (12, 15, 17)))
    if widened:
        case.condition[0, 3, 3, 3] = 1e6
    store.write(case, (4, 4, 4), storage=PLANNED)
    condition = store.open("head").condition
    whole = np.asarray(condition)
    np.testing.assert_array_equal(condition[key], whole[key])
    assert condition[key].dtype == np.float32


@pytest.mark.parametrize(("metal", "fits"), [(32767, True), (32768, False), (-32768, True), (-32769, False)])
def test_values_beyond_int16_keep_their_channel_in_float32(store, metal, fits):
    wide = IntensityMap(-1e5, 1e5, 0.0, 500.0)
    whole = np.zeros((12, 15, 17))
    whole[3, 4, 5] = metal
    case = prepared_case(channels=1, shape=whole.shape)
    values = (whole / 500).astype(np.float32)[None]
    case = replace(case, target=values, properties=replace(case.properties, condition_maps=(MR,), target_map=wide))
    assert store.write(case, storage=StorageSpec(("float16",), "int16")) == (() if fits else (1,))
    stored = store.open("head")
    assert np.array_equal(stored.target[:], case.target)
    record = json.loads((store.folder / "head.json").read_text())
    assert record["types"] == ["float16", "int16" if fits else "float32"]


def test_a_condition_beyond_float16_and_all_in_float32_are_exact(store):
    case = prepared_case(channels=1)
    case.condition[0, 1, 2, 3] = 70_000
    assert store.write(case, storage=StorageSpec(("float16",), "float32")) == (0,)
    np.testing.assert_array_equal(store.open("head").condition[:], case.condition)


def test_a_record_that_says_another_type_than_the_file_is_refused(store):
    store.write(prepared_case(channels=1), storage=StorageSpec(("float16",), "float32"))
    file = store.folder / "head.json"
    file.write_text(file.read_text().replace('"float16"', '"float32"'))
    with pytest.raises(GdmError, match="another array than the case's record says"):
        store.open("head")
    file.write_text(json.dumps({**json.loads(file.read_text()), "types": ["float16"] * 5}))
    with pytest.raises(GdmError, match="another number of types"):
        store.open("head")


def test_a_case_without_types_is_float32_as_earlier_versions_wrote_it(store):
    case = prepared_case()
    store.write(case)
    file = store.folder / "head.json"
    content = json.loads(file.read_text())
    del content["types"]
    file.write_text(json.dumps({**content, "version": 2}))
    np.testing.assert_array_equal(store.open("head").condition[:], case.condition)


def test_planning_chooses_by_unit_and_earlier_plans_keep_their_cases():
    assert plan_storage(DatasetDescriptor({"0": "MR", "1": "CBCT"}, "CT", ".nii.gz", 4)) == PLANNED
    assert plan_storage(DatasetDescriptor({"0": "CT"}, "dose", ".nii.gz", 4)) == StorageSpec(("int16",), "float32")
    configuration, descriptor = make_configuration(), make_descriptor()
    assert configuration.storage is None
    types = StorageSpec(("float16",) * len(configuration.condition_normalization), "int16")
    assert cases_hash(replace(configuration, storage=types), descriptor) != cases_hash(configuration, descriptor)
    with pytest.raises(GdmError, match="stored types"):
        replace(configuration, storage=StorageSpec((), "int16"))
