"""The same results from another state of the code? Fixed runs on one thread, and a hash of everything they make.

usage: python benchmarks/same_results.py WORK DATA [--only-hashes]

Runs the demonstration (one epoch) and data set 512 (real T1 to CT, three heads to train; see make_datasets.py, which
reads DATA) through the commands: plan, preprocess, `GDMTrainer` in 3D and 2D past the place where the drift joins,
predict, evaluate. Prints a hash for each file: of the numbers of volumes and weights, of JSON without seconds, memory,
paths and versions. Two states of the code that print the same lines give the same results bit for bit on this machine.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from safetensors.torch import load_file

TRAINER_FLAGS = ["-p", "gdmPlans_tiny", "--epochs", "5", "-np", "0", "--no_pbar"]
# What differs from run to run, or says where and with which version a file was made.
UNSTABLE = {
    "seconds", "validation_seconds", "wait_share", "peak_memory_mb", "gdmunet_version", "model", "mask_folder",
    "pictures", "commands", "files", "fingerprint_hash", "reference_folder",
    "prediction_folder",
}  # fmt: skip


def run(work: Path, data: Path) -> None:
    """Run the commands; each must succeed."""
    environment = os.environ | {
        "GDM_RAW": str(work / "raw"),
        "GDM_PREPROCESSED": str(work / "preprocessed"),
        "GDM_RESULTS": str(work / "results"),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    raw = work / "raw" / "Dataset512_PseudoMRCT"
    predict = ["-d", "512", "-c", "3d_fullres", "-f", "0", "-chk", "final", "--mask", str(raw / "masksTs"), "--no_pbar"]
    commands = [
        ["gdm_demo", "--out", str(work / "demo"), "--epochs", "1", "--no_pbar"],
        [sys.executable, str(Path(__file__).with_name("make_datasets.py")), str(data), str(work / "raw"),
         "--only", "mr2ct"],
        ["gdm_plan_and_preprocess", "-d", "512", "-pl", "tiny", "-c", "3d_fullres", "2d", "-np", "1", "--no_pbar"],
        ["gdm_train", "512", "3d_fullres", "0", *TRAINER_FLAGS, "--set", "iterations_per_epoch=6",
         "learning_rate=0.002"],
        ["gdm_train", "512", "2d", "0", *TRAINER_FLAGS, "--set", "iterations_per_epoch=4"],
        ["gdm_predict", "-i", str(raw / "imagesTs"), "-o", str(work / "pred"), *predict],
        ["gdm_evaluate", "-ref", str(raw / "targetsTs"), "-pred", str(work / "pred"),
         "-mask", str(raw / "masksTs"), "--no_pbar"],
    ]  # fmt: skip
    for command in commands:
        print("$", " ".join(command), file=sys.stderr, flush=True)
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)


def hashes(work: Path) -> dict[str, str]:
    """File (relative to `work`) to the hash of its content."""
    return {
        str(file.relative_to(work)): kind(file)[:16]
        for file in sorted(work.rglob("*"))
        if file.is_file()
        if (kind := _READERS.get("".join(file.suffixes[-2:])) or _READERS.get(file.suffix)) is not None
    }


def _of_volume(file: Path) -> str:
    image = sitk.ReadImage(str(file))
    place = np.asarray([*image.GetSpacing(), *image.GetOrigin(), *image.GetDirection()])
    return _of_bytes(str(sitk.GetArrayFromImage(image).dtype).encode(), sitk.GetArrayFromImage(image), place)


def _of_weights(file: Path) -> str:
    weights = load_file(file)
    return _of_bytes(*(part for name in sorted(weights) for part in (name.encode(), weights[name].numpy())))


def _of_resume_state(file: Path) -> str:
    tensors: list[Any] = []

    def walk(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            tensors.append(value.cpu().contiguous().view(torch.uint8).numpy() if value.ndim else value.item())
        elif isinstance(value, dict):
            for key in sorted(value, key=str):
                walk(value[key])
        elif isinstance(value, list | tuple):
            for item in value:
                walk(item)

    walk(torch.load(file, weights_only=True))
    return _of_bytes(*(np.asarray(value) for value in tensors))


def _of_json(file: Path) -> str:
    lines = file.read_text().splitlines() if file.suffix == ".jsonl" else [file.read_text()]
    return _of_bytes(*(json.dumps(_stable(json.loads(line)), sort_keys=True).encode() for line in lines))


def _stable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _stable(item) for key, item in value.items() if key not in UNSTABLE}
    return [_stable(item) for item in value] if isinstance(value, list) else value


def _of_bytes(*parts: Any) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


def _of_file(file: Path) -> str:
    return _of_bytes(file.read_bytes())


_READERS = {
    ".nii.gz": _of_volume, ".safetensors": _of_weights, ".pt": _of_resume_state, ".json": _of_json,
    ".jsonl": _of_json, ".b2nd": _of_file,
}  # fmt: skip


def main() -> None:
    """Run, then print the hashes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only-hashes", action="store_true", help="of what lies in WORK already")
    arguments = parser.parse_args()
    if not arguments.only_hashes:
        run(arguments.work.resolve(), arguments.data.resolve())
    for file, digest in hashes(arguments.work.resolve()).items():
        print(digest, file)


if __name__ == "__main__":
    main()
