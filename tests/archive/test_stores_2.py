"""Prepared cases in float32, of earlier versions, stay readable, belong to their plans, and give the same numbers."""

import zipfile
from pathlib import Path

import numpy as np

from gdmunet.plan_folder import find_plans
from gdmunet.preprocessing.casestore import CaseStore

DATASET = "Dataset901_Toy"


def test_cases_of_version_2_are_those_of_their_plans_and_read_bit_for_bit(tmp_path: Path) -> None:
    with zipfile.ZipFile(Path(__file__).parent / "stores_2" / "files.zip") as files:
        files.extractall(tmp_path)
    plans = find_plans(tmp_path / "preprocessed" / DATASET, "gdmPlans")
    assert plans.configuration("3d_fullres").storage is None
    store = CaseStore.of(tmp_path / "preprocessed", plans, "3d_fullres")
    assert store.check(store.identifiers()) == (), "their recipe is that of the plans, and their bytes are whole"
    case = store.open("case_0")
    assert case.target is not None
    np.testing.assert_array_equal(case.condition[:], np.load(tmp_path / "condition.npy"))
    np.testing.assert_array_equal(case.target[:], np.load(tmp_path / "target.npy"))
