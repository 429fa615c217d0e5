"""Seconds that one processor core needs for a training patch: as it is, and rotated and scaled.

    python benchmarks/patch_speed.py 511 3d_fullres --patches 20

The data set must be prepared; GDM_PREPROCESSED says where. From both times and the share of patches that move follows
how many batches a second some background processes make, if they have a core each.
"""

import argparse
import dataclasses
import time

import torch

from gdmunet.dataset import find_dataset
from gdmunet.paths import find_folders
from gdmunet.plans import find_plans
from gdmunet.preprocessing.casestore import CaseStore
from gdmunet.training.patches.source import PatchSource
from gdmunet.training.trainers.fidelity import FidelityTrainer


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds that one processor core needs for a training patch.")
    parser.add_argument("dataset")
    parser.add_argument("configuration")
    parser.add_argument("-p", "--plans", default="gdmPlans")
    parser.add_argument("--patches", type=int, default=20, help="how many of each kind")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    preprocessed = find_folders().preprocessed
    plans = find_plans(find_dataset(preprocessed, arguments.dataset), arguments.plans)
    configuration = plans.configuration(arguments.configuration)
    store = CaseStore(preprocessed / plans.dataset_name, plans.name, configuration.name)
    source = PatchSource(
        store, tuple(store.identifiers()), configuration.window_size, configuration.dimensions,
        configuration.background, FidelityTrainer.body_share, FidelityTrainer.seed,
    )  # fmt: skip
    augmentation = FidelityTrainer(configuration, plans.dataset, torch.device("cpu")).augmentation()
    print(f"{plans.dataset_name}, patch {configuration.patch_size}, {arguments.patches} patches of each kind\n")
    still, moved = (
        seconds_per_patch(source, dataclasses.replace(augmentation, spatial_probability=share), arguments.patches)
        for share in (0.0, 1.0)
    )
    share = augmentation.spatial_probability
    mean = (1 - share) * still + share * moved
    print("| patch | core seconds |\n|---|---|")
    print(f"| as it is | {still:.3f} |\n| rotated and scaled | {moved:.3f} |")
    print(f"| mean, {100 * share:.0f} % are rotated | {mean:.3f} |\n")
    print(
        f"A process makes {1 / (mean * configuration.batch_size):.2f} batches of {configuration.batch_size} a second."
    )


def seconds_per_patch(source: PatchSource, augmentation, patches: int) -> float:
    """Mean processor time, after one patch that opens the files."""
    source.draw(0, 0, augmentation)
    started = time.process_time()
    for iteration in range(patches):
        source.draw(iteration, 0, augmentation)
    return (time.process_time() - started) / patches


if __name__ == "__main__":
    main()
