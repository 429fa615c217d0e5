"""The site builds without a warning, from the pages alone, and every page is in its navigation."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from pages import DOCUMENTATION, ROOT

sys.path.append(str(DOCUMENTATION / "site"))
import site_pages as site
import site_reference as reference

import gdmunet
from gdmunet.training.trainers.registry import named_trainers

EXTRA = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["docs"]
HERE = [name for name in ("sphinx", "myst_parser", "furo", "sphinx_copybutton") if importlib.util.find_spec(name)]
LOADED = re.compile(r'(?:<script[^>]*src|<link rel="stylesheet"[^>]*href)="(https?:[^"]*)"')
INDEX = (DOCUMENTATION / "index.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.skipif(len(HERE) < len(EXTRA), reason='needs the extra docs: pip install -e ".[docs]"')
def test_the_site_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", DOCUMENTATION, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "FidelityTrainer" in (tmp_path / "searchindex.js").read_text(encoding="utf-8")
    for page in tmp_path.rglob("*.html"):
        loaded = re.findall(
            r'(?:<script[^>]*src|<link rel="stylesheet"[^>]*href)="(https?:[^"]*)"', page.read_text("utf-8")
        )
        assert not loaded, f"{page.name} needs the network"


def test_every_page_is_in_the_navigation():
    listed = site.listed_pages(INDEX)
    pages = [*DOCUMENTATION.rglob("*.md"), *DOCUMENTATION.rglob("*.ipynb")]
    there = {page.relative_to(DOCUMENTATION).with_suffix("").as_posix() for page in pages}
    assert sorted(listed) == sorted(there - {"index"}), "each page has one line in documentation/index.md"


@pytest.mark.parametrize(
    ("page", "link", "leads_to"),
    [
        ("how_to/dicom", "../reference/plans.md#x", "../reference/plans.md#x"),
        ("how_to/dicom", "../../benchmarks/rivals.py", f"{site.HOME}/blob/main/benchmarks/rivals.py"),
        ("reference/python/metrics", "../../../gdmunet/metrics", f"{site.HOME}/tree/main/gdmunet/metrics"),
        ("index", f"{site.HOME}/blob/main/documentation/how_to/dicom.md#a", "how_to/dicom.md#a"),
        ("how_to/dicom", f"{site.HOME}/blob/main/documentation/benchmarks.md", "../benchmarks.md"),
        ("index", "https://arxiv.org", "https://arxiv.org"),
        ("index", "#here", "#here"),
    ],
)
def test_where_a_link_leads(page, link, leads_to):
    assert site.place(page, link) == leads_to


def test_code_is_not_changed():
    text = "[a](b) `[a](b)`\n\n```python\nx[a](b)\n```\n[a](b)\n"
    assert site.outside_code(text, str.upper) == "[A](B) `[a](b)`\n\n```python\nx[a](b)\n```\n[A](B)\n"


def marks() -> list[str]:
    pages = (DOCUMENTATION / "reference" / "python").glob("*.md")
    return [name for page in pages for name in re.findall(r"^<!-- api: (\S+) -->$", page.read_text(), re.MULTILINE)]


def test_the_reference_holds_what_users_meet():
    names = set()
    for mark in marks():
        package, star, _ = mark.partition(".*")
        modules = reference.modules(package) if star else [package] if package != "requests" else []
        names |= {name for module in modules for name in reference.own_names(module)}
    assert names >= {name for name in gdmunet.__all__ if not name.startswith("_")}
    assert names >= set(named_trainers())
    assert names >= {"Geometry", "read_volume", "load_encoder", "psnr", "PredictorOptions", "NetworkSpec"}
    assert "requests" in marks()


def test_the_requests_page_names_every_keyword():
    text = reference.api_blocks("<!-- api: requests -->")
    assert "## TrainRequest" in text
    assert "| `pretrained_weights` | `None` |" in text


def test_a_formula_in_a_docstring_is_text():
    lines = ["2 |A| / *B*, ``x | y`` and `a|b`", "so::", "", "    a | b", "", "c | d"]
    reference.escape_formulas(lines)
    assert lines == [r"2 \|A\| / \*B\*, ``x | y`` and `a|b`", "so::", "", "    a | b", "", r"c \| d"]


def test_an_indented_part_of_a_module_s_docstring_is_code():
    lines = ["A module.", "", "    first()", "", "    second()", "", "More::", "", "    third()"]
    reference.mark_code(lines)
    assert lines == ["A module.", "", "::", "", *lines[4:7], "", "More::", "", "    third()"]


def test_the_command_of_contributing_is_the_workflow_s():
    command = 'pip install -e ".[docs]" && python -m sphinx -W --keep-going -b html documentation build/site'
    for file in ("CONTRIBUTING.md", "documentation/explanation/site.md"):
        assert command in (ROOT / file).read_text(encoding="utf-8"), file
    workflow = Path(ROOT / ".github" / "workflows" / "documentation.yml").read_text(encoding="utf-8")
    assert command.split(" && ")[1] in workflow
