"""Does the drift do what it is for? Every arm of the ablation on few-view CT of real volumes, over several seeds.

usage: python benchmarks/ablation.py WORK DATA [--chest FILE] [--seeds 1 2 3] [--arms NAME ... | all]
           [--pretraining 1000] [--iterations 200] [--processes 1] [--judge file.py:factory]

DATA holds ``ct/*.nii.gz`` (documentation/benchmarks.md lists them); the chest is that of chest_ct.py. Trains on
abdomen, heart and lung, tests on regions of a chest and a head of other persons, which the built-in encoder never saw.
Every seed trains fidelity alone first; every arm goes on from there with the same number of iterations, patches and
learning rate. The arms "in one go" ask when the drift should join: they start from fresh weights and train as long as
both phases together. Stops and goes on where it stood; WORK/ablation.md holds the table so far.
"""

import argparse
import json
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from ablation_data import CONFIGURATION, DATASET, PLANS, folders_of, plan, write_dataset
from ablation_table import row_file, table
from deepbet_judge import deepbet_weights
from protocol import check_protocol, check_run

from gdmunet.results import ModelFolder, ResultsFolder


@dataclass(frozen=True)
class Arm:
    """A trainer and its settings beyond those that all arms share; `against` names the arm that it is compared with."""

    trainer: str
    settings: tuple[tuple[str, str], ...] = ()
    against: str = "fidelity"
    in_one_go: bool = False


ALL_LEVELS = (("drift_levels", "stride_2,stride_4,stride_8,stride_16"),)
ONE_GO = "fidelity, in one go"
ARMS = {
    "fidelity": Arm("FidelityTrainer"),
    "perceptual": Arm("PerceptualTrainer"),
    "drift, plain sum": Arm("DriftTrainer"),
    "GDM": Arm("GDMTrainer"),
    "GDM, spatial only": Arm("GDMTrainerSpatial"),
    "GDM, local only": Arm("GDMTrainerLocal"),
    "GDM, global only": Arm("GDMTrainerGlobal"),
    "GDM, fresh encoder": Arm("GDMTrainerFreshEncoder"),
    "GDM, all families": Arm("GDMTrainer", (("families", "spatial,local,global"),)),
    "GDM, all levels": Arm("GDMTrainer", ALL_LEVELS),
    "GDM, MGDA": Arm("GDMTrainerMGDA"),
    "GDM, no bank": Arm("GDMTrainerNoBank"),
    "GDM, random encoder": Arm("GDMTrainerRandomEncoder"),
    "GDM, adaptive 3": Arm("GDMTrainer", (("adaptive_weight", "3"),)),
    "GDM, all levels, adaptive 3": Arm("GDMTrainer", (*ALL_LEVELS, ("adaptive_weight", "3"))),
    "GDM, temperatures 0.05 0.2 1": Arm("GDMTrainer", (("temperatures", "0.05,0.2,1.0"),)),
    "GDM, floor 1e-6": Arm("GDMTrainer", (("affinity_floor", "1e-6"),)),
    "GDM, pairs kept": Arm("GDMTrainer", (("pairs", "kept"),)),
    "GDM, pairs unmatched": Arm("GDMTrainer", (("pairs", "unmatched"),)),
    "GDM, bank among the positives alone": Arm("GDMTrainer", (("bank_side", "positives"),)),
    "transport": Arm("GDMTrainerTransport"),
    "transport, random filters": Arm("GDMTrainerTransportBattery", (("battery", "1"),)),
    ONE_GO: Arm("FidelityTrainer", (), ONE_GO, True),
}
for share in ("0.6", "0.3", "0.05"):
    ARMS[f"GDM, in one go, drift from {share}"] = Arm("GDMTrainer", (("feature_start", share),), ONE_GO, True)
REQUIRED = 8  # the first arms, which run unless --arms says otherwise


def model_folder(work: Path, trainer: str, settings: dict[str, str]) -> ModelFolder:
    from gdmunet.training.trainers.registry import find_trainer

    name = find_trainer(trainer).derive(settings).__name__
    return ResultsFolder(work / "gdm_results").model(DATASET, name, PLANS, CONFIGURATION)


def shared_settings(seed: int) -> dict[str, str]:
    """Of every arm; the learning rate is that of the fidelity training before."""
    return {"seed": str(seed), "iterations_per_epoch": "50", "learning_rate": "0.002", "ema_decay": "0.99"}


def continued_settings(seed: int, iterations: int) -> dict[str, str]:
    """Of every arm after that training."""
    return shared_settings(seed) | {"learning_rate": "0.001", "iterations": str(iterations)}


def train(work: Path, trainer: str, settings: dict[str, str], start: Path | None) -> ModelFolder:
    """Train on all cases, or continue."""
    from gdmunet.training.trainers.registry import find_trainer
    from gdmunet.workflows.requests.training import TrainRequest
    from gdmunet.workflows.train import train

    model = model_folder(work, trainer, settings)
    fold = model.fold("all")
    plans = work / "gdm_preprocessed" / DATASET / f"{PLANS}.json"
    check_run(fold, find_trainer(trainer).derive(settings), plans, CONFIGURATION)
    if not fold.checkpoint("final").exists():
        request = TrainRequest(
            dataset=DATASET, configuration=CONFIGURATION, fold="all", trainer=trainer, plans=PLANS, settings=settings,
            continue_training="latest" if fold.resume.exists() else None, pretrained_weights=start, device="cpu",
            processes=0, show_progress=False,
        )  # fmt: skip
        train(request, folders_of(work))
    return model


def run_seed(work: Path, seed: int, pretraining: int) -> str:
    train(work, "FidelityTrainer", shared_settings(seed) | {"iterations": str(pretraining)}, None)
    return f"seed {seed}: fidelity alone is trained"


def train_arm(work: Path, seed: int, arm: Arm, pretraining: int, iterations: int) -> ModelFolder:
    """The model folder of an arm: after fidelity alone, or in one go from fresh weights."""
    if arm.in_one_go:
        settings = shared_settings(seed) | {"iterations": str(pretraining + iterations)} | dict(arm.settings)
        return train(work, arm.trainer, settings, None)
    first = train(work, "FidelityTrainer", shared_settings(seed) | {"iterations": str(pretraining)}, None)
    settings = continued_settings(seed, iterations) | dict(arm.settings)
    if arm.trainer != "FidelityTrainer":
        settings["feature_start"] = "0"
    return train(work, arm.trainer, settings, first.fold("all").checkpoint("final"))


def run_arm(work: Path, seed: int, name: str, pretraining: int, iterations: int, judge: str) -> str:
    """Train and score one arm; the row is written when all is done."""
    import torch

    torch.set_num_threads(1)
    file = row_file(work, seed, name)
    started = time.monotonic()
    model = train_arm(work, seed, ARMS[name], pretraining, iterations)
    row = {"arm": name, "seed": seed, "minutes": (time.monotonic() - started) / 60, **score(work, model, judge)}
    rows = [json.loads(line) for line in model.fold("all").journal.read_text().splitlines()]
    row["seconds_per_iteration"] = sum(r["seconds"] for r in rows) / rows[-1]["iteration"]
    row["peak_memory_mb"] = max(r["peak_memory_mb"] for r in rows)
    row["journal"] = {k: v for k, v in rows[-1].items() if isinstance(v, float)}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(row, indent=1))
    return f"{name}, seed {seed}: MAE {row['mae']:.1f} HU, judge {row['frechet']:.4f}, detail {row['detail']:.2f}"


def score(work: Path, model: ModelFolder, judge: str, change=lambda volume: volume) -> dict[str, float]:
    """Means over the held-out regions; distances in encoders that no arm was trained with, and in the arms' own.

    `change` is applied to every predicted volume.
    """
    import numpy as np

    from gdmunet.dataset import list_cases, load_descriptor
    from gdmunet.encoders.base import VolumeUnits
    from gdmunet.encoders.choice import EncoderOptions, choose_encoder
    from gdmunet.evaluation.distributions.distances import body_features, mean_distances, pooled_distances
    from gdmunet.imageio import read_case
    from gdmunet.inference import Predictor
    from gdmunet.metrics import HU_2025, score_pair

    predictor = Predictor.from_folder(model.path, ("all",), "final")
    units = VolumeUnits.of(predictor.configuration, "CT")
    judges = {}
    for spec in (judge, "tiny", "mini"):
        name, _, file = spec.partition("@")
        weights = Path(file) if file else None
        judges[spec] = choose_encoder(name, units, 3, EncoderOptions(work / "encoders", weights)).encoder
    dataset = work / "gdm_raw" / DATASET
    scores, pairs = [], {spec: [] for spec in judges}
    for case in list_cases(dataset, load_descriptor(dataset), "Ts"):
        volumes = read_case(case)
        predicted = change(predictor.predict_case(volumes).array)
        found = score_pair(volumes.target, predicted, HU_2025, volumes.mask)
        scores.append({key: float(found.values[key]) for key in ("mae", "psnr", "ms_ssim", "detail")})
        normal = predictor.configuration.target_normalization
        both = [(array - normal.offset) / normal.scale for array in (predicted, volumes.target)]
        for spec, encoder in judges.items():
            pairs[spec].append(tuple(body_features(encoder, array, volumes.mask) for array in both))
    row = {key: float(np.mean([one[key] for one in scores])) for key in scores[0]}
    for spec, prefix in ((judge, ""), ("tiny", "random_"), ("mini", "mini_")):
        distances = pooled_distances(pairs[spec])
        row[f"{prefix}frechet"], row[f"{prefix}mmd"] = mean_distances(distances)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--chest", type=Path, help="default: fetched")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--arms", nargs="+", choices=[*ARMS, "all"], default=list(ARMS)[:REQUIRED])
    parser.add_argument("--pretraining", type=int, default=1000)
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument(
        "--judge",
        default=f"tests/samples/deepbet_encoder.py:factory@{deepbet_weights()}",
        help="encoder of the distances that no arm trains with, as SPEC or SPEC@FILE; default: deepbet's "
        "(pip install --no-deps deepbet==1.0.2)",
    )
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    work, judge = arguments.work.resolve(), arguments.judge
    compared = {name: arm.against for name, arm in ARMS.items()}
    check_protocol(work, {"pretraining": arguments.pretraining, "iterations": arguments.iterations, "judge": judge})
    write_dataset(work, arguments.data, arguments.chest)
    plan(work)
    context = multiprocessing.get_context("spawn")
    # A process for each arm: its peak memory is its own.
    with ProcessPoolExecutor(arguments.processes, context, max_tasks_per_child=1) as pool:
        names = list(ARMS) if "all" in arguments.arms else arguments.arms
        missing = [(s, n) for s in arguments.seeds for n in names if not row_file(work, s, n).exists()]
        pretrained = sorted({seed for seed, name in missing if not ARMS[name].in_one_go})
        for job in as_completed([pool.submit(run_seed, work, s, arguments.pretraining) for s in pretrained]):
            print(job.result(), flush=True)
        jobs = [
            pool.submit(run_arm, work, seed, name, arguments.pretraining, arguments.iterations, judge)
            for seed, name in missing
        ]  # fmt: skip
        for job in as_completed(jobs):
            # One arm that fails does not end the others; its row is missing and a further call tries it again.
            print(job.exception() or job.result(), flush=True)
            (work / "ablation.md").write_text(table(work, compared))
    print(table(work, compared))


if __name__ == "__main__":
    main()
