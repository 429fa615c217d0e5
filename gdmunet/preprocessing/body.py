"""The body of the patient, derived from the condition alone, for data sets without masks.

The rules, each in millimetres so that they mean the same on every grid (work is done on voxels of about 2 mm):

1. Tissue. CT and CBCT: above -500 HU after light smoothing, which is half way from air to skin fat, so that the
   smoothed skin stays where it was; streaks of few-view reconstructions survive neither this nor rule 2. Anything
   else: above half of Li's threshold (minimum cross entropy) of the smoothed image and above 0.15 of the median
   tissue. Unlike Otsu's, Li's threshold stays below dark tissue where fluid or fat is very bright; the 0.15 keeps
   the mask tighter where the background is exactly zero.
2. Without table and clothes: erode by 4 mm, keep the largest piece and those of at least a tenth of its size, grow
   the kept pieces back inside the tissue. Thin shells and wires do not survive the erosion.
3. Close gaps of 6 mm: nostrils and ear canals; in MR also dark bone and vessels at the skin.
4. Fill what is enclosed: lungs, airways, bowel gas, sinuses; in 3D, and in every axial slice by itself, because air
   passages open to the outside somewhere.
5. Several channels: the union.
"""

from __future__ import annotations

import numpy as np
import scipy
import skimage

from gdmunet.dataset_names import DESCRIPTOR_FILE
from gdmunet.errors import GdmError
from gdmunet.geometry import Vector
from gdmunet.hounsfield import is_hounsfield
from gdmunet.preprocessing.resampling import resample, resample_mask, resampled_shape

# Raised whenever the rules find other bodies: masks of an earlier rule are not used again.
RULE = 1

WORKING_SPACING = 2.0  # mm
SMOOTHING = 1.5  # mm, standard deviation
TISSUE_HU = -500.0
EROSION = 4.0  # mm
CLOSING = 6.0  # mm
SMALLEST_SHARE = 0.1


def derive_body_mask(conditions: np.ndarray, modalities: tuple[str, ...], spacing: Vector) -> np.ndarray:
    """Find the body by the rules above.

    Parameters
    ----------
    conditions
        (C, z, y, x) in raw units, axis 0 along the body (canonical orientation).
    modalities
        Word of each channel; CT and CBCT are in Hounsfield units.
    spacing
        mm along (z, y, x).

    Returns
    -------
    bool (z, y, x), never empty.

    Raises
    ------
    GdmError
        No channel shows a body.
    """
    shape = conditions.shape[1:]
    coarse_spacing = tuple(max(WORKING_SPACING, value) for value in spacing)
    coarse_shape = resampled_shape(shape, spacing, coarse_spacing)
    mask = np.zeros(coarse_shape, dtype=bool)
    for array, modality in zip(conditions, modalities, strict=True):
        coarse = resample(array, coarse_shape, order=1)
        smooth = scipy.ndimage.gaussian_filter(coarse, [SMOOTHING / value for value in coarse_spacing], mode="nearest")
        mask |= _body_of_channel(smooth, modality, coarse_spacing)
    mask = resample_mask(mask, shape)
    if not mask.any():
        raise GdmError(
            "no body can be found in the condition",
            found=f"no piece of tissue in {', '.join(modalities)} thicker than {2 * EROSION:g} mm",
            expected="a body",
            remedy=f'check the intensities (CT in HU), or give body masks and "mask": true in {DESCRIPTOR_FILE}',
        )
    return mask


def _body_of_channel(smooth: np.ndarray, modality: str, spacing: tuple[float, ...]) -> np.ndarray:
    tissue = smooth > (TISSUE_HU if is_hounsfield(modality) else _tissue_threshold(smooth))
    mask = _large_pieces(tissue, spacing)
    if not mask.any():
        return mask
    mask = _close(mask, CLOSING, spacing)
    in_slices = np.zeros((3, 3, 3), dtype=bool)
    in_slices[1] = scipy.ndimage.generate_binary_structure(2, 1)
    for structure, axes in ((scipy.ndimage.generate_binary_structure(3, 1), (0, 1, 2)), (in_slices, (1, 2))):
        mask = _fill_holes(mask, structure, axes)
    return mask


def _tissue_threshold(smooth: np.ndarray) -> float:
    """The MR rule; the brightest hundredth (vessels, fat) has no say."""
    low, high = np.percentile(smooth, (0.1, 99.0))
    if not low < high:
        # Almost all is one value: whatever differs from it is tissue.
        return float(smooth.max() + smooth.min()) / 2
    above = np.clip(smooth, low, high) - low
    threshold = skimage.filters.threshold_li(above)
    return float(low + max(0.5 * threshold, 0.15 * np.median(above[above > threshold])))


def _large_pieces(tissue: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """Pieces that survive an erosion by `EROSION` mm and are large among those, grown back inside the tissue."""
    core = ~grow(~tissue, EROSION, spacing)
    labels, count = scipy.ndimage.label(core)
    if count == 0:
        return np.zeros_like(tissue)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    kept = (sizes >= SMALLEST_SHARE * sizes.max())[labels]
    # One voxel more than was eroded: the outermost layer is restored where it is tissue.
    pieces: np.ndarray = tissue & grow(kept, EROSION + max(WORKING_SPACING, min(spacing)), spacing)
    return pieces


def _close(mask: np.ndarray, radius: float, spacing: tuple[float, ...]) -> np.ndarray:
    # There is no air beyond the volume's faces, so a body that is cut by a face stays whole there.
    closed: np.ndarray = mask | ~grow(~grow(mask, radius, spacing), radius, spacing)
    return closed


def grow(mask: np.ndarray, radius: float, spacing: tuple[float, ...]) -> np.ndarray:
    """Every voxel whose centre lies at most `radius` mm from that of a voxel of the mask (z, y, x); bool.

    The same voxels as an exact distance transform finds. A ball of a few voxels is a bundle of rows along x: the mask
    is grown along x to each half length once, and then moved to where the rows lie.
    """
    reach = [range(-int(radius / step) - 1, int(radius / step) + 2) for step in spacing]
    squares = [(np.array(steps) * step) ** 2 for steps, step in zip(reach, spacing, strict=True)]
    distance = np.sqrt(squares[0][:, None, None] + squares[1][:, None] + squares[2])
    longest = (distance <= radius).sum(axis=2) // 2  # of an odd number of voxels, about the middle one
    touched = (distance <= radius).any(axis=2)
    grown, row = np.zeros_like(mask), mask.copy()
    for half in range(int(longest.max()) + 1):
        if half:
            _add_moved(row, mask, (0, 0, half))
            _add_moved(row, mask, (0, 0, -half))
        for z, y in np.argwhere(touched & (longest == half)):
            _add_moved(grown, row, (reach[0][z], reach[1][y], 0))
    return grown


def _add_moved(mask: np.ndarray, other: np.ndarray, by: tuple[int, int, int]) -> None:
    """Add to `mask`, in place, the voxels of `other` moved by that many voxels (z, y, x); those that leave are lost."""
    ends = [size - abs(shift) for size, shift in zip(mask.shape, by, strict=True)]
    if min(ends) <= 0:
        return
    to = tuple(slice(max(0, shift), max(0, shift) + end) for shift, end in zip(by, ends, strict=True))
    source = tuple(slice(max(0, -shift), max(0, -shift) + end) for shift, end in zip(by, ends, strict=True))
    mask[to] |= other[source]


def _fill_holes(mask: np.ndarray, structure: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Fill the air that does not reach a face of the volume across one of `axes`."""
    labels, count = scipy.ndimage.label(~mask, structure)
    outside = np.zeros(count + 1, dtype=bool)
    for axis in axes:
        for face in (0, -1):
            outside[np.take(labels, face, axis=axis)] = True
    outside[0] = False
    filled: np.ndarray = mask | ~outside[labels]
    return filled
