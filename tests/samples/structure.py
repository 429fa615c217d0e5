"""Counts of a package's structure, read from its syntax trees; nothing of it is run.

``python tests/samples/structure.py gdmunet`` prints them as a row of a table.
"""

from __future__ import annotations

import ast
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Definition:
    """A function or class: where it stands, its lines, and (for a function) its parameters without self and cls."""

    where: str
    lines: int
    parameters: int = 0


@dataclass(frozen=True)
class Structure:
    """What a package is made of.

    Attributes
    ----------
    files
        File to its number of lines.
    rooms
        Files of the folder that holds the most.
    circles
        Files that import each other in a circle, also under TYPE_CHECKING or inside a function.
    public_names
        Functions and classes at module level without a leading underscore.
    """

    files: dict[str, int]
    largest_folder: int
    functions: tuple[Definition, ...]
    classes: tuple[Definition, ...]
    circles: tuple[tuple[str, ...], ...]
    public_names: int

    def row(self) -> str:
        """The counts as a row of a Markdown table."""
        lines = sorted(function.lines for function in self.functions)
        cells = [
            len(self.files),
            sum(self.files.values()),
            max(self.files.values()),
            self.largest_folder,
            len(lines),
            f"{statistics.median(lines):.0f} / {lines[int(0.9 * len(lines))]} / {lines[-1]}",
            f"{max(f.parameters for f in self.functions)} ({sum(f.parameters > 8 for f in self.functions)})",
            max(c.lines for c in self.classes),
            len(self.circles),
            self.public_names,
        ]
        return "| " + " | ".join(map(str, cells)) + " |"


HEAD = (
    "| files | lines | longest file | files in the largest folder | functions | their lines: median / 90 % / longest "
    "| most parameters (functions over 8) | longest class | import circles | public names |\n" + "|---" * 10 + "|"
)


def measure(package: Path) -> Structure:
    """Read every Python file of `package`."""
    paths = sorted(package.rglob("*.py"))
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in paths}
    functions, classes, public = [], [], 0
    for path, tree in trees.items():
        file = str(path.relative_to(package.parent))
        public += sum(isinstance(n, (*FUNCTIONS, ast.ClassDef)) and not n.name.startswith("_") for n in tree.body)
        for node in ast.walk(tree):
            if isinstance(node, FUNCTIONS):
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                count = sum(argument.arg not in ("self", "cls") for argument in arguments)
                functions.append(Definition(f"{file}:{node.lineno} {node.name}", _lines(node), count))
            elif isinstance(node, ast.ClassDef):
                classes.append(Definition(f"{file}:{node.lineno} {node.name}", _lines(node)))
    folders = [path.parent for path in paths]
    return Structure(
        {str(path.relative_to(package.parent)): path.read_text(encoding="utf-8").count("\n") for path in paths},
        max(folders.count(folder) for folder in set(folders)),
        tuple(functions),
        tuple(classes),
        _circles({_module(path, package): _imports(tree, package.name) for path, tree in trees.items()}),
        public,
    )


def _lines(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _module(path: Path, package: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(tree: ast.Module, package: str) -> set[str]:
    """Every dotted name of the package that a file imports, wherever the statement stands."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] == package}


def _circles(imports: dict[str, set[str]]) -> tuple[tuple[str, ...], ...]:
    """Strongly connected groups of more than one module (Tarjan)."""
    edges = {module: (names & imports.keys()) - {module} for module, names in imports.items()}
    # ``from package import module`` names the package too; a package's face is met only where it gives a name.
    for module, names in imports.items():
        for target in list(edges[module]):
            below = [name for name in names if name.startswith(f"{target}.")]
            if below and all(name in imports for name in below):
                edges[module].discard(target)
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[tuple[str, ...]] = []

    def visit(module: str) -> None:
        order[module] = low[module] = len(order)
        stack.append(module)
        for other in sorted(edges[module]):
            if other not in order:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], order[other])
        if low[module] == order[module]:
            group = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(group) > 1:
                groups.append(tuple(sorted(group)))

    for module in sorted(edges):
        if module not in order:
            visit(module)
    return tuple(groups)


if __name__ == "__main__":
    structure = measure(Path(sys.argv[1]))
    print(HEAD)
    print(structure.row())
    for circle in structure.circles:
        print("circle:", ", ".join(circle))
    for definition in structure.functions:
        if definition.lines > 60 or definition.parameters > 8:
            print(f"{definition.where}: {definition.lines} lines, {definition.parameters} parameters")
    for definition in structure.classes:
        if definition.lines > 200:
            print(f"{definition.where}: {definition.lines} lines")
    for file, lines in structure.files.items():
        if lines > 320:
            print(f"{file}: {lines} lines")
