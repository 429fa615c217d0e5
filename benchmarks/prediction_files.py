"""gdm_predict against nnUNetv2_predict, from files to files: the same scans, the same network, the same windows.

usage: python benchmarks/prediction_files.py WORK [--cases 10] [--rounds 3] [--scale 1]

Both run as commands of their own, by turns, on the CPU with one thread each and one case read ahead and written behind.
The network is a plain U-Net of four stages with random weights; nnU-Net's has a second output channel, without which it
knows no label. Prints medians over the rounds: CPU seconds of the whole process tree, and the peak of its resident
memory (proportional shares, so that what processes share counts once). ``--scale 2`` doubles scans and windows along
each axis: how the memory grows with them. Needs nnunetv2 in the same environment.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import torch

from gdmunet.checkpoint import CheckpointMetadata, save_weights
from gdmunet.dataset import DatasetDescriptor
from gdmunet.geometry import Geometry
from gdmunet.imageio import write_volume
from gdmunet.network_spec import NetworkSpec
from gdmunet.networks import build_network
from gdmunet.plans import Configuration, MemoryFootprint, NormalizationSpec, Plans
from gdmunet.results import ResultsFolder
from gdmunet.serialization import save_json

SPACING, CASE_SPACING = (2.0, 1.5, 1.5), (2.5, 1.2, 1.2)
SHAPE, WINDOW = (48, 128, 128), (32, 64, 64)
FEATURES = (4, 8, 16, 32)
NETWORK = NetworkSpec(
    1, 1, FEATURES, ((1,) * 3, *((2,) * 3,) * 3), ((3,) * 3,) * 4, (1,) * 4, (1,) * 3, "plain", "batch"
)


def make_scan(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """A noisy ellipsoid of tissue with two lungs, in whole HU."""
    random = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij", sparse=True)
    body = (z / 1.5) ** 2 + (y / (0.6 + 0.02 * seed)) ** 2 + (x / 0.8) ** 2 < 1
    lungs = (z / 0.7) ** 2 + (y / 0.35) ** 2 + ((np.abs(x) - 0.35) / 0.25) ** 2 < 1
    tissue = random.normal(40, 30, shape)
    return np.where(body, np.where(lungs, tissue - 850, tissue), -1000).round().astype(np.int16)


def make_own_model(work: Path, shape: tuple[int, ...], window: tuple[int, ...]) -> Path:
    ct = NormalizationSpec("affine", (-1000.0, 3000.0), 0.0, 500.0)
    footprint = MemoryFootprint(1, 1, 1, 1, 1)
    configuration = Configuration(
        "3d_fullres", (0, 1, 2), SPACING, shape, window, 2, (ct,), ct, -1000.0, 3, NETWORK, footprint
    )
    descriptor = DatasetDescriptor({"0": "CT"}, "CT", ".nii.gz", 4, "Speed")
    plans = Plans(
        "Dataset999_Speed", "plain", "plain", "FidelityTrainer", "float32", 1.0, descriptor, "",
        {"3d_fullres": configuration}, (),
    )  # fmt: skip
    model = ResultsFolder(work / "results").model(plans.dataset_name, "FidelityTrainer", plans.name, "3d_fullres")
    save_json(plans, model.plans)
    metadata = CheckpointMetadata("FidelityTrainer", "plain", "3d_fullres", "0", 1, 10)
    weights = build_network(NETWORK).state_dict()
    save_weights(model.fold("0").checkpoint("best"), weights, NETWORK, metadata)
    return model.path


def make_other_model(work: Path, shape: tuple[int, ...], window: tuple[int, ...]) -> Path:
    """nnU-Net's folder: dataset.json, plans.json and a checkpoint."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    folder = work / "nnunet" / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    (folder / "fold_0").mkdir(parents=True, exist_ok=True)
    dataset = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "body": 1},
        "numTraining": 4,
        "file_ending": ".nii.gz",
    }
    kwargs = {
        "n_stages": 4, "features_per_stage": list(FEATURES), "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3] * 3] * 4, "strides": [[1] * 3] + [[2] * 3] * 3, "n_conv_per_stage": [1] * 4,
        "n_conv_per_stage_decoder": [1] * 3, "conv_bias": True, "norm_op": "torch.nn.modules.batchnorm.BatchNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True}, "dropout_op": None, "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": True},
    }  # fmt: skip
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    configuration = {
        "data_identifier": "plans_3d", "preprocessor_name": "DefaultPreprocessor", "batch_size": 2,
        "patch_size": list(window), "median_image_size_in_voxels": list(shape), "spacing": list(SPACING),
        "normalization_schemes": ["CTNormalization"], "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape", "resampling_fn_data_kwargs": resampling,
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": {**resampling, "is_seg": True, "order": 1},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {**resampling, "order": 1},
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": kwargs, "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": False,
    }  # fmt: skip
    intensities = {"mean": 0.0, "std": 500.0, "percentile_00_5": -1000.0, "percentile_99_5": 3000.0}
    plans = {
        "dataset_name": "Dataset999_Speed", "plans_name": "nnUNetPlans", "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2], "label_manager": "LabelManager",
        "original_median_spacing_after_transp": list(SPACING), "original_median_shape_after_transp": list(shape),
        "configurations": {"3d_fullres": configuration}, "experiment_planner_used": "ExperimentPlanner",
        "foreground_intensity_properties_per_channel": {"0": intensities},
    }  # fmt: skip
    (folder / "dataset.json").write_text(json.dumps(dataset))
    (folder / "plans.json").write_text(json.dumps(plans))
    manager = PlansManager(plans)
    network = nnUNetTrainer.build_network_architecture(manager, manager.get_configuration("3d_fullres"), 1, 2, False)
    checkpoint = {
        "trainer_name": "nnUNetTrainer", "init_args": {"configuration": "3d_fullres"},
        "network_weights": network.state_dict(), "inference_allowed_mirroring_axes": None,
    }  # fmt: skip
    torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")
    return folder


class Tree:
    """Peak memory of a process and its children, sampled."""

    def __init__(self, process: psutil.Process) -> None:
        self.process, self.peak, self.ended = process, 0, False
        self.thread = threading.Thread(target=self._sample, daemon=True)
        self.thread.start()

    def _sample(self) -> None:
        while not self.ended:
            try:
                family = [self.process, *self.process.children(recursive=True)]
                self.peak = max(self.peak, sum(one.memory_full_info().pss for one in family))
            except (psutil.Error, OSError):
                pass
            time.sleep(0.1)


def run(command: list[str], environment: dict[str, str]) -> tuple[float, float, float]:
    """CPU seconds and wall seconds of a command with its children, and their peak memory in MB."""
    before, started = os.times(), time.monotonic()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    tree = Tree(psutil.Process(process.pid))
    error = process.communicate()[1]
    tree.ended = True
    if process.returncode:
        raise SystemExit(error.decode()[-3000:])
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return cpu, time.monotonic() - started, tree.peak / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--cases", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=int, default=1)
    parser.add_argument("--only", choices=("gdm", "nnunet"))
    arguments = parser.parse_args()
    work: Path = arguments.work / f"scale_{arguments.scale}"
    shape, window = (tuple(arguments.scale * size for size in sizes) for sizes in (SHAPE, WINDOW))
    images = work / f"images_{arguments.cases}"
    for case in range(arguments.cases):
        file = images / f"case{case}_0000.nii.gz"
        if not file.is_file():
            write_volume(file, make_scan(case, shape), Geometry(shape, CASE_SPACING))
    own, other = make_own_model(work, shape, window), make_other_model(work, shape, window)
    one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1"}
    environment = {**os.environ, **one_thread, **{f"nnUNet_{n}": str(work) for n in ("raw", "preprocessed", "results")}}
    in_out = ["-i", str(images), "-o"]
    command = "import sys; from gdmunet.cli.predict import main; sys.exit(main())"
    ours = [sys.executable, "-c", command, *in_out, str(work / "ours"), "-m", str(own), "-f", "0"]
    entry = "from nnunetv2.inference.predict_from_raw_data import predict_entry_point_modelfolder as p; p()"
    theirs = [sys.executable, "-c", entry, *in_out, str(work / "theirs"), "-m", str(other), "-f", "0", "--disable_tta"]
    commands = {
        "gdm": [*ours, "-device", "cpu", "-npp", "1", "-nps", "1"],
        "nnunet": [*theirs, "-device", "cpu", "-npp", "1", "-nps", "1", "--disable_progress_bar"],
    }
    figures: dict[str, list[tuple[float, float, float]]] = {name: [] for name in commands}
    for _ in range(arguments.rounds):
        for name, command in commands.items():
            if arguments.only in (None, name):
                figures[name].append(run(command, environment))
                print(name, "CPU {:.1f} s, wall {:.1f} s, peak {:.0f} MB".format(*figures[name][-1]), flush=True)
    if arguments.only is None:
        medians = {
            name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in figures.items()
        }
        for number, what in enumerate(("CPU seconds", "wall seconds", "peak MB")):
            mine, yours = medians["gdm"][number], medians["nnunet"][number]
            print(f"{what}: gdm_predict {mine:.1f}, nnUNetv2_predict {yours:.1f}, ratio {mine / yours:.2f}")


if __name__ == "__main__":
    main()
