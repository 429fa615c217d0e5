"""An encoder is added in two places, a file of gdmunet/encoders and a row of its table; nothing else names it."""

import ast
import dataclasses
import re
from pathlib import Path

import pytest
import test_encoders_page
import torch
from short_trainers import batch_for, loop_of, short, weights

import gdmunet.encoders
from gdmunet.cli.download_encoder import main as download_encoder
from gdmunet.encoders.base import VolumeUnits
from gdmunet.encoders.choice import EncoderOptions
from gdmunet.encoders.registry import FAMILIES, Family
from gdmunet.preprocessing.operations import GeneratorStep
from gdmunet.preprocessing.planned_encoder import WantedEncoder
from gdmunet.training.trainers.gdm import DriftTrainer

PACKAGE = Path(gdmunet.encoders.__file__).parents[1]
BUILDER = """
import torch

from gdmunet.encoders.base import FrozenEncoder
from gdmunet.plans import EncoderLevel

BUILT = []


class Cells(FrozenEncoder):
    def __init__(self, units, dimensions):
        super().__init__([EncoderLevel("cells", 8, (2,) * dimensions)], units, dimensions=dimensions, divisor=2)
        convolution = torch.nn.Conv3d if dimensions == 3 else torch.nn.Conv2d
        self.cells = convolution(1, 8, 2, stride=2, bias=False)
        torch.nn.init.constant_(self.cells.weight, 0.1)
        torch.nn.init.eye_(self.cells.weight.view(8, -1))

    def scale(self, raw):
        return raw / 1000

    def features(self, volume):
        return [self.cells(volume)]


def build(file, units, dimensions, trust_checkpoint=False):
    BUILT.append(dimensions)
    return Cells(units, dimensions)
"""
# What the package may say of a single encoder outside its builder and the table.
EXCEPTIONS = {
    "cli/demo_run.py": "tiny is a preset too",
    "plan_names.py": "tiny is a preset too",
    "plan_versions.py": "what plans of version 1 called the built-in one",
    "preprocessing/presets.py": "tiny is a preset too",
    "preprocessing/sizing.py": "tiny is a preset too",
    "cli/pretrain_encoder.py": "the command writes encoders of one family",
    "workflows/requests/encoders.py": "the command writes encoders of one family; the default of an audit",
    "workflows/requests/planning.py": "what auto falls back on, in the help; tiny is a preset too",
    "workflows/requests/training.py": "the default judges, in the help",
    "workflows/compare.py": "the default judges",
    "workflows/machine_choice.py": "tiny is a preset too",
    "workflows/train.py": "tiny is a preset too",
    "training/loop/dial_validation.py": "the judge of the dial's curve, with random weights",
    "workflows/doctor/trial.py": "tiny is a preset too",
}


@pytest.fixture
def cells(tmp_path, monkeypatch):
    """The toy encoder, added as the recipe says: one file beside the builders, one row of the table."""
    folder = tmp_path / "added"
    folder.mkdir()
    (folder / "toy_cells.py").write_text(BUILDER)
    monkeypatch.setattr(gdmunet.encoders, "__path__", [*gdmunet.encoders.__path__, str(folder)])
    row = Family("cells", "sums of cells", "toy_cells:build", (), (2, 3), "CC0")
    monkeypatch.setitem(FAMILIES, row.name, row)
    return row


@pytest.mark.usefixtures("cells")
def test_the_new_encoder_is_listed(tmp_path, capsys):
    assert not download_encoder(["--list", "-o", str(tmp_path)])
    assert re.search(r"^cells +sums of cells +2D and 3D", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.usefixtures("cells")
def test_the_reference_page_must_have_its_row():
    with pytest.raises(AssertionError):
        test_encoders_page.test_the_table_holds_every_encoder_with_its_licence_and_size()


@pytest.mark.usefixtures("cells")
def test_it_is_planned_with_one_build_and_trained_with(toy, tmp_path):
    plans, folders = toy
    configuration = plans.configurations["3d_fullres"]
    units = VolumeUnits.of(configuration, plans.dataset.target_name)
    step = GeneratorStep(configuration.network, configuration.patch_size, configuration.batch_size)
    planned = WantedEncoder("cells", EncoderOptions(tmp_path / "cache"))(units, step)
    from gdmunet.encoders import toy_cells

    assert toy_cells.BUILT == [3]  # chosen, measured and described from one module
    assert planned.module is not None
    assert planned.spec.spec == "cells"
    assert planned.spec.licence == "CC0"
    with_cells = dataclasses.replace(configuration, encoder=planned.spec)
    plans = dataclasses.replace(plans, configurations={**plans.configurations, "3d_fullres": with_cells})
    loop = loop_of((plans, folders), short(DriftTrainer, feature_start=0.0))
    before = weights(loop)
    report = loop.train_step([batch_for(loop)])
    assert "cells" in " ".join(report)
    assert any(not torch.equal(value, before[name]) for name, value in weights(loop).items())


def said_constants(file: Path) -> list[str]:
    """String constants of a file without its docstrings."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    silent = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in silent)
    return [node.value for node in constants if isinstance(node.value, str)]


def test_no_other_file_of_the_package_names_an_encoder():
    builders = {f"encoders/{family.builder.partition(':')[0]}.py" for family in FAMILIES.values()}
    ends = {True: ":", False: r"(?![\w-])"}
    patterns = [
        re.compile(rf"(?<![\w-]){re.escape(name)}{ends[family.argument is not None]}")
        for name, family in FAMILIES.items()
    ]
    naming = set()
    for file in PACKAGE.rglob("*.py"):
        text = "\n".join(said_constants(file))
        if any(pattern.search(text) for pattern in patterns):
            naming.add(file.relative_to(PACKAGE).as_posix())
    assert naming - builders - {"encoders/registry.py"} == set(EXCEPTIONS)
