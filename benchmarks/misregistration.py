"""How much do a shifted loss and a registered fidelity gain where targets do not lie on their conditions?

usage: python benchmarks/misregistration.py [--dimensions 3] [--steps 300] [--rms 2.0] [--cases 3] [--seeds 1]

Blobs of four tissues whose target a known smooth field has moved (tests/samples/misregistered.py), a network that
planning makes with the preset tiny, the loop's own step. Prints the MAE in HU against the targets that were not moved,
after training on the moved ones, and the CPU seconds of one thread.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "samples"))

from misregistered import error_after, misregistered_pair

from gdmunet.training.trainers.fidelity import FidelityTrainer
from gdmunet.training.trainers.registered import RegisteredFidelityTrainer

ARMS = {
    "l1": (FidelityTrainer, {}),
    "shifted_l1, 1 voxel": (FidelityTrainer, {"fidelity_loss": "shifted_l1"}),
    "shifted_l1, 2 voxels": (FidelityTrainer, {"fidelity_loss": "shifted_l1", "shift_voxels": 2}),
    "registered": (RegisteredFidelityTrainer, {}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dimensions", type=int, default=3, choices=(2, 3))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rms", type=float, default=2.0, help="root mean square of the field along each axis, voxels")
    parser.add_argument("--cases", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    shape, edge = ((96, 96), 48) if options.dimensions == 2 else ((40, 40, 40), 24)
    for seed in range(options.seeds):
        pairs = [misregistered_pair(100 * seed + case, shape, options.rms) for case in range(options.cases)]
        straight = [dataclasses.replace(pair, moved=pair.target) for pair in pairs]
        moved = sum(abs(pair.moved - pair.target).mean() for pair in pairs) / len(pairs)
        print(f"seed {seed}: the moved targets themselves {moved:.1f} HU")
        for name, (kind, changes) in ARMS.items():
            began = time.process_time()
            error = error_after(kind, pairs, options.steps, edge, seed, **changes)
            print(f"  {name}: {error:.1f} HU, {time.process_time() - began:.0f} CPU s", flush=True)
        error = error_after(FidelityTrainer, straight, options.steps, edge, seed)
        print(f"  l1 on pairs that lie on each other: {error:.1f} HU", flush=True)


if __name__ == "__main__":
    main()
