"""The commands of the page on object stores run against a server on loopback, as they are printed."""

import shutil

import fsspec
import pytest
from object_store import s3, s3_server  # noqa: F401 (fixtures)
from pages import DOCUMENTATION, blocks
from test_commands_run import made, run, shorten  # noqa: F401 (a fixture)

PAGE = DOCUMENTATION / "how_to" / "object_storage.md"
# What a test has otherwise than a user: a small trainer, no GPU.
MORE = {"gdm_train": ["-tr", "FidelityTrainer", "-device", "cpu", "--no_pbar"], "gdm_predict": ["-device", "cpu"]}


@pytest.mark.usefixtures("s3")
def test_upload_training_and_prediction_run_as_they_are_printed(made, monkeypatch, tmp_path):  # noqa: F811
    work, store = tmp_path / "work", fsspec.filesystem("s3")
    shutil.copytree(made, work)
    monkeypatch.chdir(work)
    monkeypatch.setenv("GDM_COPIES", str(tmp_path / "copies"))
    shorten(monkeypatch)
    if not store.exists("bucket"):
        store.mkdir("bucket")
    inputs = sorted((work / "gdm_raw/Dataset600_Heads/imagesTs").iterdir())
    for file in inputs:
        store.put(str(file), f"bucket/inputs/{file.name}")
    ran = []
    for block in blocks(PAGE):
        if block.language == "python":
            exec(compile(block.text, str(block), "exec"), {})
        for words in block.own_commands:
            run([*words, *MORE[words[0]]])
            ran.append(words[0])
    assert ran == ["gdm_train", "gdm_predict"]
    assert store.exists("bucket/prepared/Dataset600_Heads/dataset_fingerprint.json")
    predicted = {path.rsplit("/", 1)[-1] for path in store.find("bucket/predictions")}
    assert len([name for name in predicted if name.endswith(".nii.gz")]) == len(inputs)
    assert "prediction_settings.json" in predicted
