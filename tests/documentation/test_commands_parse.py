"""Every command of gdmunet in the pages is one that the commands themselves accept."""

import re
import shlex
from collections import Counter

import pytest
from pages import NEEDS, PAGES, ROOT, blocks, prose, shell_blocks

from gdmunet.cli.flags import parser_of, request_from
from gdmunet.workflows.requests.catalogue import REQUESTS

KINDS = {kind.synopsis.name: kind for kind in REQUESTS}
FLAG = re.compile(r"--?[A-Za-z][\w-]*")
INLINE = re.compile(r"`(gdm_\w+ [^`]*)`")


def accept(words: list[str]) -> str:
    """Parse a command line and make its request; what is wrong with it, or nothing."""
    kind = KINDS.get(words[0])
    if kind is None:
        return f"{words[0]} is not a command"
    try:
        request_from(kind, parser_of(kind).parse_args(words[1:]))
    except SystemExit as end:
        return "" if end.code == 0 else shlex.join(words)
    return ""


@pytest.mark.parametrize("block", shell_blocks(), ids=str)
def test_a_block_is_accepted(block):
    assert not [problem for words in block.own_commands if (problem := accept(words))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_command_within_a_sentence_has_known_flags(page):
    for text in INLINE.findall(prose(page)):
        words = re.sub(r"\s+", " ", text).split(" ")
        assert words[0] in KINDS, text
        known = {spelling for action in parser_of(KINDS[words[0]])._actions for spelling in action.option_strings}
        spelled = {re.sub("[-_]", "", flag) for flag in known}
        unknown = [word for word in words if FLAG.fullmatch(word) and re.sub("[-_]", "", word) not in spelled]
        assert not unknown, f"`{text}`: {unknown}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_stand_in_blocks_that_say_so(page):
    """An indented command would be seen by no test, and is not coloured or copied on the site."""
    assert not re.findall(r"^    gdm_\w+ .*$", prose(page), flags=re.MULTILINE)
    assert not [str(block) for block in blocks(page) if block.language == "" and block.text.startswith("gdm_")]


def test_what_a_block_needs_is_a_known_word():
    needs = Counter(block.needs for block in shell_blocks())
    assert set(needs) <= {"", *NEEDS}
    assert needs[""], "some block needs nothing"


@pytest.mark.parametrize("block", [block for page in PAGES for block in blocks(page) if block.tested_by], ids=str)
def test_the_test_of_a_block_is_there_and_runs_its_commands(block):
    """It reads the page; or it names each command, its module or its request, and each flag that is spelled out."""
    text = "\n".join((ROOT / name).read_text(encoding="utf-8") for name in block.tested_by)
    for words in block.own_commands if block.page.name not in text else ():
        own = words[0].removeprefix("gdm_")
        names = (words[0], rf"cli\.{own}", rf"\b{own}\b", KINDS[words[0]].__name__)
        assert any(re.search(name, text) for name in names), words[0]
        for flag in (word[2:] for word in words if word.startswith("--")):
            assert re.search(re.sub("[-_]", "[-_]", flag), text), flag


def test_a_wrong_command_is_seen(capsys):
    assert accept(["gdm_train", "600", "3d_fullres", "--epoch", "3"])
    assert accept(["gdm_trian", "600"])
    assert not accept(["gdm_train", "600", "3d_fullres", "--epochs", "3"])
    assert "--epochs" in capsys.readouterr().err
