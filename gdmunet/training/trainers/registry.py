"""Finding a trainer by its name, or by the path of the user's own."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

from gdmunet.errors import GdmError
from gdmunet.training.trainers import variants
from gdmunet.training.trainers.adversarial import AdversarialTrainer
from gdmunet.training.trainers.bridge import BridgeTrainer
from gdmunet.training.trainers.fidelity import FidelityTrainer
from gdmunet.training.trainers.flow_matching import FlowMatchingTrainer
from gdmunet.training.trainers.gdm import DriftTrainer, GDMTrainer
from gdmunet.training.trainers.perceptual import PerceptualTrainer
from gdmunet.training.trainers.settings import near
from gdmunet.training.trainers.trainer import Trainer

_ALL: tuple[type[Trainer], ...] = (
    GDMTrainer,
    DriftTrainer,
    PerceptualTrainer,
    FidelityTrainer,
    AdversarialTrainer,
    FlowMatchingTrainer,
    BridgeTrainer,
    *variants.VARIANTS,
)
TRAINERS: dict[str, type[Trainer]] = {trainer.__name__: trainer for trainer in _ALL}
DEFAULT_TRAINER = GDMTrainer.__name__


def find_trainer(name: str) -> type[Trainer]:
    """A trainer by name, ``package.module:Class`` or ``file.py:Class``.

    Raises
    ------
    GdmError
        Unknown name (lists the known ones), a module that cannot be imported, or a class that is no trainer.
    """
    if ":" not in name:
        if name not in TRAINERS:
            raise GdmError(
                f"trainer {name} is unknown{near(name, TRAINERS)}",
                expected=", ".join(TRAINERS),
                remedy="name your own as file.py:Class or package.module:Class",
            )
        return TRAINERS[name]
    module_name, _, class_name = name.rpartition(":")
    module = _import_file(Path(module_name)) if module_name.endswith(".py") else _import_module(module_name)
    found = getattr(module, class_name, None)
    if not (isinstance(found, type) and issubclass(found, Trainer)):
        trainers = [k for k, v in vars(module).items() if isinstance(v, type) and issubclass(v, Trainer)]
        raise GdmError(
            f"{class_name} is no trainer{near(class_name, trainers)}",
            file=module_name,
            expected=", ".join(trainers) or "a class derived from gdmunet.training.trainers.trainer.Trainer",
        )
    return found


def _import_file(file: Path) -> object:
    if not file.is_file():
        raise GdmError("the trainer's file is missing", file=file.resolve())
    specification = importlib.util.spec_from_file_location(f"gdm_user_{file.stem}", file.resolve())
    if specification is None or specification.loader is None:
        raise GdmError("the trainer's file is no Python module", file=file)
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


def _import_module(name: str) -> object:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise GdmError(f"the trainer's module {name} cannot be imported: {error}") from error
