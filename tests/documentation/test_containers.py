"""The rules of the containers' files: not root, no cache, pinned tags, no network; by hadolint if it is there."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILES = [
    *sorted((ROOT / "docker").glob("Dockerfile.*")),
    ROOT / "gdmunet" / "inference" / "container_files" / "Dockerfile",
]


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_a_dockerfile_keeps_the_rules(file):
    text = re.sub(r"\\\n", " ", file.read_text())
    words = [line.split(maxsplit=1) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    commands = {name for name, _ in words}
    (user,) = (argument for name, argument in words if name == "USER")
    assert user.isdigit()
    assert int(user) > 0
    assert all(re.fullmatch(r"\S+:[\w.${}-]+", argument) for name, argument in words if name == "FROM")
    assert "latest" not in text
    assert "ADD" not in commands
    assert "HF_HUB_OFFLINE=1" in text
    for step in re.findall(r"pip install[^&]*", text):
        assert "--no-cache-dir" in step
    assert not re.search(r"apt-get|curl|wget|sudo", text)
    if shutil.which("hadolint"):
        done = subprocess.run(["hadolint", str(file)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("file", sorted((ROOT / "docker").glob("Dockerfile.*")), ids=lambda file: file.name)
def test_what_is_copied_is_there_and_is_sent(file):
    copied = {word for line in re.findall(r"^COPY (.*)$", file.read_text(), re.MULTILINE) for word in line.split()[:-1]}
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert all((ROOT / name).exists() for name in copied)
    assert copied <= sent


def test_the_definition_for_apptainer_copies_what_is_there():
    text = (ROOT / "docker" / "gdmunet.def").read_text()
    section = re.search(r"%files\n(.*?)\n\n", text, re.DOTALL)[1]
    assert all((ROOT / line.split()[0]).exists() for line in section.splitlines())
    assert {"%post", "%environment", "%runscript", "%test"} <= set(re.findall(r"^%\w+", text, re.MULTILINE))


@pytest.mark.parametrize("file", [*DOCKERFILES, ROOT / "docker" / "gdmunet.def"], ids=lambda file: file.name)
def test_pytorchs_index_is_asked_for_its_own_pair_alone(file):
    """It holds neither gdmunet's other requirements nor those of the tests, which the constraints pin as well."""
    (step,) = re.findall(r"pip install[^&\n]*--index-url[^&\n]*", re.sub(r"\\\n", " ", file.read_text()))
    words = step.split()
    if "-r" in words:
        assert words[-1] == "requirements-torch.txt", "a file that write_container writes with the pair alone"
    else:
        assert words[-2:] == ["torch", "torchvision"]
        assert "--requirement" not in words
