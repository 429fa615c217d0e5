"""The two places of a volume that a NIfTI header holds: the qform (a rotation) and the sform (any affine).

Readers differ in the one they believe, so both travel with the grid of a volume and are written back as they were.
World coordinates here are RAS (right, anterior, superior), as NIfTI has them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

# Share of the smallest voxel side by which qform and sform may differ at the corners: less is rounding.
_SAME_PLACE = 0.1
# Code of a unit of length (the low three bits of xyzt_units) to mm; 0, not said, is mm for every reader.
MILLIMETRES = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}


@dataclass(frozen=True)
class NiftiForms:
    """The fields of a NIfTI header that place its voxels, as they are stored.

    Attributes
    ----------
    qform_code, sform_code
        Meaning of each form; 0: the form is not there.
    pixdim
        ``pixdim[0..3]``: the sign of the qform's third axis, then the voxel size along (x, y, z).
    quaternion
        ``quatern_b, quatern_c, quatern_d, qoffset_x, qoffset_y, qoffset_z``.
    rows
        ``srow_x, srow_y, srow_z``: twelve numbers.
    units
        ``xyzt_units``.
    """

    qform_code: int
    sform_code: int
    pixdim: tuple[float, float, float, float]
    quaternion: tuple[float, float, float, float, float, float]
    rows: tuple[float, ...]
    units: int

    @property
    def unit(self) -> float:
        """mm for each unit of length of the header.

        Raises
        ------
        KeyError
            A code that the standard does not have.
        """
        return MILLIMETRES[self.units & 7]

    @property
    def voxel_size(self) -> tuple[float, float, float]:
        """Voxel size (z, y, x) in mm, of ``pixdim``."""
        _, x, y, z = (float(value) * self.unit for value in self.pixdim)
        return z, y, x

    @property
    def qform(self) -> np.ndarray:
        """Voxel index (x, y, z) to RAS in mm, (3, 4), of quaternion, offset and pixdim (NIfTI-1, method 2)."""
        b, c, d = self.quaternion[:3]
        a = np.sqrt(max(0.0, 1.0 - (b * b + c * c + d * d)))
        if a == 0.0:  # a half turn, whose quaternion is not quite one of length 1
            b, c, d = np.array([b, c, d]) / max(np.sqrt(b * b + c * c + d * d), 1e-30)
        rotation = np.array(
            [
                [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
                [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
                [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - c * c - b * b],
            ]
        )
        sign = -1.0 if self.pixdim[0] < 0 else 1.0
        scale = np.array(self.pixdim[1:]) * (1.0, 1.0, sign)
        return np.concatenate([rotation * scale, np.array(self.quaternion[3:])[:, None]], axis=1) * self.unit

    @property
    def sform(self) -> np.ndarray:
        """Voxel index (x, y, z) to RAS in mm, (3, 4)."""
        return np.array(self.rows).reshape(3, 4) * self.unit

    def distance(self, shape: tuple[int, int, int]) -> float:
        """Largest distance in mm between the two places of a corner voxel of a volume of `shape` (z, y, x).

        Where the header has no qform, ``pixdim`` is compared with the sform's voxel size instead. 0: fewer than two.
        """
        if not self.sform_code:
            return 0.0
        last = np.array(shape[::-1]) - 1.0
        if not self.qform_code:
            sizes = np.linalg.norm(self.sform[:, :3], axis=0)
            return float((np.abs(sizes - self.voxel_size[::-1]) * np.maximum(last, 1)).max())
        corners = np.stack(np.meshgrid(*([0.0, end] for end in last), indexing="ij"), axis=-1).reshape(-1, 3)
        apart = corners @ (self.qform - self.sform)[:, :3].T + (self.qform - self.sform)[:, 3]
        return float(np.linalg.norm(apart, axis=1).max())

    def disagreement(self, shape: tuple[int, int, int]) -> str | None:
        """Both places of a volume of `shape` (z, y, x) in words if they are not one; None if they are."""
        apart = self.distance(shape)
        if apart <= _SAME_PLACE * min(self.voxel_size):
            return None
        if not self.qform_code:
            stored, sizes = _rounded(self.voxel_size[::-1]), _rounded(np.linalg.norm(self.sform[:, :3], axis=0))
            return f"voxels (x, y, z) of {stored} mm in pixdim, of {sizes} in the sform"
        return (
            f"voxel 0 at {_rounded(self.qform[:, 3])} mm (qform, code {self.qform_code}) and at "
            f"{_rounded(self.sform[:, 3])} mm (sform, code {self.sform_code}); {apart:.1f} mm apart at a corner"
        )


def forms_of(rotation: np.ndarray, spacing: np.ndarray, origin: np.ndarray) -> NiftiForms:
    """Both forms of one grid, as for a scanner's coordinates (code 1), in mm.

    Parameters
    ----------
    rotation
        (3, 3) RAS, columns: world directions of the axes (x, y, z); of determinant 1 or -1.
    spacing, origin
        (x, y, z) in mm; RAS.
    """
    sign = -1.0 if np.linalg.det(rotation) < 0 else 1.0
    turned = rotation * (1.0, 1.0, sign)
    rows = np.concatenate([rotation * spacing, origin[:, None]], axis=1)
    pixdim = (sign, *(float(value) for value in spacing))
    quaternion = (*_quaternion(turned), *(float(value) for value in origin))
    return NiftiForms(1, 1, pixdim, quaternion, tuple(rows.ravel().tolist()), 10)  # type: ignore[arg-type]  # mm and s


def _rounded(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(round(float(value), 3) for value in values)


def _quaternion(turned: np.ndarray) -> tuple[float, float, float]:
    """b, c, d of the unit quaternion of a rotation, with a >= 0 (NIfTI-1, nifti_mat44_to_quatern)."""
    trace = np.trace(turned)
    if trace > -0.5:
        a = 0.5 * np.sqrt(1.0 + trace)
        b, c, d = (
            0.25 * (turned[2, 1] - turned[1, 2]) / a,
            0.25 * (turned[0, 2] - turned[2, 0]) / a,
            0.25 * (turned[1, 0] - turned[0, 1]) / a,
        )
        return float(b), float(c), float(d)
    i = int(np.argmax(np.diag(turned)))
    j, k = (i + 1) % 3, (i + 2) % 3
    vector = np.zeros(3)
    vector[i] = 0.5 * np.sqrt(max(0.0, 1.0 + turned[i, i] - turned[j, j] - turned[k, k]))
    vector[j] = 0.25 * (turned[i, j] + turned[j, i]) / vector[i]
    vector[k] = 0.25 * (turned[i, k] + turned[k, i]) / vector[i]
    a = 0.25 * (turned[k, j] - turned[j, k]) / vector[i]
    vector = vector if a >= 0 else -vector
    return float(vector[0]), float(vector[1]), float(vector[2])
