"""Loop, losses, normalisation and its inverse are right: every kind of trainer learns one phantom by heart.

It draws it by its own sampler through the predictor.
"""

import dataclasses

import numpy as np
import pytest
from short_trainers import loop_of
from toy import DATASET, HU, toy_configuration

from gdmunet.conversion.phantoms import make_phantom
from gdmunet.dataset import DatasetDescriptor
from gdmunet.geometry import Geometry
from gdmunet.imageio import CaseVolumes
from gdmunet.inference import Predictor
from gdmunet.network_spec import NetworkSpec
from gdmunet.paths import Folders
from gdmunet.plans import Plans
from gdmunet.preprocessing.casestore import CaseStore
from gdmunet.preprocessing.preprocessor import prepare_case
from gdmunet.training.loop.ema import copy_weights
from gdmunet.training.trainers.adversarial import AdversarialTrainer
from gdmunet.training.trainers.bridge import BridgeTrainer
from gdmunet.training.trainers.fidelity import FidelityTrainer
from gdmunet.training.trainers.flow_matching import FlowMatchingTrainer

SIZE = 16
BY_HEART = {
    "epochs": 1, "iterations": 250, "iterations_per_epoch": 250, "learning_rate": 4e-3, "weight_decay": 0.0,
    "ema_decay": 0.98, "spatial_probability": 0.0, "mirror": False, "intensity_augmentation": False,
    "validation_patches": 2,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "options", "bound"),
    [
        (FidelityTrainer, {}, 15),
        (AdversarialTrainer, {"discriminator_width": 16}, 40),
        (FlowMatchingTrainer, {}, 40),
        (FlowMatchingTrainer, {"source": "condition", "solver": "heun"}, 40),
        (BridgeTrainer, {}, 40),
        (BridgeTrainer, {"sampling": "deterministic"}, 40),
    ],
    ids=["fidelity", "adversarial", "flow", "flow from the condition", "bridge", "deterministic bridge"],
)
def test_overfitting_one_phantom_leaves_little_error(tmp_path, kind, options, bound):
    phantom = make_phantom(0, SIZE)
    volumes = CaseVolumes(
        "head", phantom.mr[None], phantom.ct.astype(np.float32), phantom.mask, Geometry((SIZE,) * 3, (11.25,) * 3)
    )
    threes, ones, twos = (3, 3, 3), (1, 1, 1), (2, 2, 2)
    network = NetworkSpec(1, 1, (32, 64, 128), (ones, twos, twos), (threes,) * 3, (2, 2, 2), (2, 2), "plain", "batch")
    configuration = dataclasses.replace(
        toy_configuration(), spacing=(11.25,) * 3, patch_size=(SIZE,) * 3, network=network, target_normalization=HU
    )
    descriptor = DatasetDescriptor({"0": "T1"}, "CT", ".nii.gz", 1, mask=True)
    plans = Plans(
        DATASET, "gdmPlans", "tiny", "ByHeart", "float32", 1.0, descriptor, "0", {"3d_fullres": configuration}, ()
    )
    folders = Folders(tmp_path / "raw", tmp_path / "preprocessed", tmp_path / "results")
    store = CaseStore(folders.preprocessed / DATASET, "gdmPlans", "3d_fullres")
    store.write(prepare_case(volumes, configuration, descriptor), configuration.window_size)
    by_heart = type("ByHeart", (kind,), {"__module__": __name__, **BY_HEART, **options})
    loop = loop_of((plans, folders), by_heart, fold="all")
    loop.train(0)
    copy_weights(loop.state.network, loop.state.average.state)
    predictor = Predictor([loop.state.network], configuration, descriptor, sampler=loop.trainer.sampler)
    predicted = predictor.predict_case(volumes)
    error = np.abs(predicted.array - phantom.ct)[phantom.mask].mean()
    assert error < bound, f"{kind.__name__} {options}: {error:.1f} HU"
