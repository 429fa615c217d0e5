"""gdm_submit: command lines become jobs, and everything that can refuse is asked first."""

import importlib
import tomllib
from pathlib import Path

import pytest

from gdmunet.cli.flags import parser_of, request_from
from gdmunet.cli.job_lines import read_jobs
from gdmunet.cli.submit import main, module_of, run_words
from gdmunet.paths import find_folders
from gdmunet.workflows.requests.declaration import RequestError
from gdmunet.workflows.requests.spelling import command_line
from gdmunet.workflows.requests.submission import SubmitRequest

SCRIPTS = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["scripts"]


def jobs(*command, folders=None, **options):
    return read_jobs(SubmitRequest(command=command, **options), folders or find_folders())


def words(*command, **options):
    return [" ".join(job.words) for job in jobs(*command, **options)]


FIVE = [f"gdm_train --c auto 501 3d_fullres {fold}" for fold in range(5)]


@pytest.mark.parametrize("folds", [["{0,1,2,3,4}"], ["{0..4}"], ["0", "1", "2", "3", "4"]])
def test_braces_make_jobs_whether_the_shell_expanded_them_or_not(folds, capsys):
    assert words("gdm_train", "501", "3d_fullres", *folds) == FIVE
    assert capsys.readouterr().out == "added to gdm_train: --c auto\n"


def test_options_stay_with_each_job():
    made = words("gdm_train", "{501,502}", "3d_fullres", "-p", "mine", "--c", "auto", gpus=4)
    assert made == [f"gdm_train -num_gpus 4 {number} 3d_fullres -p mine --c auto" for number in (501, 502)]
    assert words("gdm_train", "-p", "mine", "501", "2d", "0", "1") == [
        f"gdm_train --c auto -p mine 501 2d {fold}" for fold in (0, 1)
    ]


def test_expanded_braces_that_are_not_at_the_end_are_refused():
    with pytest.raises(RequestError, match="quote braces"):
        words("gdm_train", "501", "2d", "0", "-p", "a", "b")


def test_folders_of_the_submission_are_those_of_its_jobs():
    folders = find_folders(raw="my raw", results="out")
    made = jobs("gdm_train", "501", "2d", "0", "--results", "other", folders=folders)
    assert made[0].words == ("gdm_train", "--c", "auto", "--raw", "my raw", "501", "2d", "0", "--results", "other")
    assert (made[0].folders.raw, made[0].folders.results) == (Path("my raw"), Path("other"))


@pytest.mark.parametrize("name", ["rm", "gdm_submit", "gdm_listen", "gdm_trian"])
def test_only_commands_that_end_by_themselves_are_jobs(name):
    with pytest.raises(RequestError, match="cannot be a job"):
        jobs(name, "x")


def test_arguments_are_those_of_the_command(capsys):
    with pytest.raises(SystemExit) as end:
        jobs("gdm_train", "501", "2d", "{0,1}", "--epoch", "3")
    assert end.value.code == 2
    assert "did you mean --epochs" in capsys.readouterr().err


def test_a_request_is_spelled_with_its_command_at_the_end():
    request = SubmitRequest(command=("gdm_train", "501", "2d", "{0,1}", "--c", "auto"), gpus=4, wait=True)
    spelled = command_line(request).words
    assert spelled == ("gdm_submit", "--gpus", "4", "--wait", "--", *request.command)
    assert request_from(SubmitRequest, parser_of(SubmitRequest).parse_args(spelled[1:])) == request


def test_every_command_lies_in_the_module_of_its_name():
    for name, place in SCRIPTS.items():
        assert place == f"gdmunet.cli.{module_of(name)}:main"
        assert callable(importlib.import_module(f"gdmunet.cli.{module_of(name)}").main)


def test_a_job_runs_its_command_here(capsys):
    with pytest.raises(SystemExit) as end:
        run_words(["gdm_train", "--version"])
    assert end.value.code == 0
    assert "gdm_train (gdmunet)" in capsys.readouterr().out


@pytest.mark.parametrize(("command", "status"), [(["gdm_doctor", "--help"], 0), (["gdm_import_model", "NONE"], 1)])
def test_the_command_from_its_line_to_its_end(command, status, tmp_path, monkeypatch, capfd):
    """A real process that works, and one that fails."""
    pytest.importorskip("submitit", reason="submitit is not installed: pip install 'gdmunet[slurm]'")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    words = [str(tmp_path / word) if word == "NONE" else word for word in command]
    assert main(["--executor", "local", "--results", str(tmp_path), "--", *words]) == status
    assert f"{1 - status} jobs done" in capfd.readouterr().out.replace("1 job done", "1 jobs done")


def test_nothing_is_queued_if_one_training_cannot_work(tmp_path, capsys):
    pytest.importorskip("submitit", reason="submitit is not installed: pip install 'gdmunet[slurm]'")
    where = [word for name in ("raw", "preprocessed", "results") for word in (f"--{name}", str(tmp_path / name))]
    assert main(["--executor", "local", *where, "--", "gdm_train", "501", "2d", "{0,1}"]) == 1
    assert "data set 501 is unknown" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()
