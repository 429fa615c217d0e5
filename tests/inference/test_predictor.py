import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from prediction_samples import SPACING, body_of, make_configuration, make_descriptor, make_head, make_model

from gdmunet.errors import GdmError
from gdmunet.geometry import AxisMap, Geometry
from gdmunet.imageio import CaseVolumes, write_volume
from gdmunet.inference import Predictor
from gdmunet.networks import build_network
from gdmunet.volume_formats.itk import to_image

GEOMETRY = Geometry((20, 22, 24), SPACING, (10.0, -20.0, 30.0))


def identity(batch: torch.Tensor) -> torch.Tensor:
    return batch[:, :1]


def identity_predictor(patch=(8, 8, 8), channels=1, **options) -> Predictor:
    return Predictor([identity], make_configuration(patch, channels), make_descriptor(channels), **options)


def random_predictor(**options) -> Predictor:
    torch.manual_seed(5)
    network = build_network(make_configuration().network)
    return Predictor([network], make_configuration(), make_descriptor(), **options)


@pytest.mark.parametrize("patch", [(8, 8, 8), (32, 32, 32), (9, 12, 7), (8, 8)])
def test_the_identity_network_returns_a_ct_within_one_hu(head, patch):
    prediction = identity_predictor(patch).predict(head, body_of(head), SPACING)
    assert prediction.array.shape == head.shape
    assert np.abs(prediction.array - head).max() < 1


@pytest.mark.parametrize(("order", "flipped"), [((0, 1, 2), (0, 0, 0)), ((2, 0, 1), (1, 0, 1)), ((1, 0, 2), (0, 1, 1))])
@pytest.mark.parametrize("transpose", [(0, 1, 2), (1, 2, 0)])
def test_the_identity_holds_in_other_orientations_and_axis_orders(head, order, flipped, transpose):
    axes = AxisMap(order, tuple(map(bool, flipped)))
    spacing = tuple(SPACING[i] for i in transpose)
    configuration = make_configuration(transpose=transpose, spacing=spacing)
    volumes = CaseVolumes(
        "case", axes.apply(head)[None], None, axes.apply(body_of(head)), axes.apply_to_geometry(GEOMETRY)
    )
    prediction = Predictor([identity], configuration, make_descriptor()).predict_case(volumes)
    assert prediction.geometry == volumes.geometry
    assert np.abs(prediction.array - axes.apply(head)).max() < 1


def test_the_stored_orientation_does_not_change_the_prediction_in_world_space(head):
    """All eight flips and six axis orders, with a network whose answer depends on direction and position."""
    predictor = random_predictor()
    reference = predictor.predict_case(CaseVolumes("case", head[None], None, body_of(head), GEOMETRY))
    assert np.ptp(reference.array[body_of(head)]) > 50  # it does predict something
    for order in itertools.permutations(range(3)):
        for flipped in itertools.product((False, True), repeat=3):
            axes = AxisMap(order, flipped)
            stored = to_image(np.ascontiguousarray(axes.apply(head)), axes.apply_to_geometry(GEOMETRY))
            mask = to_image(np.ascontiguousarray(axes.apply(body_of(head))), axes.apply_to_geometry(GEOMETRY))
            prediction = predictor.predict(stored, mask)
            back = axes.inverse()
            assert back.apply_to_geometry(prediction.geometry).difference(GEOMETRY) is None
            np.testing.assert_allclose(back.apply(prediction.array), reference.array, atol=0.01)


def test_array_image_path_and_lists_give_the_same(tmp_path, head):
    predictor = random_predictor()
    geometry = Geometry(head.shape, SPACING)
    image, mask = to_image(head, geometry), body_of(head)
    path, mask_path = tmp_path / "case_07_0000.nii.gz", tmp_path / "mask.nii.gz"
    write_volume(path, head, geometry)
    write_volume(mask_path, mask, geometry)
    reference = predictor.predict(head, mask, SPACING).array
    for condition, body in [
        (image, to_image(mask, geometry)),
        (path, mask_path),
        (str(path), str(mask_path)),
        ([path], mask_path),
        ([image], mask_path),
    ]:
        np.testing.assert_allclose(predictor.predict(condition, body).array, reference, atol=1e-2)
    assert predictor.predict(path).identifier == "case_07"
    assert predictor.predict(image, identifier="mine").identifier == "mine"


def test_channels_are_given_as_a_list(head):
    predictor = identity_predictor(channels=2)
    prediction = predictor.predict([head, make_head(seed=1)], body_of(head), SPACING)
    assert np.abs(prediction.array - head).max() < 1
    with pytest.raises(GdmError, match=r"number of condition channels[\s\S]*1 volume[\s\S]*2: CT, CT"):
        predictor.predict(head, spacing=SPACING)
    with pytest.raises(GdmError, match=r"not lie on the grid[\s\S]*shape \(20, 22, 23\)"):
        predictor.predict([head, head[:, :, 1:]], spacing=SPACING)


def test_unusable_input_is_refused(head):
    predictor = identity_predictor()
    with pytest.raises(GdmError, match="how large its voxels are"):
        predictor.predict(head)
    with pytest.raises(GdmError, match="not a three-dimensional"):
        predictor.predict(head[None], spacing=SPACING)
    with pytest.raises(GdmError, match="not a three-dimensional"):
        predictor.predict(sitk.Image([8, 8], sitk.sitkFloat32))
    with pytest.raises(GdmError, match="not numbers"):
        predictor.predict(np.where(head > 0, np.nan, head), spacing=SPACING)
    with pytest.raises(GdmError, match="the mask has no voxel"):
        predictor.predict(head, np.zeros_like(head), SPACING)
    with pytest.raises(GdmError, match=r"the mask does not lie on the grid[\s\S]*case: mine"):
        predictor.predict(head, body_of(head)[1:], SPACING, identifier="mine")
    with pytest.raises(GdmError, match="cannot be predicted"):
        predictor.predict(7)


def test_outside_the_body_is_air_and_inside_the_valid_range(head):
    def extreme(batch: torch.Tensor) -> torch.Tensor:
        return 1e4 * torch.sign(batch[:, :1])

    body = body_of(head)
    array = Predictor([extreme], make_configuration(), make_descriptor()).predict(head, body, SPACING).array
    assert (array[~body] == -1024).all()
    assert array.min() >= -1024
    assert array.max() == 3071


def test_a_volume_far_smaller_than_the_patch_is_predicted(head):
    small = head[8:11, 8:12, 8:13]
    prediction = identity_predictor((16, 16, 16), accept=("size",)).predict(small, np.ones_like(small), SPACING)
    assert np.abs(prediction.array - small).max() < 1


def test_a_volume_smaller_than_the_patch_lies_in_air_as_in_training(head):
    seen = []

    def network(batch: torch.Tensor) -> torch.Tensor:
        seen.append(batch.clone())
        return batch[:, :1]

    small = head[8:11, 8:12, 8:13]
    predictor = Predictor([network], make_configuration((16, 16, 16)), make_descriptor(), accept=("size",))
    predictor.predict(small, np.ones_like(small), SPACING)
    assert seen[0][0, 0, 0, 0, 0].item() == pytest.approx((-1024 + 100) / 400)


def test_another_spacing_is_resampled_and_brought_back():
    head = make_head((24, 24, 24))
    predictor = identity_predictor()
    prediction = predictor.predict(head, body_of(head), (1.0, 1.0, 1.0))
    assert prediction.array.shape == head.shape
    assert prediction.geometry.spacing == (1.0, 1.0, 1.0)
    assert prediction.windows.total > 1


def test_folds_are_averaged(head):
    plus, minus = (lambda b: b[:, :1] + 0.5), (lambda b: b[:, :1] - 0.25)
    predictor = Predictor([plus, minus], make_configuration(), make_descriptor())
    body = body_of(head)
    array = predictor.predict(head, body, SPACING).array
    np.testing.assert_allclose(array[body], head[body] + 400 * 0.125, atol=0.01)


def test_uncertainty_is_the_deviation_of_the_members_in_hu(head):
    networks = [lambda b, c=c: b[:, :1] * (1 + c) for c in (0.0, 0.1, 0.4)]
    configuration, descriptor, body = make_configuration(), make_descriptor(), body_of(head)
    prediction = Predictor(networks, configuration, descriptor).predict(head, body, SPACING, uncertainty=True)
    network_units = (head + 100) / 400
    expected = np.std([network_units * (1 + c) for c in (0.0, 0.1, 0.4)], axis=0, ddof=1) * 400
    assert prediction.uncertainty.dtype == np.float32
    np.testing.assert_allclose(prediction.uncertainty[body], expected[body], atol=0.05)
    assert (prediction.uncertainty[~body] == 0).all()
    mean = Predictor(networks, configuration, descriptor).predict(head, body, SPACING).array
    np.testing.assert_allclose(prediction.array, mean, atol=0.01)


def test_flips_are_members_too_and_their_mean_is_the_tta_prediction(head):
    predictor, body = random_predictor(tta=True), body_of(head)
    with_map = predictor.predict(head, body, SPACING, uncertainty=True)
    plain = predictor.predict(head, body, SPACING)
    assert plain.uncertainty is None
    assert with_map.windows.predicted == 8 * plain.windows.predicted
    np.testing.assert_allclose(with_map.array, plain.array, atol=0.05)
    assert with_map.uncertainty[body].mean() > 1


def test_one_member_has_no_uncertainty(head):
    with pytest.raises(GdmError, match=r"one network[\s\S]*--tta"):
        random_predictor().predict(head, spacing=SPACING, uncertainty=True)


def test_a_slice_network_sees_slices(head):
    seen = []

    def network(batch: torch.Tensor) -> torch.Tensor:
        seen.append(batch.shape)
        return batch

    predictor = Predictor([network], make_configuration((8, 8)), make_descriptor())
    predictor.predict(head, body_of(head), SPACING)
    assert all(shape[1:] == (1, 8, 8) and shape[0] <= 2 for shape in seen)


@pytest.mark.parametrize("patch", [(8, 8, 8), (8, 8)])
def test_a_model_folder_is_all_that_prediction_needs(tmp_path, head, patch):
    folder = make_model(tmp_path, patch=patch)
    body = body_of(head)
    both = Predictor.from_folder(folder).predict(head, body, SPACING)
    each = [Predictor.from_folder(folder, (k,)).predict(head, body, SPACING).array for k in (0, "1")]
    assert np.abs(each[0] - each[1]).max() > 1
    # Clipping to the valid range comes after the mean of the folds.
    unclipped = np.all([(a > -1024) & (a < 3071) for a in each], axis=0) & body
    np.testing.assert_allclose(both.array[unclipped], np.mean(each, axis=0)[unclipped], atol=0.05)


def test_folds_and_checkpoints_that_are_not_there_are_named(model_folder):
    with pytest.raises(GdmError, match=r"fold 4 has no checkpoint best[\s\S]*fold 0: best; fold 1: best"):
        Predictor.from_folder(model_folder, (0, 4))
    with pytest.raises(GdmError, match=r"no fold has this checkpoint"):
        Predictor.from_folder(model_folder, checkpoint="final")
    with pytest.raises(GdmError, match="unknown checkpoint"):
        Predictor.from_folder(model_folder, checkpoint="newest")
    with pytest.raises(GdmError, match="not a model folder"):
        Predictor.from_folder(model_folder / "fold_0")


def test_the_fold_all_is_a_fold(tmp_path):
    folder = make_model(tmp_path, ("all",), checkpoint="final")
    assert Predictor.from_folder(folder, "all", "final").source.folds == ("all",)
    assert Predictor.from_folder(folder, checkpoint="final").source.folds == ("all",)


def test_plans_of_another_version_or_name_are_refused(model_folder):
    file = model_folder / "plans.json"
    plans = json.loads(file.read_text())
    file.write_text(json.dumps({**plans, "name": "other"}))
    with pytest.raises(GdmError, match=r"does not belong to the plans[\s\S]*found: plain[\s\S]*expected: other"):
        Predictor.from_folder(model_folder)
    file.write_text(json.dumps({**plans, "version": 99}))
    with pytest.raises(GdmError, match=r"newer version[\s\S]*99"):
        Predictor.from_folder(model_folder)


def test_a_truncated_checkpoint_is_named(model_folder):
    file = model_folder / "fold_1" / "checkpoint_best.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(GdmError, match=r"damaged[\s\S]*fold_1"):
        Predictor.from_folder(model_folder)


def test_an_absent_device_is_named():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(GdmError, match="cuda is not available"):
        identity_predictor(device="cuda")


def test_inference_does_not_import_training():
    code = "import sys, gdmunet.inference; sys.exit(any(m.startswith('gdmunet.training') for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_networks_are_compiled_if_asked(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda network: compiled.append(network) or network)
    network = build_network(make_configuration().network)
    Predictor([network], make_configuration(), make_descriptor())
    assert not compiled
    Predictor([network], make_configuration(), make_descriptor(), compiled=True)
    assert compiled == [network]
