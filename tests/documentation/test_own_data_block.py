"""README's sequence on own data runs verbatim, on plain files; only the planned length is cut."""

import importlib
import json
import re
import shutil
from pathlib import Path

import pytest
from pages import ROOT, blocks

from gdmunet.conversion.phantoms import make_phantom_demo
from gdmunet.dataset_names import RawFolders

ENDING = ".nii.gz"
TRAINING = [f"p0{i}" for i in range(1, 6)]


def the_block():
    (block,) = [block for block in blocks(ROOT / "README.md") if "gdm_new_dataset -d 600" in block.text]
    return block


def run(words: list[str]) -> int:
    module = importlib.import_module(f"gdmunet.cli.{words[0].removeprefix('gdm_')}")
    return module.main(words[1:]) or 0


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """The folders that README names: five patients to train on, and one new one whose CT is known."""
    make_phantom_demo(tmp_path / "made", cases=7, size=32, show_progress=False)
    made = RawFolders(next((tmp_path / "made").iterdir()))
    for path, name in zip(sorted(made.images.iterdir()), [*TRAINING, "p09"], strict=True):
        case = path.name.removesuffix(f"_0000{ENDING}")
        of_case = (path, made.target(case, ENDING), made.mask(case, ENDING))
        named = ("mr", "ct", "body") if name in TRAINING else ("new_mr", "ct_reference", "new_body")
        for source, folder in zip(of_case, named, strict=True):
            (tmp_path / folder).mkdir(exist_ok=True)
            shutil.copy(source, tmp_path / folder / f"{name}{ENDING}")
    monkeypatch.chdir(tmp_path)
    for variable in ("GDM_RAW", "GDM_PREPROCESSED", "GDM_RESULTS"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


def cut(plans: Path) -> None:
    """Write the least length into the plans, as documentation/reference/plans.md allows by hand."""
    content = json.loads(plans.read_text())
    for configuration in content["configurations"].values():
        configuration["iterations"] = 2
    plans.write_text(json.dumps(content))


@pytest.mark.slow
def test_the_sequence_runs_verbatim(folders, capsys):
    commands = the_block().own_commands
    assert [words[0] for words in commands] == [
        "gdm_new_dataset", "gdm_plan_and_preprocess", "gdm_train", "gdm_predict", "gdm_evaluate", "gdm_report",
    ]  # fmt: skip
    for words in commands:
        assert run(words) == 0, words
        if words[0] == "gdm_plan_and_preprocess":
            cut(folders / "gdm_preprocessed" / "Dataset600_Heads" / "gdmPlans_tiny.json")
    said = capsys.readouterr().out
    assert "4 training cases, 1 test case held out" in said
    assert re.search(r"network family +tiny", said)
    assert "no GPU is at hand" in said
    assert (folders / "new_ct" / f"p09{ENDING}").is_file()
    page = (folders / "new_ct" / "report.html").read_text()
    assert "conditions were not found" not in said + page
    assert (
        run(["gdm_predict", "-i", f"new_mr/p09{ENDING}", "-o", f"one/ct{ENDING}", "--mask", f"new_body/p09{ENDING}"])
        == 0
    )
    assert [path.name for path in (folders / "one").iterdir()] == [f"ct{ENDING}"]
