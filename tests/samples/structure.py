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
    circles: list[list[str]]
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
        import_circles(package),
        public,
    )


def _lines(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def imported_modules(text: str, modules: set[str]) -> set[str]:
    """Modules of the package that a file imports anywhere: at its top, for the type checker, or inside a function."""
    imported = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            submodules = {f"{node.module}.{alias.name}" for alias in node.names} & modules
            imported |= submodules
            if len(submodules) < len(node.names):
                imported.add(node.module)
    return imported & modules


def module_of(file: Path, package: Path) -> str:
    """Dotted name of a file."""
    parts = file.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def import_circles(package: Path) -> list[list[str]]:
    """Modules of a package that import each other in a circle, sorted."""
    texts = {module_of(file, package): file.read_text(encoding="utf-8") for file in package.rglob("*.py")}
    imports = {module: imported_modules(text, set(texts)) - {module} for module, text in texts.items()}
    return sorted(sorted(circle) for circle in circles(imports))


def circles(imports: dict[str, set[str]]) -> list[set[str]]:
    """Sets of modules that reach each other: each strongly connected part of more than one (or of one on itself)."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            new = imports[waiting.pop()] - seen
            seen |= new
            waiting += new
        return seen

    reach = {module: reached(module) for module in imports}
    parts = {
        frozenset({module} | {other for other in reach[module] if module in reach[other]})
        for module in imports
        if module in reach[module]
    }
    return [set(part) for part in parts]


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
