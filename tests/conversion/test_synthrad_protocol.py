"""The commands of the how-to page one after the other: from the archives to the table by region."""

import json
import re

import numpy as np
import pytest
import SimpleITK as sitk
from synthrad_trees import training_2025, validation_2025, write_case

from gdmunet.cli import convert_synthrad2025, evaluate, plan_and_preprocess, predict, train


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Converted, planned, trained for two steps and predicted."""
    root = tmp_path_factory.mktemp("synthrad")
    names = ("1ABA005", "1ABA009", "1ABB010", "1HNA001", "1HNA004", "1HNC003")
    training_2025(root / "download", names=names)
    validation_2025(root / "download", ("1ABA002", "1HNC007"))
    for name in ("1ABA002", "1HNC007"):
        write_case(root / "download" / "synthRAD2025_Task1_Val_Output" / name, ("ct_def",))
    folders = {name: str(root / name) for name in ("raw", "preprocessed", "results")}
    raw, preprocessed, results = ([f"--{name}", folder] for name, folder in folders.items())
    common = ["--no_pbar", "-device", "cpu"]
    assert convert_synthrad2025.main(["-i", str(root / "download"), "-d", "503", "--no_pbar", *raw]) == 0
    planning = ["-d", "503", "-pl", "tiny", "-c", "3d_fullres", "-np", "1", "--verify_dataset_integrity"]
    assert plan_and_preprocess.main([*planning, *common, *raw, *preprocessed]) == 0
    settings = ["--epochs", "1", "--set", "iterations_per_epoch=2", "validation_patches=2", "-np", "0"]
    training = ["503", "3d_fullres", "0", "-p", "gdmPlans_tiny", *settings, *common]
    assert train.main([*training, *raw, *preprocessed, *results]) == 0
    dataset = root / "raw" / "Dataset503_SynthRAD2025Task1"
    words = ["-i", str(dataset / "imagesTs"), "-o", str(root / "predictions"), "-d", "503", "-f", "0"]
    words += ["--mask", str(dataset / "masksTs")]
    assert predict.main([*words, *common, *results]) == 0
    return root


def test_folds_hold_both_regions(work):
    plans = json.loads((work / "preprocessed" / "Dataset503_SynthRAD2025Task1" / "gdmPlans_tiny.json").read_text())
    shares = [sum(name.startswith("1AB") for name in fold["validation"]) for fold in plans["folds"]]
    assert sum(shares) == 3
    assert max(shares) == 1


def test_validation_of_a_fold_is_given_by_region_and_centre(work):
    file = next(work.glob("results/*/*/fold_0/validation/summary.json"))
    summary = json.loads(file.read_text())
    assert set(summary["groups"]) == {"region", "centre"}


def test_the_table_by_region_comes_from_the_documented_command(work, capsys):
    dataset = work / "raw" / "Dataset503_SynthRAD2025Task1"
    folders = [
        "-ref",
        str(dataset / "targetsTs"),
        "-pred",
        str(work / "predictions"),
        "-mask",
        str(dataset / "masksTs"),
    ]
    assert evaluate.main([*folders, "-d", "503", "--synthrad", "--raw", str(work / "raw"), "--no_pbar"]) == 0
    printed = capsys.readouterr().out
    rows = {line.split()[0]: line for line in printed.splitlines() if re.match(r"(AB|HN|all)\b", line)}
    for region, name in (("AB", "1ABA002"), ("HN", "1HNC007")):
        gt, pred, mask = (
            sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{name}.mha"))).astype(np.float64)
            for folder in (dataset / "targetsTs", work / "predictions", dataset / "masksTs")
        )
        mae = np.sum(np.abs(gt * mask - pred * mask)) / mask.sum()
        assert f" {mae:.2f} ± 0.00" in rows[region]
    assert rows["all"].split()[1] == "2"
    summary = json.loads((work / "predictions" / "summary.json").read_text())
    assert set(summary["groups"]["centre"]) == {"A", "C"}
    assert json.loads((dataset / "dataset.json").read_text())["info"]["deformed_ct"] == ["1ABA002", "1HNC007"]
