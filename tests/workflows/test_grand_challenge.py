"""The container of a challenge without Docker: its folder is written, and its entry point runs on the exact layout."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk
from prediction_samples import make_descriptor, make_head, make_model

from gdmunet.errors import GdmError
from gdmunet.inference import Predictor
from gdmunet.inference.container import pinned_requirements, write_container
from gdmunet.inference.export import whole_numbers
from gdmunet.workflows.grand_challenge import answer, main


def challenge_input(folder, kind="mri", names=("1ABA005",), masks=None, region="Abdomen"):
    """The folder that the challenge mounts as /input; images are named by the platform."""
    for name in names:
        head = sitk.GetImageFromArray(make_head())
        head.SetSpacing((1.0, 1.5, 2.0))
        head.SetOrigin((-10.0, 5.0, 3.0))
        body = sitk.Cast(head > -500, sitk.sitkUInt8)
        (folder / "images" / kind).mkdir(parents=True, exist_ok=True)
        (folder / "images" / "body").mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(head, str(folder / "images" / kind / f"{name}.mha"))
        sitk.WriteImage(body, str(folder / "images" / "body" / f"{(masks or {}).get(name, name)}.mha"))
    (folder / "region.json").write_text(json.dumps(region))
    return folder


@pytest.fixture
def model(tmp_path):
    return make_model(tmp_path / "results")


def test_the_container_answers_on_the_layout_of_the_challenge(model, tmp_path):
    """In a process of its own that sees nothing except what the container copies."""
    container = write_container(model, tmp_path / "algorithm")
    inputs = challenge_input(tmp_path / "input", masks={"1ABA005": "another-name"})
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "GDM_RESULTS")}
    done = subprocess.run(
        [sys.executable, "-B", "-m", "gdmunet.workflows.grand_challenge", inputs, tmp_path / "output", "results"],
        cwd=container, env=environment | {"PYTHONPATH": str(container)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    made = tmp_path / "output" / "images" / "synthetic-ct" / "1ABA005.mha"
    image, given = sitk.ReadImage(str(made)), inputs / "images" / "mri" / "1ABA005.mha"
    assert image.GetPixelID() == sitk.sitkInt16
    original = sitk.ReadImage(str(given))
    for trait in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(image, trait)() == getattr(original, trait)()
    expected = Predictor.from_folder(model, device="cpu").predict(
        given, mask=inputs / "images" / "body" / "another-name.mha"
    )
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), whole_numbers(expected.array))
    (result,) = json.loads((tmp_path / "output" / "results.json").read_text())
    assert result["outputs"] == [{"type": "metaio_image", "filename": str(made)}]
    assert str(given) in {entry["filename"] for entry in result["inputs"]}
    assert result["error_messages"] == []


def test_the_folder_holds_what_its_dockerfile_copies_and_no_more(model, tmp_path):
    container = write_container(model, tmp_path / "algorithm", folds=("1",))
    text = (container / "Dockerfile").read_text()
    copied = {word for line in re.findall(r"^COPY (.*)$", text, re.MULTILINE) for word in line.split()[:-1]}
    assert copied == {path.name for path in container.iterdir()} - {"Dockerfile"}
    weights = [path.relative_to(container / "results").as_posix() for path in container.rglob("*_best.safetensors")]
    assert weights == [f"Dataset999_Test/{model.name}/fold_1/checkpoint_best.safetensors"]
    assert not list(container.rglob("__pycache__"))
    assert (container / "gdmunet" / "encoders" / "weights").is_dir()


def test_the_versions_are_those_that_are_installed_here(model, tmp_path):
    container = write_container(model, tmp_path / "algorithm")
    lines = (container / "requirements.txt").read_text().splitlines()
    assert lines == pinned_requirements()
    assert f"numpy=={np.__version__}" in lines
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    assert not any(line.startswith(("torch==", "pytest")) for line in lines)
    assert (container / "requirements-torch.txt").read_text().startswith("torch==")


def test_cone_beam_images_and_several_cases_are_answered(model, tmp_path):
    inputs = challenge_input(tmp_path / "input", "cbct", ("2HNA001", "2HNA002"))
    made = answer(inputs, tmp_path / "output", model.parents[1])
    assert [file.name for file in made] == ["2HNA001.mha", "2HNA002.mha"]
    assert len(json.loads((tmp_path / "output" / "results.json").read_text())) == 2


def test_a_missing_mask_or_image_is_named(model, tmp_path, capsys):
    inputs = challenge_input(tmp_path / "input", names=("a", "b"))
    (inputs / "images" / "body" / "b.mha").unlink()
    with pytest.raises(GdmError, match=r"no mask[\s\S]*case: b|b[\s\S]*no mask"):
        answer(inputs, tmp_path / "output", model.parents[1])
    assert not (tmp_path / "output").exists()
    shutil.rmtree(inputs / "images" / "mri")
    assert main([str(inputs), str(tmp_path / "output"), str(model.parents[1])]) == 1
    assert "one task" in capsys.readouterr().err
    assert main(["one"]) == 2


def test_a_model_of_several_channels_is_refused(tmp_path):
    model = make_model(tmp_path / "results", descriptor=make_descriptor(channels=2))
    with pytest.raises(GdmError):
        write_container(model, tmp_path / "algorithm")
    assert not (tmp_path / "algorithm").exists()


def test_a_folder_that_is_there_is_not_written_over(model, tmp_path):
    (tmp_path / "algorithm").mkdir()
    (tmp_path / "algorithm" / "mine.txt").write_text("keep me")
    with pytest.raises(GdmError, match="algorithm"):
        write_container(model, tmp_path / "algorithm")
    assert (tmp_path / "algorithm" / "mine.txt").read_text() == "keep me"
