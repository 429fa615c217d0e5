"""Plans for all kinds of data sets: sizes that fit, sensible intensities, reasons in words."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from gdmunet.dataset import DatasetDescriptor, Fold
from gdmunet.drift_spec import DriftSpec
from gdmunet.encoders.mini import random_mini
from gdmunet.errors import GdmError
from gdmunet.networks import build_network
from gdmunet.plan_names import default_plans_name
from gdmunet.plans import EncoderSpec, MemoryFootprint, Plans, Reason
from gdmunet.preprocessing.case_fingerprint import CaseFingerprint, IntensityStatistics
from gdmunet.preprocessing.fingerprint import Fingerprint
from gdmunet.preprocessing.loader_memory import PROCESS_BYTES, loader_bytes
from gdmunet.preprocessing.planned_drift import PlannedDrift
from gdmunet.preprocessing.planned_encoder import PlannedEncoder
from gdmunet.preprocessing.planned_step import PlannedStep
from gdmunet.preprocessing.planner import format_reasons, plan_experiment
from gdmunet.preprocessing.planning_options import PlanningOptions
from gdmunet.preprocessing.presets import PRESETS
from gdmunet.quantities import memory_size
from gdmunet.scan_spec import ScanSpec
from gdmunet.serialization import from_json, save_json, to_json
from gdmunet.training.loop.step_memory import StepMemory
from gdmunet.training.trainers.fidelity import FidelityTrainer
from gdmunet.workflows.plan import run_planning


def statistics(mean=0.0, std=100.0, median=10.0, minimum=-1000.0, maximum=2000.0):
    return IntensityStatistics(
        mean=mean,
        std=std,
        median=median,
        percentile_00_5=minimum,
        percentile_99_5=maximum,
        minimum=minimum,
        maximum=maximum,
    )


def fingerprint(shapes, spacings, channels=1, medians=None, target=None):
    common = {str(index): statistics() for index in range(channels)}
    cases = {
        f"case{index:03d}": CaseFingerprint(
            shape=tuple(int(n) for n in shape),
            spacing=tuple(float(n) for n in spacing),
            body_share=0.5,
            intensities={**common, "target": statistics(median=medians[index] if medians else 10.0)},
        )
        for index, (shape, spacing) in enumerate(zip(shapes, spacings, strict=True))
    }
    return Fingerprint(cases=cases, intensities={**common, "target": target or statistics()})


def descriptor(channels=("MR",), target="CT", cases=3, **others):
    names = {str(index): name for index, name in enumerate(channels)}
    return DatasetDescriptor(names, target, ".nii.gz", cases, **others)


def rough_footprint(planned):
    """A quick stand-in for the exact count: feature maps of the first stage, and parameters."""
    network = planned.configuration.network
    patch_size, batch_size = planned.configuration.patch_size, planned.configuration.batch_size
    parameters = 4 * 27 * sum(a * b for a, b in zip(network.features, network.features[1:], strict=False))
    maps = 12 * network.features[0] * sum(network.encoder_blocks[:2]) * batch_size * int(np.prod(patch_size))
    return MemoryFootprint(parameters, parameters, 2 * parameters, parameters, maps)


def plan(prints, description=None, folds=(), **options):
    chosen = {
        "preset": "plain",
        "name": "gdmPlans",
        "footprint": rough_footprint,
        "trainer": "FidelityTrainer",
        "precision": "bfloat16",
        "memory_budget_gb": 8.0,
    } | options
    return plan_experiment(prints, "Dataset001_Test", description or descriptor(), folds, PlanningOptions(**chosen))


def reason(plans, choice):
    return next(r for r in plans.reasons if r.choice.startswith(choice))


def check_sizes(plans):
    for configuration in plans.configurations.values():
        products = np.prod(configuration.network.strides, axis=0)
        assert (np.asarray(configuration.patch_size) % products == 0).all()
        assert configuration.batch_size >= 2
        assert configuration.predicted_memory.total <= plans.memory_budget_gb * 1e9
        assert len(configuration.network.features) >= 2
        assert sorted(configuration.transpose) == [0, 1, 2]
        # Padding to a multiple of the strides is all by which a patch may exceed the volume (beyond tiny ones).
        shape = configuration.median_shape[3 - configuration.dimensions :]
        for size, voxels, product in zip(configuration.patch_size, shape, products, strict=True):
            assert size < max(voxels, 12) + product
    assert from_json(Plans, to_json(plans)) == plans


@pytest.mark.parametrize("preset", list(PRESETS))
def test_random_data_sets_give_sound_plans(preset):
    rng = np.random.default_rng(len(preset))
    for _ in range(25):
        count = int(rng.integers(1, 8))
        spacing = np.exp(rng.uniform(np.log(0.3), np.log(6), 3))
        shape = rng.integers(1, 600, 3)
        shapes = np.maximum(1, (shape * rng.uniform(0.8, 1.2, (count, 3))).astype(int))
        spacings = spacing * rng.uniform(0.9, 1.1, (count, 3))
        plans = plan(fingerprint(shapes, spacings), preset=preset, memory_budget_gb=float(rng.uniform(1.0, 30)))
        assert plans.configurations
        check_sizes(plans)


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [
        ((10, 10, 10), (1, 1, 1)),
        ((3, 5, 4), (1, 1, 1)),
        ((2, 2, 2), (5, 1, 0.1)),
        ((20, 512, 512), (20, 1, 1)),
        ((512, 512, 20), (1, 1, 20)),
        ((2000, 30, 30), (1, 1, 1)),
        ((1, 256, 256), (5, 1, 1)),
        ((9, 7, 300), (2, 2, 0.05)),
    ],
)
@pytest.mark.parametrize("preset", ["plain", "tiny"])
def test_odd_volumes_just_work(shape, spacing, preset):
    plans = plan(fingerprint([shape] * 2, [spacing] * 2), preset=preset)
    check_sizes(plans)
    for configuration in plans.configurations.values():
        if np.prod(configuration.patch_size) < 40_000 and preset == "tiny":
            network = build_network(configuration.network)
            output = network(torch.zeros(2, 1, *configuration.patch_size))
            assert output.shape == (2, 1, *configuration.patch_size)


def test_exact_count_is_kept_to():
    prints = fingerprint([(96, 160, 160)] * 4, [(1.5, 1.0, 1.0)] * 4)

    count = StepMemory(FidelityTrainer)
    plans = plan(prints, preset="tiny", footprint=count, memory_budget_gb=0.15, configurations=["3d_fullres"])
    configuration = plans.configurations["3d_fullres"]
    assert 0.05e9 < configuration.predicted_memory.total <= 0.15e9
    again = count(PlannedStep(configuration, plans.dataset, "bfloat16"))
    assert again == configuration.predicted_memory


def test_more_memory_gives_larger_patches():
    prints = fingerprint([(300, 400, 400)] * 10, [(1, 1, 1)] * 10)
    sizes = [
        np.prod(plan(prints, memory_budget_gb=gb).configurations["3d_fullres"].patch_size) for gb in (2, 4, 8, 16, 32)
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


def test_a_budget_too_small_for_anything_is_an_error_with_numbers():
    with pytest.raises(GdmError, match=r"memory budget is too small(.|\n)*at least [\d.]+ MB"):
        plan(fingerprint([(64, 64, 64)], [(1, 1, 1)]), memory_budget_gb=0.0001)


def test_coarsest_axis_comes_first():
    plans = plan(fingerprint([(256, 256, 30)] * 3, [(1.0, 1.0, 4.0)] * 3))
    configuration = plans.configurations["3d_fullres"]
    assert configuration.transpose == (2, 0, 1)
    assert configuration.spacing == (4.0, 1.0, 1.0)
    assert configuration.median_shape == (30, 256, 256)
    assert reason(plans, "axis order").value == "x, z, y"


def test_the_users_spacing_wins():
    prints = fingerprint([(100, 100, 100)] * 3, [(1.0, 1.0, 1.0)] * 3)
    configuration = plan(prints, target_spacing=(1.0, 2.0, 1.0)).configurations["3d_fullres"]
    assert configuration.transpose == (1, 0, 2)
    assert configuration.spacing == (2.0, 1.0, 1.0)
    assert configuration.median_shape == (50, 100, 100)
    with pytest.raises(GdmError, match="three positive numbers"):
        plan(prints, target_spacing=(1.0, 0.0, 1.0))


def test_2d_sees_slices_and_keeps_their_number():
    prints = fingerprint([(30, 256, 200)] * 3, [(5.0, 1.0, 1.0)] * 3)
    configuration = plan(prints, target_spacing=(2.5, 1.0, 1.0)).configurations["2d"]
    assert configuration.spacing == (1.0, 1.0)
    assert configuration.window_size[0] == 1
    assert configuration.median_shape == (30, 256, 200)
    assert configuration.network.dimensions == 2


def test_single_slices_are_planned_in_2d_only():
    plans = plan(fingerprint([(1, 256, 256)] * 3, [(5, 1, 1)] * 3))
    assert list(plans.configurations) == ["2d"]
    with pytest.raises(GdmError, match="one slice thick"):
        plan(fingerprint([(1, 256, 256)] * 3, [(5, 1, 1)] * 3), configurations=["3d_fullres"])


def test_low_resolution_only_where_a_patch_sees_too_little():
    small = plan(fingerprint([(64, 64, 64)] * 3, [(1, 1, 1)] * 3))
    assert "3d_lowres" not in small.configurations
    assert reason(small, "3d_lowres").value == "dropped"
    large = plan(fingerprint([(600, 600, 600)] * 3, [(0.5, 0.5, 0.5)] * 3))
    low, full = large.configurations["3d_lowres"], large.configurations["3d_fullres"]
    assert np.prod(low.patch_size) / np.prod(low.median_shape) >= 0.249
    assert np.prod(full.median_shape) / np.prod(low.median_shape) >= 2
    with pytest.raises(GdmError, match="does not need 3d_lowres"):
        plan(fingerprint([(64, 64, 64)] * 3, [(1, 1, 1)] * 3), configurations=["3d_lowres"])


@pytest.mark.parametrize("slices_first", [True, False])
def test_patches_of_few_view_ct_keep_the_slice_whole(slices_first):
    # Thin slices, or slices that run along another array axis: thick axes are handled first.
    shape, spacing = ((133, 512, 512), (2.5, 0.7, 0.7)) if slices_first else ((200, 300, 180), (1.0, 1.0, 1.5))
    prints = fingerprint([shape] * 5, [spacing] * 5)
    usual = plan(prints, descriptor(("CT",)), memory_budget_gb=60 if slices_first else 20)
    few = plan(prints, descriptor(("CT",), simulation=ScanSpec(views=36)), memory_budget_gb=60 if slices_first else 20)
    for plans in (usual, few):
        check_sizes(plans)
    configuration = few.configurations["3d_fullres"]
    in_plane = [n for n, axis in zip(configuration.patch_size, configuration.transpose, strict=True) if axis != 0]
    before = [n for n, axis in zip(usual.configurations["3d_fullres"].patch_size, configuration.transpose, strict=True)
              if axis != 0]  # fmt: skip
    whole = [n for n, axis in zip(configuration.median_shape, configuration.transpose, strict=True) if axis != 0]
    assert all(n >= m for n, m in zip(in_plane, whole, strict=True))
    assert np.prod(in_plane) > np.prod(before)
    assert configuration.patch_size[configuration.transpose.index(0)] >= 32
    assert "36 views" in reason(few, "3D patches").because
    assert not any(r.choice == "3D patches" for r in usual.reasons)
    assert few.configurations["2d"] == usual.configurations["2d"]


def test_where_whole_slices_do_not_fit_some_of_them_remain():
    prints = fingerprint([(133, 512, 512)] * 5, [(2.5, 0.7, 0.7)] * 5)
    scanned = descriptor(("CT",), simulation=ScanSpec())
    for options in ({"memory_budget_gb": 3}, {"preset": "tiny", "memory_budget_gb": 2}):
        patch = plan(prints, scanned, **options).configurations["3d_fullres"].patch_size
        assert patch[0] == 32
        assert abs(patch[1] - patch[2]) <= 64
        assert max(patch) < 512


def test_unknown_configuration_lists_the_known():
    with pytest.raises(GdmError, match=r"3d_full(.|\n)*3d_fullres"):
        plan(fingerprint([(64, 64, 64)], [(1, 1, 1)]), configurations=["3d_full"])


def test_batch_holds_at_most_the_share_of_the_data_set():
    prints = fingerprint([(64, 64, 64)] * 60, [(1, 1, 1)] * 60)
    assert plan(prints, memory_budget_gb=100).configurations["3d_fullres"].batch_size == 3
    assert plan(prints, memory_budget_gb=100, preset="M").configurations["3d_fullres"].batch_size > 3
    assert plan(prints, memory_budget_gb=100, preset="tiny").configurations["3d_fullres"].batch_size == 2


def test_hounsfield_target_and_mr_condition():
    plans = plan(fingerprint([(64, 64, 64)] * 2, [(1, 1, 1)] * 2, target=statistics(mean=30, std=250)))
    configuration = plans.configurations["3d_fullres"]
    target = configuration.target_normalization
    assert (target.scheme, target.clip, target.offset, target.scale) == ("affine", (-1024.0, 3071.0), 30.0, 250.0)
    assert configuration.condition_normalization[0].scheme == "percentile_zscore"
    assert configuration.network.residual_channel is None
    assert configuration.background == -1024.0


def test_cbct_to_ct_shares_one_map_and_predicts_a_change():
    prints = fingerprint([(64, 64, 64)] * 2, [(1, 1, 1)] * 2, channels=2)
    configuration = plan(prints, descriptor(("MR", "CBCT"))).configurations["3d_fullres"]
    assert configuration.network.residual_channel == 1
    assert configuration.condition_normalization[1] == configuration.target_normalization
    assert configuration.condition_normalization[0].scheme == "percentile_zscore"


def test_same_modality_is_preferred_for_the_residual():
    prints = fingerprint([(64, 64, 64)] * 2, [(1, 1, 1)] * 2, channels=2)
    assert plan(prints, descriptor(("CBCT", "CT"))).configurations["3d_fullres"].network.residual_channel == 1


def test_mr_target_has_one_map_for_all_cases():
    target = statistics(mean=300, std=120, minimum=5, maximum=2100)
    prints = fingerprint([(64, 64, 64)] * 2, [(1, 1, 1)] * 2, channels=2, target=target)
    plans = plan(prints, descriptor(("CT", "T1"), "T2"))
    configuration = plans.configurations["3d_fullres"]
    assert configuration.target_normalization.scheme == "affine"
    assert configuration.target_normalization.clip == (5, 2100)
    assert configuration.condition_normalization[0].clip == (-1024.0, 3071.0)
    assert configuration.network.residual_channel is None
    assert configuration.background == 5
    assert "no target whose" in reason(plans, "target (T2)").because
    given = plan(prints, descriptor(("CT", "T1"), "T2", background=0.0)).configurations["3d_fullres"]
    assert given.background == 0.0
    assert given.target_normalization.clip[0] == 0.0


def test_unharmonised_mr_targets_are_warned_about():
    shapes, spacings = [(64, 64, 64)] * 2, [(1, 1, 1)] * 2
    apart = plan(fingerprint(shapes, spacings, medians=[100.0, 250.0]), descriptor(("T1",), "T2"))
    assert any("WARNING" in r.choice for r in apart.reasons)
    near = plan(fingerprint(shapes, spacings, medians=[100.0, 150.0]), descriptor(("T1",), "T2"))
    assert not any("WARNING" in r.choice for r in near.reasons)


def test_targets_that_do_not_vary_are_refused():
    flat = statistics(mean=5, std=0, minimum=5, maximum=5)
    with pytest.raises(GdmError, match="do not vary"):
        plan(fingerprint([(64, 64, 64)], [(1, 1, 1)], target=flat))


@pytest.mark.parametrize("preset", list(PRESETS))
def test_presets_have_their_blocks(preset):
    plans = plan(fingerprint([(128, 128, 128)] * 5, [(1, 1, 1)] * 5), preset=preset, memory_budget_gb=40)
    network = plans.configurations["3d_fullres"].network
    if preset in ("M", "L", "XL"):
        assert network.block == "residual"
        assert network.encoder_blocks == (1, 3, 4, 6, 6, 6)
        assert set(network.decoder_blocks) == {1}
    else:
        assert network.block == "plain"
        assert set(network.encoder_blocks) == set(network.decoder_blocks) == {2}
    widest = 64 if preset == "tiny" else 320
    assert network.features[0] == (8 if preset == "tiny" else 32)
    assert max(network.features) == widest


def test_every_choice_has_a_reason_and_the_table_shows_it():
    folds = (Fold(("case000",), ("case001",)), Fold(("case001",), ("case000",)))
    plans = plan(fingerprint([(300, 400, 400)] * 2, [(1, 1, 1)] * 2), folds=folds)
    choices = {r.choice for r in plans.reasons}
    for name in plans.configurations:
        assert {f"{name} patch", f"{name} network", f"{name} batch"} <= choices
    assert {"spacing (z, y, x)", "axis order", "body mask", "background", "memory budget", "folds"} <= choices
    table = format_reasons(plans, width=100)
    assert max(map(len, table.splitlines())) <= 100
    assert "shrunk from" in table


# ---- from folder to folder ------------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path):
    raw, preprocessed = tmp_path / "raw" / "Dataset001_Test", tmp_path / "preprocessed" / "Dataset001_Test"
    for folder, ending in (("imagesTr", "_0000.nii.gz"), ("targetsTr", ".nii.gz")):
        (raw / folder).mkdir(parents=True)
        for index in range(6):
            (raw / folder / f"case{index:03d}{ending}").touch()
    save_json(descriptor(cases=6), raw / "dataset.json")
    save_json(fingerprint([(64, 64, 64)] * 6, [(1, 1, 1)] * 6), preprocessed / "dataset_fingerprint.json")
    return raw, preprocessed


def run(folders, **options):
    def footprint(planned):
        assert planned.precision == "float32"
        return rough_footprint(planned)

    chosen = {"preset": "tiny", "footprint": footprint, "trainer": "FidelityTrainer", "precision": "float32"} | options
    return run_planning(*folders, PlanningOptions(**chosen))


def test_plans_are_written_and_read_back(folders):
    plans = run(folders)
    file = folders[1] / "gdmPlans_tiny.json"
    from gdmunet.plans import load_plans

    assert load_plans(file) == plans
    assert plans.dataset_name == "Dataset001_Test"
    assert len(plans.folds) == 5
    assert len(plans.fingerprint_hash) == 64
    assert plans.memory_budget_gb == 2.0
    assert run(folders) == plans


def test_plans_names_follow_the_preset(folders):
    assert default_plans_name("plain") == "gdmPlans"
    assert default_plans_name("XL") == "gdmPlans_XL"
    run(folders, name="mine")
    assert (folders[1] / "mine.json").is_file()


def test_fingerprint_of_other_cases_is_refused(folders):
    save_json(fingerprint([(64, 64, 64)] * 5, [(1, 1, 1)] * 5), folders[1] / "dataset_fingerprint.json")
    with pytest.raises(GdmError, match=r"does not fit the cases(.|\n)*case005"):
        run(folders)


def test_missing_fingerprint_names_the_command(folders):
    (folders[1] / "dataset_fingerprint.json").unlink()
    with pytest.raises(GdmError, match="gdm_extract_fingerprint"):
        run(folders)


def test_plans_of_another_data_set_are_not_overwritten(folders):
    file = folders[1] / "gdmPlans_tiny.json"
    file.write_text('{"dataset_name": "Dataset002_Other"}')
    with pytest.raises(GdmError, match="Dataset002_Other"):
        run(folders)
    with pytest.raises(GdmError, match="taken by the fingerprint"):
        run(folders, name="dataset_fingerprint")


@pytest.mark.parametrize(
    ("preset", "free", "wanted"),
    [
        ("plain", None, 6.5), ("M", None, 6.5), ("L", None, 21.6), ("XL", None, 36.0), ("tiny", None, 2.0),
        ("plain", 80.0, 72.0), ("plain", 11.0, 9.5), ("M", 80.0, 6.5), ("M", 7.5, 6.0), ("XL", 24.0, 21.6),
        ("tiny", 24.0, 2.0),
    ],
)  # fmt: skip
def test_a_budget_leaves_a_reserve_of_the_presets_card_or_of_what_is_free(preset, free, wanted):
    plans = plan(
        fingerprint([(64, 64, 64)] * 3, [(1, 1, 1)] * 3), preset=preset, memory_budget_gb=None, free_memory_gb=free
    )
    assert plans.memory_budget_gb == pytest.approx(wanted)
    check_sizes(plans)
    because = reason(plans, "memory budget").because
    assert "less 1.5 GB or a tenth" in because
    assert ("free on the GPU" in because) == (free is not None and (preset == "plain" or free < wanted + 4))


def test_several_gpus_share_a_batch_and_each_has_the_budget():
    prints = fingerprint([(300, 300, 300)] * 40, [(1, 1, 1)] * 40)
    one, four = (plan(prints, gpus=gpus, preset="M", configurations=["3d_fullres"]) for gpus in (1, 4))
    alone, shared = (plans.configurations["3d_fullres"] for plans in (one, four))
    assert shared.batch_size % 4 == 0
    assert shared.batch_size >= 4
    assert np.prod(shared.patch_size) > np.prod(alone.patch_size)
    assert shared.predicted_memory.total <= 8e9
    assert "on each of 4 GPUs" in reason(four, "3d_fullres batch").because
    tiny = plan(prints, gpus=3, preset="tiny", configurations=["3d_fullres"])
    assert tiny.configurations["3d_fullres"].batch_size == 3


def test_the_memory_of_the_processes_that_make_patches_is_said():
    plans = plan(fingerprint([(128, 128, 128)] * 5, [(1, 1, 1)] * 5), configurations=["3d_fullres"])
    configuration = plans.configurations["3d_fullres"]
    needed = loader_bytes(configuration, configuration.batch_size)
    assert needed > PROCESS_BYTES + 4 * 2 * configuration.batch_size * np.prod(configuration.patch_size)
    assert reason(plans, "3d_fullres patches").value == f"{memory_size(needed)} of host memory"


def mini_beside(units, step):
    encoder = random_mini(units, step.network.dimensions)
    spec = EncoderSpec("mini", "0" * 64, encoder.dimensions, None, encoder.levels, "none")
    return PlannedEncoder(spec, encoder, Reason("encoder", "mini", "asked for"))


def test_sizes_of_the_drift_are_planned_beside_an_encoder_and_their_memory_is_counted():
    sizes = DriftSpec(64, 32, 256, 2)
    counted = []

    def footprint(planned):
        counted.append(planned.configuration.drift)
        memory = rough_footprint(planned)
        return replace(memory, bank=10**6) if planned.configuration.drift else memory

    prints = fingerprint([(60, 160, 160)] * 4, [(3.0, 1.0, 1.0)] * 4)
    plan_drift = lambda *_: PlannedDrift(sizes, 0.08, 0.02, 0.05)  # noqa: E731
    plans = plan(prints, preset="tiny", footprint=footprint, choose=mini_beside, plan_drift=plan_drift)
    for name, configuration in plans.configurations.items():
        assert configuration.drift == sizes
        assert configuration.predicted_memory.bank == 10**6
        found = reason(plans, f"{name} drift")
        assert found.value == "64 tokens, bank 32, battery 2"
        assert "8.0 % of a step's operations, 2.0 % of the budget" in found.because
    assert counted[0] is None
    assert from_json(Plans, to_json(plans)) == plans
    without = plan(prints, preset="tiny", footprint=footprint, choose=mini_beside)
    assert all(one.drift is None for one in without.configurations.values())


def test_sizes_that_the_budget_has_no_room_for_are_left_to_the_trainers():
    def footprint(planned):
        memory = rough_footprint(planned)
        return replace(memory, bank=10**12) if planned.configuration.drift else memory

    plan_drift = lambda *_: PlannedDrift(DriftSpec(64, 32, 256, 2), 0.08, 0.02, 0.05)  # noqa: E731
    prints = fingerprint([(60, 160, 160)] * 4, [(3.0, 1.0, 1.0)] * 4)
    plans = plan(prints, preset="tiny", footprint=footprint, choose=mini_beside, plan_drift=plan_drift)
    assert all(one.drift is None for one in plans.configurations.values())
