"""The fingerprint: numbers of the body alone, one error for all problems, and no work done twice."""

import gzip
import json
import os

import numpy as np
import pytest
import SimpleITK as sitk

from gdmunet.errors import GdmError
from gdmunet.plans import FINGERPRINT_FILE
from gdmunet.preprocessing import fingerprint as module
from gdmunet.preprocessing.fingerprint import Fingerprint, extract_fingerprint
from gdmunet.serialization import load_json


def volumes(folder, name, index):
    read = lambda path: sitk.GetArrayFromImage(sitk.ReadImage(str(path)))  # noqa: E731
    return read(folder / f"{name}/case_{index}{'_0000' if 'images' in name else ''}.nii.gz")


def test_statistics_are_those_of_the_body_in_raw_units(raw_dataset, tmp_path):
    folder = raw_dataset()
    found = extract_fingerprint(folder, tmp_path / "preprocessed", 1, False)
    assert sorted(found.cases) == ["case_0", "case_1", "case_2"]
    assert set(found.intensities) == {"0", "target"}
    for index in range(3):
        case = found.cases[f"case_{index}"]
        mask = volumes(folder, "masksTr", index) > 0
        body = volumes(folder, "imagesTr", index)[mask]
        inside = np.argwhere(mask)
        assert case.shape == tuple(inside.max(0) - inside.min(0) + 1)
        assert case.spacing == (4.0, 4.0, 4.0)
        assert case.body_share == pytest.approx(mask.sum() / np.prod(case.shape))
        statistics = case.intensities["0"]
        assert statistics.mean == pytest.approx(body.mean(), rel=1e-5)
        assert statistics.std == pytest.approx(body.std(), rel=1e-5)
        assert statistics.median == np.median(body)
        assert (statistics.minimum, statistics.maximum) == (body.min(), body.max())
        assert statistics.percentile_99_5 == pytest.approx(np.percentile(body, 99.5), abs=0.01)


def test_pooled_statistics_know_the_extremes_and_no_air(raw_dataset, tmp_path):
    folder = raw_dataset()
    pooled = extract_fingerprint(folder, tmp_path / "preprocessed", 1, False).intensities["target"]
    bodies = np.concatenate([volumes(folder, "targetsTr", i)[volumes(folder, "masksTr", i) > 0] for i in range(3)])
    assert (pooled.minimum, pooled.maximum) == (bodies.min(), bodies.max())
    assert pooled.mean == pytest.approx(bodies.mean(), abs=1)
    assert pooled.std == pytest.approx(bodies.std(), abs=1)
    assert pooled.minimum > -500


def test_a_second_run_reads_the_saved_file(raw_dataset, tmp_path, monkeypatch):
    folder = raw_dataset()
    first = extract_fingerprint(folder, tmp_path / "preprocessed", 1, False)
    assert load_json(Fingerprint, tmp_path / "preprocessed" / FINGERPRINT_FILE) == first
    monkeypatch.setattr(module, "measure_case", None)  # measuring again would fail
    assert extract_fingerprint(folder, tmp_path / "preprocessed", 1, False) == first


def test_a_changed_file_is_measured_again(raw_dataset, tmp_path):
    folder = raw_dataset()
    first = extract_fingerprint(folder, tmp_path / "preprocessed", 1, False)
    path = folder / "targetsTr/case_1.nii.gz"
    image = sitk.ReadImage(str(path)) + 100
    sitk.WriteImage(image, str(path))
    os.utime(path, ns=(1, 1))
    second = extract_fingerprint(folder, tmp_path / "preprocessed", 1, False)
    shift = second.cases["case_1"].intensities["target"].median - first.cases["case_1"].intensities["target"].median
    assert shift == 100
    assert second.cases["case_0"] == first.cases["case_0"]


def test_the_number_of_processes_changes_nothing(raw_dataset, tmp_path):
    folder = raw_dataset()
    alone = extract_fingerprint(folder, tmp_path / "one", 1, False)
    together = extract_fingerprint(folder, tmp_path / "two", 2, False)
    assert alone == together


def test_derived_masks_are_written_on_the_grid_of_the_files(raw_dataset, tmp_path):
    folder = raw_dataset(mask=False)
    extract_fingerprint(folder, tmp_path / "preprocessed", 1, False)
    image = sitk.ReadImage(str(tmp_path / "preprocessed/derived_masks/case_0.nii.gz"))
    source = sitk.ReadImage(str(folder / "imagesTr/case_0_0000.nii.gz"))
    assert image.GetOrigin() == source.GetOrigin()
    mask = sitk.GetArrayFromImage(image) > 0
    true = sitk.GetArrayFromImage(source) > -500
    assert 2 * (mask & true).sum() / (mask.sum() + true.sum()) > 0.9


def test_verifying_reports_every_problem_at_once(raw_dataset, tmp_path):
    folder = raw_dataset(tests=1)
    image = sitk.ReadImage(str(folder / "imagesTr/case_0_0000.nii.gz"), sitk.sitkFloat32)
    image[0, 0, 0] = float("nan")
    sitk.WriteImage(image, str(folder / "imagesTr/case_0_0000.nii.gz"))
    target = folder / "targetsTr/case_1.nii.gz"
    target.write_bytes(target.read_bytes()[:-300])
    test_image = folder / "imagesTs/case_0_0000.nii.gz"
    test_image.write_bytes(gzip.compress(b"no volume at all"))
    with pytest.raises(GdmError, match="3 problem") as caught:
        extract_fingerprint(folder, tmp_path / "preprocessed", 1, False, verify=True)
    for path in ("imagesTr/case_0_0000.nii.gz", "targetsTr/case_1.nii.gz", "imagesTs/case_0_0000.nii.gz"):
        assert path in str(caught.value)
    assert not (tmp_path / "preprocessed" / FINGERPRINT_FILE).exists()


def test_verifying_a_sound_data_set_goes_on_to_measure_it(raw_dataset, tmp_path):
    found = extract_fingerprint(raw_dataset(tests=1), tmp_path / "preprocessed", 1, False, verify=True)
    assert len(found.cases) == 3


def test_verifying_finds_missing_files_and_broken_files_together(raw_dataset, tmp_path):
    folder = raw_dataset(tests=1)
    (folder / "targetsTr/case_2.nii.gz").unlink()
    (folder / "imagesTs/case_0_0000.nii.gz").write_bytes(b"")
    with pytest.raises(GdmError, match="2 problem") as caught:
        extract_fingerprint(folder, tmp_path / "preprocessed", 1, False, verify=True)
    assert "image without target" in str(caught.value)


def test_without_verifying_the_first_broken_file_names_case_and_file(raw_dataset, tmp_path):
    folder = raw_dataset()
    (folder / "imagesTr/case_1_0000.nii.gz").write_bytes(b"not gzip")
    with pytest.raises(GdmError) as caught:
        extract_fingerprint(folder, tmp_path / "preprocessed", 1, False)
    assert "case_1" in str(caught.value)
    assert "imagesTr/case_1_0000.nii.gz" in str(caught.value)


def test_a_saved_file_of_another_version_is_made_anew(raw_dataset, tmp_path):
    folder = raw_dataset()
    extract_fingerprint(folder, tmp_path / "preprocessed", 1, False)
    file = tmp_path / "preprocessed" / FINGERPRINT_FILE
    content = json.loads(file.read_text())
    content["unknown"] = 1
    file.write_text(json.dumps(content))
    extract_fingerprint(folder, tmp_path / "preprocessed", 1, False)
    assert "unknown" not in json.loads(file.read_text())
