"""The scripts by which shells complete the commands."""

import shutil
import subprocess

import pytest

from gdmunet.cli import completion
from gdmunet.workflows.requests.catalogue import REQUESTS

ASK = """
source "$1"
COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMPREPLY=()
_shtab_{name} {name} "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD-1]}}"
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    file = tmp_path_factory.mktemp("shell") / "script"
    with pytest.MonkeyPatch.context() as patch:
        written = []
        patch.setattr("builtins.print", lambda text: written.append(text))
        assert completion.main(["bash"]) == 0
    file.write_text("".join(written))
    return file


def completed(script, *words, cwd):
    text = ASK.format(name=words[0], words=" ".join(f"'{word}'" for word in words))
    done = subprocess.run(["bash", "-c", text, "bash", str(script)], capture_output=True, text=True, cwd=cwd)
    assert not done.stderr
    return done.stdout.split()


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not here")
def test_bash_completes_flags_choices_and_paths(script, tmp_path):
    (tmp_path / "new_mr").mkdir()
    (tmp_path / "other").mkdir()
    assert "--uncertainty" in completed(script, "gdm_predict", "--unc", cwd=tmp_path)
    assert set(completed(script, "gdm_predict", "-chk", "", cwd=tmp_path)) == {"best", "final", "latest"}
    assert completed(script, "gdm_predict", "-i", "new", cwd=tmp_path) == ["new_mr"]
    assert completed(script, "gdm_train", "--results", "ot", cwd=tmp_path) == ["other"]


def test_every_command_has_its_part(script):
    text = script.read_text()
    assert all(f"_shtab_{kind.synopsis.name}_option_strings" in text for kind in REQUESTS)


@pytest.mark.parametrize("shell", ["zsh", "fish", "tcsh", "powershell"])
def test_other_shells_have_scripts(shell, capsys):
    assert completion.main([shell]) == 0
    assert "gdm_plan_and_preprocess" in capsys.readouterr().out
