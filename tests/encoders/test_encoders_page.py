"""The reference page says what the code does."""

import re
from pathlib import Path

import torch
from safetensors.torch import save_file

from gdmunet.consents import ConsentList, file_sha256
from gdmunet.encoders.choice import EncoderOptions, choose_encoder
from gdmunet.encoders.loading import load_encoder
from gdmunet.encoders.registry import FAMILIES, ranked_families

PAGE = (Path(__file__).parents[2] / "documentation" / "reference" / "encoders.md").read_text(encoding="utf-8")


def rows(first_cell: str) -> list[list[str]]:
    """Rows of the table whose header begins with `first_cell`."""
    lines = PAGE[PAGE.index(f"| {first_cell} |") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_table_holds_every_encoder_with_its_licence_and_size():
    table = {re.match(r"`([\w-]+)", row[0])[1]: row for row in rows("encoder")[:-1]}
    assert set(table) == set(FAMILIES)
    for name, family in FAMILIES.items():
        assert table[name][4] == family.licence
        if family.source:
            assert table[name][6] == f"download, {family.source.megabytes} MB"


def test_the_order_of_auto_is_that_of_the_code():
    table = {row[0]: tuple(re.findall(r"`([\w-]+)`", row[1])) for row in rows("target")}
    assert set(table) == {"CT, CBCT", "other"}
    for words, modalities in (("CT, CBCT", ("CT", "CBCT")), ("other", ("MR", "T1", "PET"))):
        for modality in modalities:
            assert tuple(family.name for family in ranked_families(modality, 3)) == table[words]


def test_the_example_runs(ct_units, tmp_path):
    (tmp_path / "edges.py").write_text(re.search(r"```python\n(.*?)```", PAGE, re.S)[1])
    weights = tmp_path / "edges.safetensors"
    save_file({"conv.weight": torch.randn(8, 1, 3, 3, 3), "conv.bias": torch.zeros(8)}, str(weights))
    spec = f"{tmp_path / 'edges.py'}:factory"
    planned = choose_encoder(spec, ct_units, 3, EncoderOptions(tmp_path, weights)).spec
    allowed = ConsentList({file_sha256(tmp_path / "edges.py"): "edges.py"})
    found = load_encoder(planned, ct_units, tmp_path, allowed)(torch.randn(1, 1, 7, 8, 9))
    assert found[0].values.shape == (1, 8, 4, 4, 5)
    assert planned.window == (-1000.0, 1000.0)
