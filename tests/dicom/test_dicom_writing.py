"""What is written comes back unchanged, keeps the patient, says that it is synthetic, and other programs agree."""

import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from dicom_samples import NAME, PATIENT_ID, make_enhanced, make_series, make_stored
from pydicom.datadict import tag_for_keyword
from pydicom.uid import CTImageStorage

from gdmunet.dicom import modules
from gdmunet.dicom.reading import read_series
from gdmunet.dicom.series import choose_series, scan_series
from gdmunet.dicom.writing import SeriesLabel, write_ct_series
from gdmunet.errors import GdmError
from gdmunet.geometry import Geometry, canonical_axes
from gdmunet.imageio import Volume, read_volume, write_volume

SIGNS = [(x, y, z) for x in (1, -1) for y in (1, -1) for z in (1, -1)]
ROTATION = np.linalg.qr(np.array([[1.0, 0.2, -0.1], [0.1, 1.0, 0.3], [0.2, 0.1, 1.0]]))[0]
LABEL = SeriesLabel(model="Heads, GDMTrainer")


def make_volume(matrix=None, shape=(5, 9, 7)):
    array = np.random.default_rng(0).integers(-1024, 3072, shape).astype(np.int16)
    array.flat[:2] = -32768, 32767
    direction = tuple(np.eye(3).ravel() if matrix is None else matrix.ravel())
    return Volume(array, Geometry(shape, (2.5, 0.8, 1.1), (-101.3, 22.25, 1234.5), direction))


def read(folder):
    return read_series(choose_series(scan_series(folder))).volume


def through_nifti(volume, file):
    write_volume(file, volume.array, volume.geometry)
    return read_volume(file)


@pytest.mark.parametrize("signs", SIGNS)
@pytest.mark.parametrize("axes", [np.eye(3), np.eye(3)[[2, 0, 1]], ROTATION], ids=["axial", "turned", "oblique"])
def test_nifti_to_dicom_to_nifti_changes_no_voxel_and_no_geometry(tmp_path, signs, axes):
    """Eight orientations, half of them left-handed, along the axes of the patient, permuted, and oblique."""
    start = make_volume(axes * np.array(signs))
    nifti = through_nifti(start, tmp_path / "a.nii.gz")
    write_ct_series(tmp_path / "dicom", nifti, LABEL)
    back = through_nifti(read(tmp_path / "dicom"), tmp_path / "b.nii.gz")
    assert np.array_equal(back.array, start.array)
    assert back.geometry.difference(nifti.geometry, 1e-5) is None


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_the_series_keeps_patient_study_and_frame_of_reference_and_is_a_new_one(tmp_path, modality):
    make_series(tmp_path / "source", make_stored(), modality=modality)
    source = choose_series(scan_series(tmp_path / "source"))
    volume = read_series(source).volume
    uid = write_ct_series(tmp_path / "out", volume, LABEL, reference=source)
    old = {str(i.SOPInstanceUID): i for i in map(pydicom.dcmread, source.files)}
    new = [pydicom.dcmread(file) for file in sorted((tmp_path / "out").iterdir())]
    first = next(iter(old.values()))
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate",
                    "AccessionNumber", "FrameOfReferenceUID", "BodyPartExamined", "PatientPosition"):  # fmt: skip
        assert all(image[keyword].value == first[keyword].value for image in new), keyword
    assert first.PatientName == NAME
    assert {image.SeriesInstanceUID for image in new} == {uid} != {first.SeriesInstanceUID}
    assert len({image.SOPInstanceUID for image in new} - set(old)) == len(old)
    assert {image.SOPClassUID for image in new} == {CTImageStorage}
    assert list(new[0].ImageType) == ["DERIVED", "SECONDARY", "AXIAL"]
    assert new[0].Modality == "CT"
    assert "Synthetic" in new[0].SeriesDescription
    assert "Synthetic" in new[0].DerivationDescription
    assert new[0].ManufacturerModelName == LABEL.model
    for image in new:  # each slice names the source slice at its own place
        [item] = image.SourceImageSequence
        position = old[item.ReferencedSOPInstanceUID].ImagePositionPatient
        assert np.allclose(position, image.ImagePositionPatient)
    assert new[0].RescaleType == "HU"
    assert (new[0].RescaleSlope, new[0].RescaleIntercept) == (1, 0)


def test_values_of_the_patient_that_break_rules_are_kept(tmp_path, recwarn):
    def change(image, _):
        element = image.data_element("PatientBirthDate")
        element.validation_mode = 0
        element._value = "about 1950"

    make_series(tmp_path / "source", make_stored(), change=change)
    source = choose_series(scan_series(tmp_path / "source"))
    write_ct_series(tmp_path / "out", read_series(source).volume, LABEL, reference=source)
    assert pydicom.dcmread(tmp_path / "out" / "CT_0001.dcm").PatientBirthDate == "about 1950"
    assert not [w for w in recwarn if "1950" in str(w.message)]


def test_a_series_of_a_multi_frame_source_names_its_frames(tmp_path):
    make_enhanced(tmp_path / "source" / "all.dcm", make_stored())
    source = choose_series(scan_series(tmp_path / "source"))
    write_ct_series(tmp_path / "out", read_series(source).volume, LABEL, reference=source)
    image = pydicom.dcmread(tmp_path / "out" / "CT_0001.dcm")
    assert image.SourceImageSequence[0].ReferencedFrameNumber == 6  # the frames run from the last slice to the first
    assert image.PatientID == PATIENT_ID


def test_a_full_folder_is_left_alone(tmp_path):
    volume = make_volume()
    write_ct_series(tmp_path / "out", volume, LABEL)
    smaller = Volume(volume.array[:3], Geometry((3, 9, 7), (1.0, 1.0, 1.0)))
    before = sorted(p.read_bytes() for p in (tmp_path / "out").iterdir())
    with pytest.raises(GdmError, match="not empty"):
        write_ct_series(tmp_path / "out", volume, LABEL)
    assert before == sorted(p.read_bytes() for p in (tmp_path / "out").iterdir())
    write_ct_series(tmp_path / "out", smaller, LABEL, replace=True)
    assert len(list((tmp_path / "out").iterdir())) == 3
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("others", ["series", "file", "folder", "cut short"])
def test_only_what_gdmunet_wrote_is_replaced(tmp_path, others):
    volume, out = make_volume(), tmp_path / "out"
    write_ct_series(out, volume, LABEL)
    if others == "series":
        make_series(out, make_stored())
    elif others == "folder":
        make_series(out / "deep", make_stored())
    else:
        text = b"notes" if others == "file" else (out / "CT_0001.dcm").read_bytes()[:150]
        (out / "CT_0009.dcm").write_bytes(text)
    before = sorted(p.read_bytes() for p in out.rglob("*") if p.is_file())
    with pytest.raises(GdmError, match="not replaced"):
        write_ct_series(out, volume, LABEL, replace=True)
    assert before == sorted(p.read_bytes() for p in out.rglob("*") if p.is_file())


def test_values_beyond_int16_are_refused(tmp_path):
    with pytest.raises(GdmError, match="cannot hold"):
        write_ct_series(tmp_path / "out", Volume(make_volume().array * 10.0, make_volume().geometry), LABEL)
    assert not list(tmp_path.iterdir())


def test_every_element_that_is_kept_exists():
    keywords = (*modules.KEPT_OF_EVERY_SERIES, *modules.KEPT_OF_THE_IMAGE, *modules.REQUIRED_BUT_MAY_BE_EMPTY)
    assert [keyword for keyword in keywords if tag_for_keyword(keyword) is None] == []


needs_dciodvfy = pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dciodvfy (Debian dicom3tools) is not there")
needs_dcm2niix = pytest.mark.skipif(not shutil.which("dcm2niix"), reason="dcm2niix (Debian) is not there")


@needs_dciodvfy
@pytest.mark.parametrize("source", ["CT", "MR", "enhanced", None])
@pytest.mark.parametrize("signs", [(1, 1, 1), (1, -1, 1)], ids=["right-handed", "left-handed"])
def test_dciodvfy_finds_no_errors(tmp_path, source, signs):
    reference = None
    if source == "enhanced":
        make_enhanced(tmp_path / "source" / "all.dcm", make_stored())
    elif source:
        make_series(tmp_path / "source", make_stored(), modality=source)
    if source:
        reference = choose_series(scan_series(tmp_path / "source"))
    write_ct_series(tmp_path / "out", make_volume(ROTATION * signs), LABEL, reference=reference, patient_id="p01")
    for file in sorted((tmp_path / "out").iterdir()):
        done = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True)
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        assert "Error" not in said, said
        assert "CTImage" in said  # it did look at the file as a CT


@needs_dciodvfy
def test_dciodvfy_would_find_an_error(tmp_path):
    write_ct_series(tmp_path / "out", make_volume(), LABEL)
    file = tmp_path / "out" / "CT_0001.dcm"
    image = pydicom.dcmread(file)
    del image.RescaleIntercept
    image.save_as(file)
    done = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True)
    assert "Error" in done.stdout + done.stderr


@needs_dciodvfy
def test_dcentvfy_finds_one_patient_study_and_frame_of_reference_with_the_source(tmp_path):
    make_series(tmp_path / "source", make_stored(), modality="MR")
    source = choose_series(scan_series(tmp_path / "source"))
    write_ct_series(tmp_path / "out", read_series(source).volume, LABEL, reference=source)
    files = [str(file) for name in ("source", "out") for file in (tmp_path / name).iterdir()]
    done = subprocess.run(["dcentvfy", *files], capture_output=True, text=True)
    assert "Error" not in done.stdout + done.stderr, done.stdout + done.stderr


@needs_dcm2niix
@pytest.mark.parametrize("signs", SIGNS)
@pytest.mark.parametrize("axes", [np.eye(3), ROTATION], ids=["axial", "oblique"])
def test_dcm2niix_reads_the_same_geometry_and_values(tmp_path, signs, axes):
    """It turns axes as it likes; brought to one order the arrays and grids are the same."""
    start = make_volume(axes * np.array(signs))
    write_ct_series(tmp_path / "dicom", start, LABEL)
    words = ["dcm2niix", "-z", "y", "-b", "n", "-f", "out", "-o", str(tmp_path), str(tmp_path / "dicom")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    [file] = tmp_path.glob("*.nii.gz")
    found = read_volume(file)
    map_found, map_start = canonical_axes(found.geometry), canonical_axes(start.geometry)
    assert np.array_equal(map_found.apply(found.array), map_start.apply(start.array))
    grids = map_found.apply_to_geometry(found.geometry), map_start.apply_to_geometry(start.geometry)
    assert grids[0].difference(grids[1]) is None
