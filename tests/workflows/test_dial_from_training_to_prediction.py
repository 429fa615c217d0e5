"""A model with a dial from training to prediction: the default that validation chose, flags, refusals, archives."""

import json

import numpy as np
import pytest
from test_train import SHORT, folders, request  # noqa: F401

from gdmunet.checkpoint import load_weights
from gdmunet.errors import GdmError
from gdmunet.evaluation.report.sources import read_content
from gdmunet.evaluation.scores.dial_curve import DialCurve
from gdmunet.evaluation.scores.summary import load_summary
from gdmunet.inference.archive import export_model, import_model
from gdmunet.inference.cases.dicom_output import series_label
from gdmunet.inference.cases.memory import gather_case
from gdmunet.inference.predictor import Predictor
from gdmunet.inference.whole_dial import predict_dial
from gdmunet.networks import build_network
from gdmunet.results import ModelFolder
from gdmunet.serialization import load_json
from gdmunet.workflows.predict import predict
from gdmunet.workflows.requests.prediction import PredictRequest
from gdmunet.workflows.train import train

DIAL = SHORT | {"feature_start": "0.5", "moment_batches": "2", "minimum_tokens": "2", "tokens_per_patch": "32"}


def test_a_dial_from_training_to_prediction(folders, tmp_path):  # noqa: F811
    model = ModelFolder(train(request(trainer="GDMTrainerDial", settings=DIAL), folders))
    fold = model.fold(0)
    curve = load_json(DialCurve, fold.dial())
    stored = {load_weights(fold.checkpoint(name)).metadata.realism for name in ("final", "best", "latest")}
    assert stored == {curve.chosen}
    assert curve.frechet is not None
    assert len(curve.frechet) == len(curve.realism)
    assert curve.encoder
    assert read_content(fold.path).dial == curve
    # The curve at the chosen place is the score of the predictions that were written with it (in whole HU).
    chosen = curve.mae[curve.realism.index(curve.chosen)]
    assert load_summary(fold.summary()).mean["mae"] == pytest.approx(chosen, abs=0.5)
    assert json.loads((fold.validation() / "prediction_settings.json").read_text())["realism"] == curve.chosen

    # The default travels with an archive.
    unpacked = import_model(export_model(model.path, tmp_path / "model.zip"), tmp_path / "elsewhere")
    assert Predictor.from_folder(unpacked).realism == curve.chosen
    condition = str(folders.raw / model.dataset / "imagesTr" / "case_3_0000.nii.gz")
    ends = [Predictor.from_folder(unpacked, realism=place).predict(condition).array for place in (0.0, 1.0)]
    assert not np.array_equal(*ends)
    # One pass gives all places.
    reader = Predictor.from_folder(unpacked, realism=0.25, tta=True)
    prepared = reader.prepare(gather_case(condition, reader.descriptor.channels, None, None, None))
    expected = reader.predict_network_units(prepared)
    found = predict_dial(reader, prepared).at(0.25)
    assert found.windows == expected.windows
    np.testing.assert_allclose(found.array, expected.array, atol=1e-5)
    assert np.abs(found.array - predict_dial(reader, prepared).faithful).max() > 1e-4
    label = series_label(Predictor.from_folder(unpacked, realism=0.25))
    assert label.description == "Synthetic CT, realism 0.25"
    assert "realism 0.25 of 0 to 1" in label.derivation

    asked = PredictRequest(
        input=(folders.raw / model.dataset / "imagesTr",), output=tmp_path / "out", model=unpacked, realism=1.0,
        device="cpu", show_progress=False,
    )  # fmt: skip
    predict(asked, folders)
    assert json.loads((tmp_path / "out" / "prediction_settings.json").read_text())["realism"] == 1.0


def test_realism_of_a_model_without_a_dial_is_refused(folders):  # noqa: F811
    model = train(request(), folders)
    predictor = Predictor.from_folder(model)
    assert predictor.realism is None
    assert "realism" not in series_label(predictor).description
    with pytest.raises(GdmError, match=r"no dial[\s\S]*predict without --realism"):
        Predictor.from_folder(model, realism=0.0)


def test_all_members_need_the_dial_and_its_places_are_0_to_1(folders):  # noqa: F811
    plans = Predictor.from_folder(train(request(), folders))
    configuration, descriptor = plans.configuration, plans.descriptor
    without = build_network(configuration.network)
    spec = {**vars(configuration.network), "dial_channels": 4}
    having = build_network(type(configuration.network)(**spec))
    for realism in (None, 0.5):
        with pytest.raises(GdmError, match="not all networks have a dial"):
            Predictor([without, having], configuration, descriptor, realism=realism)
    assert Predictor([having, having], configuration, descriptor).realism == 0.0
    with pytest.raises(GdmError, match="no such place"):
        Predictor([having], configuration, descriptor, realism=1.5)
