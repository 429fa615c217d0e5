"""A case with its body, and the doubts about it: the plausibility step of the fingerprint and of prediction."""

from __future__ import annotations

from collections.abc import Collection

from gdmunet.dataset import Case
from gdmunet.errors import GdmError
from gdmunet.imageio import CaseVolumes
from gdmunet.plausibility.cases import CheckedCase, Expectation, check_case
from gdmunet.plausibility.findings import settle
from gdmunet.preprocessing.preprocessor import with_body


def checked_case(
    volumes: CaseVolumes, expected: Expectation, case: Case | None = None, accepted: Collection[str] = ()
) -> tuple[CaseVolumes, CheckedCase]:
    """The case with its body, given or derived, and the result of its check.

    Raises
    ------
    GdmError
        No body can be found: says the wrong unit or the noise that hides it, if that is the reason.
    """
    try:
        known = with_body(volumes, expected.channels)
    except GdmError:
        settle(check_case(volumes, expected, case=case).findings, accepted)
        raise
    return known, check_case(known, expected, known.mask, case)
