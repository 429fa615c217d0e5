"""A structure set of the source, copied onto the synthetic CT: the same regions on the same planes, new references."""

import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from dicom_samples import make_series, make_stored, make_structures
from skimage.draw import polygon2mask

from gdmunet.dicom.reading import read_series
from gdmunet.dicom.series import choose_series, scan_series
from gdmunet.dicom.structures import has_structure_sets, structure_sets_of
from gdmunet.dicom.writing import SeriesLabel, write_ct_series
from gdmunet.errors import GdmError

TILTED = (0.8, 0.6, 0.0, -0.6, 0.8, 0.0)
NAMES = ("Prostata rechts \u00e4", "Couch")


def headers(folder, modality):
    found = [pydicom.dcmread(file) for file in sorted(folder.rglob("*")) if file.is_file()]
    return [one for one in found if one.Modality == modality]


def circle(image, radius):
    """Points (n, 3) in mm of a polygon about the middle of a slice."""
    angles = np.linspace(0, 2 * np.pi, 17)[:-1]
    inside = np.stack([6 + radius * np.cos(angles), 5 + radius * np.sin(angles)], axis=1) * image.PixelSpacing[::-1]
    row, column = np.array(image.ImageOrientationPatient[:3]), np.array(image.ImageOrientationPatient[3:])
    return np.array(image.ImagePositionPatient) + inside @ np.stack([row, column])


def make_source(folder, orientation=TILTED, change=None, points=circle, modality="MR"):
    make_series(folder / "mr", make_stored(), orientation=orientation, modality=modality, description="T2")
    images = headers(folder / "mr", modality)
    regions = {
        name: {image.SOPInstanceUID: points(image, radius) for image in images[:-2]}
        for name, radius in zip(NAMES, (3.3, 1.4), strict=True)
    }
    make_structures(folder / "rs" / "rs.dcm", folder / "mr", regions, change=change)


def copy(source_folder, out, **options):
    found = scan_series(source_folder)
    source = choose_series(found)
    read = read_series(source, **options)
    structures = structure_sets_of(source, found, read.volume.geometry, "p01")
    write_ct_series(out, read.volume, SeriesLabel(), reference=source, structures=structures)
    return headers(out, "RTSTRUCT")


def masks(series_folder, modality, structures):
    """An independent reader: region to its voxels, each contour on the image that its reference names.

    Sorted by the position of the image alone, so that the masks of two series can be compared.
    """
    images = {image.SOPInstanceUID: image for image in headers(series_folder, modality)}
    names = {region.ROINumber: region.ROIName for region in structures.StructureSetROISequence}
    order = sorted(images, key=lambda uid: tuple(np.round(images[uid].ImagePositionPatient, 3)))
    found = {}
    for region in structures.ROIContourSequence:
        mask = np.zeros((len(order), 10, 12), bool)
        for contour in region.ContourSequence:
            [reference] = contour.ContourImageSequence
            image = images[reference.ReferencedSOPInstanceUID]
            assert reference.ReferencedSOPClassUID == image.SOPClassUID
            axes = np.array(image.ImageOrientationPatient).reshape(2, 3)
            points = np.array(contour.ContourData, float).reshape(-1, 3) - np.array(image.ImagePositionPatient)
            assert np.abs(points @ np.cross(*axes)).max() < 1e-3  # it lies in the plane of that image
            corners = (points @ axes.T)[:, ::-1] / image.PixelSpacing
            mask[order.index(image.SOPInstanceUID)] ^= polygon2mask((10, 12), corners)
        found[names[region.ReferencedROINumber]] = mask
    return found


@pytest.mark.parametrize(
    "orientation", [(1, 0, 0, 0, 1, 0), TILTED, (0, 1, 0, 0, 0, -1)], ids=["axial", "tilted", "sagittal"]
)
def test_an_independent_reader_gets_the_same_masks_from_both(tmp_path, orientation):
    make_source(tmp_path / "in", orientation)
    [old] = headers(tmp_path / "in", "RTSTRUCT")
    [new] = copy(tmp_path / "in", tmp_path / "out")
    before, after = masks(tmp_path / "in", "MR", old), masks(tmp_path / "out", "CT", new)
    assert list(before) == list(after) == list(NAMES)
    for name, mask in before.items():
        assert mask.any(axis=(1, 2)).sum() == 4
        assert np.array_equal(mask, after[name])


def test_every_reference_is_new_and_the_rest_stays(tmp_path):
    make_source(tmp_path / "in")
    [old] = headers(tmp_path / "in", "RTSTRUCT")
    [new] = copy(tmp_path / "in", tmp_path / "out")
    images = headers(tmp_path / "out", "CT")
    [frame] = new.ReferencedFrameOfReferenceSequence
    [study] = frame.RTReferencedStudySequence
    [series] = study.RTReferencedSeriesSequence
    assert {frame.FrameOfReferenceUID} == {image.FrameOfReferenceUID for image in images}
    assert frame.FrameOfReferenceUID == old.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID
    assert {study.ReferencedSOPInstanceUID} == {image.StudyInstanceUID for image in images} == {new.StudyInstanceUID}
    assert {series.SeriesInstanceUID} == {image.SeriesInstanceUID for image in images}
    referred = {image.ReferencedSOPInstanceUID for image in series.ContourImageSequence}
    assert referred == {image.SOPInstanceUID for image in images}
    assert not {new.SOPInstanceUID, new.SeriesInstanceUID} & {old.SOPInstanceUID, old.SeriesInstanceUID}
    assert new.file_meta.MediaStorageSOPInstanceUID == new.SOPInstanceUID
    left = str(new)
    for image in headers(tmp_path / "in", "MR"):
        assert image.SOPInstanceUID not in left
        assert image.SeriesInstanceUID not in left
    for mine, theirs in zip(new.ROIContourSequence, old.ROIContourSequence, strict=True):
        for contour, before in zip(mine.ContourSequence, theirs.ContourSequence, strict=True):
            assert [str(value) for value in contour.ContourData] == [str(value) for value in before.ContourData]
    assert new.RTROIObservationsSequence == old.RTROIObservationsSequence
    assert (new.PatientID, new.StructureSetLabel) == (old.PatientID, old.StructureSetLabel)
    assert new.Manufacturer == "gdmunet"
    assert new.ContributingEquipmentSequence[0].Manufacturer == "Planning Inc"
    assert new.PredecessorStructureSetSequence[0].ReferencedSOPInstanceUID == old.SOPInstanceUID


def test_an_approval_of_the_source_is_no_approval_of_the_copy(tmp_path):
    make_source(tmp_path / "in")
    [new] = copy(tmp_path / "in", tmp_path / "out")
    assert new.ApprovalStatus == "UNAPPROVED"
    assert not {"ReviewDate", "ReviewTime", "ReviewerName"} & set(new.dir())


def test_a_long_contour_is_written_whole(tmp_path):
    """With explicit types the points of one contour would not fit into 64 KB."""
    make_source(tmp_path / "in", points=lambda image, radius: np.repeat(circle(image, radius), 200, axis=0))
    [old] = headers(tmp_path / "in", "RTSTRUCT")
    [new] = copy(tmp_path / "in", tmp_path / "out")
    contours = [one.ROIContourSequence[0].ContourSequence[0] for one in (old, new)]
    assert len(contours[1].ContourData) == 3 * 16 * 200
    assert contours[0].ContourData == contours[1].ContourData


def off_the_planes(image, radius):
    shift = 0.9 * np.cross(image.ImageOrientationPatient[:3], image.ImageOrientationPatient[3:])
    return circle(image, radius) + shift


def test_contours_between_the_slices_are_refused(tmp_path):
    make_source(tmp_path / "in", points=off_the_planes)
    with pytest.raises(GdmError, match=r"lies on no slice[\s\S]*case: p01[\s\S]*region 1: points up to 0.90 mm"):
        copy(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_planes_that_were_resampled_are_refused(tmp_path):
    """--fix-geometry puts slices elsewhere, so the contours no longer lie on them."""
    uneven = np.array([0, 2, 4.6, 6, 8, 10.0])
    make_series(tmp_path / "in" / "mr", make_stored(), along=uneven, modality="MR")
    regions = {"A": {one.SOPInstanceUID: circle(one, 3) for one in headers(tmp_path / "in", "MR")}}
    make_structures(tmp_path / "in" / "rs.dcm", tmp_path / "in" / "mr", regions)
    with pytest.raises(GdmError, match=r"lies on no slice[\s\S]*region 1: points up to 0.60 mm"):
        copy(tmp_path / "in", tmp_path / "out", fix_geometry=True)


def swap(content):
    first, second = content.ROIContourSequence[0].ContourSequence[:2]
    first.ContourImageSequence, second.ContourImageSequence = second.ContourImageSequence, first.ContourImageSequence


def other_frame(content):
    content.StructureSetROISequence[1].ReferencedFrameOfReferenceUID = "1.2.3"


@pytest.mark.parametrize(
    ("change", "words"), [(swap, "another slice than"), (other_frame, "another frame of reference")]
)
def test_references_that_contradict_the_planes_are_refused(tmp_path, change, words):
    make_source(tmp_path / "in", change=change)
    with pytest.raises(GdmError, match=words):
        copy(tmp_path / "in", tmp_path / "out")


def as_points(content):
    """The first contour becomes a point between two slices, the second one refers to no image."""
    first, second = content.ROIContourSequence[0].ContourSequence[:2]
    first.ContourGeometricType, first.NumberOfContourPoints = "POINT", 1
    first.ContourData = [float(v) + 0.4 for v in first.ContourData[:3]]
    del second.ContourImageSequence


def test_a_point_keeps_its_slice_and_a_contour_without_one_gets_it(tmp_path):
    make_source(tmp_path / "in", change=as_points)
    [old] = headers(tmp_path / "in", "RTSTRUCT")
    [new] = copy(tmp_path / "in", tmp_path / "out")
    places = {image.SOPInstanceUID: tuple(image.ImagePositionPatient) for image in headers(tmp_path, "MR")}
    written = {image.SOPInstanceUID: tuple(image.ImagePositionPatient) for image in headers(tmp_path / "out", "CT")}
    point, contour = new.ROIContourSequence[0].ContourSequence[:2]
    before = old.ROIContourSequence[0].ContourSequence[0].ContourImageSequence[0].ReferencedSOPInstanceUID
    after = point.ContourImageSequence[0].ReferencedSOPInstanceUID
    assert np.allclose(places[before], written[after])
    normal = np.cross(TILTED[:3], TILTED[3:])
    place = written[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]
    assert np.isclose(np.array(contour.ContourData[:3], float) @ normal, np.array(place) @ normal)


def test_structure_sets_of_other_series_are_left_out(tmp_path):
    make_source(tmp_path / "one")
    make_source(tmp_path / "two")
    (tmp_path / "one" / "rs" / "rs.dcm").unlink()
    shutil.copy(tmp_path / "two" / "rs" / "rs.dcm", tmp_path / "one" / "rs" / "other.dcm")
    found = scan_series(tmp_path / "one")
    assert not has_structure_sets(choose_series(found), found)
    assert copy(tmp_path / "one", tmp_path / "out") == []


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dciodvfy (Debian dicom3tools) is not there")
def test_dciodvfy_finds_no_errors_in_the_copy(tmp_path):
    make_source(tmp_path / "in")
    copy(tmp_path / "in", tmp_path / "out")
    done = subprocess.run(["dciodvfy", str(tmp_path / "out" / "RS_0001.dcm")], capture_output=True, text=True)
    said = done.stdout + done.stderr
    assert "Error" not in said, said
    assert "RTStructureSet" in said  # it did look at the file as a structure set
    files = [str(file) for file in (tmp_path / "out").iterdir()]
    done = subprocess.run(["dcentvfy", *files], capture_output=True, text=True)
    assert "Error" not in done.stdout + done.stderr, done.stdout + done.stderr


@pytest.mark.filterwarnings("ignore")
def test_rt_utils_gets_the_same_masks_from_both(tmp_path):
    """rt-utils 1.2.7 brings OpenCV and is no part of the test extra."""
    rt_utils = pytest.importorskip("rt_utils")
    make_source(tmp_path / "in", (1, 0, 0, 0, 1, 0))
    copy(tmp_path / "in", tmp_path / "out")
    shutil.move(tmp_path / "out" / "RS_0001.dcm", tmp_path / "new.dcm")
    before = rt_utils.RTStructBuilder.create_from(str(tmp_path / "in" / "mr"), str(tmp_path / "in" / "rs" / "rs.dcm"))
    after = rt_utils.RTStructBuilder.create_from(str(tmp_path / "out"), str(tmp_path / "new.dcm"))
    assert before.get_roi_names() == after.get_roi_names() == list(NAMES)
    for name in NAMES:
        mask = before.get_roi_mask_by_name(name)
        assert mask.any()
        assert np.array_equal(mask, after.get_roi_mask_by_name(name))
