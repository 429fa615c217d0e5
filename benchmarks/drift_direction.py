"""Where does the drift push a trained generator? Its output gradient against three directions, choice by choice.

usage: python benchmarks/drift_direction.py WORK [--seed 1] [--batches 8] [--choices NAME ...]

WORK is that of ``benchmarks/ablation.py`` after its arm ``fidelity``. For every choice the descent direction of the
drift at the prediction of fidelity alone is compared (cosine, mean over batches of training patches) with *texture*
(prediction less its Gaussian blur of one voxel: what blurred output lacks), *truth* (target less prediction) and its
sign, which is the descent direction of the L1 loss. Then it says what plain sharpening of the held-out predictions
does to the same scores that the ablation reports: how near a distribution comes for how much error, without any
drift.
"""

import argparse
import os
from dataclasses import replace
from pathlib import Path

import ablation
import numpy as np
import torch
from deepbet_judge import deepbet_weights
from torch.nn import functional

from gdmunet.plans import load_plans
from gdmunet.results import ModelFolder
from gdmunet.training.loop.opening import open_loop
from gdmunet.training.patches.fold import FoldData
from gdmunet.training.patches.stream import PatchLoader
from gdmunet.training.trainers.gdm import GDMTrainer
from gdmunet.training.trainers.registry import find_trainer
from gdmunet.training.trainers.step import as_terms

NO_BANK = {"bank_patches": "0"}
CHOICES: dict[str, dict[str, str]] = {
    "default": {},
    "no bank": NO_BANK,
    "stride 2 alone": NO_BANK | {"drift_levels": "stride_2"},
    "stride 4 alone": NO_BANK | {"drift_levels": "stride_4"},
    "stride 8 alone": NO_BANK | {"drift_levels": "stride_8"},
    "stride 16 alone": NO_BANK | {"drift_levels": "stride_16"},
    "all levels": NO_BANK | {"drift_stride": "64"},
    "spatial tokens alone": NO_BANK | {"families": "spatial"},
    "local tokens alone": NO_BANK | {"families": "local"},
    "512 tokens a patch": NO_BANK | {"tokens_per_patch": "512"},
    "temperature 0.02": NO_BANK | {"temperatures": "0.02"},
    "temperature 0.2": NO_BANK | {"temperatures": "0.2"},
    "temperature 1": NO_BANK | {"temperatures": "1.0"},
    "twins kept": NO_BANK | {"pairs": "kept"},
    "transport": {"field": "transport", "feature_start": "0"},
    "paired statistics alone": NO_BANK | {"paired_statistics": "true", "drift_weight": "0"},
}


def fidelity_model(work: Path, seed: int) -> ModelFolder:
    return ablation.model_folder(work, "FidelityTrainer", ablation.continued_settings(seed, 200))


def blur(volume: torch.Tensor) -> torch.Tensor:
    line = torch.exp(-(torch.arange(-3, 4).float() ** 2) / 2)
    line = line / line.sum()
    kernel = line[:, None, None] * line[None, :, None] * line[None, None, :]
    return functional.conv3d(functional.pad(volume, [3] * 6, mode="replicate"), kernel[None, None])


def directions(work: Path, seed: int, settings: dict[str, str], batches: int) -> np.ndarray:
    """Cosines (batches, 3) with texture, truth and the sign of truth."""
    plans = load_plans(work / "gdm_preprocessed" / ablation.DATASET / f"{ablation.PLANS}.json")
    folders = replace(ablation.folders_of(work), results=work / "drift_direction")
    kind = find_trainer("GDMTrainer").derive(settings)
    data = FoldData.of(plans, ablation.CONFIGURATION, "all", folders.preprocessed)
    loop = open_loop(kind, data, folders, torch.device("cpu"))
    trainer, state = loop.trainer, loop.state
    assert isinstance(trainer, GDMTrainer)
    state.load_pretrained(fidelity_model(work, seed).fold("all").checkpoint("final"))
    state.network.eval()
    source = data.source(data.training, trainer.body_share, 77)
    loader = PatchLoader(source, trainer.augmentation(), 2, 0)
    rows = []
    for number in range(batches):
        state.iteration = number
        loop.begin_step()
        batch = loader.next_batch()
        with torch.no_grad():
            prediction = state.network(batch.condition)
        prediction.requires_grad_()
        terms = as_terms(trainer.feature_terms(batch, prediction))
        loss = torch.stack([term.value for term in terms.values()]).sum()
        descent = -torch.autograd.grad(loss, prediction)[0]
        there = prediction.detach()
        truth = (batch.target - there) * batch.mask
        rows.append([float(functional.cosine_similarity(descent.flatten(), other.flatten(), 0))
                     for other in ((there - blur(there)) * batch.mask, truth, truth.sign())])  # fmt: skip
    return np.array(rows)


def sharpened(amount: float):
    """Wrap a predictor's volumes: prediction + amount * (prediction - its blur)."""
    from scipy import ndimage

    return lambda volume: volume + amount * (volume - ndimage.gaussian_filter(volume, 1.0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--choices", nargs="+", choices=CHOICES, default=list(CHOICES))
    parser.add_argument("--judge", default=f"tests/samples/deepbet_encoder.py:factory@{deepbet_weights()}")
    arguments = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    work = arguments.work.resolve()
    print("| drift | texture | truth | sign of truth |\n| --- | --- | --- | --- |")
    for name in arguments.choices:
        found = directions(work, arguments.seed, CHOICES[name], arguments.batches).mean(0)
        print(f"| {name} | {' | '.join(f'{value:+.3f}' for value in found)} |", flush=True)
    print("\n| sharpened by | MAE HU | fine detail | Frechet (judge) | (random) | (mini) |\n" + "| --- " * 6 + "|")
    for amount in (0.0, 0.1, 0.2, 0.4):
        row = ablation.score(work, fidelity_model(work, arguments.seed), arguments.judge, sharpened(amount))
        cells = [f"{row[key]:.4g}" for key in ("mae", "detail", "frechet", "random_frechet", "mini_frechet")]
        print(f"| {amount} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
