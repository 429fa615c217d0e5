"""The toy data set, prepared in a temporary folder."""

import pytest
from toy import DATASET, toy_configuration, toy_volumes

from gdmunet.dataset import DatasetDescriptor, Fold
from gdmunet.paths import Folders
from gdmunet.plans import Plans
from gdmunet.preprocessing.case_record import CaseOrigin
from gdmunet.preprocessing.casestore import CaseStore
from gdmunet.preprocessing.preprocessor import prepare_case
from gdmunet.provenance import cases_hash
from gdmunet.serialization import save_json


@pytest.fixture
def toy(tmp_path) -> tuple[Plans, Folders]:
    return prepared_toy(tmp_path)


def prepared_toy(tmp_path) -> tuple[Plans, Folders]:
    """The toy data set in a folder."""
    descriptor = DatasetDescriptor({"0": "MR"}, "CT", ".nii.gz", 4, mask=True)
    names = tuple(f"case_{i}" for i in range(4))
    plans = Plans(
        DATASET, "gdmPlans", "tiny", "FidelityTrainer", "float32", 1.0, descriptor, "0",
        {name: toy_configuration(name) for name in ("3d_fullres", "2d")},
        (Fold(names[:3], names[3:]), Fold(names[1:], names[:1])),
    )  # fmt: skip
    folders = Folders(tmp_path / "raw", tmp_path / "preprocessed", tmp_path / "results")
    for name, configuration in plans.configurations.items():
        store = CaseStore(folders.preprocessed / DATASET, plans.name, name)
        for seed, case in enumerate(names):
            volumes = toy_volumes(case, seed)
            prepared = prepare_case(volumes, configuration, descriptor)
            store.write(prepared, configuration.window_size, CaseOrigin(cases_hash(configuration, descriptor)))
    save_json(plans, folders.preprocessed / DATASET / "gdmPlans.json")
    return plans, folders
