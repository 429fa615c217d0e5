"""An exported network, run by another program, gives the same volume."""

import ast
import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from planned_networks import planned_network
from prediction_samples import SPACING, make_configuration, make_descriptor, make_head, make_plans

from gdmunet.checkpoint import CheckpointMetadata, save_weights
from gdmunet.cli.export_model import main
from gdmunet.errors import GdmError
from gdmunet.inference import Predictor, network_export
from gdmunet.inference.bundle_case import CaseInferer, find_cases
from gdmunet.inference.network_export import (
    DESCRIPTION_FILE,
    NETWORK_FILES,
    NETWORK_FORMAT,
    ExportedNetworkSpec,
    export_network,
)
from gdmunet.inference.trained_models import load_model
from gdmunet.networks import build_network
from gdmunet.results import ResultsFolder
from gdmunet.sampler_spec import SamplerSpec
from gdmunet.serialization import load_json, save_json

PATCH = (16, 16, 16)


@pytest.fixture
def model(tmp_path):
    """Two folds of a network as planning makes it, with an output layer that is not zero."""
    network = planned_network(patch=PATCH, residual_channel=0)
    configuration = make_configuration(PATCH, network=network)
    plans = make_plans(configuration, make_descriptor())
    folder = ResultsFolder(tmp_path / "results").model(plans.dataset_name, "FidelityTrainer", "plain", "3d")
    save_json(plans, folder.plans)
    for fold in ("0", "1"):
        torch.manual_seed(int(fold))
        built = build_network(network)
        torch.nn.init.normal_(built.unet.decoder.seg_layers[-1].weight, std=0.3)
        metadata = CheckpointMetadata("FidelityTrainer", "plain", "3d", fold, 1, 10)
        save_weights(folder.fold(fold).checkpoint("best"), built.state_dict(), network, metadata)
    return folder.path


def predicted_by(run, model):
    """The volume of the model's own windows, each computed by another program."""
    own = Predictor.from_folder(model)
    other = Predictor([run], own.configuration, own.descriptor)
    head = make_head()
    return tuple(one.predict(head, spacing=SPACING).array.astype(float) for one in (own, other))


def by_torch(folder):
    network = torch.export.load(folder / NETWORK_FILES["torch_export"]).module()
    return lambda batch: network(batch)


def by_onnxruntime(folder):
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(folder / NETWORK_FILES["onnx"], providers=["CPUExecutionProvider"])

    def run(batch):
        return torch.from_numpy(session.run(["prediction"], {"condition": batch.numpy()})[0])

    return run


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "load"), [("torch_export", by_torch), ("onnx", by_onnxruntime)])
def test_another_program_gives_the_same_volume(tmp_path, model, kind, load):
    if kind == "onnx":
        pytest.importorskip("onnxscript")
    folder = export_network(model, tmp_path / "out", kind)
    own, other = predicted_by(load(folder), model)
    assert np.abs(own - make_head()).max() > 10  # the network does something
    assert np.abs(own - other).max() < 0.1
    described = load_json(ExportedNetworkSpec, folder / DESCRIPTION_FILE, "exported network", NETWORK_FORMAT)
    assert described.folds == ("0", "1")
    assert (described.channels, described.target, described.window_size) == (("CT",), "CT", PATCH)
    assert described.spacing == SPACING
    assert described.condition_normalization[0].scale == make_configuration().condition_normalization[0].scale


def test_the_command_writes_a_network(tmp_path, model, capsys):
    words = ["-m", str(model), "-o", str(tmp_path / "out"), "--format", "torch_export", "-f", "1"]
    assert main(words) == 0
    assert "gdm_import_model" not in capsys.readouterr().out
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"network.pt2", "network.json"}


def test_a_model_of_several_steps_is_refused(tmp_path, model, monkeypatch):
    loaded = replace(load_model(model), sampler=SamplerSpec("heun", 4))
    monkeypatch.setattr(network_export, "load_model", lambda *_: loaded)
    with pytest.raises(GdmError, match="several steps"):
        export_network(model, tmp_path / "out", "torch_export")


def test_a_full_folder_is_not_replaced(tmp_path, model):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep me")
    with pytest.raises(GdmError, match="not empty"):
        export_network(model, tmp_path / "out", "torch_export")
    assert (tmp_path / "out" / "mine.txt").exists()


BY_MONAI = """
import sys
from monai.bundle import ConfigParser, load, run
from monai.bundle.properties import InferProperties
from monai.utils import BundleProperty, BundlePropertyConfig
names = {"bundle_root": ".", "dataset_dir": sys.argv[1], "output_dir": sys.argv[2]}
config = ConfigParser(ConfigParser.load_config_file("configs/inference.json"))
required = [p[BundlePropertyConfig.ID] for p in InferProperties.values() if p[BundleProperty.REQUIRED]]
assert "evaluator" in required and not [name for name in required if name not in config]
_, metadata, _ = load("bundle", load_ts_module=True, model_file="models/model.ts", bundle_dir="..", device="cpu")
assert metadata["network_data_format"]["outputs"]["pred"]["channel_def"] == {"0": "CT"}
run(config_file="configs/inference.json", meta_file="configs/metadata.json", **names)
assert "gdmunet" not in sys.modules
"""


@pytest.mark.filterwarnings("ignore")
def test_monai_runs_the_bundle_and_gives_the_same_volume(tmp_path, model):
    """Without gdmunet, on a grid that has to be turned and resampled, with and without a mask."""
    for package in ("monai", "ignite", "nibabel"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f'{package} is not installed: pip install "gdmunet[monai]"')
    bundle = export_network(model, tmp_path / "bundle", "monai")
    head = sitk.GetImageFromArray(make_head((28, 30, 26)))
    head.SetSpacing((1.3, 1.1, 3.0))
    head.SetOrigin((5, -20, 33))
    head.SetDirection((0, 1, 0, -1, 0, 0, 0, 0, -1))
    (tmp_path / "in").mkdir()
    sitk.WriteImage(head, tmp_path / "in" / "p01.nii.gz")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-W", "ignore", "-c", BY_MONAI, "../in", "../out"]
    ran = subprocess.run(command, cwd=bundle, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    own = Predictor.from_folder(model).predict(tmp_path / "in" / "p01.nii.gz")
    other = sitk.ReadImage(tmp_path / "out" / "p01.nii.gz")
    assert np.abs(own.array - sitk.GetArrayFromImage(other)).max() < 0.1
    assert np.abs(own.array - sitk.GetArrayFromImage(head)).max() > 10
    np.testing.assert_allclose(other.GetDirection(), head.GetDirection(), atol=1e-6)
    np.testing.assert_allclose(other.GetOrigin(), head.GetOrigin(), atol=1e-4)


class Placed(SimpleNamespace):
    """As much of MONAI's MetaTensor as an inferer looks at."""

    def __init__(self, tensor, meta=None, applied_operations=None, affine=None):
        super().__init__(tensor=tensor, meta=meta, applied_operations=applied_operations, affine=affine, is_batch=True)

    def as_tensor(self):
        return self.tensor


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("masked", [False, True])
def test_the_inferer_of_a_bundle_gives_the_same_volume(tmp_path, model, masked):
    bundle = export_network(model, tmp_path / "bundle", "monai")
    network = torch.jit.load(bundle / NETWORK_FILES["monai"])
    head, spacing = make_head(), (2.6, 1.1, 1.0)
    body = None
    if masked:
        body = np.zeros(head.shape, dtype=bool)
        body[4:15, 5:18, 6:20] = True
    own = Predictor.from_folder(model).predict(head, mask=body, spacing=spacing)
    affine = torch.diag(torch.tensor([*spacing, 1.0], dtype=torch.float64))[None]
    mask = None if body is None else torch.from_numpy(body)[None, None]
    inferer = CaseInferer(bundle / DESCRIPTION_FILE)
    other = inferer(Placed(torch.from_numpy(head)[None, None], affine=affine), network, mask=mask).tensor
    assert np.abs(own.array - other[0, 0].numpy()).max() < 0.1
    assert np.abs(own.array - head).max() > 10


@pytest.mark.filterwarnings("ignore")
def test_the_code_of_a_bundle_needs_what_its_metadata_names(tmp_path, model):
    bundle = export_network(model, tmp_path / "bundle", "monai")
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    needed = {"torch", "numpy", "scikit-image", "skimage", "scripts", *metadata["required_packages_version"]}
    imported = set()
    for file in (bundle / "scripts").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            if isinstance(node, ast.ImportFrom):
                imported.add(node.module.split(".")[0])
    assert imported - needed <= set(sys.stdlib_module_names)
    assert {"scipy", "skimage", "scripts"} <= imported


def test_a_bundle_finds_its_cases(tmp_path):
    (tmp_path / "masks").mkdir()
    for name in ("p01_0000.nii.gz", "p01_0001.nii.gz", "masks/p01.nii.gz"):
        (tmp_path / name).touch()
    [case] = find_cases(tmp_path, 2, tmp_path / "masks")
    assert [file.rsplit("_", 1)[1] for file in case["image"]] == ["0000.nii.gz", "0001.nii.gz"]
    assert case["mask"].endswith("masks/p01.nii.gz")
    assert len(find_cases(tmp_path, 1)) == 2
    (tmp_path / "p02_0000.nii.gz").touch()
    with pytest.raises(GdmError, match="a file of a case is missing"):
        find_cases(tmp_path, 2)
