"""Every link of the pages leads somewhere, also from a package index, where README stands alone."""

import re
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from gdmunet.version import __version__

ROOT = Path(__file__).parents[2]
HOME = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Homepage"]
TREE = re.compile(rf"{re.escape(HOME)}/(?:blob|tree)/main/(.*)")
PAGES = [
    *ROOT.glob("*.md"),
    *sorted((ROOT / "documentation").rglob("*.md")),
]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def links(page: Path) -> list[str]:
    """Targets of a page's links, code blocks left out."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    return LINK.findall(re.sub(r"`[^`\n]*`", "", text))


def anchors(page: Path) -> set[str]:
    """The anchors that headings of a page get."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    heads = re.findall(r"^#+ (.*)$", text, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def external_links() -> list[str]:
    """Links of all pages to other hosts, each once."""
    found = {link for page in PAGES for link in links(page) if re.match("https?:", link) and not TREE.fullmatch(link)}
    return sorted(link.partition("#")[0] for link in found if not link.startswith(HOME))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    for link in links(page):
        own = TREE.fullmatch(link)
        if link.startswith(("http:", "https:", "mailto:")) and not own:
            continue
        target, _, anchor = (own[1] if own else link).partition("#")
        file = (ROOT if own else page.parent) / target if target else page
        assert file.exists(), f"{page.name} links {link}"
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), f"{page.name} links {link}"


def test_links_of_the_internet_are_found_and_those_of_the_repository_are_not_among_them():
    assert "https://pytorch.org/get-started/locally/" in external_links()
    assert not [link for link in external_links() if TREE.fullmatch(link)]


@pytest.mark.network
@pytest.mark.parametrize("link", external_links())
def test_a_link_of_the_internet_answers(link):
    """A refusal to a program (403, 429) is an answer; what is gone (404, 410) or does not exist is not."""
    request = urllib.request.Request(link, headers={"User-Agent": "Mozilla/5.0 (link check)"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            status = answer.status
    except urllib.error.HTTPError as error:
        status = error.code
        error.close()
    assert status not in (404, 410)


def test_readme_has_no_relative_links():
    relative = [link for link in links(ROOT / "README.md") if not link.startswith(("https:", "#"))]
    assert not relative, "a package index shows README without the files beside it"


def test_the_citation_names_the_version():
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
