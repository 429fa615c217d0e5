"""Stored cases: exact, readable in parts, whole or not there."""

import errno
from pathlib import Path

import numpy as np
import pytest

from gdmunet.errors import GdmError
from gdmunet.geometry import Geometry
from gdmunet.preprocessing.case_record import CaseOrigin
from gdmunet.preprocessing.casestore import CaseStore
from gdmunet.preprocessing.normalization import IntensityMap
from gdmunet.preprocessing.packed_arrays import chunk_shapes, sample_body
from gdmunet.preprocessing.preprocessor import CaseProperties, PreparedCase

ORIGIN = CaseOrigin("recipe", {"imagesTr/head_0000.nii.gz": (12, 345)})


def prepared_case(name="head", shape=(12, 15, 17), channels=2, target=True, seed=0):
    rng = np.random.default_rng(seed)
    intensity = IntensityMap(-1024.0, 3071.0, 0.1, 1.0)
    properties = CaseProperties(
        name, Geometry(shape, (1.0, 1.0, 1.0)), ((0, 1), (0, 2), (0, 3)), shape, shape, (1.0, 1.0, 1.0),
        (intensity,) * channels, intensity, "given",
    )  # fmt: skip
    condition = rng.normal(size=(channels, *shape)).astype(np.float32)
    return PreparedCase(
        condition,
        rng.normal(size=(1, *shape)).astype(np.float32) if target else None,
        rng.random(shape) < 0.4,
        properties,
    )


@pytest.fixture
def store(tmp_path):
    return CaseStore(tmp_path / "Dataset001_A", "plans", "3d_fullres")


def test_what_is_written_comes_back_bit_for_bit(store):
    case = prepared_case()
    store.write(case, (8, 8, 8), ORIGIN)
    stored = store.open("head")
    np.testing.assert_array_equal(stored.condition[:], case.condition)
    np.testing.assert_array_equal(stored.target[:], case.target)
    np.testing.assert_array_equal(stored.mask[:] > 0, case.mask)
    assert stored.properties == case.properties
    assert store.origin("head") == ORIGIN
    assert store.identifiers() == ["head"]


@pytest.mark.parametrize(
    "key",
    [
        np.s_[:, 3:9, 2:11, 5:17],
        np.s_[1, 3:9, 2:11, 5:17],
        np.s_[-1],
        np.s_[..., 4],
        np.s_[0:1, 7],
        np.s_[:, 2, 3, 4],
    ],
    ids=str,
)
def test_slices_are_those_of_the_array(store, key):
    case = prepared_case()
    store.write(case, (4, 4, 4))
    np.testing.assert_array_equal(store.open("head").condition[key], case.condition[key])


def test_the_target_is_not_seen_through_the_condition(store):
    store.write(prepared_case())
    stored = store.open("head")
    assert stored.condition.shape == (2, 12, 15, 17)
    assert stored.target.shape == (1, 12, 15, 17)
    with pytest.raises(IndexError):
        stored.condition[2]


def test_a_case_without_target_has_none(store):
    store.write(prepared_case(target=False))
    assert store.open("head").target is None


def test_sampled_body_voxels_lie_in_the_body_and_are_the_same_each_time(store):
    case = prepared_case()
    store.write(case)
    voxels = store.open("head").body_voxels
    assert case.mask[tuple(voxels.T)].all()
    np.testing.assert_array_equal(voxels, sample_body(case.mask, "head"))


def test_large_bodies_are_sampled_evenly():
    mask = np.ones((32, 32, 32), bool)
    voxels = sample_body(mask, "a")
    assert len(voxels) == 10_000
    assert len(np.unique(voxels, axis=0)) == 10_000
    np.testing.assert_allclose(voxels.mean(axis=0), 15.5, atol=0.5)


def test_chunks_are_about_a_patch_and_never_above_four_mebibytes():
    chunk, block = chunk_shapes((2, 300, 512, 512), (64, 128, 128), 4)
    assert np.prod(chunk) * 4 <= 4 << 20
    assert chunk[0] == 2
    assert block == (1, 32, 64, 64)
    assert chunk_shapes((1, 5, 7, 9), (64, 64, 64), 4) == ((1, 5, 7, 9), (1, 5, 7, 9))
    assert chunk_shapes((1, 30, 200, 200), (1, 200, 200), 4)[0] == (1, 1, 200, 200)


def test_a_case_that_is_not_prepared_says_so(store):
    with pytest.raises(GdmError, match="not prepared") as caught:
        store.open("nobody")
    assert "case: nobody" in str(caught.value)
    assert "gdm_preprocess" in str(caught.value)


@pytest.mark.parametrize("suffix", [".b2nd", "_mask.b2nd"])
def test_a_damaged_file_names_itself(store, suffix):
    store.write(prepared_case())
    file = store.folder / f"head{suffix}"
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(GdmError, match="missing or damaged") as caught:
        store.open("head")
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("full_after", [0, 1, 2])
def test_a_full_disk_leaves_the_old_case_whole_and_no_rubbish(store, monkeypatch, full_after):
    old = prepared_case(seed=1)
    store.write(old, origin=ORIGIN)
    written, write = [], Path.write_bytes

    def fill(path, content):
        if len(written) == full_after:
            write(path, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path)
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fill)
        with pytest.raises(GdmError, match="No space left") as caught:
            store.write(prepared_case(seed=2), origin=CaseOrigin("other"))
    assert "free disk space" in str(caught.value)
    np.testing.assert_array_equal(store.open("head").condition[:], old.condition)
    assert store.origin("head") == ORIGIN
    assert sorted(path.name for path in store.folder.iterdir()) == ["head.b2nd", "head.json", "head_mask.b2nd"]


def test_an_interruption_leaves_the_case_unfinished(store, monkeypatch):
    write = Path.write_bytes

    def interrupt(path, content):
        write(path, content[:10])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.write(prepared_case())
    assert store.identifiers() == []
    assert list(store.folder.iterdir()) == []


def test_without_its_arrays_a_case_has_no_origin(store):
    store.write(prepared_case(), origin=ORIGIN)
    (store.folder / "head_mask.b2nd").unlink()
    assert store.origin("head") is None


def test_a_record_of_another_version_has_no_origin(store):
    store.write(prepared_case(), origin=ORIGIN)
    (store.folder / "head.json").write_text("{}")
    assert store.origin("head") is None


@pytest.mark.parametrize("suffix", [".b2nd", "_mask.b2nd"])
def test_a_flipped_bit_is_found_before_a_training_uses_the_case(store, suffix):
    """The packed arrays hold no checksums: most flipped bits would be other numbers, without an error."""
    store.write(prepared_case(), origin=ORIGIN)
    assert store.check(["head"]) == ()
    file = store.folder / f"head{suffix}"
    whole = file.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(whole), 12):
        damaged = bytearray(whole)
        damaged[place] ^= 16
        file.write_bytes(damaged)
        with pytest.raises(GdmError, match="have changed since") as caught:
            store.check(["head"])
        assert (caught.value.case, caught.value.file) == ("head", file)
        assert "--clean" in caught.value.command.words
    file.write_bytes(whole)
    store.check(["head"])


def test_removing_a_case_removes_all_of_it(store):
    store.write(prepared_case())
    store.write(prepared_case("other"))
    store.remove("head")
    assert store.identifiers() == ["other"]
    assert not list(store.folder.glob("head*"))
