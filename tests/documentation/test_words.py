"""Plain English in everything that a user or a developer reads: phrases that were replaced do not come back."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted(file for folder in ("gdmunet", "documentation") for file in (ROOT / folder).rglob("*.md")),
    *sorted((ROOT / "gdmunet").rglob("*.py")),
]

UNITS = (
    "axis|batch|case|channel|context|crop|epoch|fold|iteration|level|part|pass|patch|pixel|place|process|ray|second|side|"
    "stage|step|term|token set|trainer|view|volume|voxel|window|worker"
)
COUNTS = (
    "axes|batches|bins|bytes|cells|channels|crops|draws|entries|features|files|folders|images|iterations|lines|maps|masks|"
    "numbers|passes|patches|photons|places|points|probes|seconds|series|specs?|steps|suffix|suffixes|tokens|"
    "values|voxels|weights|windows"
)
ONE = "once|one (?:constant|entry|file|folder|line|map|picture|problem|row|tuple|vector)"
# What may not stand in a text, and what to write instead.
REPLACED = {
    r"\b(?<!there )(?:is|are|was|were|be) no (?!longer|better|more|worse|less|larger|smaller)[a-z]+": '"is not a"',
    rf"\b(?:{COUNTS}|{ONE}) an? (?:{UNITS})\b": '"per"',
    r"\b(?:today|nowadays)\b|\bthe version before\b": "the version or the date that is meant",
    r"\b(?:our|ours|we|us)\b": '"gdmunet", or a passive',
    r"\b(?:shall|heeds?)\b": '"must", "is to", "follows"',
    r"\bso many\b": '"this number of"',
    r"\b(?:leaves?|left|leaving|takes?|gives?) (?!from)(?:\w+ ){1,4}away\b": '"omit", "remove"',
    r"\b(?:but for|for it is|for they are)\b": '"except for", "since"',
}
# A quotation, or a phrase that only looks like one of the above.
ALLOWED: tuple[str, ...] = ()

# First words that show a parameter's text to be half a sentence.
HALF_SENTENCES = re.compile(r"(?:Of|As|Where|What|Which|How|When|Such as|Says|Gets|That of|Those) ")


def prose(text: str) -> str:
    """The text on one line, so that a phrase may cross a line's end (in docstrings, comments and broken strings)."""
    return re.sub(r"\s*(?:\"\n\s*f?\"|\n\s*#?)\s*", " ", text)


@pytest.mark.parametrize(("phrase", "instead"), REPLACED.items(), ids=range(len(REPLACED)))
def test_a_replaced_phrase_does_not_come_back(phrase, instead):
    found = [
        f"{file.relative_to(ROOT)}: ...{text[max(0, hit.start() - 30) : hit.end() + 20]}..."
        for file in TEXTS
        for text in [prose(file.read_text(encoding="utf-8"))]
        for hit in re.finditer(phrase, text, re.IGNORECASE)
        if hit[0] not in ALLOWED
    ]
    assert not found, f"write {instead}:\n" + "\n".join(found)


def test_the_text_of_a_parameter_stands_alone():
    """A numpy docstring's entry is a name, then an indented noun phrase that makes sense without the name."""
    found = [
        f"{file.relative_to(ROOT)}:{number}: {name.strip()}: {text.strip()}"
        for file in TEXTS
        if file.suffix == ".py"
        for number, (name, text) in enumerate(pairwise(file.read_text(encoding="utf-8").splitlines()), start=2)
        if re.fullmatch(r"\s+[a-z_]\w*(?:, [a-z_]\w*)*", name)
        and len(text) - len(text.lstrip()) == len(name) - len(name.lstrip()) + 4
        and HALF_SENTENCES.match(text.strip())
    ]
    assert not found, "\n".join(found)


def test_the_check_sees_what_it_looks_for():
    sentences = ("the file is no encoder", "windows an iteration", "so many windows", "We shall see", "zero but for it")
    assert all(any(re.search(phrase, text, re.IGNORECASE) for phrase in REPLACED) for text in sentences)
    assert HALF_SENTENCES.match("Of the case.")
    assert not HALF_SENTENCES.match("Properties of the case.")
