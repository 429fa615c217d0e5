"""The reference of names, from their docstrings: ``<!-- api: NAME -->`` in a page is replaced by what NAME holds.

NAME is a package with ``__all__``, a module, a folder of modules (``gdmunet.metrics.*``), or ``requests``: the keywords
of every command.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator

import gdmunet
from gdmunet.cli.arguments import help_text
from gdmunet.cli.flags import parser_of
from gdmunet.workflows.requests.catalogue import REQUESTS
from gdmunet.workflows.requests.declaration import Request, request_fields

_MARK = re.compile(r"^<!-- api: (?P<name>[\w.*]+) -->$", re.MULTILINE)


def api_blocks(text: str) -> str:
    """The page with its marks replaced."""
    return _MARK.sub(lambda mark: "\n\n".join(_blocks(mark["name"])), text)


def escape_formulas(lines: list[str]) -> None:
    """Let ``|A and B|`` and ``2 * x`` of a docstring be text, in place: they would be markup."""
    literal = False
    for number, line in enumerate(lines):
        if line.strip():
            literal = literal and line.startswith("    ")
            if not literal:
                parts = re.split(r"(``.*?``|`[^`]*`)", line)
                lines[number] = "".join(re.sub(r"([|*])", r"\\\1", p) if not p.startswith("`") else p for p in parts)
            literal = literal or line.rstrip().endswith("::")


def mark_code(lines: list[str]) -> None:
    """Let what is indented in a module's docstring be code, in place; nothing else is indented there."""
    for number in range(len(lines) - 1, 0, -1):
        before = next((line for line in reversed(lines[:number]) if line.strip()), "")
        begins = lines[number].startswith("    ") and not lines[number - 1].strip() and not before.startswith("    ")
        if begins and not before.rstrip().endswith("::"):
            lines[number:number] = ["::", ""]


def _blocks(name: str) -> Iterator[str]:
    if name == "requests":
        yield from map(_request, REQUESTS)
    elif name.endswith(".*"):
        for module in modules(name.removesuffix(".*")):
            if names := own_names(module):
                yield f"## {module.rpartition('.')[2]}\n\n{_directives(module, names)}"
    else:
        yield _directives(name, own_names(name))


def modules(package: str) -> list[str]:
    """The modules that lie in a package, by name."""
    found = pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}.")
    return [module.name for module in found if not module.ispkg]


def own_names(module: str) -> list[str]:
    """``__all__``, else the public classes and functions that the module defines, in the order of the file."""
    place = importlib.import_module(module)
    if hasattr(place, "__all__"):
        return [name for name in place.__all__ if not name.startswith("_")]
    own = [
        (inspect.getsourcelines(value)[1], name)
        for name, value in vars(place).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module
    ]
    return [name for _, name in sorted(own)]


def _directives(module: str, names: list[str]) -> str:
    place = importlib.import_module(module)
    lines = ["```{eval-rst}", f".. automodule:: {module}", ""]
    for name in names:
        value = getattr(place, name)
        kind = "autoclass" if inspect.isclass(value) else "autofunction"
        lines += [f".. {kind}:: {module}.{name}"]
        lines += ["   :members:", "   :show-inheritance:"] if kind == "autoclass" else []
        # A public name has its place on the page of public names; links lead there.
        lines += ["   :no-index:"] if module != "gdmunet" and getattr(gdmunet, name, None) is value else []
        lines += [""]
    return "\n".join([*lines, "```"])


def _request(kind: type[Request]) -> str:
    actions = {action.dest: action for action in reversed(parser_of(kind)._actions)}
    rows = []
    for field in request_fields(kind):
        action = actions[field.name]
        text = field.flag.switches and "; ".join(f"`{s.value!r}`: {s.help}" for s in field.flag.switches)
        text = text or help_text(action) % {"default": action.default}
        default = "required" if field.required else f"`{field.default!r}`"
        rows.append(f"| `{field.name}` | {default} | {text.replace('|', chr(92) + '|')} |")
    head = f"## {kind.__name__}\n\n`{kind.__module__}.{kind.__name__}`: `{kind.synopsis.name}`\n\n"
    head += kind.synopsis.description
    return f"{head}\n\n| keyword | default | meaning |\n|---|---|---|\n" + "\n".join(rows)
