"""Samplers on problems with a known answer, and volumes drawn window by window without seams."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from prediction_samples import SPACING, body_of, make_configuration, make_descriptor, make_model
from torch import nn

from gdmunet.checkpoint import CheckpointMetadata, load_weights, save_weights
from gdmunet.cli.predict import main as predict_main
from gdmunet.errors import GdmError
from gdmunet.geometry import Geometry
from gdmunet.imageio import CaseVolumes, read_volume, write_volume
from gdmunet.inference import Predictor, samplers
from gdmunet.inference.samplers import (
    Surroundings,
    TimedNetwork,
    draw_sample,
    normal_fields,
    sample_patches,
    sample_volume,
    with_steps,
)
from gdmunet.networks import build_network
from gdmunet.sampler_spec import ONE_STEP, SamplerSpec
from gdmunet.serialization import from_json, to_json

COUNT = 40_000
TARGET_MEAN, TARGET_SPREAD = 2.0, 0.5
FLOW = SamplerSpec("euler", 10)


def gaussian_estimate(mean, spread, source_mean=0.0, source_spread=1.0):
    """E[target | state] on the path (1 - t) source + t target of two independent Gaussians."""

    def estimate(state, time):
        at = (1 - time) * source_mean + time * mean
        variance = (1 - time) ** 2 * source_spread**2 + time**2 * spread**2
        return mean + time * spread**2 / variance * (state - at)

    return estimate


def bridge_estimate(source, mean, spread, noise):
    """E[target | state, source] where the target is N(mean, spread^2) whatever the source."""

    def estimate(state, time):
        scattered = (state - (1 - time) * source - time * mean) * time * spread**2
        return mean + scattered / (time**2 * spread**2 + noise**2 * time * (1 - time) + 1e-12)

    return estimate


def normal(seed=0):
    generator = np.random.default_rng(seed)
    return lambda: generator.standard_normal(COUNT)


@pytest.mark.parametrize(("name", "tolerance"), [("euler", 0.01), ("heun", 0.01), ("bridge_deterministic", 0.01)])
def test_the_flow_from_noise_reaches_mean_and_variance(name, tolerance):
    spec, source = SamplerSpec(name, 100), normal()()
    found = draw_sample(spec, gaussian_estimate(TARGET_MEAN, TARGET_SPREAD), source, normal())
    assert found.mean() == pytest.approx(TARGET_MEAN, abs=0.02)
    assert found.std() == pytest.approx(TARGET_SPREAD, abs=tolerance)


def test_heun_needs_fewer_steps_than_euler():
    """Each sample against the exact flow of two Gaussians: mean + spread * source."""
    source = normal()()
    exact = TARGET_MEAN + TARGET_SPREAD * source
    errors = {}
    for name in ("euler", "heun"):
        found = draw_sample(SamplerSpec(name, 10), gaussian_estimate(TARGET_MEAN, TARGET_SPREAD), source, normal())
        errors[name] = np.abs(found - exact).mean()
    assert errors["heun"] < 0.3 * errors["euler"]


def test_the_stochastic_bridge_reaches_mean_and_variance_from_a_fixed_source():
    """Every sample starts at one value of the source: all spread comes from the bridge's noise."""
    spec, source = SamplerSpec("bridge_stochastic", 200, 0, 0.8), np.full(COUNT, -1.0)
    found = draw_sample(spec, bridge_estimate(source, TARGET_MEAN, TARGET_SPREAD, 0.8), source, normal())
    assert found.mean() == pytest.approx(TARGET_MEAN, abs=0.02)
    assert found.std() == pytest.approx(TARGET_SPREAD, rel=0.03)


def test_the_deterministic_bridge_transports_a_population():
    """Without noise the bridge is the rectified flow from its source."""
    source = -1 + 0.3 * normal()()
    spec = SamplerSpec("bridge_deterministic", 200, 0)
    found = draw_sample(spec, gaussian_estimate(TARGET_MEAN, TARGET_SPREAD, -1, 0.3), source, normal(1))
    assert found.mean() == pytest.approx(TARGET_MEAN, abs=0.02)
    assert found.std() == pytest.approx(TARGET_SPREAD, rel=0.03)


@pytest.mark.parametrize("name", ["euler", "heun", "bridge_deterministic", "bridge_stochastic"])
def test_as_many_passes_as_the_sampler_says(name):
    spec, times = SamplerSpec(name, 5, 0, 0.1), []

    def estimate(_state, time):
        times.append(time)
        return np.ones(3)

    found = draw_sample(spec, estimate, np.zeros(3), lambda: np.ones(3))
    assert len(times) == spec.passes
    assert max(times) < 1
    assert found == pytest.approx(1.0)


def test_a_single_step_is_the_estimate_itself():
    found = draw_sample(SamplerSpec("heun", 1), lambda state, _time: state * 0 + 7, np.ones(4), np.ones)
    assert (found == 7).all()


def test_patches_and_volumes_are_drawn_alike():
    """A volume of one window from the condition channel, against the same patch."""
    torch.manual_seed(0)
    network = nn.Conv3d(3, 1, 3, padding=1).eval()
    spec = SamplerSpec("heun", 4, 0)
    condition = torch.randn(1, 1, 6, 6, 6)
    mask = torch.ones(1, 1, 6, 6, 6)
    mask[..., :2] = 0
    with torch.no_grad():
        patch = sample_patches(spec, network, condition, mask, -1.0, torch.Generator())

    def predict(timed, stacked, _padding, _body):
        with torch.no_grad():
            return timed(stacked[None])[0, 0]

    volume = sample_volume(
        spec, network, predict, condition[0].numpy(), mask[0, 0].numpy() > 0,
        Surroundings(padding=(0.0,), background=-1.0, window=(6, 6, 6)), seed=(0, 0),
    )  # fmt: skip
    np.testing.assert_allclose(volume, patch[0, 0].numpy(), atol=1e-5)
    assert volume[..., :2] == pytest.approx(-1.0)


def test_noise_of_a_cpu_is_numpys_and_of_a_gpu_its_generators():
    fields = normal_fields((3, 4, 5), (7, 2), torch.device("cpu"))
    numbers = np.random.default_rng([7, 2])
    for _ in range(2):
        np.testing.assert_array_equal(fields().numpy(), numbers.standard_normal((3, 4, 5), dtype=np.float32))

    class Elsewhere:
        """A CPU that says that it is a GPU."""

        type = "cuda"

    made = []
    with pytest.MonkeyPatch.context() as patch:
        original, made_here = torch.randn, torch.Generator
        patch.setattr(samplers.torch, "randn", lambda shape, generator, **_: original(shape, generator=generator))
        patch.setattr(samplers.torch, "Generator", lambda device: made.append(device) or made_here())
        first, second, other = (normal_fields((9,), seed, Elsewhere()) for seed in ((7, 2), (7, 2), (7, 3)))
        drawn = first()
        assert torch.equal(drawn, second())
        assert not torch.equal(drawn, other())
        assert not torch.equal(drawn, first())
    assert len(made) == 3


def test_the_time_is_a_plane_of_its_own():
    seen = []
    TimedNetwork(lambda batch: seen.append(batch), 0.25)(torch.zeros(2, 3, 4, 4, 4))
    assert seen[0].shape == (2, 4, 4, 4, 4)
    assert (seen[0][:, -1] == 0.25).all()
    assert (seen[0][:, :-1] == 0).all()


# ---- whole volumes --------------------------------------------------------------------------------------------------


def stepwise_spec():
    planned = make_configuration().network
    return dataclasses.replace(planned, in_channels=3, takes_state=True, norm="batch")


def real_network(seed=0):
    torch.manual_seed(seed)
    return build_network(stepwise_spec()).eval()


def prepared_with(head, network=None, **options):
    options = {"sampler": FLOW} | options
    predictor = Predictor([network or real_network()], make_configuration(), make_descriptor(), **options)
    volumes = CaseVolumes("case", head[None], None, body_of(head), Geometry(head.shape, SPACING))
    return predictor, predictor.prepare(volumes)


def pointwise(batch):
    """Condition and state of one voxel alone: what it gives cannot depend on where the windows lie."""
    return 0.5 * batch[:, :1] + 0.3 * torch.tanh(batch[:, 1:2])


def change_with_the_grid(predictor, prepared):
    """Largest change inside the body when the windows are shifted: nothing else could make a seam."""
    here, shifted = (predictor.predict_network_units(prepared, offset=(k, k, k)).array for k in (0, 2))
    return np.abs(here - shifted)[prepared.mask].max()


@pytest.mark.parametrize(
    "sampler",
    [FLOW, SamplerSpec("heun", 5), SamplerSpec("bridge_stochastic", 10, 0, 0.3)],
    ids=lambda sampler: sampler.name,
)
def test_a_draw_does_not_depend_on_the_position_of_the_windows(head, sampler):
    predictor, prepared = prepared_with(head, pointwise, sampler=sampler)
    assert predictor.predict_network_units(prepared).windows.total >= 27 * sampler.passes
    assert change_with_the_grid(predictor, prepared) < 1e-5

    # Noise that belongs to the window instead of the volume, blended in the end: the same measure finds it.
    def naive(batch):
        generator = torch.Generator().manual_seed(0)
        return sample_patches(sampler, pointwise, batch, torch.ones_like(batch), 0.0, generator)

    assert change_with_the_grid(*prepared_with(head, naive, sampler=ONE_STEP)) > 1e-3


def test_a_seed_gives_one_prediction_and_another_seed_another(head):
    drawn = {}
    for name, seed in (("one", 3), ("again", 3), ("other", 4)):
        predictor, prepared = prepared_with(head, seed=seed, sampler=SamplerSpec("euler", 3))
        drawn[name] = predictor.predict_network_units(prepared).array
    np.testing.assert_array_equal(drawn["one"], drawn["again"])
    inside = prepared.mask
    assert np.abs(drawn["one"] - drawn["other"])[inside].mean() > 1e-3


def test_samples_give_their_mean_and_their_deviation(head):
    single = []
    for draw in range(3):
        predictor, prepared = prepared_with(head, sampler=SamplerSpec("euler", 2))
        count = predictor.networks[0]
        single.append(predictor.passes(prepared)(count, draw, None)[0])
    predictor, prepared = prepared_with(head, sampler=SamplerSpec("euler", 2), samples=3)
    raw = predictor.predict_network_units(prepared, uncertainty=True)
    np.testing.assert_allclose(raw.array, np.mean(single, axis=0), atol=1e-5)
    np.testing.assert_allclose(raw.deviation, np.std(single, axis=0, ddof=1), atol=1e-4)
    assert raw.deviation[prepared.mask].mean() > 1e-3


def test_a_volume_smaller_than_its_window_is_drawn(head):
    small = head[6:12, 6:12, 6:12]
    predictor, prepared = prepared_with(small)
    prediction = predictor.predict_network_units(prepared).array
    assert prediction.shape == prepared.mask.shape
    assert np.isfinite(prediction).all()


def test_flips_and_two_networks_go_through_every_step(head):
    predictor, prepared = prepared_with(head, tta=True)
    two = Predictor([real_network(0), real_network(1)], make_configuration(), make_descriptor(), sampler=FLOW)
    assert np.isfinite(predictor.predict_network_units(prepared).array).all()
    assert np.isfinite(two.predict_network_units(prepared).array).all()


def test_one_step_models_refuse_steps_and_samples():
    with pytest.raises(GdmError, match="one step"):
        with_steps(ONE_STEP, 5)
    with pytest.raises(GdmError, match="all samples would be the same"):
        Predictor([nn.Identity()], make_configuration(), make_descriptor(), samples=2)
    with pytest.raises(GdmError, match="all samples would be the same"):
        prepared_with(np.zeros((8, 8, 8)), sampler=SamplerSpec("euler", 4, 0), samples=2)
    with pytest.raises(GdmError, match="steps"):
        SamplerSpec("euler", 0)
    with pytest.raises(GdmError, match="no path"):
        SamplerSpec("one_step", 2)
    assert (ONE_STEP.passes, ONE_STEP.random) == (1, False)
    assert with_steps(FLOW, 3) == SamplerSpec("euler", 3)
    assert with_steps(ONE_STEP, None) == ONE_STEP


def test_metadata_holds_the_sampler_and_older_files_are_of_one_step():
    metadata = CheckpointMetadata("FlowMatchingTrainer", "plain", "3d", "0", 1, 1, sampler=FLOW)
    assert from_json(CheckpointMetadata, to_json(metadata)) == metadata
    old = {k: v for k, v in to_json(metadata).items() if k != "sampler"}
    assert from_json(CheckpointMetadata, old).sampler == ONE_STEP
    assert from_json(CheckpointMetadata, old | {"sampler": "one_step"}).sampler == ONE_STEP
    assert to_json(from_json(CheckpointMetadata, old))["sampler"] == "one_step"
    with pytest.raises(GdmError, match="sampler"):
        from_json(CheckpointMetadata, old | {"sampler": "two_steps"})


def test_the_command_draws_as_the_checkpoint_says(tmp_path, head):
    folder = make_model(tmp_path / "results", folds=("0",))
    file = folder / "fold_0" / "checkpoint_best.safetensors"
    metadata = dataclasses.replace(load_weights(file).metadata, sampler=FLOW)
    save_weights(file, real_network().state_dict(), stepwise_spec(), metadata)
    write_volume(tmp_path / "in" / "a_0000.nii.gz", head, Geometry(head.shape, SPACING))
    words = ["-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--results", str(tmp_path / "results")]
    assert predict_main([*words, "--steps", "2", "--samples", "2", "--seed", "5", "--no_pbar"]) == 0
    settings = json.loads((tmp_path / "out" / "prediction_settings.json").read_text())
    assert settings["sampler"]["steps"] == 2
    assert (settings["samples"], settings["seed"]) == (2, 5)
    assert read_volume(tmp_path / "out" / "uncertainty" / "a.nii.gz", "a").array.max() > 0
