import resource

import numpy as np
import pytest
import SimpleITK as sitk

from gdmunet.errors import GdmError
from gdmunet.geometry import Geometry
from gdmunet.imageio import read_volume
from gdmunet.inference.export import whole_numbers, write_prediction, write_uncertainty
from gdmunet.inference.prediction import Prediction

OBLIQUE = Geometry((4, 5, 6), (2.5, 0.75, 1.25), (-10.5, 3.25, 100.0), (0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1))


def prediction(modality: str = "CT", scale: float = 100.0) -> Prediction:
    random = np.random.default_rng(0)
    array = (scale * random.normal(size=(4, 5, 6))).astype(np.float32)
    return Prediction("case", array, OBLIQUE, modality, np.abs(array))


def pixel_type(path) -> int:
    return sitk.ReadImage(str(path)).GetPixelID()


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".mha", ".nrrd", ".mhd"])
def test_ct_is_whole_hu_in_sixteen_bits_on_the_conditions_grid(tmp_path, ending):
    path = tmp_path / f"case{ending}"
    write_prediction(path, prediction())
    assert pixel_type(path) == sitk.sitkInt16
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, np.rint(prediction().array))
    assert volume.geometry.difference(OBLIQUE) is None


def test_other_targets_and_float_keep_every_digit(tmp_path):
    for name, modality, as_float in [("a", "T2", False), ("b", "CT", True)]:
        path = tmp_path / f"{name}.nii.gz"
        write_prediction(path, prediction(modality), as_float)
        assert pixel_type(path) == sitk.sitkFloat32
        np.testing.assert_array_equal(read_volume(path).array, prediction().array)


def test_values_beyond_sixteen_bits_are_not_wrapped():
    array = np.array([[[-5.4, 40000.2]]], dtype=np.float32)
    assert whole_numbers(array).dtype == np.int32
    assert whole_numbers(array).tolist() == [[[-5, 40000]]]
    assert whole_numbers(-array / 2).dtype == np.int16


def test_the_uncertainty_is_float(tmp_path):
    write_uncertainty(tmp_path / "case.nii.gz", prediction())
    assert pixel_type(tmp_path / "case.nii.gz") == sitk.sitkFloat32
    with pytest.raises(ValueError, match="without uncertainty"):
        write_uncertainty(tmp_path / "b.nii.gz", Prediction("case", prediction().array, OBLIQUE, "CT"))


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".mha", ".nrrd", ".mhd"])
def test_a_full_disk_leaves_the_old_prediction_whole(tmp_path, ending):
    random = np.random.default_rng(1)
    large = Prediction(
        "case", random.normal(size=(32, 32, 32)).astype(np.float32), Geometry((32,) * 3, (1, 1, 1)), "T2"
    )
    path = tmp_path / f"case{ending}"
    write_prediction(path, large)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
    try:
        with pytest.raises(GdmError, match=r"cannot write case[\s\S]*too large[\s\S]*ulimit"):
            write_prediction(path, Prediction("case", large.array[::-1].copy(), large.geometry, "T2"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
