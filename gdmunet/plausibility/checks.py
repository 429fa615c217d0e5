"""The checks of plausibility: their names, meanings and remedies, said once.

`--accept NAME` insists on what a check doubts; every finding names it. This file imports neither numpy nor torch, since
the commands' flags read it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes
    ----------
    name
        Word that ``--accept`` takes.
    compares
        Comparison that is made, a noun phrase.
    means
        Usual cause of a finding.
    remedy
        Action that mends it.
    """

    name: str
    compares: str
    means: str
    remedy: str


_ROWS = (
    Check(
        "hounsfield",
        "values of a CT or CBCT with Hounsfield units: air below -900 outside the body, a median of its tissue from "
        "-300 to 300",
        "an export without rescale slope and intercept (an offset of 1024), a volume scaled to 0..1 or to 1/mm, a "
        "clipped window, or another modality in the folder of the CTs",
        "subtract 1024, or apply slope and intercept, so that air is -1000 and water 0",
    ),
    Check(
        "forms",
        "the two places in the header of a NIfTI file, qform and sform, at every corner of the volume",
        "a registration that was written into one of them, or a header that another program changed",
        "find out which one is right, and copy it onto the other (nibabel: image.set_qform(image.get_sform()))",
    ),
    Check(
        "modality",
        "values of a channel that is not a CT with those of a CT, and the modality of a DICOM series with its channel",
        "swapped folders, or a CT given to a model of MR",
        "give the files in the order of the channels, or correct the channel's word in the data set's description",
    ),
    Check(
        "patient",
        "the patient IDs of the DICOM series of one case with each other",
        "series of two patients in one folder, or one patient with two IDs",
        "put the right series into the folder",
    ),
    Check(
        "size",
        "the number of voxels with the least that can show a patient: 200, and 5 along two axes",
        "a cut-out, a scout view or a test image in place of a volume",
        "export the whole volume again, or leave the case out",
    ),
    Check(
        "structure",
        "the correlation of neighbouring voxels with that of noise",
        "a volume of noise, of compressed bytes, or of values in a wrong order",
        "look at the volume in a viewer, and export it again",
    ),
    Check(
        "ranges",
        "a case with the training cases: voxel size, extent, body volume, shares of air and of negative values, "
        "intensities, brightness of the border",
        "another scanner, region or unit than the model was trained on, an inverted image, or a wrong voxel size",
        "check unit, orientation and voxel size of the volume; a model predicts well only what it has seen",
    ),
    Check(
        "mask_values",
        "values of a mask with 0 and 1",
        "a mask that was interpolated when it was resampled, or a label map or probability in its place",
        "threshold the mask at 0.5, and resample masks with the nearest neighbour",
    ),
    Check(
        "mask_place",
        "a mask with the body that the condition shows: its share of the volume, and the overlap of both",
        "an inverted mask, a mask of another case, of one corner, or one that is 1 everywhere",
        "make the mask again from the volume that it belongs to",
    ),
    Check(
        "groups",
        "the names in a table of groups with the names of the cases, from both sides",
        "a misspelt case, or a table of another data set",
        "correct the names; a case without its group is missing from the scores of its group",
    ),
    Check(
        "outliers",
        "each training case with the others, in every number of the fingerprint (median and spread of the others)",
        "a case of another protocol, unit, region or orientation; a mask that is not a body",
        "look at the case, then correct it, leave it out, or keep it if it is a true patient",
    ),
    Check(
        "prediction",
        "values of a prediction with those of its reference",
        "a prediction in 0..1, off by 1024, or of another modality",
        "bring the prediction to the unit of the reference before it is scored",
    ),
)

CHECKS: dict[str, Check] = {check.name: check for check in _ROWS}
