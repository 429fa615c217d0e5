from dataclasses import replace
from pathlib import Path

from prediction_samples import make_descriptor

from gdmunet.preprocessing.mask_folders import given_masks, scored_masks

RAW, PREPARED = Path("raw/Dataset001_A"), Path("preprocessed/Dataset001_A")


def test_given_masks_are_those_that_cases_are_scored_in():
    descriptor = replace(make_descriptor(), mask=True)
    assert given_masks(RAW, descriptor) == scored_masks(RAW, PREPARED, descriptor) == RAW / "masksTr"


def test_without_masks_the_derived_ones_are_scored_in():
    assert given_masks(RAW, make_descriptor()) is None
    assert scored_masks(RAW, PREPARED, make_descriptor()) == PREPARED / "derived_masks"
