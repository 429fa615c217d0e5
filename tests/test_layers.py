"""Imports point one way, and only one file reads the environment."""

import ast
import re
from pathlib import Path

import pytest
from structure import circles, import_circles, imported_modules

PACKAGE = Path(__file__).parents[1] / "gdmunet"
LAYERS = [
    {
        "plain_text",
        "errors",
        "foreign",
        "consents",
        "user_code",
        "network_spec",
        "sampler_spec",
        "ranges",
        "atomic",
        "disk_errors",
        "owners",
        "claims",
        "turns",
        "parts",
        "part_results",
        "ending",
        "patience",
        "out_of_memory",
        "commands",
        "plan_names",
        "plan_versions",
        "serialization",
        "geometry",
        "host_memory",
        "nifti_forms",
        "promises",
        "composition",
        "formats",
        "hounsfield",
        "seeds",
        "paths",
        "quantities",
        "progress",
        "scheduling",
        "workers",
        "device",
        "device_memory",
        "scan_spec",
        "dataset_names",
        "version",
    },
    {
        "dataset",
        "drift_spec",
        "storage_spec",
        "file_sources",
        "imageio",
        "journal",
        "plans",
        "plan_folder",
        "plausibility",
        "model_names",
        "provenance",
        "results",
        "splits",
        "volume_formats",
    },
    {"networks", "output_layer", "metrics", "checkpoint", "encoders", "tomography", "dicom"},
    {"preprocessing"},
    {"inference"},
    {"evaluation", "conversion"},
    {"training"},
    {"workflows"},
    {"cli", "calls"},
]
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names}
FILES = sorted(PACKAGE.rglob("*.py"))


def room(file: Path) -> str:
    parts = file.relative_to(PACKAGE).parts
    return parts[0].removesuffix(".py")


def imported_rooms(file: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "gdmunet" and len(parts) > 1 and parts[1] in LAYER:
                rooms.add(parts[1])
    return rooms


def test_every_room_has_a_layer():
    rooms = {room(file) for file in FILES} - {"__init__", "demo"}
    assert rooms == set(LAYER)


def test_the_page_names_every_room_in_its_layer():
    page = (PACKAGE.parent / "documentation" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    block = page[page.index("    gdmunet/\n") : page.index("    documentation/   tests/")]
    layer, named = None, {}
    for line in block.splitlines()[1:]:
        column = re.match(r"    (\d)?\s+(\S+(?: {1,2}\S+)*)", line)
        layer = int(column[1]) if column[1] else layer
        if not line.startswith("        "):  # else a room inside a room
            named |= dict.fromkeys(re.findall(r"\w+", re.split(r" {3,}", column[2])[0]), layer)
    rooms = {name: named.get(name, "not named") for name in LAYER if name != "version"}
    assert rooms == {name: LAYER[name] for name in rooms}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_file_imports_its_own_room_and_lower_layers_alone(file):
    here = room(file)
    if here == "__init__":
        return
    for other in imported_rooms(file) - {here}:
        beside = LAYER[other] == LAYER[here] <= 2  # single files of one layer may build on each other
        assert LAYER[other] < LAYER[here] or beside, f"imports {other}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_the_environment_is_read_in_one_file(file):
    text = file.read_text()
    if file.name != "paths.py":
        assert "os.environ" not in text
        assert "getenv" not in text


def test_no_import_circle_also_for_the_type_checker_and_inside_functions():
    assert import_circles(PACKAGE) == []


def test_a_circle_is_seen_wherever_its_imports_stand():
    texts = {
        "p.a": "from p import b",
        "p.b": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p.c import something",
        "p.c": "def work():\n    import p.a",
        "p.d": "import p.a",
    }
    imports = {module: imported_modules(text, set(texts)) for module, text in texts.items()}
    assert circles(imports) == [{"p.a", "p.b", "p.c"}]
