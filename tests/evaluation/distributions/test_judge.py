"""gdm_evaluate --judge: distances that see blur, in an encoder that is named."""

import json

import numpy as np
import pytest
from scipy import ndimage

from gdmunet.cli import evaluate
from gdmunet.evaluation.scores.summary import load_summary
from gdmunet.geometry import Geometry
from gdmunet.imageio import write_volume

GEOMETRY = Geometry((24, 24, 24), (2.0, 1.0, 1.0))


def texture(seed):
    return 100 * ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=GEOMETRY.shape), 0.6)


@pytest.fixture
def folders(tmp_path):
    for seed in range(2):
        real = texture(seed)
        for name, array in (
            ("ref", real),
            ("sharp", real + 0.1 * texture(9)),
            ("blurred", ndimage.gaussian_filter(real, 2)),
        ):
            write_volume(tmp_path / name / f"case_{seed}.nii.gz", array.astype(np.float32), GEOMETRY)
    return tmp_path


def judged(folders, name, *words):
    command = ["-ref", str(folders / "ref"), "-pred", str(folders / name), "--no_pbar", *words]
    return evaluate.main(command)


def test_a_blurred_folder_is_farther_than_a_sharp_one_and_the_encoder_is_named(folders, capsys):
    assert judged(folders, "sharp", "--judge", "tiny") == 0
    assert judged(folders, "blurred", "--judge", "tiny") == 0
    assert "in the features of tiny" in capsys.readouterr().out
    sharp, blurred = (load_summary(folders / name / "summary.json") for name in ("sharp", "blurred"))
    assert blurred.distribution.frechet > 3 * sharp.distribution.frechet
    assert blurred.distribution.mmd > sharp.distribution.mmd
    assert blurred.mean["detail"] < 0.2 < 0.9 < sharp.mean["detail"]


def test_without_a_judge_nothing_is_compared(folders):
    assert judged(folders, "sharp") == 0
    assert json.loads((folders / "sharp" / "summary.json").read_text())["distribution"] is None


def test_auto_is_no_judge(folders, capsys):
    assert judged(folders, "sharp", "--judge", "auto") == 1
    assert "a judge needs a name" in capsys.readouterr().err
