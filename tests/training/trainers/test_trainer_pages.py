"""What the pages on trainers show runs, and they list every setting."""

import dataclasses
import re
from pathlib import Path

import pytest
import torch
from short_trainers import batch_for, loop_of

from gdmunet.training.patches.stream import PatchLoader
from gdmunet.training.trainers.gdm import GDMTrainer
from gdmunet.training.trainers.registry import find_trainer

PAGES = Path(__file__).parents[3] / "documentation" / "how_to"
TINY = {"bank_patches": "2", "tokens_per_patch": "32", "minimum_tokens": "2", "feature_start": "0"}


def snippets(page: str) -> str:
    return "\n\n".join(re.findall(r"```python\n(.*?)```", (PAGES / page).read_text(), re.DOTALL))


@pytest.mark.parametrize("name", ["GDMTrainerAllLevels", "GDMTrainerEdges"])
def test_the_ablations_of_the_page_take_a_step(toy, tmp_path, name):
    file = tmp_path / "ablations.py"
    file.write_text(snippets("write_an_ablation.md"))
    loop = loop_of(toy, find_trainer(f"{file}:{name}").derive(TINY))
    report = loop.train_step([batch_for(loop)])
    assert report["norm_features"] > 0
    drifting = {key for key in report if key.startswith("loss_drift_")}
    if name == "GDMTrainerEdges":
        assert report["loss_edges"] > 0
    else:
        assert len(drifting) == len(loop.trainer.encoder.levels) > 2


def test_the_augmentation_of_the_page_changes_the_condition_alone(toy, tmp_path):
    page = (PAGES / "write_a_trainer.md").read_text()
    file = tmp_path / "my_augmentation.py"
    file.write_text(re.search(r"```python\n(# my_augmentation.py.*?)```", page, re.DOTALL)[1])
    loop = loop_of(toy, find_trainer(f"{file}:OffsetTrainer").derive({"spatial_probability": "0", "mirror": "false"}))
    augmentation, source = loop.trainer.augmentation(), loop.data.source(loop.data.training, 0.8, 1)
    assert augmentation.scale == (0.7, 1.4)
    offset, none = (dataclasses.replace(augmentation, intensity=one) for one in (augmentation.intensity[-1:], ()))
    changed, kept = (PatchLoader(source, one, 8, 0).next_batch() for one in (offset, none))
    assert torch.equal(changed.target, kept.target)
    moved = (changed.condition - kept.condition).flatten(1)
    assert 0 < (moved != 0).any(dim=1).sum() < 8
    assert moved.std(dim=1).max() < 1e-6


def test_the_page_lists_every_setting_of_the_method():
    page = (PAGES / "write_a_trainer.md").read_text()
    assert [name for name in GDMTrainer.settings() if f"`{name}`" not in page] == []
