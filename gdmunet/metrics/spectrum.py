"""Fourier shell correlation and power spectra of a prediction and its target, in blocks inside the body.

A filter multiplies a spectrum and leaves its phases: it changes the power of each shell, and cancels in the shell
correlation. So the two scores tell texture that belongs to the patient from texture that was sharpened or added.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy

from gdmunet.metrics.ranges import ValueRange, mask_of

# Edge of a block in voxels: its spectrum has 16 steps up to Nyquist, and it fits into the body of a coarse volume.
_EDGE = 32
# Largest number of blocks of one volume; they lie evenly over the body.
_MOST_BLOCKS = 128
# Shells up to Nyquist; shell k has its middle at k / 8 of Nyquist.
_SHELLS = 8
# Share of the blocks whose target is flattest: noise is measured there, as physicists do.
_FLAT_SHARE = 0.25
# Power over that of the target that is rounding alone, and the least that is told in dB.
_ROUNDING, _SILENCE = 1e-18, 1e-10
# First and last shell of each band of the noise power spectrum.
BANDS = {"low": (2, 3), "middle": (4, 5), "high": (6, 8)}


@dataclass(frozen=True)
class ShellSpectra:
    """Sums over the shells of every block, (blocks, shells) float64; shell 0 has the means and is not used.

    Attributes
    ----------
    cross
        Real part of the prediction's coefficients times the target's conjugates.
    prediction, target
        Power of the coefficients.
    """

    cross: np.ndarray
    prediction: np.ndarray
    target: np.ndarray

    def correlation(self, share: float) -> float | None:
        """Fourier shell correlation of all blocks at `share` of Nyquist; None if the target has no power there.

        0 if the prediction has none: what is constant has nothing of the target.

        FSC = sum Re(P T*) / sqrt(sum |P|^2 sum |T|^2). Source: Harauz and van Heel, Optik 73 (1986), 146-156.
        """
        shell = round(share * _SHELLS)
        of_prediction, of_target = (float(power[:, shell].sum()) for power in (self.prediction, self.target))
        if of_target == 0:
            return None
        if of_prediction <= _ROUNDING * of_target:
            return 0.0
        return float(self.cross[:, shell].sum() / (of_prediction * of_target) ** 0.5)

    def band_difference(self, band: str) -> float | None:
        """Power of the prediction over that of the target in the flat blocks, dB; None if the target has none.

        -100 at least: a prediction that is constant has no noise at all.
        """
        first, last = BANDS[band]
        flat = self._flat_blocks()
        of_prediction, of_target = (
            float(power[flat, first : last + 1].sum()) for power in (self.prediction, self.target)
        )
        return 10 * float(np.log10(max(of_prediction / of_target, _SILENCE))) if of_target > 0 else None

    def noise_distance(self) -> float | None:
        """Mean absolute `band_difference` over the bands; None if the target has no power in one of them."""
        differences = [self.band_difference(band) for band in BANDS]
        known = [abs(value) for value in differences if value is not None]
        return float(np.mean(known)) if len(known) == len(BANDS) else None

    def _flat_blocks(self) -> np.ndarray:
        """Indices of the blocks whose target has the least power in shell 1.

        That shell belongs to no band: blocks that were chosen by a band would have less than their share of its noise.
        """
        count = max(1, round(_FLAT_SHARE * len(self.target)))
        return np.argsort(self.target[:, 1], kind="stable")[:count]


def shell_spectra(
    target: np.ndarray, prediction: np.ndarray, value_range: ValueRange, mask: np.ndarray | None = None
) -> ShellSpectra | None:
    """Spectra of a prediction and its target over shells of equal share of Nyquist.

    Blocks of 32^3 voxels (fewer along a shorter axis) overlap by half; those with a quarter of their voxels in the mask
    count, at most 128 of them, evenly spread. In each, both volumes lose their mean and fade out towards the block's
    border and the mask's rim, so that neither shows as an edge. Frequencies are shares of each axis's own Nyquist
    frequency: the shells are ellipsoids if the voxel is not a cube.

    Parameters
    ----------
    target, prediction, mask
        (z, y, x); mask None: the whole volume. Values are clipped to the range first.

    Returns
    -------
    ShellSpectra, or None if no block lies in the mask.
    """
    inside = mask_of(target, prediction, mask)
    edges = tuple(min(_EDGE, n) for n in target.shape)
    window, (shells, counts) = _window(edges), _shells(edges)
    sums: list[np.ndarray] = []
    for block in _blocks(inside, edges):
        weight = window * _faded(inside[block])
        coefficients = [
            _coefficients(np.clip(volume[block], value_range.low, value_range.high), weight, inside[block])
            for volume in (prediction, target)
        ]
        products = (coefficients[0] * coefficients[1].conj()).real, *(np.abs(c) ** 2 for c in coefficients)
        by_shell = [np.bincount(shells, (counts * part).ravel(), _SHELLS + 2) for part in products]
        sums.append(np.stack(by_shell)[:, : _SHELLS + 1])
    if not sums:
        return None
    cross, of_prediction, of_target = np.stack(sums, axis=1)
    return ShellSpectra(cross, of_prediction, of_target)


def _coefficients(block: np.ndarray, weight: np.ndarray, inside: np.ndarray) -> np.ndarray:
    values = np.where(inside, block, 0.0).astype(np.float64)
    centred = (values - (values * weight).sum() / weight.sum()) * weight
    return np.asarray(scipy.fft.rfftn(centred))


def _blocks(inside: np.ndarray, edges: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """The blocks with a quarter of their voxels inside; evenly chosen if they are many."""
    corners = [_corners(n, edge) for n, edge in zip(inside.shape, edges, strict=True)]
    blocks = [
        tuple(slice(first, first + edge) for first, edge in zip(corner, edges, strict=True))
        for corner in np.stack(np.meshgrid(*corners, indexing="ij"), axis=-1).reshape(-1, inside.ndim)
    ]
    fitting = [block for block in blocks if inside[block].mean() >= 0.25]
    chosen = np.linspace(0, len(fitting) - 1, min(len(fitting), _MOST_BLOCKS)).round().astype(int)
    return (fitting[place] for place in chosen)


def _corners(size: int, edge: int) -> np.ndarray:
    """First voxels of blocks that overlap by half or more and reach from end to end."""
    count = 1 + -(-2 * (size - edge) // edge)
    return np.linspace(0, size - edge, count).round().astype(int)


def _window(edges: tuple[int, ...]) -> np.ndarray:
    """Hann window of a block, sampled at voxel centres."""
    window = np.ones(edges)
    for axis, edge in enumerate(edges):
        shape = [1] * len(edges)
        shape[axis] = edge
        window = window * (np.sin(np.pi * (np.arange(edge) + 0.5) / edge) ** 2).reshape(shape)
    return window


def _faded(inside: np.ndarray) -> np.ndarray:
    """1 deep in the mask, falling to 0 at its rim over four voxels: twice the mask's local share, less one."""
    if inside.all():
        return np.ones(inside.shape)
    share = scipy.ndimage.uniform_filter(scipy.ndimage.uniform_filter(inside.astype(np.float64), 5), 5)
    return np.asarray(np.clip(2 * share - 1, 0, None) * inside)


def _shells(edges: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Shell of each coefficient of `rfftn`, flat, and how often it stands in the whole spectrum, in its shape.

    Beyond Nyquist (the corners) the shell is the last, which is dropped.
    """
    kept = edges[-1] // 2 + 1
    squares = np.zeros((*edges[:-1], kept))
    for axis, edge in enumerate(edges):
        shape = [1] * len(edges)
        shape[axis] = -1
        frequencies = scipy.fft.rfftfreq(edge) if axis == len(edges) - 1 else scipy.fft.fftfreq(edge)
        squares = squares + (2 * frequencies).reshape(shape) ** 2
    counts = np.full(kept, 2.0)
    counts[0] = 1.0
    if edges[-1] % 2 == 0:
        counts[-1] = 1.0
    shells = np.minimum(np.floor(np.sqrt(squares) * _SHELLS + 0.5), _SHELLS + 1).astype(np.int64)
    return shells.ravel(), np.broadcast_to(counts, squares.shape)
