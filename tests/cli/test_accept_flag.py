"""Doubts about volumes as a user meets them: what the commands say, what they end with, and how `--accept` insists."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from prediction_samples import SPACING, body_of, make_head, make_model

from gdmunet.cli import evaluate, extract_fingerprint, predict
from gdmunet.dataset import DatasetDescriptor
from gdmunet.dataset_names import DESCRIPTOR_FILE
from gdmunet.evaluation.scores.summary import load_summary
from gdmunet.geometry import Geometry
from gdmunet.imageio import write_volume
from gdmunet.serialization import save_json

GRID = Geometry((20, 22, 24), SPACING)


@pytest.fixture
def ct_model(tmp_path: Path) -> Path:
    """A model of CT to CT with random weights."""
    return make_model(tmp_path / "results", folds=("0",))


def two_places(file: Path) -> Path:
    """Moves the sform of a file by 30 mm along x; its code is not the qform's."""
    data = bytearray(gzip.decompress(file.read_bytes()))
    (moved,) = struct.unpack_from("<f", data, 280 + 12)
    struct.pack_into("<f", data, 280 + 12, moved + 30)
    struct.pack_into("<h", data, 254, 4)
    file.write_bytes(gzip.compress(bytes(data)))
    return file


def places(file: Path) -> bytes:
    return gzip.decompress(file.read_bytes())[252:328]


def run_predict(model: Path, tmp_path: Path, *words: str) -> int:
    line = ["-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "-m", str(model), "-f", "0"]
    return predict.main([*line, "-device", "cpu", "--no_pbar", *words])


def test_gdm_predict_refuses_a_ct_that_is_not_in_hounsfield_units_unless_the_user_insists(ct_model, tmp_path, capsys):
    write_volume(tmp_path / "in/a.nii.gz", make_head() + 1024, GRID)
    assert run_predict(ct_model, tmp_path) == 1
    error = capsys.readouterr().err
    assert "is not in Hounsfield units" in error
    assert "in/a.nii.gz" in error
    assert "add --accept hounsfield" in error
    write_volume(tmp_path / "masks/a.nii.gz", body_of(make_head()), GRID)
    assert run_predict(ct_model, tmp_path, "--accept", "hounsfield", "--mask", str(tmp_path / "masks")) == 0
    assert "accepted hounsfield: 1 finding (a)" in capsys.readouterr().out
    assert (tmp_path / "out/a.nii.gz").is_file()


def test_gdm_predict_refuses_two_places_and_writes_both_back_if_the_user_insists(ct_model, tmp_path, capsys):
    write_volume(tmp_path / "in/a.nii.gz", make_head(), GRID)
    two_places(tmp_path / "in/a.nii.gz")
    assert run_predict(ct_model, tmp_path) == 1
    error = capsys.readouterr().err
    assert "the two places of the NIfTI header disagree" in error
    assert "30.0 mm apart at a corner" in error
    assert "add --accept forms" in error
    assert run_predict(ct_model, tmp_path, "--accept", "forms") == 0
    assert "accepted forms: 1 finding (a)" in capsys.readouterr().out
    assert places(tmp_path / "out/a.nii.gz") == places(tmp_path / "in/a.nii.gz")


def test_an_unknown_name_is_a_wrong_command_line(ct_model, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        run_predict(ct_model, tmp_path, "--accept", "everything")
    assert ended.value.code == 2
    assert "mask_place" in capsys.readouterr().err


def test_the_fingerprint_refuses_two_places_unless_the_user_insists(tmp_path, capsys):
    raw = tmp_path / "raw/Dataset031_Forms"
    for seed, name in enumerate(("a", "b")):
        write_volume(raw / f"imagesTr/{name}_0000.nii.gz", make_head(seed=seed), GRID)
        write_volume(raw / f"targetsTr/{name}.nii.gz", make_head(seed=seed) * 0.9 - 100, GRID)
    two_places(raw / "targetsTr/b.nii.gz")
    save_json(DatasetDescriptor({"0": "CT"}, "CT", ".nii.gz", 2), raw / DESCRIPTOR_FILE)
    words = ["-d", "31", "-np", "1", "--no_pbar", "--raw", str(tmp_path / "raw")]
    words += ["--preprocessed", str(tmp_path / "preprocessed")]
    for more in ([], ["--verify_dataset_integrity"]):
        assert extract_fingerprint.main([*words, *more]) == 1
        assert "add --accept forms" in capsys.readouterr().err
    assert extract_fingerprint.main([*words, "--verify_dataset_integrity", "--accept", "forms"]) == 0
    assert "accepted forms: 1 finding (b)" in capsys.readouterr().out


CHANGES = {
    "in 0..1": (lambda a: (a + 1024) / 4095, "another scale"),
    "off by 1024": (lambda a: a + 1024, "off by about +1024"),
    "one value": (lambda a: np.full_like(a, -1024), "the prediction failed"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_gdm_evaluate_notes_a_prediction_in_another_unit_and_scores_it(tmp_path, capsys, kind):
    change, words = CHANGES[kind]
    for seed, name in enumerate(("a", "b")):
        head = make_head(seed=seed)
        write_volume(tmp_path / f"ref/{name}.nii.gz", head, GRID)
        write_volume(tmp_path / f"masks/{name}.nii.gz", body_of(head), GRID)
        write_volume(tmp_path / f"pred/{name}.nii.gz", (change(head) if name == "b" else head + 1), GRID)
    line = ["-ref", str(tmp_path / "ref"), "-pred", str(tmp_path / "pred"), "-mask", str(tmp_path / "masks")]
    line += ["-np", "1", "--no_pbar"]
    assert evaluate.main(line) == 0
    said = capsys.readouterr().out
    summary = load_summary(tmp_path / "pred/summary.json")
    (warning,) = summary.warnings
    assert warning.startswith("WARNING b, pred/b.nii.gz:")
    assert words in warning
    assert warning in said
    # Scored badly, and in the mean.
    assert summary.cases["b"]["mae"] > 50
    assert summary.mean["mae"] == pytest.approx((summary.cases["a"]["mae"] + summary.cases["b"]["mae"]) / 2)
    assert all(summary.count[name] == 2 for name in ("mae", "psnr", "ssim"))
    assert evaluate.main([*line, "--accept", "prediction"]) == 0
    assert "accepted prediction: 1 finding (b)" in capsys.readouterr().out
    assert "WARNING" not in "".join(load_summary(tmp_path / "pred/summary.json").warnings)


def test_gdm_evaluate_warns_of_two_places_and_scores(tmp_path, capsys):
    for folder in ("ref", "pred"):
        write_volume(tmp_path / f"{folder}/a.nii.gz", make_head(), GRID)
    two_places(tmp_path / "pred/a.nii.gz")
    line = ["-ref", str(tmp_path / "ref"), "-pred", str(tmp_path / "pred"), "-np", "1", "--no_pbar"]
    assert evaluate.main(line) == 0
    assert "WARNING a, pred/a.nii.gz: the two places of the NIfTI header disagree" in capsys.readouterr().out
    assert sitk.ReadImage(str(tmp_path / "pred/a.nii.gz")).GetOrigin() == pytest.approx((0, 0, 0))
