"""What the site adds to the pages while it is built: GitHub's Markdown stays as it is in the files.

* the lists of links in index.md become the navigation;
* links that leave the folder lead to the repository, and links to the repository's pages stay in the site;
* ``<!-- api: gdmunet.metrics.* -->`` becomes the reference of these modules;
* a notebook becomes a page.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from site_notebooks import as_markdown
from site_reference import api_blocks, escape_formulas, mark_code

HOME = "https://github.com/gdmunet/gdmunet"
_BEFORE: dict[str, list[str]] = {}
_CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_LISTED = re.compile(r"^\* \[[^\]]*\]\((?P<page>[\w/]+)\.(?:md|ipynb)\)", re.MULTILINE)
_OWN = re.compile(rf"{re.escape(HOME)}/blob/main/documentation/(?P<page>[^#]+\.md)(?P<anchor>#.*)?")


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("source-read", _read)
    # Before napoleon, which makes markup of its own.
    app.connect("autodoc-process-docstring", _process, priority=400)
    app.connect("autodoc-process-docstring", _restore, priority=600)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _process(app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:  # noqa: ARG001
    if what == "module":
        mark_code(lines)
    escape_formulas(lines)
    _BEFORE[name] = list(lines)


def _restore(app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:  # noqa: ARG001
    """After napoleon, which takes what stands before a colon of an attribute's text for its type."""
    if what in ("attribute", "data", "property"):
        lines[:] = [*_BEFORE[name], ""]


def _read(app: Any, name: str, source: list[str]) -> None:
    text = source[0]
    if Path(app.env.doc2path(name)).suffix == ".ipynb":
        text = as_markdown(text)
    text = api_blocks(outside_code(text, lambda part: _LINK.sub(lambda hit: f"]({place(name, hit[1])})", part)))
    source[0] = text + (navigation(text) if name == app.config.root_doc else "")


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """The text with everything changed that is not code."""
    parts, end = [], 0
    for code in _CODE.finditer(text):
        parts += [change(text[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*parts, change(text[end:])])


def place(page: str, link: str) -> str:
    """Where a link of a page leads to on the site."""
    folder = PurePosixPath("documentation", page).parent
    if own := _OWN.fullmatch(link):
        up = "../" * (len(folder.parts) - 1)
        return f"{up}{own['page']}{own['anchor'] or ''}"
    if re.match(r"[a-z]+:|#", link):
        return link
    target, _, anchor = link.partition("#")
    parts: list[str] = []
    for part in (*folder.parts, *PurePosixPath(target).parts):
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    if parts[0] == "documentation":
        return link
    kind = "blob" if Path(*parts).suffix else "tree"
    return f"{HOME}/{kind}/main/{'/'.join(parts)}{'#' + anchor if anchor else ''}"


def listed_pages(index: str) -> list[str]:
    """The pages that the index links in its lists, without their endings."""
    return _LISTED.findall(index)


def navigation(index: str) -> str:
    """Tables of contents, one for each heading of the index with a list of pages."""
    trees = []
    for section in re.split(r"^## ", index, flags=re.MULTILINE)[1:]:
        if pages := listed_pages(section):
            caption = section.splitlines()[0].strip()
            trees.append("\n".join(("```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```")))
    return "\n\n" + "\n\n".join(trees) + "\n"
