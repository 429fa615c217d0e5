"""Folds are made once, by planning: not by the first training that starts."""

from __future__ import annotations

import numpy as np

from gdmunet.dataset import Case, Fold


def make_folds(cases: list[Case], count: int = 5, seed: int = 12345) -> tuple[Fold, ...]:
    """Split cases into folds by patient: `count` of them, or as many as there are patients.

    Every fold holds about as many patients of each combination of the other groups (region, centre, ...). One patient
    alone gives no fold: only training on ``all`` is possible then.
    """
    patients = sorted({case.patient for case in cases})
    if len(patients) < 2:
        return ()
    count = min(count, len(patients))
    kinds: dict[str, set[tuple[str, str]]] = {patient: set() for patient in patients}
    for case in cases:
        kinds[case.patient] |= {item for item in case.groups.items() if item[0] != "patient"}
    shuffled = [patients[i] for i in np.random.default_rng(seed).permutation(len(patients))]
    dealt = sorted(shuffled, key=lambda patient: sorted(kinds[patient]))  # stable: by `seed` within a combination
    folds = []
    for k in range(count):
        held_out = set(dealt[k::count])
        folds.append(
            Fold(
                tuple(case.identifier for case in cases if case.patient not in held_out),
                tuple(case.identifier for case in cases if case.patient in held_out),
            )
        )
    return tuple(folds)
