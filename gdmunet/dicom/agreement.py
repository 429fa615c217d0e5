"""Whether the series of a case belong together, and each to its channel."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from gdmunet.dicom.series import Series
from gdmunet.errors import GdmError
from gdmunet.hounsfield import HU_MODALITIES, is_hounsfield

MODALITY, PATIENT = "modality", "patient"
SERIES_CHECKS = (MODALITY, PATIENT)
"""The checks that ``--accept`` can insist on."""


@dataclass(frozen=True)
class ChannelSeries:
    """A series, the folder that it came from, and the modality word of the channel (or target) that it is for."""

    series: Series
    folder: Path
    word: str


def check_case_series(found: Sequence[ChannelSeries], case: str, accepted: Collection[str] = ()) -> list[str]:
    """Check the series of a case against their channels and each other; gives warnings.

    Parameters
    ----------
    accepted
        Checks that the user insists on, of `SERIES_CHECKS`.

    Raises
    ------
    GdmError
        A CT for a channel of another modality or the reverse; series of two patients, whose IDs are not shown.
    """
    for one in found:
        if MODALITY not in accepted:
            _check_modality(one, case)
    first = found[0]
    warnings = []
    for one in found[1:]:
        known = first.series.patient and one.series.patient
        if known and first.series.patient != one.series.patient and PATIENT not in accepted:
            raise _two_patients(first, one, case)
        if one.series.frame_of_reference != first.series.frame_of_reference:
            warnings.append(
                f"WARNING {case}: the series of {first.word} ({first.folder.name}) and of {one.word} "
                f"({one.folder.name}) have different frames of reference: their positions may not be comparable; look "
                "at one over the other"
            )
    return warnings


def _check_modality(one: ChannelSeries, case: str) -> None:
    is_ct = one.series.modality == "CT"
    if is_ct == is_hounsfield(one.word):
        return
    raise GdmError(
        f"the series is not of the modality of its channel, {one.word}",
        case=case,
        file=one.folder,
        found=f"modality {one.series.modality}, series {one.series.description or one.series.uid}",
        expected=f"CT, for {' and '.join(HU_MODALITIES)}" if not is_ct else f"another modality than CT, for {one.word}",
        remedy=f"give the series of each channel in their order; to insist, add --accept {MODALITY}",
    )


def _two_patients(first: ChannelSeries, other: ChannelSeries, case: str) -> GdmError:
    return GdmError(
        "the series of a case are of different patients",
        case=case,
        file=other.folder,
        found=f"patient IDs that differ, in {first.folder.name} ({first.word}) and {other.folder.name} ({other.word})",
        expected="one patient ID in all series of a case",
        remedy=f"put the right series into the folder; where one patient has two IDs, add --accept {PATIENT}",
    )
