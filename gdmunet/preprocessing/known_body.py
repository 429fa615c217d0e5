"""Derived bodies that are on disk already: the fingerprint derives and writes them, preprocessing reads them again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gdmunet.errors import GdmError
from gdmunet.imageio import CaseVolumes, read_mask
from gdmunet.preprocessing.body import RULE


@dataclass(frozen=True)
class BodySpec:
    """What a derived body was: sha256 of its voxels, and the version of the rules that found it."""

    sha256: str
    rule: int

    @classmethod
    def of(cls, mask: np.ndarray) -> BodySpec:
        """The present rules' record of a mask (bool) on the grid of its file."""
        return cls(_hash(mask), RULE)


@dataclass(frozen=True)
class KnownBody:
    """A written body mask and what it must hold to be used."""

    file: Path
    spec: BodySpec

    def given_to(self, volumes: CaseVolumes) -> CaseVolumes:
        """The case with this body as a derived one; unchanged if it has a mask or the file another one."""
        if volumes.mask is not None or self.spec.rule != RULE or not self.file.is_file():
            return volumes
        try:
            mask = read_mask(self.file)
        except GdmError:  # a damaged file is as good as none: the body is derived again
            return volumes
        if mask.geometry.difference(volumes.geometry) or _hash(mask.array) != self.spec.sha256:
            return volumes
        return replace(volumes, mask=mask.array, mask_source="derived")


def _hash(mask: np.ndarray) -> str:
    return hashlib.sha256(repr(mask.shape).encode() + np.packbits(mask).tobytes()).hexdigest()
