"""gdm_simulate_svct: what it writes, what it keeps, what it refuses."""

import json
import shutil

import numpy as np
import pytest

from gdmunet.cli.simulate_svct import main
from gdmunet.conversion import demo_data, sparse_view_dataset
from gdmunet.conversion.ct_files import find_ct_files
from gdmunet.conversion.held_out import SplitOptions
from gdmunet.conversion.sparse_view_dataset import SparseViewOptions, make_sparse_view_dataset
from gdmunet.dataset import list_cases, load_descriptor
from gdmunet.errors import GdmError
from gdmunet.geometry import AxisMap, Geometry
from gdmunet.imageio import Volume, read_case, read_mask, read_volume, write_volume
from gdmunet.scan_spec import ScanSpec
from gdmunet.tomography.simulation import reconstruct_volume, simulate_scan
from gdmunet.tomography.sinogram import read_sinogram

SETTINGS = ScanSpec(views=9)


def ct(seed=0, shape=(6, 24, 28), spacing=(4.0, 4.0, 4.0)):
    rng = np.random.default_rng(seed)
    array = np.full(shape, -1000, np.int16)
    array[:, 4:20, 5:22] = rng.integers(-20, 60, (shape[0], 16, 17))
    array[:, 9 + seed : 11 + seed, 8:11] = 800
    array[0, 0, 0] = -3024
    return Volume(array, Geometry(shape, spacing, (5.0, -6.0, 7.0)))


@pytest.fixture
def cts(tmp_path):
    for seed, name in enumerate("abc"):
        volume = ct(seed)
        write_volume(tmp_path / "ct" / f"{name}.nii.gz", volume.array, volume.geometry)
    return tmp_path / "ct"


def make(cts, raw, settings=SETTINGS, **options):
    options = SparseViewOptions(show_progress=False, **options)
    return make_sparse_view_dataset(raw, 7, "Few", find_ct_files([cts]), settings, options)


def test_the_data_set_is_complete_and_says_how_it_was_made(cts, tmp_path):
    made = make(cts, tmp_path / "raw", save_sinograms=True, split=SplitOptions(("b",)))
    assert made.made == ("a", "b", "c")
    assert made.kept == ()
    assert made.folder.name == "Dataset007_Few"
    descriptor = load_descriptor(made.folder)
    assert descriptor.simulation == SETTINGS
    assert (descriptor.channels, descriptor.target_name, descriptor.mask) == (("CT",), "CT", True)
    training, test = list_cases(made.folder, descriptor), list_cases(made.folder, descriptor, "Ts")
    assert [case.identifier for case in training] == ["a", "c"]
    assert [case.identifier for case in test] == ["b"]
    for case, split in [*((case, "Tr") for case in training), (test[0], "Ts")]:
        source, volumes = read_volume(cts / f"{case.identifier}.nii.gz"), read_case(case)
        assert volumes.geometry.difference(source.geometry) is None
        assert np.array_equal(volumes.target, source.array.clip(-1024, 3071))
        expected = simulate_scan(source, SETTINGS, case.identifier).reconstruction
        assert np.abs(volumes.conditions[0] - expected).max() < 0.6
        assert volumes.mask[:, 6:18, 7:20].all()
        assert volumes.mask.mean() < 0.6
        sinogram = read_sinogram(made.folder / f"sinograms{split}" / f"{case.identifier}.npz")
        assert np.abs(reconstruct_volume(sinogram) - expected).max() < 0.6


def test_a_second_run_keeps_what_is_whole_and_mends_the_rest(cts, tmp_path):
    first = make(cts, tmp_path / "raw")
    image, target = first.folder / "imagesTr" / "a_0000.nii.gz", first.folder / "targetsTr" / "b.nii.gz"
    kept = (first.folder / "imagesTr" / "c_0000.nii.gz").stat().st_mtime_ns
    before = read_volume(image).array
    image.write_bytes(image.read_bytes()[:-50])
    write_volume(target, ct(7).array, ct().geometry)
    again = make(cts, tmp_path / "raw")
    assert again.made == ("a", "b")
    assert again.kept == ("c",)
    assert np.array_equal(read_volume(image).array, before)
    assert np.array_equal(read_volume(target).array, ct(1).array.clip(-1024))
    assert (first.folder / "imagesTr" / "c_0000.nii.gz").stat().st_mtime_ns == kept
    assert make(cts, tmp_path / "raw").kept == ("a", "b", "c")


def test_patients_who_are_cut_by_the_edge_are_named(cts, tmp_path, capsys):
    cropped = read_volume(cts / "b.nii.gz").array[:, 6:19, 6:21]
    write_volume(cts / "b.nii.gz", np.ascontiguousarray(cropped), Geometry(cropped.shape, (4.0, 4.0, 4.0)))
    for _ in range(2):  # made, then kept
        assert make(cts, tmp_path / "raw").cut == ("b",)
    flags = ["-i", str(cts), "--raw", str(tmp_path), "--no_pbar", "-np", "1", "--views", "8"]
    assert main([*flags, "-d", "502"]) == 0
    assert "the patient is cut by the edge of the slices in b." in capsys.readouterr().out
    assert main([*flags, "-d", "503", "--field_of_view", "44"]) == 0
    assert "is cut" not in capsys.readouterr().out


def test_an_interrupted_run_goes_on(cts, tmp_path, monkeypatch):
    whole = sparse_view_dataset.simulate_scan

    def stop(volume, settings, identifier, device):
        if identifier == "b":
            raise KeyboardInterrupt
        return whole(volume, settings, identifier, device)

    with monkeypatch.context() as patch:
        patch.setattr(sparse_view_dataset, "simulate_scan", stop)
        with pytest.raises(KeyboardInterrupt):
            make(cts, tmp_path / "raw")
    again = make(cts, tmp_path / "raw")
    assert again.kept == ("a",)
    assert again.made == ("b", "c")


def test_another_data_set_in_the_folder_is_left_alone(cts, tmp_path):
    make(cts, tmp_path / "raw")
    with pytest.raises(GdmError, match="other cases or settings"):
        make(cts, tmp_path / "raw", ScanSpec(views=10))
    with pytest.raises(GdmError, match="there already"):
        make_sparse_view_dataset(tmp_path / "raw", 7, "Other", find_ct_files([cts]), SETTINGS)


@pytest.mark.slow
def test_workers_give_the_same(cts, tmp_path):
    noisy = ScanSpec(views=9, photons=1e4, electronic_noise=5, random_offset=True)
    one, two = (make(cts, tmp_path / str(n), noisy, processes=n).folder for n in (1, 2))
    for name in "abc":
        files = [folder / "imagesTr" / f"{name}_0000.nii.gz" for folder in (one, two)]
        assert np.array_equal(*(read_volume(file).array for file in files))


def test_slices_are_axial_whatever_the_file_says(tmp_path):
    axes = AxisMap((1, 2, 0), (True, False, False))
    for folder, turn in (("plain", AxisMap((0, 1, 2), (False,) * 3)), ("turned", axes)):
        volume = ct()
        write_volume(
            tmp_path / folder / "a.nii.gz",
            np.ascontiguousarray(turn.apply(volume.array)),
            turn.apply_to_geometry(volume.geometry),
        )
    for kind, read in (("imagesTr/a_0000", read_volume), ("masksTr/a", read_mask)):
        plain, turned = (
            read(make(tmp_path / name, tmp_path / f"raw_{name}").folder / f"{kind}.nii.gz").array
            for name in ("plain", "turned")
        )
        assert np.array_equal(axes.apply(plain), turned)


def test_the_mask_ends_at_the_field_of_view(cts, tmp_path):
    made = make(cts, tmp_path / "raw", ScanSpec(views=9, field_of_view=40.0))
    case = read_case(list_cases(made.folder, load_descriptor(made.folder))[0])
    y, x = (np.mgrid[:24, :28].T - (12, 14)).T * 4.0
    assert not case.mask[:, np.hypot(y, x) > 20].any()
    assert (case.conditions[0][:, np.hypot(y, x) > 20] == -1000).all()


def test_inputs_are_checked(cts, tmp_path):
    shutil.copy(cts / "a.nii.gz", tmp_path / "A.nii.gz")
    with pytest.raises(GdmError, match="one identifier"):
        find_ct_files([cts, tmp_path / "A.nii.gz"])
    with pytest.raises(GdmError, match="missing"):
        find_ct_files([tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(GdmError, match="no CT volumes"):
        find_ct_files([tmp_path / "empty"])
    volume = ct(spacing=(4.0, 4.0, 3.0))
    write_volume(cts / "d.nii.gz", volume.array, volume.geometry)
    with pytest.raises(GdmError, match=r"case: d(.|\n)*not square"):
        make(cts, tmp_path / "raw")


def test_the_command(cts, tmp_path, capsys):
    flags = ["-i", str(cts), "-d", "502", "--raw", str(tmp_path), "--no_pbar", "-np", "1", "--views", "8"]
    assert main([*flags, "--geometry", "fan", "--i0", "1e5", "--test", "c"]) == 0
    assert "3 cases" in capsys.readouterr().out
    written = json.loads((tmp_path / "Dataset502_SparseViewCT" / "dataset.json").read_text())["simulation"]
    assert (written["beam"], written["range_degrees"], written["photons"], written["views"]) == ("fan", 360, 1e5, 8)
    assert main([*flags, "--geometry", "fan", "--i0", "1e5", "--test", "c"]) == 0
    assert "3 were there already" in capsys.readouterr().out
    assert main([*flags, "--electronic_noise", "3"]) == 1
    assert "--i0" in capsys.readouterr().err


def test_the_demo_holds_out_the_lung(tmp_path, monkeypatch):
    whole = sparse_view_dataset.read_volume

    def thin(path, identifier=None):
        volume = whole(path, identifier)
        if volume.geometry.shape[0] < 60:
            return volume
        geometry = Geometry((3, *volume.geometry.shape[1:]), *list(vars(volume.geometry).values())[1:])
        return Volume(volume.array[50:53], geometry)

    monkeypatch.setattr(sparse_view_dataset, "read_volume", thin)
    folder = demo_data.make_sparse_view_demo(tmp_path, show_progress=False)
    descriptor = load_descriptor(folder)
    training, test = list_cases(folder, descriptor), list_cases(folder, descriptor, "Ts")
    assert [case.identifier for case in training] == ["abdomen", "heart"]
    assert [case.identifier for case in test] == ["lung"]
    for case in training + test:
        volumes = read_case(case)
        error = np.abs(volumes.conditions[0] - volumes.target)[volumes.mask].mean()
        # The abdomen's over the whole volume is 52 HU with an independent program.
        assert 20 < error < 250
