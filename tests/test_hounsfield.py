"""A modality is normalised where dataset.json is read: every later place sees one spelling."""

import json
from pathlib import Path

import pydicom
import pytest
import SimpleITK as sitk
from prediction_samples import SPACING, make_descriptor, make_head, make_model

from gdmunet.cli import predict
from gdmunet.dataset import DatasetDescriptor, load_descriptor
from gdmunet.dicom.writing import SeriesLabel, write_ct_series
from gdmunet.encoders.base import VolumeUnits
from gdmunet.encoders.registry import ranked_families
from gdmunet.evaluation.scores.range_choice import choose_range
from gdmunet.geometry import Geometry
from gdmunet.hounsfield import HU_AIR, HU_RANGE, canonical_modality, is_hounsfield
from gdmunet.imageio import Volume
from gdmunet.plans import STANDARD_HU, load_plans
from gdmunet.preprocessing.case_fingerprint import CaseFingerprint, IntensityStatistics
from gdmunet.preprocessing.fingerprint import Fingerprint
from gdmunet.preprocessing.intensity_rules import plan_intensities

SPELLINGS = ("CT", "ct", " CT ", "Ct")
STATISTICS = IntensityStatistics(0.0, 300.0, 20.0, -900.0, 1500.0, -1000.0, 2000.0)
INTENSITIES = {"0": STATISTICS, "target": STATISTICS}
FINGERPRINT = Fingerprint({"a": CaseFingerprint((8, 8, 8), (1.0, 1.0, 1.0), 0.5, INTENSITIES)}, INTENSITIES)


def read_descriptor(folder: Path, target: str, channel: str = "T1") -> DatasetDescriptor:
    content = {"channel_names": {"0": channel}, "target_name": target, "file_ending": ".nii.gz", "numTraining": 4}
    (folder / "dataset.json").write_text(json.dumps(content))
    return load_descriptor(folder)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_of_a_target_is_planned_and_scored_alike(tmp_path, spelling):
    descriptor = read_descriptor(tmp_path, spelling, channel=" cbct")
    assert (descriptor.target_name, descriptor.channels) == ("CT", ("CBCT",))
    assert descriptor.hounsfield
    assert descriptor.in_unit_of_target(0)
    plan = plan_intensities(FINGERPRINT, descriptor)
    assert (plan.target.clip, plan.background, plan.residual_channel) == (HU_RANGE, HU_AIR, 0)
    assert choose_range(descriptor) == choose_range(DatasetDescriptor({"0": "CBCT"}, "CT", ".nii.gz", 4))
    assert choose_range(descriptor).name == "2025"


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_in_plans_is_exported_alike(tmp_path, spelling):
    """Plans written before spellings were normalised hold the user's own."""
    model = make_model(tmp_path / "results", folds=("0",), descriptor=make_descriptor())
    plans = model / "plans.json"
    plans.write_text(plans.read_text().replace('"target_name": "CT"', f'"target_name": "{spelling}"'))
    assert load_plans(plans).dataset.hounsfield
    head = make_head()
    grid = Geometry(head.shape, SPACING)
    write_ct_series(tmp_path / "in" / "p1", Volume(head, grid), SeriesLabel("Head"), patient_id="p1")
    places = {"-i": tmp_path / "in" / "p1", "-o": tmp_path / "out", "-m": model, "--dicom-out": tmp_path / "dicom"}
    assert predict.main([*(str(part) for pair in places.items() for part in pair), "-device", "cpu", "--no_pbar"]) == 0
    assert sitk.ReadImage(str(tmp_path / "out" / "p1.nii.gz")).GetPixelID() == sitk.sitkInt16
    image = pydicom.dcmread(next((tmp_path / "dicom").rglob("*.dcm")))
    assert (image.Modality, image.SeriesDescription) == ("CT", "Synthetic CT from Head")


def test_other_words_stay_as_the_user_wrote_them(tmp_path):
    descriptor = read_descriptor(tmp_path, " Flair")
    assert (descriptor.target_name, descriptor.hounsfield) == ("Flair", False)
    assert canonical_modality("cbct ") == "CBCT"
    assert not is_hounsfield("MR")
    assert read_descriptor(tmp_path, "t1", channel="T1").in_unit_of_target(0)
    assert not read_descriptor(tmp_path, "T2", channel="T1").in_unit_of_target(0)
    assert choose_range(descriptor).name == "reference"


def test_encoders_are_chosen_alike_for_every_spelling():
    for spelling in SPELLINGS:
        assert ranked_families(spelling, 3) == ranked_families("CT", 3) != ranked_families("MR", 3)
        assert VolumeUnits(STANDARD_HU, HU_AIR, spelling).hounsfield
