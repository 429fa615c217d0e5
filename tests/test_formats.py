"""An older file is read as the present version has it; a newer one is refused in words."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from prediction_samples import make_configuration, make_descriptor, make_plans
from safetensors.torch import load_file, save_file

from gdmunet import checkpoint, plans
from gdmunet.checkpoint import CheckpointMetadata, load_weights, save_weights
from gdmunet.errors import GdmError
from gdmunet.formats import FileFormat
from gdmunet.networks import build_network
from gdmunet.plans import load_plans
from gdmunet.preprocessing.case_record import CASE_FORMAT, CaseOrigin, CaseRecord
from gdmunet.preprocessing.preprocessor import CaseProperties
from gdmunet.serialization import load_json, save_json
from gdmunet.training.loop import state


def upgrade_1_to_2(content):
    """A key has another name."""
    return {("name" if key == "title" else key): value for key, value in content.items()}


def upgrade_2_to_3(content):
    """A number has another unit."""
    return {**content, "size": content["size"] * 10}


THINGS = FileFormat("thing", (upgrade_1_to_2, upgrade_2_to_3))


def test_every_older_version_becomes_the_present_one():
    present = {"name": "a", "size": 20, "version": 3}
    oldest = {"title": "a", "size": 2}
    assert THINGS.version == 3
    assert THINGS.upgrade(oldest) == THINGS.upgrade({**oldest, "version": 1}) == present
    assert THINGS.upgrade({"name": "a", "size": 2, "version": 2}) == present
    assert THINGS.upgrade(present) == present
    assert oldest == {"title": "a", "size": 2}


def test_a_newer_version_says_so():
    with pytest.raises(GdmError, match="newer version of gdmunet") as raised:
        THINGS.upgrade({"version": 4})
    assert (raised.value.found, raised.value.expected) == ("version 4", "version 3 at most")


@pytest.mark.parametrize("version", [0, -1, "2", None, True, 1.5])
def test_what_is_not_a_version_is_refused(version):
    with pytest.raises(GdmError, match="no valid version"):
        THINGS.upgrade({"version": version})


def test_plans_of_an_older_version_are_read(tmp_path, monkeypatch):
    expected = make_plans(make_configuration(), make_descriptor())
    file = tmp_path / "plans.json"
    save_json(expected, file)
    content = json.loads(file.read_text())
    content["title"] = content.pop("name")
    del content["version"]
    file.write_text(json.dumps(content))
    with pytest.raises(GdmError, match="unknown key"):
        load_plans(file)
    monkeypatch.setattr(plans, "PLANS_FORMAT", FileFormat("plans", (upgrade_1_to_2,)))
    assert load_plans(file) == replace(expected, version=2)
    file.write_text(json.dumps({**content, "version": 7}))
    with pytest.raises(GdmError, match=r"plans file comes from a newer version[\s\S]*plans.json[\s\S]*version 7"):
        load_plans(file)


def test_a_checkpoint_of_an_older_version_is_read(tmp_path, monkeypatch):
    spec = make_configuration().network
    written, old = tmp_path / "written.safetensors", tmp_path / "old.safetensors"
    metadata = CheckpointMetadata("FidelityTrainer", "plans", "3d", "0", 1, 10)
    save_weights(written, build_network(spec).state_dict(), spec, metadata)
    with checkpoint.safe_open(str(written), framework="pt") as file:
        header = json.loads(file.metadata()["gdmunet"])
    header["net"] = header.pop("network")
    del header["format"]
    save_file(load_file(written), str(old), metadata={"gdmunet": json.dumps(header)})

    def renamed(content):
        return {("network" if key == "net" else key): value for key, value in content.items()}

    monkeypatch.setattr(checkpoint, "CHECKPOINT_FORMAT", FileFormat("checkpoint", (renamed,), key="format"))
    loaded = load_weights(old)
    assert (loaded.network, loaded.metadata) == (spec, metadata)


def test_a_resume_state_of_an_older_or_newer_version(tmp_path, monkeypatch):
    file = tmp_path / "resume.pt"
    torch.save({"title": "old"}, file)
    monkeypatch.setattr(state, "RESUME_FORMAT", FileFormat("resume state", (upgrade_1_to_2,)))
    assert state._read(file) == {"name": "old", "version": 2}
    torch.save({"version": 3}, file)
    with pytest.raises(GdmError, match=r"resume state file comes from a newer version[\s\S]*resume.pt"):
        state._read(file)


def test_a_flipped_bit_of_a_resume_state_is_refused(tmp_path):
    """torch reads the members of its zip without asking their checksums."""
    file = tmp_path / "resume.pt"
    torch.save({"version": state.RESUME_FORMAT.version, "weights": torch.arange(5000.0)}, file)
    whole, refused = file.read_bytes(), []
    for place in np.random.default_rng(0).integers(0, len(whole), 20):
        damaged = bytearray(whole)
        damaged[place] ^= 4
        file.write_bytes(damaged)
        try:
            assert torch.equal(state._read(file)["weights"], torch.arange(5000.0))
        except state.UnreadableStateError as error:
            refused.append(error.file)
    assert len(refused) > 10
    assert set(refused) == {file}


def test_a_prepared_case_without_a_version_is_of_the_first(tmp_path):
    kept = {"files": {"a.nii": [1, 2]}, "recipe": "r"}
    assert CASE_FORMAT.version == 3, "archive cases of version 3 and test that they are read"
    properties = json.loads(PROPERTIES)
    (tmp_path / "a.json").write_text(json.dumps({"properties": properties, "origin": kept}))
    record = load_json(CaseRecord, tmp_path / "a.json", file_format=CASE_FORMAT)
    assert isinstance(record.properties, CaseProperties)
    assert (record.origin, record.version) == (CaseOrigin("r", {"a.nii": (1, 2)}), 3)
    assert record.checksums == (), "it had none, and is not prepared anew for that"
    assert record.types == (), "all of its channels are float32"


PROPERTIES = """{"identifier": "a", "geometry": {"shape": [2, 2, 2], "spacing": [1.0, 1.0, 1.0]},
"crop_box": [[0, 2], [0, 2], [0, 2]], "cropped_shape": [2, 2, 2], "prepared_shape": [2, 2, 2],
"prepared_spacing": [1.0, 1.0, 1.0], "condition_maps": [],
"target_map": {"clip_low": 0.0, "clip_high": 1.0, "offset": 0.0, "scale": 1.0}, "mask_source": "given"}"""
