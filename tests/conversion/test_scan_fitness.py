"""What cannot be scanned is listed before anything is simulated, and what a scan does to the others is said."""

import numpy as np
import pytest

from gdmunet.conversion.scan_fitness import check_cts, examine_ct
from gdmunet.conversion.sparse_view_dataset import SparseViewOptions, make_sparse_view_dataset
from gdmunet.errors import GdmError
from gdmunet.geometry import Geometry
from gdmunet.imageio import Volume, write_volume
from gdmunet.scan_spec import ScanSpec

SHAPE = (4, 32, 32)


def disc(radius=10.0, centre=(0.0, 0.0)):
    """A disc of water in air."""
    y, x = np.mgrid[:32, :32] - np.array([16, 16])[:, None, None]
    inside = np.hypot(y - centre[0], x - centre[1]) <= radius
    return np.broadcast_to(np.where(inside, 0, -1000), SHAPE).astype(np.int16)


def ct(array, spacing=(2.0, 2.0, 2.0)):
    return Volume(array, Geometry(SHAPE, spacing))


@pytest.fixture
def cts(tmp_path):
    """Three CTs that can be scanned and three that cannot, each for another reason."""
    volumes = {
        "a": ct(disc()),
        "b_oblong": ct(disc(), (2.0, 2.0, 3.0)),
        "c": ct(disc(14)),
        "d_aside": ct(disc(3, (0.0, 12.0))),
        "e_torn": ct(disc()),
        "f": ct(disc(8)),
    }
    files = {name: tmp_path / "cts" / f"{name}.nii.gz" for name in volumes}
    for name, volume in volumes.items():
        write_volume(files[name], volume.array, volume.geometry)
    files["e_torn"].write_bytes(files["e_torn"].read_bytes()[:200])
    return files


def test_every_unfit_ct_is_named_before_one_is_begun(cts, tmp_path):
    settings = ScanSpec(views=9, field_of_view=30.0)
    with pytest.raises(GdmError, match="3 CTs of 6 cannot be scanned in this way; none was begun") as error:
        make_sparse_view_dataset(tmp_path / "raw", 510, "Svct", cts, settings, SparseViewOptions(show_progress=False))
    listed = [line.split(":")[0].strip() for line in error.value.found.splitlines() if line]
    assert listed == ["b_oblong", "d_aside", "e_torn"]
    assert "not square" in error.value.found
    assert "no body lies inside" in error.value.found
    assert error.value.remedy.endswith("leave these CTs out of -i")
    assert not (tmp_path / "raw").exists() or not list((tmp_path / "raw").iterdir())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (ScanSpec(views=720), []),
        (ScanSpec(views=720, field_of_view=50.0), ["cuts the body of 1 CT of 3"]),
        (ScanSpec(views=720, photons=1e4), ["noise: of 10000 photons about"]),
        (ScanSpec(views=720, photons=20), ["little but noise"]),
        (ScanSpec(views=9), ["views: 9 views lie closer than a pixel up to 6 mm from the axis; beyond it 3 CTs of 3"]),
    ],
)
def test_what_the_scan_does_is_said(cts, settings, said):
    fit = {name: file for name, file in cts.items() if "_" not in name}
    lines = check_cts(fit, settings, 1, False)
    assert len(lines) == len(said)
    for line, text in zip(lines, said, strict=True):
        assert text in line


def test_the_effect_of_a_scan_is_that_of_the_geometry():
    """A disc of water 40 mm wide: shares, photons and radii by their formulas."""
    effect = examine_ct(ct(disc()), ScanSpec(views=36, photons=1e5, field_of_view=20.0), "a")
    assert effect.outside == pytest.approx(1 - (5 / 10) ** 2, abs=0.05)
    assert effect.photons == pytest.approx(1e5 * np.exp(-ScanSpec().mu_water * 22), rel=0.05)
    assert effect.sharp_radius == pytest.approx(2.0 * 36 / np.pi)
    assert effect.radius == pytest.approx(10.0)
