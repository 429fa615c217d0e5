"""Folds by patient, alike in region and centre."""

import pytest

from gdmunet.dataset import Case
from gdmunet.preprocessing.folds import make_folds


def cases_with_patients(patients):
    return [Case(f"case{i:02d}", (), groups={"patient": patient}) for i, patient in enumerate(patients)]


def test_folds_never_split_a_patient():
    cases = cases_with_patients(["p1", "p2", "p1", "p3", "p4", "p2", "p5", "p6", "p1", "p7"])
    patient = {case.identifier: case.patient for case in cases}
    folds = make_folds(cases)
    assert len(folds) == 5
    for fold in folds:
        assert not {patient[name] for name in fold.training} & {patient[name] for name in fold.validation}
        assert sorted(fold.training + fold.validation) == sorted(patient)


def test_every_case_is_validated_once():
    cases = cases_with_patients([f"p{i}" for i in range(11)])
    validated = [name for fold in make_folds(cases) for name in fold.validation]
    assert sorted(validated) == [case.identifier for case in cases]
    assert {len(fold.validation) for fold in make_folds(cases)} == {2, 3}


def test_folds_do_not_depend_on_the_order_of_the_cases_and_are_the_same_each_time():
    cases = cases_with_patients([f"p{i}" for i in range(7)])
    held_out = [set(fold.validation) for fold in make_folds(cases)]
    assert [set(fold.validation) for fold in make_folds(cases[::-1])] == held_out
    assert [set(fold.validation) for fold in make_folds(cases, seed=1)] != held_out


@pytest.mark.parametrize(("patients", "count"), [(1, 0), (2, 2), (3, 3), (20, 5)])
def test_there_are_as_many_folds_as_patients_allow(patients, count):
    assert len(make_folds(cases_with_patients([f"p{i}" for i in range(patients)]))) == count


def test_every_fold_has_its_share_of_every_region_and_centre():
    kinds = [("AB", "A")] * 11 + [("AB", "B")] * 7 + [("HN", "A")] * 5 + [("TH", "C")] * 3
    cases = [Case(f"c{i:02d}", (), groups={"region": r, "centre": c}) for i, (r, c) in enumerate(kinds)]
    folds = make_folds(cases, 5)
    for kind in set(kinds):
        members = {f"c{i:02d}" for i, other in enumerate(kinds) if other == kind}
        shares = [len(members & set(fold.validation)) for fold in folds]
        assert sum(shares) == len(members)
        assert max(shares) - min(shares) <= 1
    sizes = [len(fold.validation) for fold in folds]
    assert max(sizes) - min(sizes) <= 1
    assert make_folds(cases[::-1], 5)[0].validation == tuple(sorted(folds[0].validation, reverse=True))
