"""CPU seconds of all scores of three volumes, against an older tree: by turns, in processes of their own, medians.

    git worktree add OLD 6987efb
    python benchmarks/score_speed.py OLD DATA [--rounds 3]

DATA holds the public volumes (documentation/benchmarks.md, Data). The predictions are the volumes blurred by a Gaussian
of 0.8 voxels, the masks what is above -500 HU. Scores that the older tree has as well must be equal.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

VOLUMES = ("ct/cranium.nii.gz", "ct/lung.nii.gz", "pairs/mr_to_ct/colin27_ct.nii.gz")
_PROGRAM = """
import json, sys, time
import scipy
import SimpleITK
from gdmunet.metrics import HU_2025
from gdmunet.metrics.scores import score_pair

pairs = []
for name in sys.argv[1:]:
    target = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(name)).astype("float32")
    pairs.append((target, scipy.ndimage.gaussian_filter(target, 0.8), target > -500))
started = time.process_time()
found = [score_pair(target, prediction, HU_2025, mask).values for target, prediction, mask in pairs]
seconds, of_spectra = time.process_time() - started, 0.0
if "fsc_half" in found[0]:
    from gdmunet.metrics.spectrum import shell_spectra
    started = time.process_time()
    for target, prediction, mask in pairs:
        shell_spectra(target, prediction, HU_2025, mask)
    of_spectra = time.process_time() - started
print(json.dumps([seconds, of_spectra, found]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    trees = {"before": arguments.old.resolve(), "after": Path(__file__).resolve().parents[1]}
    files = [str(arguments.data / name) for name in VOLUMES]
    seconds: dict[str, list[float]] = {name: [] for name in trees}
    spectra, scores = [], {}
    for _ in range(arguments.rounds):
        for name, tree in trees.items():
            done = subprocess.run(
                [sys.executable, "-c", _PROGRAM, *files], capture_output=True, text=True, check=True, cwd=tree,
                env={**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
            used, of_spectra, scores[name] = json.loads(done.stdout.splitlines()[-1])
            seconds[name].append(used)
            spectra.append(of_spectra)
    differences = [
        abs(old[score] - new[score]) / max(abs(old[score]), 1e-300)
        for old, new in zip(scores["before"], scores["after"], strict=True)
        for score in old.keys() & new.keys()
        if not old[score] is new[score] is None
    ]
    before, after = (statistics.median(seconds[name]) for name in trees)
    counts = [len(scores[name][0]) for name in trees]
    print(f"before: {counts[0]} scores, {before:.2f} CPU s; after: {counts[1]} scores, {after:.2f} CPU s")
    spectral = statistics.median(spectra[1::2])
    print(f"the spectra, which the older tree lacks, take {spectral:.2f} CPU s of them")
    print(f"ratio {after / before:.2f}; of the common scores {(after - spectral) / before:.2f}")
    print(f"the common scores differ by at most {max(differences):.1e} of their value")


if __name__ == "__main__":
    main()
