"""Nothing is left out uncounted: what lies beside the cases never stops a command, and is named by it."""

import json
import shutil

import numpy as np
import pytest
from prediction_samples import SPACING, make_head, make_model

from gdmunet.cli.ensemble import main as ensemble
from gdmunet.cli.evaluate import main as evaluate
from gdmunet.cli.extract_fingerprint import main as extract_fingerprint
from gdmunet.cli.new_dataset import main as new_dataset
from gdmunet.cli.predict import main as predict
from gdmunet.cli.simulate_svct import main as simulate
from gdmunet.errors import GdmError
from gdmunet.geometry import Geometry
from gdmunet.imageio import read_volume, write_volume
from gdmunet.volume_formats.files import find_volumes, list_volumes
from gdmunet.volume_formats.table import FILE_ENDINGS, format_of

SIDECARS = ("p0_0000.json", "Thumbs.db", "desktop.ini", ".DS_Store", "._p0_0000.nii.gz", "notes.txt", "p0.bval")
GRID = Geometry(make_head().shape, SPACING)


def heads(folder, names, add=0.0, suffix="_0000", ending=".nii.gz"):
    for number, name in enumerate(names):
        write_volume(folder / f"{name}{suffix}{ending}", make_head(seed=number) + add, GRID)
    return folder


def sidecars(folder):
    for name in SIDECARS:
        (folder / name).write_text("{}")
    (folder / "more").mkdir()


def check_said(said, *folders, taken):
    for folder in folders:
        line = next(line for line in said.splitlines() if line.startswith(f"{folder}: "))
        assert f"{taken} taken" in line
        assert "8 files left out" in line
        assert all(name in line for name in (*SIDECARS, "more/"))


def run(main, *words):
    return main([str(word) for word in words])


def raw_dataset(tmp_path, target_suffix=""):
    dataset = tmp_path / "raw" / "Dataset909_Side"
    heads(dataset / "imagesTr", ("p0", "p1", "p2"))
    heads(dataset / "targetsTr", ("p0", "p1", "p2"), 5, target_suffix)
    descriptor = {"channel_names": {"0": "CT"}, "target_name": "CT", "file_ending": ".nii.gz", "numTraining": 3}
    (dataset / "dataset.json").write_text(json.dumps(descriptor))
    return dataset


def test_a_data_set_is_read_beside_other_files(tmp_path, capsys):
    dataset = raw_dataset(tmp_path)
    for folder in ("imagesTr", "targetsTr"):
        sidecars(dataset / folder)
    folders = ("--raw", tmp_path / "raw", "--preprocessed", tmp_path / "pre")
    assert run(extract_fingerprint, "-d", 909, *folders, "--no_pbar", "-np", 1) == 0
    check_said(capsys.readouterr().out, "imagesTr", "targetsTr", taken="3 volumes")


def test_a_folder_is_predicted_beside_other_files(tmp_path, capsys):
    heads(tmp_path / "in", ("p0", "p1"))
    sidecars(tmp_path / "in")
    make_model(tmp_path / "model", ("0",))
    words = ("-i", tmp_path / "in", "-o", tmp_path / "out", "--results", tmp_path / "model", "-device", "cpu")
    assert run(predict, *words, "--no_pbar") == 0
    said = capsys.readouterr().out
    check_said(said, "in", taken="2 volumes")
    assert "predicted 2 cases" in said


def test_plain_folders_become_a_data_set_beside_other_files(tmp_path, capsys):
    heads(tmp_path / "mr", ("p0", "p1"), suffix="")
    heads(tmp_path / "ct", ("p0", "p1"), suffix="")
    sidecars(tmp_path / "mr")
    sidecars(tmp_path / "ct")
    words = ("-i", tmp_path / "mr", "-t", tmp_path / "ct", "--channel", "CT", "--target", "CT")
    assert run(new_dataset, "-d", 5, "-n", "A", *words, "--raw", tmp_path / "raw") == 0
    check_said(capsys.readouterr().out, "mr", "ct", taken="2 volumes")


def test_a_file_without_the_suffix_is_named(tmp_path, capsys):
    heads(tmp_path / "all", ("p0", "p1"), suffix="_mr")
    heads(tmp_path / "all", ("p0", "p1"), suffix="_ct")
    heads(tmp_path / "all", ("p7",), suffix="_cbct")
    words = ("-i", tmp_path / "all", "-t", tmp_path / "all", "--image_suffix", "_mr", "--target_suffix", "_ct")
    words += ("--channel", "CT", "--target", "CT", "--raw", tmp_path / "raw")
    assert run(new_dataset, "-d", 5, "-n", "A", *words) == 0
    assert "all: 4 volumes taken, 1 file left out: p7_cbct.nii.gz" in capsys.readouterr().out


def test_predictions_are_scored_beside_other_files(tmp_path, capsys):
    heads(tmp_path / "ref", ("p0", "p1"), suffix="")
    heads(tmp_path / "pred", ("p0", "p1"), 9, suffix="")
    sidecars(tmp_path / "ref")
    sidecars(tmp_path / "pred")
    assert run(evaluate, "-ref", tmp_path / "ref", "-pred", tmp_path / "pred", "--no_pbar") == 0
    check_said(capsys.readouterr().out, "ref", "pred", taken="2 volumes")


def test_predictions_are_averaged_beside_other_files(tmp_path, capsys):
    for name in ("a", "b"):
        heads(tmp_path / name, ("p0", "p1"), suffix="")
        sidecars(tmp_path / name)
    assert run(ensemble, "-i", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "out", "--no_pbar") == 0
    check_said(capsys.readouterr().out, "a", "b", taken="2 volumes")


def test_cts_are_scanned_beside_other_files(tmp_path, capsys):
    write_volume(tmp_path / "cts" / "p0.nii.gz", make_head(), Geometry(GRID.shape, (3.0, 2.0, 2.0)))
    sidecars(tmp_path / "cts")
    words = ("-i", tmp_path / "cts", "-d", 5, "--views", 6, "--raw", tmp_path / "raw", "-np", 1, "--no_pbar")
    assert run(simulate, *words) == 0
    check_said(capsys.readouterr().out, "cts", taken="1 volume")


@pytest.mark.parametrize("ending", FILE_ENDINGS)
@pytest.mark.parametrize("spell", [str.upper, str.title, str.lower])
def test_a_name_in_capitals_is_a_volume(tmp_path, ending, spell):
    write_volume(tmp_path / f"p3{ending}", make_head(), GRID)
    path = (tmp_path / f"p3{ending}").rename(tmp_path / f"p3{spell(ending)}")
    assert find_volumes(tmp_path) == {"p3": path}
    np.testing.assert_allclose(read_volume(path).array, make_head(), atol=1)
    write_volume(tmp_path / "out" / path.name, make_head(), GRID)
    assert read_volume(tmp_path / "out" / path.name).geometry == read_volume(path).geometry


def test_every_command_takes_a_name_in_capitals(tmp_path, capsys):
    """upper_case_ending: four cases in the data set, four scores, four predictions."""
    names = ("p0", "p1", "p2", "p3")
    for folder in ("mr", "ct"):
        heads(tmp_path / folder, names, 3 if folder == "ct" else 0, suffix="")
        (tmp_path / folder / "p3.nii.gz").rename(tmp_path / folder / "p3.NII.GZ")
    words = ("-i", tmp_path / "mr", "-t", tmp_path / "ct", "--channel", "CT", "--target", "CT")
    assert run(new_dataset, "-d", 5, "-n", "Upper", *words, "--raw", tmp_path / "raw") == 0
    made = sorted(path.name for path in (tmp_path / "raw" / "Dataset005_Upper" / "imagesTr").iterdir())
    assert made == [f"{name}_0000.nii.gz" for name in names]
    assert run(evaluate, "-ref", tmp_path / "ct", "-pred", tmp_path / "mr", "--no_pbar") == 0
    assert set(json.loads((tmp_path / "mr" / "summary.json").read_text())["cases"]) == set(names)
    shutil.copytree(tmp_path / "raw" / "Dataset005_Upper" / "imagesTr", tmp_path / "in")
    (tmp_path / "in" / "p3_0000.nii.gz").rename(tmp_path / "in" / "p3_0000.NII.GZ")
    heads(tmp_path / "masks", names, 2000, suffix="")
    (tmp_path / "masks" / "p3.nii.gz").rename(tmp_path / "masks" / "p3.Nii.Gz")
    make_model(tmp_path / "model", ("0",))
    words = ("-i", tmp_path / "in", "-o", tmp_path / "out", "--results", tmp_path / "model", "-device", "cpu")
    assert run(predict, *words, "--mask", tmp_path / "masks", "--no_pbar") == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz")) == [f"{name}.nii.gz" for name in names]
    capsys.readouterr()


@pytest.mark.parametrize("name", ["p9.img", "p9.mgz", "p9.nii.bz2", "p9.DCM", "p9.mnc", "p9.hdr"])
def test_a_volume_of_a_format_that_is_not_read_is_an_error(tmp_path, name):
    heads(tmp_path, ("p0",), suffix="")
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(GdmError, match="not read here") as caught:
        list_volumes(tmp_path)
    assert caught.value.file == tmp_path / name


@pytest.mark.parametrize("ending", [".mha", ".mhd", ".nrrd", ".nhdr"])
def test_voxels_beside_their_header_are_not_left_out(tmp_path, ending):
    detach(tmp_path, ending, "p0", "voxels of p0.bin")
    (tmp_path / "other.bin").write_bytes(b"x")
    listing = list_volumes(tmp_path)
    assert list(listing.volumes) == ["p0"]
    assert listing.left_out == ("other.bin",)


def detach(folder, ending, name, data_name):
    """A volume whose header names another file of voxels."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}{ending}"
    write_volume(path, make_head(), GRID)
    one = format_of(path)
    parts = one.parts(path)
    if len(parts) > 1:
        path.write_text(path.read_text().replace(parts[1].name, data_name))
        parts[1].rename(folder / data_name)
        return path
    data = path.read_bytes()
    if ending == ".mha":
        head, voxels = data.split(b"ElementDataFile = LOCAL\n")
        path.write_bytes(head + f"ElementDataFile = {data_name}\n".encode())
    else:
        head, voxels = data.split(b"\n\n", 1)
        path.write_bytes(head + f"\ndata file: {data_name}\n\n".encode())
    (folder / data_name).write_bytes(voxels)
    return path


@pytest.mark.parametrize("ending", [".mha", ".mhd", ".nrrd", ".nhdr"])
@pytest.mark.parametrize("link", ["copy", "symlink"])
def test_a_data_set_of_detached_headers_can_be_read(tmp_path, ending, link, capsys):
    for folder in ("mr", "ct"):
        for name in ("p0", "p1"):
            detach(tmp_path / folder, ending, name, f"{name}.bin")
    words = ("-i", tmp_path / "mr", "-t", tmp_path / "ct", "--channel", "CT", "--target", "CT", "--link", link)
    status = run(new_dataset, "-d", 906, "-n", "Detached", *words, "--raw", tmp_path / "raw")
    if link != "copy":
        assert status == 1
        assert "--link copy" in capsys.readouterr().err
        return
    assert status == 0
    made = tmp_path / "raw" / "Dataset906_Detached" / "imagesTr" / f"p0_0000{ending}"
    np.testing.assert_array_equal(read_volume(made).array, read_volume(tmp_path / "mr" / f"p0{ending}").array)
    assert all(part.is_file() for part in format_of(made).parts(made))


@pytest.mark.parametrize("ending", [".mha", ".mhd", ".nrrd", ".nhdr"])
@pytest.mark.parametrize("data_name", ["missing.bin", "../outside.bin", "LIST", "slice%03d.raw"])
def test_voxels_that_cannot_be_taken_along_are_an_error_with_the_reason(tmp_path, ending, data_name, capsys):
    for folder in ("mr", "ct"):
        path = detach(tmp_path / folder, ending, "p0", "p0.bin")
    path.write_bytes(path.read_bytes().replace(b"p0.bin", data_name.encode()))
    (tmp_path / "outside.bin").write_bytes(b"x" * 10)
    words = ("-i", tmp_path / "mr", "-t", tmp_path / "ct", "--channel", "CT", "--target", "CT")
    assert run(new_dataset, "-d", 906, "-n", "Detached", *words, "--raw", tmp_path / "raw") == 1
    said = capsys.readouterr().err
    assert "voxels" in said
    assert f"p0{ending}" in said
    assert not (tmp_path / "raw" / "Dataset906_Detached").exists()


def test_predictions_that_are_gone_at_the_end_are_an_error(tmp_path, capsys, monkeypatch):
    """Somebody removes the output folder after the first case."""
    heads(tmp_path / "in", ("p0", "p1", "p2"))
    make_model(tmp_path / "model", ("0",))
    real = write_volume

    def losing(path, *volume):
        if path.name == "p1.nii.gz":
            shutil.rmtree(tmp_path / "out")
        real(path, *volume)

    monkeypatch.setattr("gdmunet.inference.export.write_volume", losing)
    words = ("-i", tmp_path / "in", "-o", tmp_path / "out", "--results", tmp_path / "model", "-device", "cpu")
    assert run(predict, *words, "--no_pbar") == 1
    printed = capsys.readouterr()
    assert "predicted 3 cases" not in printed.out
    assert "1 of 3 files" in printed.err
    assert "missing: p0.nii.gz" in printed.err
