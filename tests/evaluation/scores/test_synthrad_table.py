"""The challenge's table: by region and over all, from numbers that the test computes by itself."""

import re

import numpy as np
import pytest

from gdmunet.cli import evaluate as command
from gdmunet.errors import GdmError
from gdmunet.evaluation.scores.summary import EvaluationSpec, summarize
from gdmunet.evaluation.scores.synthrad import STRUCTURES, challenge_structures, challenge_table, challenge_year
from gdmunet.geometry import Geometry
from gdmunet.imageio import write_volume
from gdmunet.metrics import HU_2025, ImageScores

SETTINGS = EvaluationSpec("2025", HU_2025, True, "given", "ref", "pred", "masks")
SHAPE = (8, 26, 30)
GRID = Geometry(SHAPE, (3.0, 1.0, 1.0))
NAMES = ("1ABA005", "1ABB010", "1HNA001")


@pytest.fixture
def root(tmp_path):
    random = np.random.default_rng(0)
    mask = np.zeros(SHAPE, bool)
    mask[:, 5:22, 5:25] = True
    for k, name in enumerate(NAMES):
        ct = random.integers(-1024, 2000, SHAPE).astype(np.int16)
        noise = random.normal(10, 40 * (k + 1), SHAPE).astype(np.int16)
        write_volume(tmp_path / "ct" / f"{name}.mha", ct, GRID)
        write_volume(tmp_path / "sct" / f"{name}.mha", ct + noise, GRID)
        write_volume(tmp_path / "mask" / f"{name}.mha", mask, GRID)
        labels = np.where(ct > 1500, 5, np.where(ct < -500, 91, 1)).astype(np.uint8)
        write_volume(tmp_path / "seg" / f"{name}.mha", labels, GRID)
    return tmp_path


def run(root, *words, labels=True):
    folders = ["-ref", str(root / "ct"), "-pred", str(root / "sct"), "-mask", str(root / "mask")]
    folders += ["--labels_ref", str(root / "seg"), "--labels_pred", str(root / "seg")] if labels else []
    return command.main([*folders, "--synthrad", "--no_pbar", *words])


def read_rows(text):
    """Region to its cells, and the heads of the columns."""
    lines = text.splitlines()
    start = next(k for k, line in enumerate(lines) if line.startswith("region"))
    rows = [
        re.split(r"\s{2,}", line) for line in lines[start:] if re.match(r"(region|AB|HN|TH|brain|pelvis|all)\b", line)
    ]
    return {row[0]: row[1:] for row in rows}


def expected_scores(root):
    """MAE and PSNR by the challenge's formulas, on the files themselves."""
    import SimpleITK as sitk

    scores = {}
    for name in NAMES:
        gt, pred, mask = (
            sitk.GetArrayFromImage(sitk.ReadImage(str(root / folder / f"{name}.mha"))).astype(np.float64)
            for folder in ("ct", "sct", "mask")
        )
        mae = np.sum(np.abs(gt * mask - pred * mask)) / mask.sum()
        gt, pred = (np.clip(image, -1024, 3071)[mask == 1] for image in (gt, pred))
        scores[name] = mae, 10 * np.log10(4095**2 / np.mean((gt - pred) ** 2))
    return scores


def test_the_table_gives_mean_and_deviation_by_region_and_over_all(root, capsys):
    assert run(root) == 0
    printed = capsys.readouterr().out
    rows = read_rows(printed)
    assert rows["region"] == ["cases", "MAE (HU)", "PSNR (dB)", "MS-SSIM", "Dice", "HD95 (mm)"]
    scores = expected_scores(root)
    for region, names in (("AB", NAMES[:2]), ("HN", NAMES[2:]), ("all", NAMES)):
        values = np.array([scores[name] for name in names])
        mean, std = values.mean(axis=0), values.std(axis=0)
        assert rows[region][0] == str(len(names))
        assert rows[region][1] == f"{mean[0]:.2f} ± {std[0]:.2f}"
        assert rows[region][2] == f"{mean[1]:.2f} ± {std[1]:.2f}"
        assert rows[region][4:] == ["1.0000 ± 0.0000", "0.00 ± 0.00"]
        assert re.fullmatch(r"0\.\d{4} ± 0\.\d{4}", rows[region][3])
    assert "4095" in printed
    assert "dose metrics" in printed


def test_without_label_maps_the_table_says_what_is_missing(root, capsys):
    assert run(root, labels=False) == 0
    printed = capsys.readouterr().out
    assert read_rows(printed)["region"] == ["cases", "MAE (HU)", "PSNR (dB)", "MS-SSIM"]
    assert "Dice and HD95 need label maps" in printed


def test_brain_and_pelvis_are_scored_as_in_2023(root, capsys):
    for folder in ("ct", "sct", "mask"):
        for old, new in zip(NAMES, ("1BA001", "1BC004", "1PA001"), strict=True):
            (root / folder / f"{old}.mha").rename(root / folder / f"{new}.mha")
    assert run(root, labels=False) == 0
    printed = capsys.readouterr().out
    rows = read_rows(printed)
    assert rows["region"] == ["cases", "MAE (HU)", "PSNR (dB)", "SSIM"]
    assert set(rows) == {"region", "brain", "pelvis", "all"}
    assert "4024" in printed
    assert "label maps" not in printed


def test_a_table_of_groups_replaces_the_identifiers_regions(root, tmp_path, capsys):
    file = tmp_path / "groups.csv"
    file.write_text("case,patient,region\n1ABA005,p1,TH\n1ABB010,p2,TH\n1HNA001,p3,HN\n")
    assert run(root, "--groups", str(file), labels=False) == 0
    assert set(read_rows(capsys.readouterr().out)) == {"region", "TH", "HN", "all"}


@pytest.mark.parametrize("words", [["--data_range", "0", "1"], ["--fov", "anything"]])
def test_settings_that_are_not_the_challenges_are_refused(root, words, capsys):
    assert run(root, *words) == 1
    assert "not the challenge's" in capsys.readouterr().err


def test_the_challenge_needs_masks_and_regions(root, capsys):
    folders = ["-ref", str(root / "ct"), "-pred", str(root / "sct")]
    assert command.main([*folders, "--synthrad", "--no_pbar"]) == 1
    assert "no mask" in capsys.readouterr().err
    for folder in ("ct", "sct", "mask"):
        (root / folder / "1ABA005.mha").rename(root / folder / "patient.mha")
    assert run(root, labels=False) == 1
    text = capsys.readouterr().err
    assert "1 of 3 cases have no region" in text
    assert "case: patient" in text
    assert "remedy" in text


def test_a_case_without_scores_is_said_and_in_no_mean(root, capsys):
    (root / "sct" / "1ABA005.mha").unlink()
    assert run(root, "--allow_missing", labels=False) == 0
    printed = capsys.readouterr().out
    assert "1 of 3 cases have no scores" in printed
    assert "1ABA005: no prediction" in printed
    assert read_rows(printed)["AB"][0] == "1"


def test_a_score_that_some_cases_lack_says_how_many_it_is_of():
    results = {
        "a": ImageScores({"mae": 1.0, "psnr": None}, {"psnr": "infinite"}),
        "b": ImageScores({"mae": 3.0, "psnr": 30.0}),
    }
    table = challenge_table(summarize(results, SETTINGS, {name: {"region": "AB"} for name in results}))
    assert "30.00 ± 0.00 (of 1)" in table
    assert "note: a: PSNR infinite" in table


def test_structures_are_those_of_the_regions():
    groups = {"x": {"region": "HN"}, "y": {"region": "AB"}, "z": {"region": "brain"}}
    assert challenge_structures(groups) == {"x": STRUCTURES["HN"], "y": STRUCTURES["AB"]}
    # Counted in the evaluator's lists: 2+1+1 organs, 5 lung lobes, 25 vertebrae, heart, cord, 24 ribs, sternum.
    assert len(STRUCTURES["AB"]) == len(STRUCTURES["TH"]) == 4 + 5 + 25 + 1 + 1 + 24 + 1
    assert len(STRUCTURES["HN"]) == 3 + 25 + 3
    assert challenge_year({"z": {"region": "brain"}}) == "2023"
    assert challenge_year(groups) == challenge_year({}) == "2025"
    with pytest.raises(GdmError, match=r"no region(.|\n)*case: w"):
        challenge_structures({"w": {}})
