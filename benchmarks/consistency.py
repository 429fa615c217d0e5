"""How many steps towards the projections pay, by dose: body MAE in HU of a prediction, and of the reconstruction alone.

usage: python benchmarks/consistency.py CT MASK PREDICTION [--views 36] [--steps 0 5 20 50] [--photons 0 1e5 1e4]

PREDICTION is what the network gave (``before_consistency/CASE.nii.gz`` of gdm_predict with this MASK), air outside the
body. It was made from the scan without noise; only the steps use the noisy projections. Photons 0: no noise.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from gdmunet.imageio import read_volume
from gdmunet.inference.cases.consistency import make_consistent
from gdmunet.scan_spec import ScanSpec
from gdmunet.tomography.simulation import simulate_scan

AIR = -1024.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ct", type=Path)
    parser.add_argument("mask", type=Path)
    parser.add_argument("prediction", type=Path)
    parser.add_argument("--views", type=int, default=36)
    parser.add_argument("--steps", type=int, nargs="+", default=[0, 5, 20, 50])
    parser.add_argument("--photons", type=float, nargs="+", default=[0, 1e5, 1e4])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ct, body = read_volume(arguments.ct), read_volume(arguments.mask).array > 0
    prediction = read_volume(arguments.prediction).array
    scans = [simulate_scan(ct, ScanSpec(views=arguments.views, photons=p or None), "case") for p in arguments.photons]
    names = [f"{p:g} photons a ray" if p else "no noise" for p in arguments.photons]
    print(f"| steps | {' | '.join(names)} |\n|{' --- |' * (1 + len(names))}")
    for steps in arguments.steps:
        cells = []
        for scan in scans:
            errors = []
            for start in (prediction, np.where(body, scan.reconstruction, AIR).astype(np.float32)):
                _, better = make_consistent(start, scan.sinogram, body, steps)
                errors.append(float(np.abs((start if better is None else better) - ct.array)[body].mean()))
            cells.append(f"{errors[0]:.1f} ({errors[1]:.1f})")
        print(f"| {steps} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
