"""Hounsfield units: the modalities in them, and their values."""

from __future__ import annotations

# In Hounsfield units (or nearly so): one fixed clip range, one map for all cases.
HU_MODALITIES = ("CT", "CBCT")
# What a scanner stores: 12 bits from air beyond its field of view on.
HU_AIR = -1024.0
HU_RANGE = (HU_AIR, 3071.0)


def canonical_modality(word: str) -> str:
    """The word without spaces around it; CT and CBCT in capitals, other words as the user wrote them."""
    stripped = word.strip()
    return stripped.upper() if stripped.upper() in HU_MODALITIES else stripped


def is_hounsfield(word: str) -> bool:
    """Whether a modality is in Hounsfield units, however the word is spelled."""
    return canonical_modality(word) in HU_MODALITIES


def same_modality(first: str, second: str) -> bool:
    """Whether two words name one modality: ``t1`` is ``T1``."""
    return first.strip().upper() == second.strip().upper()
