"""The suite is started in the same way by README, by continuous integration and by CONTRIBUTING."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("file", [".ci/run", ".github/workflows/tests.yml", "CONTRIBUTING.md"])
def test_the_command_of_readme_is_the_command_of(file):
    (command,) = re.findall(r'pip install -c constraints.txt -e "\.\[test\]" && (.+)', (ROOT / "README.md").read_text())
    assert re.search(rf"(^|run: ){re.escape(command)}( +#.*)?$", (ROOT / file).read_text(), re.MULTILINE)
