"""The blocks of the pages that need nothing but a small data set run, one after the other, as they are printed.

One data set is planned and one model trained for all pages; each page has a copy, with what its blocks name.
Trainings are two steps long by the classes' own settings, so that folders have the names that the pages say.
"""

import csv
import importlib
import json
import os
import shutil
import tomllib
from pathlib import Path

import pytest
from pages import DOCUMENTATION, ROOT, Block, blocks, shell_blocks

import gdmunet
from gdmunet.conversion.phantoms import make_phantom_demo
from gdmunet.training.trainers.trainer_settings import TrainerSettings

SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
CASES = 6
QUIET = {"show_progress": False, "device": "cpu", "processes": 0}
ONE_WORKER = {"gdm_plan_and_preprocess": ["-np", "1"], "gdm_train": ["-np", "0"]}
# README and the first run have tests of their own.
ELSEWHERE = ("README.md", "getting_started.md")


def rename(source: Path, number_and_name: str) -> None:
    target = source.parent / number_and_name
    shutil.copytree(source, target)
    description = json.loads((target / "dataset.json").read_text())
    description["name"] = number_and_name.partition("_")[2]
    (target / "dataset.json").write_text(json.dumps(description))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Data sets 501 and 600, planned, and a model of 501."""
    folder = tmp_path_factory.mktemp("pages")
    demo = make_phantom_demo(folder / "gdm_raw", cases=CASES, size=16, show_progress=False)
    for name in ("Dataset501_Demo", "Dataset600_Heads"):
        rename(demo, name)
    shutil.rmtree(demo)
    places = {"raw": folder / "gdm_raw", "preprocessed": folder / "gdm_preprocessed"}
    planning = {"planner": "tiny", "trainer": "FidelityTrainer", "configuration": ["3d_fullres"], "device": "cpu"}
    gdmunet.plan_and_preprocess(dataset=[501, 600], processes=1, show_progress=False, **planning, **places)
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch)
        gdmunet.train(
            dataset=501, configuration="3d_fullres", fold="all", plans="gdmPlans_tiny", trainer="FidelityTrainer",
            results=folder / "gdm_results", **places, **QUIET,
        )  # fmt: skip
    return folder


def shorten(patch: pytest.MonkeyPatch) -> None:
    for name, value in {"epochs": 1, "iterations_per_epoch": 2, "validation_patches": 1}.items():
        patch.setattr(TrainerSettings, name, value)


def heads(kind: str, part: str = "Tr") -> list[Path]:
    return sorted(Path("gdm_raw", "Dataset501_Demo", f"{kind}{part}").iterdir())


def copy(files: list[Path], folder: str, name: str = "{}.nii.gz") -> None:
    """Copies under the number of the case."""
    Path(folder).mkdir(exist_ok=True)
    for number, file in enumerate(files):
        shutil.copy(file, Path(folder, name.format(f"p{number:02d}")))


def make_a_dataset() -> None:
    for name in ("Dataset501_Demo", "Dataset600_Heads"):
        heads_kept = Path("gdm_raw", name)
        heads_kept.rename(Path(name))
    images, targets, masks = (
        sorted(Path("Dataset501_Demo", f"{kind}Tr").iterdir()) for kind in ("images", "targets", "masks")
    )
    for folder, files in {"mr": images, "ct": targets, "t1": images, "t2": images, "flair": images}.items():
        copy(files, folder)
    for name, files in {"_mr": images, "_ct": targets, "_body": masks}.items():
        copy(files, "all", "{}" + name + ".nii.gz")
    with open("groups.csv", "w", newline="") as file:
        rows = [(f"p{number:02d}", f"patient {number // 2}", "head") for number in range(len(images))]
        csv.writer(file).writerows([("case", "patient", "region"), *rows])


def check_your_data() -> None:
    rename(Path("gdm_raw", "Dataset501_Demo"), "Dataset601_Other")
    shutil.copytree("gdm_raw/Dataset501_Demo/imagesTs", "images")


def physicists() -> None:
    copy(heads("images", "Ts"), "new_mr", "{}_0000.nii.gz")
    for folder, kind in {"ct_reference": "targets", "new_ct": "targets", "body": "masks", "seen": "masks"}.items():
        copy(heads(kind, "Ts"), folder)


def change_data_or_plans() -> None:
    names = [file.name.removesuffix(".nii.gz") for file in heads("targets")]
    Path("splits_final.json").write_text(json.dumps([{"train": names[:-1], "val": names[-1:]}]))
    gdmunet.plan_and_preprocess(
        dataset=600, planner="tiny", overwrite_plans_name="gdmPlans", configuration=["3d_fullres"], device="cpu",
        processes=1, show_progress=False,
    )  # fmt: skip


def report() -> None:
    targets = heads("targets", "Ts")[0].parent
    shutil.copytree(targets, "predictions")
    gdmunet.evaluate(reference=targets, prediction="predictions", show_progress=False)
    trained = Path("gdm_results", "Dataset501_Demo")
    shutil.copytree(
        trained / "FidelityTrainer__gdmPlans_tiny__3d_fullres" / "fold_all",
        trained / "FidelityTrainer__gdmPlans__3d_fullres" / "fold_0",
    )


def nothing() -> None:
    """The data sets and the model are enough."""


LAYOUTS = {
    "make_a_dataset.md": make_a_dataset,
    "physicists.md": physicists,
    "transfer_learning.md": pytest.param(nothing, marks=pytest.mark.slow),
    "check_your_data.md": pytest.param(check_your_data, marks=pytest.mark.slow),
    "change_data_or_plans.md": pytest.param(change_data_or_plans, marks=pytest.mark.slow),
    "report.md": report,
}


def runs(block: Block) -> bool:
    return not block.needs and block.page.name not in ELSEWHERE


def run(words: list[str]) -> None:
    module, _, function = SCRIPTS[words[0]].partition(":")
    more = [] if "-np" in words else ONE_WORKER.get(words[0], [])
    assert getattr(importlib.import_module(module), function).__wrapped__([*words[1:], *more]) in (0, None), words


@pytest.mark.parametrize(
    ("page", "layout"),
    [
        pytest.param(page, *(getattr(one, "values", (one,))), marks=getattr(one, "marks", ()))
        for page, one in LAYOUTS.items()
    ],
    ids=list(LAYOUTS),
)
def test_the_blocks_of_a_page_run(page, layout, made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    for name in [name for name in os.environ if name in ("GDM_RAW", "GDM_PREPROCESSED", "GDM_RESULTS")]:
        monkeypatch.delenv(name)
    shorten(monkeypatch)
    layout()
    (file,) = DOCUMENTATION.rglob(page)
    commands = [words for block in blocks(file) if block.language == "bash" and runs(block) for words in block.commands]
    assert commands
    for words in commands:
        run(words)


def test_every_block_is_run_or_says_what_it_needs():
    left = [str(block) for block in shell_blocks() if runs(block) and block.page.name not in LAYOUTS]
    assert not left, "lay out what these need in LAYOUTS, or write <!-- needs: ... --> before them"
