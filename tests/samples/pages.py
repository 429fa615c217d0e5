"""The pages of the documentation, their blocks of code, and the commands in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTATION = ROOT / "documentation"
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md")), *sorted(DOCUMENTATION.rglob("*.md"))]

# What a block may need that a test does not have: `<!-- needs: GPU -->` on the line before the block.
NEEDS = {
    "data": "volumes that the package does not hold, such as the archives of a challenge or a folder of CTs",
    "GPU": "a CUDA device, or several",
    "hours": "a training that is worth its name",
    "network": "the internet",
    "another test": "nothing: the test that is named behind a colon runs the command, as it needs series, a server "
    "or code of its page; without a name it is tests/documentation/test_PAGE_page.py",
}
_BLOCK = re.compile(
    r"(?:^<!-- needs: (?P<needs>[^>]*?) -->\n+)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, text, what it needs ("" if nothing), first line's number, its tests."""

    page: Path
    language: str
    text: str
    needs: str
    line: int
    tested_by: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT).as_posix()}:{self.line}"

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command, without comments."""
        joined = self.text.replace("\\\n", " ")
        lines = [shlex.split(line, comments=True) for line in joined.splitlines()]
        return [words for line in lines for words in _split(line) if words]

    @property
    def own_commands(self) -> list[list[str]]:
        """Those of gdmunet, without what the shell does with their output."""
        own = [words for words in self.commands if words[0].startswith("gdm_")]
        return [words[: words.index(">")] if ">" in words else words for words in own]


def _split(words: list[str]) -> Iterator[list[str]]:
    """Commands of one line; a word may end with the semicolon."""
    command: list[str] = []
    for word in words:
        if word in ("&&", ";") or word.endswith(";"):
            yield [*command, *([word[:-1]] if word[:-1].strip("&") else [])]
            command = []
        else:
            command.append(word)
    yield command


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    found = []
    for hit in _BLOCK.finditer(text):
        needs, _, tests = (hit["needs"] or "").partition(": ")
        names = tuple(tests.split()) or (f"tests/documentation/test_{page.stem}_page.py",)
        tested_by = names if needs == "another test" else ()
        line = text[: hit.start("text")].count("\n") + 1
        found.append(Block(page, hit["language"], hit["text"], needs, line, tested_by))
    return found


def shell_blocks() -> list[Block]:
    """The blocks of all pages with commands of gdmunet."""
    return [block for page in PAGES for block in blocks(page) if block.language == "bash" and block.own_commands]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
