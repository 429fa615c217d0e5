"""A case outside the training cases is said; one like them is not."""

import numpy as np
import pytest
from plausible_samples import body, ct, mr

from gdmunet.geometry import Geometry
from gdmunet.imageio import CaseVolumes
from gdmunet.plausibility.cases import TARGET, CaseMeasures, Expectation, check_case
from gdmunet.plausibility.numbers import numbers_of, values_of
from gdmunet.plausibility.range_spec import RangeSpec
from gdmunet.plausibility.ranges import ranges_over

SPACING = (5.0, 5.0, 5.0)


def case(image: np.ndarray, spacing=SPACING, mask: np.ndarray | None = None) -> CaseVolumes:
    inside = body(image.shape) if mask is None else mask
    return CaseVolumes("p", image[None], None, inside, Geometry(image.shape, spacing))


def measured(volumes: CaseVolumes, word: str) -> CaseMeasures:
    return check_case(volumes, Expectation((word,), "CT")).measures


def spec(word: str, images: list[np.ndarray]) -> RangeSpec:
    measures = [measured(case(image), word) for image in images]
    channel = ranges_over(values_of(numbers_of(word), one.volumes["0"]) for one in measures)
    return RangeSpec(len(images), ranges_over(one.case for one in measures), (channel,), {})


def outside(volumes: CaseVolumes, word: str, ranges: RangeSpec) -> list[str]:
    found = check_case(volumes, Expectation((word,), "CT", ranges)).findings
    assert not [finding for finding in found if finding.check == "ranges" and finding.wrong]
    return [finding.found for finding in found if finding.check == "ranges"]


MRS = spec("MR", [mr(seed) for seed in range(3)])
CTS = spec("CT", [ct(seed) for seed in range(3)])


@pytest.mark.parametrize(
    ("volumes", "word", "what"),
    [
        (case(mr(9).max() - mr(9)), "MR", "brightness of the border"),
        (case(mr(9) - 500), "MR", "negative values"),
        (case(mr(9), (50.0, 50.0, 50.0)), "MR", "voxel size along z"),
        (case(mr(9), (0.5, 0.5, 0.5)), "MR", "volume of the body"),
        (case(mr(9, (26, 28, 8)), (5.0, 5.0, 5.0)), "MR", "extent along x"),
        (case(mr(9), mask=np.ones(mr().shape, dtype=bool)), "MR", "share of the body"),
        (case(ct(9) + 250), "CT", "median of the tissue"),
        (case(np.where(ct(9) < -900, -80, ct(9))), "CT", "share of values below -900"),
    ],
)
def test_a_number_outside_is_named_with_its_range(volumes, word, what):
    found = outside(volumes, word, MRS if word == "MR" else CTS)
    assert any(what in text for text in found)


@pytest.mark.parametrize("word", ["MR", "CT"])
def test_a_case_like_the_training_cases_is_not_doubted(word):
    image = (mr if word == "MR" else ct)(9)
    assert outside(case(image), word, MRS if word == "MR" else CTS) == []


@pytest.mark.parametrize("factor", [0.01, 0.3, 4.0, 100.0])
def test_the_scale_of_an_mr_is_fitted_to_each_case_and_does_not_count(factor):
    assert outside(case(mr(9) * np.float32(factor)), "MR", MRS) == []


def test_a_target_is_measured_and_is_not_looked_at_in_prediction():
    image = ct(3)
    volumes = CaseVolumes("p", mr(3)[None], image, body(), Geometry(image.shape, SPACING))
    measures = check_case(volumes, Expectation(("MR",), "CT")).measures
    assert set(measures.volumes) == {"0", TARGET}
