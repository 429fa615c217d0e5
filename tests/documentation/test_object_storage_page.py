"""The commands of the page on object stores run against a server on loopback, as they are printed."""

import fsspec
import pytest
from object_store import s3, s3_server  # noqa: F401 (fixtures)
from pages import DOCUMENTATION, blocks
from test_commands_run import rename, run, shorten

import gdmunet
from gdmunet.conversion.phantoms import make_phantom_demo

PAGE = DOCUMENTATION / "how_to" / "object_storage.md"
# What a test has otherwise than a user: a small trainer, no GPU.
MORE = {"gdm_train": ["-tr", "FidelityTrainer", "-device", "cpu", "--no_pbar"], "gdm_predict": ["-device", "cpu"]}


@pytest.mark.usefixtures("s3")
def test_upload_training_and_prediction_run_as_they_are_printed(monkeypatch, tmp_path):
    store = fsspec.filesystem("s3")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GDM_COPIES", str(tmp_path / "copies"))
    shorten(monkeypatch)
    demo = make_phantom_demo(tmp_path / "gdm_raw", cases=6, size=16, show_progress=False)
    rename(demo, "Dataset600_Heads")
    planning = {"planner": "tiny", "trainer": "FidelityTrainer", "configuration": ["3d_fullres"], "device": "cpu"}
    gdmunet.plan_and_preprocess(dataset=600, processes=1, show_progress=False, **planning)
    if not store.exists("bucket"):
        store.mkdir("bucket")
    inputs = sorted((tmp_path / "gdm_raw/Dataset600_Heads/imagesTs").iterdir())
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
