"""Notebooks, run cell by cell in one namespace, without Jupyter.

``python tests/samples/notebooks.py documentation/notebooks/own_data.ipynb`` runs one as it is and stores its texts and
pictures in it, at the size at which the site shows them.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

FOLDER = Path(__file__).parents[2] / "documentation" / "notebooks"


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def run(notebook: dict[str, Any], folder: Path, **numbers: int) -> tuple[list[list[dict[str, Any]]], dict[str, Any]]:
    """Run the code in a folder, each ``NAME = number`` replaced; the cells' outputs, and the names at the end."""
    outputs, names = [], {"__name__": "__main__"}
    for cell in code_cells(notebook):
        source = "".join(cell["source"])
        for name, number in numbers.items():
            source = re.sub(rf"^{name} = \d+$", f"{name} = {number}", source, flags=re.MULTILINE)
        said = io.StringIO()
        with contextlib.chdir(folder), contextlib.redirect_stdout(said):
            exec(compile(source, "a cell", "exec"), names)
        outputs.append([*_text(said.getvalue()), *_pictures()])
    return outputs, names


def _text(said: str) -> list[dict[str, Any]]:
    return [{"name": "stdout", "output_type": "stream", "text": said.splitlines(keepends=True)}] if said else []


def _pictures() -> list[dict[str, Any]]:
    found = []
    for number in plt.get_fignums():
        picture = io.BytesIO()
        plt.figure(number).savefig(picture, format="png", dpi=60, bbox_inches="tight")
        encoded = base64.b64encode(picture.getvalue()).decode()
        data = {"image/png": encoded, "text/plain": ["<Figure>"]}
        found.append({"data": data, "metadata": {}, "output_type": "display_data"})
    plt.close("all")
    return found


def store(file: Path) -> None:
    """Run a notebook and write its outputs into it."""
    notebook = json.loads(file.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        outputs, _ = run(notebook, Path(folder))
    for cell, made in zip(code_cells(notebook), outputs, strict=True):
        cell["outputs"] = made
    file.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    os.environ.setdefault("MPLBACKEND", "Agg")
    for name in sys.argv[1:]:
        store(Path(name))
