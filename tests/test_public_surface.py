"""The public names of gdmunet: lazy, complete, and the commands' equals."""

import inspect
import subprocess
import sys

import numpy as np
import pytest

import gdmunet
from gdmunet.conversion.phantoms import make_phantom_demo
from gdmunet.imageio import read_volume


def modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_the_import_loads_nothing_beside_the_package_itself():
    loaded = modules_after("import gdmunet")
    assert not {name for name in loaded if name.startswith("gdmunet.")} - {"gdmunet.version"}
    assert not loaded & {"torch", "numpy", "SimpleITK", "scipy", "skimage", "pydicom", "matplotlib"}


def test_an_error_can_be_caught_without_loading_torch():
    assert "torch" not in modules_after("from gdmunet import GdmError, train")


@pytest.mark.parametrize("name", gdmunet.__all__)
def test_every_public_name_is_there_and_documented(name):
    value = getattr(gdmunet, name)
    assert name in dir(gdmunet)
    assert isinstance(value, str) or inspect.getdoc(value)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Predicter'"):
        _ = gdmunet.Predicter


def test_a_wrong_option_is_refused_as_on_the_command_line():
    with pytest.raises(gdmunet.GdmError, match="num_gpus: 0 is not at least 1"):
        gdmunet.train(dataset=1, configuration="2d", num_gpus=0)
    with pytest.raises(TypeError, match="epoch"):
        gdmunet.train(dataset=1, configuration="2d", epoch=3)


def test_a_data_set_is_planned_trained_predicted_and_scored_from_python(tmp_path):
    raw, preprocessed, results = (tmp_path / name for name in ("raw", "preprocessed", "results"))
    dataset = make_phantom_demo(raw, cases=4, size=16, show_progress=False)
    quiet = {"show_progress": False}
    (plans,) = gdmunet.plan_and_preprocess(
        dataset=502, planner="tiny", configuration=["3d_fullres"], trainer="FidelityTrainer", device="cpu",
        raw=raw, preprocessed=preprocessed, **quiet,
    )  # fmt: skip
    model = gdmunet.train(
        dataset=502, configuration="3d_fullres", trainer="FidelityTrainer", plans=plans.name, device="cpu",
        epochs=1, settings={"iterations_per_epoch": 2, "validation_patches": 2}, processes=0,
        raw=raw, preprocessed=preprocessed, results=results, **quiet,
    )  # fmt: skip
    done = gdmunet.predict(
        input=dataset / "imagesTs", output=tmp_path / "out", model=model, device="cpu", results=results, **quiet
    )
    summary = gdmunet.evaluate(
        reference=dataset / "targetsTs", prediction=tmp_path / "out", mask=dataset / "masksTs", **quiet
    )
    assert set(done.predicted) == set(summary.cases) == {"head_003"}
    predicted, target = (
        read_volume(folder / "head_003.nii.gz").array for folder in (tmp_path / "out", dataset / "targetsTs")
    )
    body = read_volume(dataset / "masksTs" / "head_003.nii.gz").array > 0
    assert summary.mean["mae"] == pytest.approx(np.abs(predicted - target)[body].mean(), rel=1e-5)
