"""The module for 3D Slicer with a stand-in for Slicer: its command, its files, its errors, and a real prediction."""

import importlib.util
import os
import shlex
import sys
import types
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import SimpleITK as sitk
from prediction_samples import make_head, make_model

from gdmunet.inference import Predictor
from gdmunet.inference.export import whole_numbers
from gdmunet.workflows.requests.prediction import PredictRequest

MODULE = Path(__file__).parents[2] / "integrations" / "slicer" / "GdmPredict" / "GdmPredict.py"
PREDICT = shlex.join([sys.executable, "-c", "import sys; from gdmunet.cli.predict import main; sys.exit(main())"])


class Node:
    """A volume node that remembers its image."""

    def __init__(self, image, name="MR"):
        self.image, self.name = image, name

    def GetName(self):
        return self.name


@pytest.fixture
def module(monkeypatch):
    """The module, loaded beside a stand-in for Slicer; `events` counts how often the window was kept alive."""
    slicer, scripted = types.ModuleType("slicer"), types.ModuleType("slicer.ScriptedLoadableModule")
    for name in ("", "Widget", "Logic"):
        kind = type(f"ScriptedLoadableModule{name}", (), {"__init__": lambda _self, _parent=None: None})
        setattr(scripted, kind.__name__, kind)

    def save(node, path):
        sitk.WriteImage(node.image, path)
        return True

    slicer.events, slicer.shown = [], []
    slicer.app = types.SimpleNamespace(processEvents=lambda: slicer.events.append(1))
    slicer.util = types.SimpleNamespace(
        saveNode=save,
        loadVolume=lambda path, properties: Node(sitk.ReadImage(path), properties["name"]),
        setSliceViewerLayers=lambda background: slicer.shown.append(background),
        startupEnvironment=lambda: dict(os.environ),
    )
    monkeypatch.setitem(sys.modules, "slicer", slicer)
    monkeypatch.setitem(sys.modules, "slicer.ScriptedLoadableModule", scripted)
    specification = importlib.util.spec_from_file_location("GdmPredict", MODULE)
    loaded = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, "GdmPredict", loaded)
    specification.loader.exec_module(loaded)
    return loaded


@pytest.fixture
def head():
    image = sitk.GetImageFromArray(make_head())
    image.SetSpacing((1.0, 1.5, 2.0))
    image.SetOrigin((3.0, -4.0, 5.0))
    return Node(image)


@pytest.fixture
def model(tmp_path):
    return make_model(tmp_path / "results")


def test_a_loaded_volume_is_predicted_and_its_result_loaded(module, head, model, tmp_path):
    said = []
    result = module.GdmPredictLogic().predict(
        [head], module.PredictionOptions(str(model), PREDICT, "cpu"), say=said.append
    )
    sitk.WriteImage(head.image, str(tmp_path / "head.nii.gz"))
    expected = Predictor.from_folder(model, device="cpu").predict(tmp_path / "head.nii.gz")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(result.image), whole_numbers(expected.array))
    assert result.image.GetOrigin() == pytest.approx(head.image.GetOrigin())
    assert result.name == "MR predicted"
    assert sys.modules["slicer"].shown == [result]
    assert sys.modules["slicer"].events
    assert said


def test_the_command_line_is_one_that_gdm_predict_takes(module, tmp_path):
    options = module.PredictionOptions("my model", "conda run -n gdm gdm_predict", "cuda")
    words = module.command_line(tmp_path / "in", tmp_path / "out", options, tmp_path / "masks")
    assert words[:5] == ["conda", "run", "-n", "gdm", "gdm_predict"]
    from gdmunet.cli.flags import parser_of, request_from

    made = request_from(PredictRequest, parser_of(PredictRequest).parse_args(words[5:]))
    assert (made.paths, made.output, made.mask_path) == ((tmp_path / "in",), tmp_path / "out", tmp_path / "masks")
    assert (made.model, made.device) == (Path("my model"), "cuda")


def test_a_failure_shows_what_the_command_said_last(module, head, model):
    fails = shlex.join([sys.executable, "-c", "print('long ago'); raise SystemExit('error: the remedy is here')"])
    with pytest.raises(module.PredictionError, match="remedy is here"):
        module.GdmPredictLogic().predict([head], module.PredictionOptions(str(model), fails))
    silent = shlex.join([sys.executable, "-c", "pass"])
    with pytest.raises(module.PredictionError, match="without a prediction"):
        module.GdmPredictLogic().predict([head], module.PredictionOptions(str(model), silent))


def test_what_is_missing_is_said_before_anything_runs(module, head, model, tmp_path):
    logic = module.GdmPredictLogic()
    with pytest.raises(module.PredictionError, match="choose a volume"):
        logic.predict([], module.PredictionOptions(str(model)))
    with pytest.raises(module.PredictionError, match=r"plans\.json"):
        logic.predict([head], module.PredictionOptions(str(tmp_path)))
    with pytest.raises(module.PredictionError, match="cannot be started"):
        logic.predict([head], module.PredictionOptions(str(model), "no_such_gdm_predict"))


def test_cancelling_ends_the_command(module, head, model):
    endless = shlex.join([sys.executable, "-uc", "import time; print('started'); time.sleep(600)"])
    said = []
    with pytest.raises(module.CancelledError):
        module.GdmPredictLogic().predict(
            [head], module.PredictionOptions(str(model), endless), say=said.append, cancelled=lambda: bool(said)
        )
    assert said == ["started"]


def test_masks_and_further_channels_lie_where_gdm_predict_looks(module, head, model):
    lists = shlex.join([
        sys.executable, "-c",
        "import sys; from pathlib import Path; i, o, m = (Path(sys.argv[sys.argv.index(f) + 1]) for f in ('-i', '-o', "
        "'--mask')); n = lambda f: str(sorted(p.name for p in f.iterdir())); "
        "raise SystemExit(n(i) + n(m))",
    ])  # fmt: skip
    with pytest.raises(module.PredictionError) as error:
        module.GdmPredictLogic().predict([head, head], module.PredictionOptions(str(model), lists), mask=head)
    assert str(error.value) == "['case_0000.nii.gz', 'case_0001.nii.gz']['case.nii.gz']"


def test_the_panel_says_why_a_prediction_failed(module, monkeypatch, tmp_path):
    shown = mock.Mock()
    monkeypatch.setitem(sys.modules, "qt", mock.MagicMock())
    monkeypatch.setitem(sys.modules, "ctk", mock.MagicMock())
    monkeypatch.setattr(sys.modules["slicer"], "qMRMLNodeComboBox", mock.MagicMock(), raising=False)
    monkeypatch.setattr(sys.modules["slicer"], "mrmlScene", None, raising=False)
    monkeypatch.setattr(sys.modules["slicer"].util, "errorDisplay", shown, raising=False)
    monkeypatch.setattr(module.ScriptedLoadableModuleWidget, "setup", lambda _self: None, raising=False)
    widget = module.GdmPredictWidget()
    widget.layout = mock.MagicMock()
    widget.setup()
    widget.model.currentPath, widget.program.text, widget.device.currentIndex = str(tmp_path), "gdm_predict", 0
    widget.on_button()
    assert "plans.json" in shown.call_args.args[0]
    assert widget.status.text == "failed"
    assert widget.button.text == "Predict"
    assert not widget.running
