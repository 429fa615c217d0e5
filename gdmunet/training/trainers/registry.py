"""Trainers by name, or by the path of the user's own."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import textwrap

from gdmunet.errors import GdmError
from gdmunet.training.trainers.settings import near
from gdmunet.training.trainers.trainer import Trainer
from gdmunet.user_code import import_user_module


def named_trainers(package: str = __package__) -> dict[str, type[Trainer]]:
    """Every trainer of a package's files by its name, sorted: the classes that leave no hook unwritten."""
    folder = importlib.import_module(package).__path__
    names = [f"{package}.{module.name}" for module in pkgutil.iter_modules(folder)]
    classes = [value for name in names for value in vars(importlib.import_module(name)).values()]
    own = {
        value.__name__: value
        for value in classes
        if isinstance(value, type) and issubclass(value, Trainer) and value.__module__ in names
    }
    return {name: own[name] for name in sorted(own) if not inspect.isabstract(own[name])}


def find_trainer(name: str) -> type[Trainer]:
    """A trainer by name, ``package.module:Class`` or ``file.py:Class``.

    Raises
    ------
    GdmError
        Unknown name (lists the known ones), a module that cannot be imported, or a class that is not a trainer.
    """
    if ":" not in name:
        known = named_trainers()
        if name not in known:
            raise GdmError(
                f"trainer {name} is unknown{near(name, known)}",
                expected=", ".join(known),
                remedy="name your own as file.py:Class or package.module:Class",
            )
        return known[name]
    module_name, _, class_name = name.rpartition(":")
    module = import_user_module(module_name, "trainer")
    candidate = getattr(module, class_name, None)
    if not (isinstance(candidate, type) and issubclass(candidate, Trainer)):
        trainers = [k for k, v in vars(module).items() if isinstance(v, type) and issubclass(v, Trainer)]
        raise GdmError(
            f"{class_name} is not a trainer{near(class_name, trainers)}",
            file=module_name,
            expected=", ".join(trainers) or "a class derived from gdmunet.training.trainers.trainer.Trainer",
            remedy="name a class that derives from a trainer",
        )
    return candidate


def nearest_named(kind: type[Trainer]) -> type[Trainer]:
    """The trainer that a class is a version of: itself or its nearest base that has a name of its own."""
    known = set(named_trainers().values())
    return next((base for base in kind.__mro__ if base in known), Trainer)


def own_sources(kind: type[Trainer]) -> tuple[str, ...]:
    """Sources of the user's classes between a trainer and gdmunet's, without comments, docstrings and layout.

    A class that was made by code, such as one that carries settings of the command line, has none.
    """
    package = __name__.partition(".")[0]
    foreign = [base for base in kind.__mro__ if base.__module__.partition(".")[0] not in (package, "builtins", "abc")]
    # Once: a class that was made of another one, under its name, is found at the same place.
    return tuple(dict.fromkeys(source for base in foreign if (source := _bare_source(base)) is not None))


def _bare_source(kind: type) -> str | None:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    except (OSError, TypeError, SyntaxError):  # no file, as in an interactive session
        return None
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and body and ast.get_docstring(node) is not None:
            node.body = body[1:] or [ast.Pass()]
    return ast.unparse(tree)
