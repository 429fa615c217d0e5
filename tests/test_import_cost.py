"""Commands import what they use: slow libraries stay out of the processes that do not need them.

Each row is imported in a process of its own. CPU seconds are in `benchmarks/import_cost.py`.
"""

import json
import subprocess
import sys

import pytest

# Plotting, tables, statistics, DICOM, and PyTorch's compiler with its algebra: some tenths of a second to seconds each.
SELDOM = {"matplotlib", "pandas", "sklearn", "skimage.transform", "pydicom", "scipy.stats", "scipy.signal", "sympy"}
COMPILER = {"torch._dynamo", "torch._inductor"}
TORCH = {"torch", "torchvision", "dynamic_network_architectures"}

BUILD_ON_META = """
import torch
from gdmunet.networks import build_network
from gdmunet.network_spec import NetworkSpec
with torch.device("meta"):
    build_network(NetworkSpec(
        block="plain", norm="batch", in_channels=1, out_channels=1, features=(8, 16, 32),
        strides=((1, 1, 1), (2, 2, 2), (2, 2, 2)), kernel_sizes=((3, 3, 3),) * 3, encoder_blocks=(2, 2, 2),
        decoder_blocks=(2, 2), residual_channel=0,
    ))
"""

ROWS = {
    "gdm_train": ("import gdmunet.workflows.train", SELDOM | COMPILER),
    "a loader of patches": ("import gdmunet.training.patches.stream", SELDOM | COMPILER),
    "gdm_plan_experiment": ("import gdmunet.workflows.plan_and_preprocess", SELDOM | COMPILER | {"blosc2"}),
    "gdm_extract_fingerprint, gdm_preprocess": ("import gdmunet.workflows.preparation", SELDOM | TORCH),
    "their workers": ("import gdmunet.workflows.preprocess, gdmunet.preprocessing.fingerprint", SELDOM | TORCH),
    "gdm_predict": ("import gdmunet.workflows.predict", SELDOM | COMPILER | {"blosc2"}),
    "gdm_evaluate": ("import gdmunet.workflows.evaluate", SELDOM | COMPILER),
    "a network without data": (BUILD_ON_META, SELDOM | COMPILER),
}


@pytest.mark.parametrize("row", ROWS)
def test_does_not_import(row: str) -> None:
    statement, unwanted = ROWS[row]
    program = f"import sys, json\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {name for name in json.loads(done.stdout) if name in unwanted or name.partition(".")[0] in unwanted}
    assert not loaded
