"""The things that derived data were made from, as hashes: what belongs together is known by content, not by name.

Prepared cases, checkpoints, resume states, predictions and validations carry such hashes; whoever combines two of them
compares. A field that one side does not know (a file of an earlier version) is not compared, and said.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gdmunet.dataset import DatasetDescriptor, Fold
from gdmunet.plans import Configuration, EncoderSpec, Plans
from gdmunet.serialization import to_json

# The second number is raised whenever preparing gives other numbers than before.
RECIPE_VERSIONS = (1, 1)
# Parts of a configuration that change neither the cases nor the network nor a step, or are part of another hash.
_WITHOUT_EFFECT = ("median_shape", "predicted_memory", "encoder", "iterations")
# Cases that a text about two splits names.
_NAMED = 5


@dataclass(frozen=True)
class ProvenanceSpec:
    """Hashes of everything that a training rests on; None: not known, or not part of it.

    Attributes
    ----------
    plans
        Configuration and data set of the plans, see `plans_hash`.
    encoder
        Frozen encoder, of trainers that use one.
    split
        Cases that the fold trains on and holds out.
    settings
        Settings of the trainer.
    trainer
        Class of the trainer: the built-in one, and the source of the user's own.
    """

    plans: str | None = None
    encoder: str | None = None
    split: str | None = None
    settings: str | None = None
    trainer: str | None = None

    def differing(self, other: ProvenanceSpec) -> tuple[str, ...]:
        """The fields that both know and that differ."""
        present, theirs = vars(self), vars(other)
        return tuple(
            name for name, value in present.items() if None not in (value, theirs[name]) and value != theirs[name]
        )

    def unknown(self, other: ProvenanceSpec) -> tuple[str, ...]:
        """The fields of this one that the other one does not know."""
        return tuple(name for name, value in vars(self).items() if value is not None and vars(other)[name] is None)


# Of files of earlier versions, which say nothing.
UNKNOWN = ProvenanceSpec()


def plans_hash(plans: Plans, configuration: str) -> str:
    """Hash of all that training and prediction take from plans, without folds and encoder, which have their own."""
    essence = _essence(plans.configuration(configuration))
    return _hash([_of_dataset(plans.dataset), {k: v for k, v in essence.items() if k not in _WITHOUT_EFFECT}])


def encoder_hash(encoder: EncoderSpec | None) -> str | None:
    """Hash of a frozen encoder: its weights and what is read from them; its name and place may change."""
    if encoder is None:
        return None
    return _hash([encoder.sha256, encoder.dimensions, encoder.window, encoder.levels])


def cases_hash(configuration: Configuration, descriptor: DatasetDescriptor) -> str:
    """Hash of everything but the files that decides how a prepared case looks."""
    recipe = {
        "versions": RECIPE_VERSIONS,
        "channels": descriptor.channels,
        "mask": descriptor.mask,
        "transpose": configuration.transpose,
        "spacing": configuration.spacing,
        "normalization": [*configuration.condition_normalization, configuration.target_normalization],
        "order": configuration.order,
        "window": configuration.window_size,
    }
    if configuration.storage is not None:  # cases of earlier plans keep their hash
        recipe["storage"] = configuration.storage
    return hashlib.sha256(json.dumps(to_json(recipe), sort_keys=True).encode()).hexdigest()


def split_hash(*folds: Fold) -> str:
    """Hash of the cases on both sides of folds, in any order within a side."""
    return _hash([[sorted(fold.training), sorted(fold.validation)] for fold in folds])


def settings_hash(settings: Mapping[str, Any]) -> str:
    """Hash of a trainer's settings."""
    return _hash(dict(settings))


def trainer_hash(built_in: str, own: Sequence[str]) -> str:
    """Hash of a trainer's class.

    Parameters
    ----------
    built_in
        Name of gdmunet's class that it is or derives from.
    own
        Sources of the user's classes between both.
    """
    return _hash([built_in, list(own)])


def plans_differences(theirs: Plans, present: Plans, configuration: str) -> list[tuple[str, str]]:
    """What differs in two plans that have different hashes, as pairs of texts: of theirs, and of the present ones."""
    first, second = theirs.configuration(configuration), present.configuration(configuration)
    pairs = [(name, getattr(first, name), getattr(second, name)) for name in _effective_fields()]
    sides = _of_dataset(theirs.dataset), _of_dataset(present.dataset)
    pairs += [(name, value, sides[1][name]) for name, value in sides[0].items()]
    leaves = [leaf for pair in pairs for leaf in _leaves(*pair)]
    return [(_shown(name, left), _shown(name, right)) for name, left, right in leaves if left != right]


def split_differences(theirs: Fold, present: Fold) -> list[str]:
    """What differs in two splits of a fold, in words; cases on the wrong side first."""
    was = {"trained on": set(theirs.training), "held out": set(theirs.validation)}
    leaking = was["trained on"] & set(present.validation)
    texts = [f"trained on before, held out by the plans: {_names(leaking)}"] if leaking else []
    everyone = {*theirs.training, *theirs.validation}
    new, gone = {*present.training, *present.validation} - everyone, everyone - {*present.training, *present.validation}
    moved = (was["held out"] & set(present.training)) - leaking
    texts += [f"held out before, trained on by the plans: {_names(moved)}"] if moved else []
    texts += [f"new: {_names(new)}"] if new else []
    return texts + ([f"no longer there: {_names(gone)}"] if gone else [])


def _of_dataset(dataset: DatasetDescriptor) -> dict[str, Any]:
    return {
        "channels": dataset.channels,
        "target": dataset.target_name,
        "given masks": dataset.mask,
    }


def _effective_fields() -> list[str]:
    return [field.name for field in dataclasses.fields(Configuration) if field.name not in _WITHOUT_EFFECT]


def _shown(name: str, value: Any) -> str:
    if name == "spacing":
        return "voxel size " + " x ".join(f"{size:g}" for size in value) + " mm"
    return f"{name.replace('_', ' ')} {value}"


def _leaves(name: str, left: Any, right: Any) -> Iterator[tuple[str, Any, Any]]:
    """Parts of two values of one kind, down to plain values, with their names."""
    if dataclasses.is_dataclass(left) and type(left) is type(right):
        for field in dataclasses.fields(left):
            yield from _leaves(f"{name} {field.name}", getattr(left, field.name), getattr(right, field.name))
    elif isinstance(left, tuple) and len(left) == len(right) and any(map(dataclasses.is_dataclass, left)):
        for number, pair in enumerate(zip(left, right, strict=True)):
            yield from _leaves(f"{name} {number}", *pair)
    else:
        yield name, left, right


def _names(cases: set[str]) -> str:
    return ", ".join(sorted(cases)[:_NAMED]) + (f" and {len(cases) - _NAMED} more" if len(cases) > _NAMED else "")


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(_essence(value), sort_keys=True).encode()).hexdigest()


def _essence(value: Any) -> Any:
    """Plain values without fields that have their default: a field that a later version adds changes no hash."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: _essence(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if getattr(value, field.name) != field.default
        }
    if isinstance(value, Mapping):
        return {str(key): _essence(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_essence(item) for item in value]
    return to_json(value)
