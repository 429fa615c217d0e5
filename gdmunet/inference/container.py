"""A trained model as a folder that builds into a container: package, model, pinned requirements, Dockerfile."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Sequence
from pathlib import Path

from packaging.requirements import Requirement

from gdmunet.atomic import atomic_folder, write_text
from gdmunet.errors import GdmError
from gdmunet.inference.archive import packed_files
from gdmunet.plans import load_plans
from gdmunet.results import CheckpointName, ModelFolder

PACKAGE = Path(__file__).parents[1]
FILES = Path(__file__).parent / "container_files"
RESULTS = "results"
"""Folder inside the container's that takes the place of the results folder."""
# They come from an index of their own, as a pair that fits.
_WITH_TORCH = ("torch", "torchvision")


def write_container(
    model_folder: Path,
    destination: Path,
    folds: Sequence[str | int] | str | None = None,
    checkpoint: CheckpointName = "best",
) -> Path:
    """Write a folder that ``docker build`` turns into a grand-challenge algorithm; its model is checked first.

    The folder holds this version of gdmunet and pins the versions that are installed here, so that the container gives
    the same prediction.

    Raises
    ------
    GdmError
        The model cannot be loaded, takes several channels, or the folder is there already.
    """
    folder = Path(model_folder).resolve()
    files = packed_files(folder, folds, checkpoint)
    channels = load_plans(ModelFolder(folder).plans).dataset.channels
    if len(channels) != 1:
        raise GdmError(
            "the challenge hands over one image, and the model takes several channels",
            file=folder,
            found=", ".join(channels),
            expected="one channel, the MR or the cone-beam CT",
            remedy="export a model of one channel",
        )
    with atomic_folder(Path(destination)) as staging:
        shutil.copytree(PACKAGE, staging / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__", "demo"))
        for file in files:
            copy = staging / RESULTS / file.relative_to(folder.parents[1])
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
        shutil.copyfile(FILES / "Dockerfile", staging / "Dockerfile")
        write_text(staging / "requirements-torch.txt", f"torch=={_public('torch')}\ntorchvision\n")
        write_text(staging / "requirements.txt", "".join(f"{line}\n" for line in pinned_requirements()))
    return Path(destination)


def pinned_requirements() -> list[str]:
    """The packages that gdmunet needs besides PyTorch, each with the version that is installed here.

    Raises
    ------
    GdmError
        gdmunet is not installed as a package, so that its requirements are not known.
    """
    try:
        wanted = importlib.metadata.requires("gdmunet") or []
    except importlib.metadata.PackageNotFoundError:
        raise GdmError(
            "the requirements of gdmunet are not known",
            found="a source tree on the path",
            expected="an installed package",
            remedy="install gdmunet into this environment, such as by: pip install -e .",
        ) from None
    parsed = [Requirement(line) for line in wanted]
    needed = [one.name for one in parsed if one.marker is None or one.marker.evaluate({"extra": ""})]
    return sorted(f"{name}=={_public(name)}" for name in needed if name not in _WITH_TORCH)


def _public(name: str) -> str:
    """The installed version without its local part, such as ``+cpu``: that build may be elsewhere."""
    return importlib.metadata.version(name).partition("+")[0]


def describe(container: Path) -> tuple[str, ...]:
    """The command lines that build the container, and try it without a network, in their order."""
    name = container.name.lower()
    return (
        f"docker build --tag {name} {container}",
        f"docker run --rm --gpus all --network none -v INPUT:/input:ro -v OUTPUT:/output {name}",
        f"docker save {name} | gzip > {name}.tar.gz",
    )
