"""What the pages on trainers show runs, and they list every setting."""

import re
from pathlib import Path

import pytest
from short_trainers import batch_for, loop_of

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


def test_the_page_lists_every_setting_of_the_method():
    page = (PAGES / "write_a_trainer.md").read_text()
    assert [name for name in GDMTrainer.settings() if f"`{name}`" not in page] == []
