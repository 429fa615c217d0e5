"""gdm_evaluate --judge: distances that see blur, in an encoder that is named."""

import json

import numpy as np
import pytest
from scipy import ndimage

from gdmunet.cli import evaluate
from gdmunet.evaluation.distributions.distances import frechet_distance, frechet_over_draws
from gdmunet.evaluation.distributions.judgement import Judgement
from gdmunet.evaluation.scores.summary import load_summary
from gdmunet.geometry import Geometry
from gdmunet.imageio import write_volume

GEOMETRY = Geometry((24, 24, 24), (2.0, 1.0, 1.0))


def texture(seed):
    return 100 * ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=GEOMETRY.shape), 0.6)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("judge")
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


def test_a_blurred_folder_is_farther_than_a_sharp_one_and_the_encoders_are_named(folders, capsys):
    assert judged(folders, "sharp", "--judge", "tiny", "mini") == 0
    assert judged(folders, "blurred", "--judge", "tiny", "mini") == 0
    printed = capsys.readouterr().out
    assert "in the features of tiny" in printed
    assert "in the features of mini" in printed
    sharp, blurred = (load_summary(folders / name / "summary.json") for name in ("sharp", "blurred"))
    assert [one.encoder for one in blurred.distributions] == ["tiny", "mini"]
    for near, far in zip(sharp.distributions, blurred.distributions, strict=True):
        assert far.frechet > 3 * near.frechet
        assert far.mmd > near.mmd
        low, high = far.frechet_interval
        assert far.resampled is not None
        assert far.resampled.cases == near.resampled.cases
        assert far.resampled.resampling.interval(np.array(far.resampled.frechet)) == (low, high)
        assert near.frechet_interval[1] < low <= high
    assert blurred.mean["detail"] < 0.2 < 0.9 < sharp.mean["detail"]
    assert sharp.mean["c2st"] < 0.75 < 0.9 < blurred.mean["c2st"]
    assert blurred.mean["nps_high"] < -10 < -1 < sharp.mean["nps_high"]


def test_without_a_judge_nothing_is_compared(folders):
    assert judged(folders, "sharp") == 0
    written = json.loads((folders / "sharp" / "summary.json").read_text())
    assert written["distributions"] == []
    assert "c2st" not in written["mean"]


def test_a_summary_of_the_first_version_is_read(folders, tmp_path):
    assert judged(folders, "sharp") == 0
    content = json.loads((folders / "sharp" / "summary.json").read_text())
    del content["version"], content["distributions"]
    judgement = {"encoder": "tiny", "sha256": "ab", "frechet": 0.25, "mmd": 0.01, "levels": {}}
    file = tmp_path / "summary.json"
    file.write_text(json.dumps(content | {"distribution": judgement}))
    assert load_summary(file).distributions == (Judgement("tiny", "ab", 0.25, 0.01),)
    file.write_text(json.dumps(content | {"distribution": None}))
    assert load_summary(file).distributions == ()


def test_weights_of_a_file_belong_to_one_encoder(folders, capsys):
    assert judged(folders, "sharp", "--judge", "tiny", "mini", "--judge_path", "weights.pt") == 1
    assert "belongs to one encoder" in capsys.readouterr().err


def test_resampled_distances_are_those_of_the_resampled_features():
    features = [{"a": np.random.default_rng(s).normal(size=(60, 3))} for s in range(6)]
    pairs = list(zip(features[:3], features[3:], strict=True))
    draws = np.array([[0, 1, 2], [2, 2, 0]])
    expected = [
        frechet_distance(*(np.concatenate([pairs[k][side]["a"] for k in draw]) for side in (0, 1))) for draw in draws
    ]
    assert frechet_over_draws(pairs, ("a",), draws) == pytest.approx(expected)


def test_auto_is_no_judge(folders, capsys):
    assert judged(folders, "sharp", "--judge", "auto") == 1
    assert "a judge needs a name" in capsys.readouterr().err
