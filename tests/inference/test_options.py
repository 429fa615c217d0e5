import pytest

from gdmunet.errors import GdmError
from gdmunet.inference.options import PredictionOptions, PredictorOptions


def test_the_parts_together_are_the_cases_and_none_is_in_two():
    cases = list("abcdefgh")
    parts = [PredictionOptions(num_parts=3, part_id=k).part_of(cases) for k in range(3)]
    assert sorted(case for part in parts for case in part) == cases
    assert parts[1] == ["b", "e", "h"]


@pytest.mark.parametrize("part", [-1, 3])
def test_a_part_that_does_not_exist_is_refused(part):
    with pytest.raises(GdmError, match=f"part {part} of 3"):
        PredictionOptions(num_parts=3, part_id=part)


@pytest.mark.parametrize("wrong", [{"num_parts": 0}, {"export_workers": -1}, {"preprocess_workers": -1}])
def test_a_run_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(GdmError):
        PredictionOptions(**wrong)


@pytest.mark.parametrize("wrong", [{"step_size": 0.0}, {"step_size": 1.5}, {"samples": 0}, {"batch_size": 0}])
def test_a_model_is_not_run_in_a_way_that_makes_no_sense(wrong):
    with pytest.raises(GdmError):
        PredictorOptions(**wrong)
