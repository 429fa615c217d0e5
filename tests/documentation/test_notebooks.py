"""The notebooks run from their first cell to their last; here with few iterations."""

import json

import pytest
from notebooks import FOLDER, code_cells, run

NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_runs(file, tmp_path):
    notebook = json.loads(file.read_text(encoding="utf-8"))
    outputs, names = run(notebook, tmp_path, ITERATIONS=1)
    assert names["ITERATIONS"] == 1
    assert any("image/png" in output.get("data", {}) for cell in outputs for output in cell)


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_is_small_and_was_run_to_its_end(file):
    """What the site shows: no cell is an error, the last ones have text or a picture, and the file is small."""
    notebook = json.loads(file.read_text(encoding="utf-8"))
    outputs = [output for cell in code_cells(notebook) for output in cell["outputs"]]
    assert file.stat().st_size < 150_000
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert any("image/png" in output.get("data", {}) for output in outputs)
