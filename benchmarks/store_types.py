"""Types of stored channels against float32: size, speed of reading patches, and MAE after a short training.

    OMP_NUM_THREADS=1 python benchmarks/store_types.py WORK [--size 80] [--iterations 300] [--rounds 5]

Head phantoms (MR to CT) are planned with the preset tiny and prepared twice: with the types of the plans (float16 and
int16), and with the same plans in float32. Both are read by turns in one process of one thread; then both are trained
from the same seed, and float32 from another seed, which shows what two trainings differ by anyhow.
"""

import argparse
import json
import shutil
import statistics
import time
from dataclasses import replace
from pathlib import Path

from gdmunet.cli import plan_and_preprocess, train
from gdmunet.conversion.phantoms import make_phantom_demo
from gdmunet.plan_folder import find_plans
from gdmunet.plans import Plans
from gdmunet.preprocessing.casestore import CaseStore
from gdmunet.serialization import save_json
from gdmunet.training.patches.augmentation import Augmentation
from gdmunet.training.patches.fold import FoldData
from gdmunet.workflows.preprocess import preprocess

DATASET, CONFIGURATION, FULL = "Dataset502_DemoPhantoms", "3d_fullres", "gdmPlans_float32"


def prepare(work: Path, cases: int, size: int) -> dict[str, Plans]:
    """Plans of both sides, with their cases."""
    raw, prepared = work / "raw", work / "preprocessed"
    if not (prepared / DATASET / f"{FULL}.json").is_file():
        shutil.rmtree(prepared, ignore_errors=True)
        if not (raw / DATASET / "dataset.json").is_file():
            make_phantom_demo(raw, cases=cases, size=size)
        words = ["-d", "502", "-pl", "tiny", "-tr", "FidelityTrainer", "-c", CONFIGURATION, "-device", "cpu"]
        assert plan_and_preprocess.main([*words, "--no_pbar", *folders(work)[:4]]) == 0
        planned = find_plans(prepared / DATASET, "gdmPlans_tiny")
        one = replace(planned.configuration(CONFIGURATION), storage=None)
        full = replace(planned, name=FULL, configurations={CONFIGURATION: one})
        preprocess(raw / DATASET, prepared / DATASET, full, [CONFIGURATION], show_progress=False)
        save_json(full, prepared / DATASET / f"{FULL}.json")
    return {"16 bits": find_plans(prepared / DATASET, "gdmPlans_tiny"), "float32": find_plans(prepared / DATASET, FULL)}


def folders(work: Path) -> list[str]:
    return [word for name in ("raw", "preprocessed", "results") for word in (f"--{name}", str(work / name))]


def size_of(store: CaseStore) -> int:
    return sum(file.stat().st_size for name in store.identifiers() for file in store.files(name))


def trained(work: Path, plans: str, iterations: int, seed: int) -> float:
    """MAE of the fold's whole volumes in HU."""
    words = ["502", CONFIGURATION, "0", "-p", plans, "-tr", "FidelityTrainer", "--iterations", str(iterations)]
    words += ["--set", f"seed={seed}", "--overwrite", "-device", "cpu", "-np", "0", "--no_pbar"]
    assert train.main([*words, *folders(work)]) == 0
    models = (work / "results" / DATASET).glob(f"FidelityTrainer*__{plans}__*/fold_0/validation/summary.json")
    newest = max(models, key=lambda file: file.stat().st_mtime)
    return float(json.loads(newest.read_text())["mean"]["mae"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--cases", type=int, default=8)
    parser.add_argument("--size", type=int, default=80)
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--patches", type=int, default=60, help="per round and side")
    arguments = parser.parse_args()
    sides = prepare(arguments.work, arguments.cases, arguments.size)
    data = {
        name: FoldData.of(plans, CONFIGURATION, "0", arguments.work / "preprocessed") for name, plans in sides.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(arguments.rounds):
        for name, fold in data.items():
            source = fold.source(fold.training, 0.8, seed=number)
            source.read(0, range(2), Augmentation())
            started = time.process_time()
            for iteration in range(arguments.patches // 2):
                source.read(iteration, range(2), Augmentation())
            seconds[name].append((time.process_time() - started) / arguments.patches)
    print("| store | MB | patches per CPU second |\n| --- | --- | --- |")
    for name, fold in data.items():
        print(f"| {name} | {size_of(fold.store) / 1e6:.2f} | {1 / statistics.median(seconds[name]):.0f} |", flush=True)
    errors = {name: trained(arguments.work, plans.name, arguments.iterations, 1) for name, plans in sides.items()}
    other = trained(arguments.work, FULL, arguments.iterations, 2)
    print("| store | MAE HU after the training |\n| --- | --- |")
    for name, error in {**errors, "float32, another seed": other}.items():
        print(f"| {name} | {error:.2f} |")


if __name__ == "__main__":
    main()
