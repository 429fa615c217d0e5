import json

import numpy as np
import pytest
import SimpleITK as sitk

from gdmunet.errors import GdmError
from gdmunet.geometry import Geometry
from gdmunet.imageio import read_volume, write_volume
from gdmunet.inference.ensemble import ensemble_folders

GEOMETRY = Geometry((3, 4, 5), (3.0, 2.0, 1.0), (1.0, 2.0, 3.0))


def write(folder, case, seed, dtype=np.int16, geometry=GEOMETRY):
    array = np.random.default_rng(seed).integers(-1000, 1000, geometry.shape).astype(dtype)
    write_volume(folder / f"{case}.nii.gz", array, geometry)
    return array.astype(np.float64)


def test_the_mean_of_whole_numbers_is_a_whole_number(tmp_path):
    arrays = [write(tmp_path / folder, "case", seed) for seed, folder in enumerate("abc")]
    (tmp_path / "a" / "prediction_settings.json").write_text("{}")
    written = ensemble_folders([tmp_path / f for f in "abc"], tmp_path / "out", show_progress=False)
    assert written == [tmp_path / "out" / "case.nii.gz"]
    volume = read_volume(written[0])
    np.testing.assert_array_equal(volume.array, np.rint(np.mean(arrays, axis=0)))
    assert volume.geometry.difference(GEOMETRY) is None
    assert sitk.ReadImage(str(written[0])).GetPixelID() == sitk.sitkInt16


def test_floats_stay_floats(tmp_path):
    arrays = [write(tmp_path / "a", "case", 0), write(tmp_path / "b", "case", 1, np.float32)]
    (path,) = ensemble_folders([tmp_path / "a", tmp_path / "b"], tmp_path / "out", show_progress=False)
    np.testing.assert_allclose(read_volume(path).array, np.mean(arrays, axis=0))
    (path,) = ensemble_folders([tmp_path / "a"] * 2, tmp_path / "float", as_float=True, show_progress=False)
    assert sitk.ReadImage(str(path)).GetPixelID() == sitk.sitkFloat32


def test_cases_and_grids_must_agree(tmp_path):
    for folder in "ab":
        write(tmp_path / folder, "one", 0)
    write(tmp_path / "b", "two", 0)
    with pytest.raises(GdmError, match=r"missing in one of the folders[\s\S]*case: two[\s\S]*/a"):
        ensemble_folders([tmp_path / "a", tmp_path / "b"], tmp_path / "out", show_progress=False)
    write(tmp_path / "a", "two", 0, geometry=Geometry((3, 4, 5), (3.0, 2.0, 1.5)))
    with pytest.raises(GdmError, match=r"different grids[\s\S]*case: two[\s\S]*spacing"):
        ensemble_folders([tmp_path / "a", tmp_path / "b"], tmp_path / "out", show_progress=False)


def test_unusable_folders_are_refused(tmp_path):
    for folder in "ab":
        write(tmp_path / folder, "one", 0)
    with pytest.raises(GdmError, match="needs two folders"):
        ensemble_folders([tmp_path / "a"], tmp_path / "out")
    with pytest.raises(GdmError, match="one of the input folders"):
        ensemble_folders([tmp_path / "a", tmp_path / "b"], tmp_path / "b")
    with pytest.raises(GdmError, match="not there"):
        ensemble_folders([tmp_path / "a", tmp_path / "none"], tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(GdmError, match="no predictions"):
        ensemble_folders([tmp_path / "a", tmp_path / "empty"], tmp_path / "out")


def test_predictions_at_different_places_of_a_dial_are_refused_before_anything_is_written(tmp_path):
    for seed, (folder, realism) in enumerate({"a": "0.0", "b": "1.0", "c": "null"}.items()):
        write(tmp_path / folder, "case", seed)
        (tmp_path / folder / "prediction_settings.json").write_text(f'{{"realism": {realism}}}')
    with pytest.raises(GdmError) as caught:
        ensemble_folders([tmp_path / f for f in "cab"], tmp_path / "out", show_progress=False)
    assert f"0 in {tmp_path / 'a'}; 1 in {tmp_path / 'b'}" in str(caught.value)
    assert not (tmp_path / "out").exists()
    # A model without a dial has no place that could differ.
    ensemble_folders([tmp_path / f for f in "cbb"], tmp_path / "alike", show_progress=False)
    settings = json.loads((tmp_path / "alike" / "ensemble_settings.json").read_text())
    assert settings["realism"] == [None, 1.0, 1.0]
