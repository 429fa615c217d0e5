"""Minimal inputs of faults that damaged files have found: each is an error that names its file."""

import json
import shutil
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from dicom_samples import make_series, make_stored
from prediction_samples import make_model
from safetensors import safe_open
from safetensors.torch import save_file

from gdmunet.checkpoint import load_weights
from gdmunet.conversion.held_out import read_groups
from gdmunet.dicom.reading import read_series
from gdmunet.dicom.series import choose_series, scan_series
from gdmunet.encoders.nnunet import read_model_folder
from gdmunet.encoders.residual import load_encoder_file, random_encoder, save_encoder
from gdmunet.errors import GdmError
from gdmunet.evaluation.report.sources import read_content
from gdmunet.geometry import Geometry
from gdmunet.imageio import read_volume, write_volume
from gdmunet.inference.archive import export_model, import_model
from gdmunet.journal import read_journal
from gdmunet.preprocessing.casestore import CaseStore
from gdmunet.training.loop.ema import copy_each

GRID = Geometry((6, 7, 8), (3.0, 1.0, 1.5))
VOXELS = np.random.default_rng(0).integers(-1000, 1000, GRID.shape).astype(np.int16)


def fails(call, *arguments, file=None) -> GdmError:
    with pytest.raises(GdmError) as raised:
        call(*arguments)
    assert raised.value.file is not None
    if file is not None:
        assert Path(raised.value.file) == file
    return raised.value


@pytest.mark.parametrize("number", [float("inf"), float("nan"), -1.0, 1e30])
def test_a_nifti_whose_voxels_begin_nowhere(tmp_path, number):
    file = tmp_path / "a.nii"
    write_volume(file, VOXELS, GRID)
    data = bytearray(file.read_bytes())
    data[108:112] = struct.pack("<f", number)
    file.write_bytes(data)
    fails(read_volume, file, file=file)


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "", "/dev/zero"])
@pytest.mark.parametrize("ending", [".mhd", ".nhdr"])
def test_a_header_whose_voxels_lie_in_no_file(tmp_path, ending, name):
    file = tmp_path / f"a{ending}"
    write_volume(file, VOXELS, GRID)
    text = file.read_bytes()
    key = b"ElementDataFile = " if ending == ".mhd" else b"data file: "
    start = text.index(key) + len(key)
    file.write_bytes(text[:start] + name.encode() + b"\n" + text[start:].split(b"\n", 1)[1])
    fails(read_volume, file, file=file)


@pytest.mark.parametrize("change", [{"SeriesNumber": "3x"}, {"Rows": None}, {"PixelSpacing": ["1e400", "1"]}])
def test_a_dicom_element_that_the_standard_does_not_allow(tmp_path, change):
    import pydicom

    make_series(tmp_path / "dicom", make_stored((3, 4, 5)))
    for file in (tmp_path / "dicom").iterdir():
        image = pydicom.dcmread(file)
        for keyword, value in change.items():
            element = image[keyword]
            raw = str(value).encode() if not isinstance(value, list) else "\\".join(value).encode()
            image._dict[element.tag] = pydicom.dataelem.RawDataElement(element.tag, element.VR, 0, raw, 0, False, True)
        image.save_as(file)

    folder = tmp_path / "dicom"
    if "SeriesNumber" in change:  # it is told, and nothing hangs on it
        assert read_series(choose_series(scan_series(folder))).volume.array.shape == (3, 4, 5)
        return
    error = fails(lambda: read_series(choose_series(scan_series(folder), folder=folder)))
    assert "Doe" not in str(error)


@pytest.mark.parametrize("damaged", ["head_000.b2nd", "head_000_mask.b2nd"])
@pytest.mark.parametrize("part", ["all", "second half"])
def test_a_zeroed_file_of_a_prepared_case(tmp_path, damaged, part):
    archive = Path(__file__).parents[1] / "archive" / "version_1" / "files.zip"
    folder = tmp_path / "Dataset502_A" / "p_3d"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(archive) as files:
        for name in files.namelist():
            if "/head_000" in name and ("b2nd" in name or name.endswith("head_000.json")):
                (folder / Path(name).name).write_bytes(files.read(name))
    data = (folder / damaged).read_bytes()
    start = 0 if part == "all" else len(data) // 2
    (folder / damaged).write_bytes(data[:start] + bytes(len(data) - start))

    def read():
        case = CaseStore(tmp_path / "Dataset502_A", "p", "3d").open("head_000")
        return case.condition[:], case.mask[:]

    assert fails(read, file=folder / damaged).case == "head_000"


@pytest.mark.parametrize(
    "line", ["3", '{"epoch": "0"}', '{"epoch": 0, "seconds": []}', '{"epoch": 0, "loss_x": NaN}', "{}"]
)
def test_a_journal_with_a_line_that_no_training_wrote(tmp_path, line):
    file = tmp_path / "journal.jsonl"
    file.write_text(f'{line}\n{{"epoch": 1}}\n')
    fails(read_journal, file, file=file)


def test_a_torn_journal_is_read_up_to_the_tear(tmp_path):
    file = tmp_path / "journal.jsonl"
    file.write_bytes(b'{"epoch": 0}\n{"epoch": 1, "lo\xed\xa0')
    assert read_journal(file) == ({"epoch": 0},)


def test_settings_that_are_no_object(tmp_path):
    (tmp_path / "journal.jsonl").write_text('{"epoch": 0}\n')
    (tmp_path / "settings.json").write_text("3")
    fails(read_content, tmp_path, file=tmp_path / "settings.json")


@pytest.mark.parametrize("content", [b"case,patient\n\xff,p\n", b"", b"case,patient\n" + b"a" * 200_000 + b",p", b"\0"])
def test_a_table_that_is_no_table(tmp_path, content):
    (tmp_path / "groups.csv").write_bytes(content)
    fails(read_groups, tmp_path / "groups.csv", file=tmp_path / "groups.csv")


def rewritten(file: Path, change, keep_digest: bool = False) -> None:
    """A checkpoint whose tensors or texts are changed."""
    with safe_open(file, framework="pt") as stored:
        tensors, texts = {name: stored.get_tensor(name) for name in stored.keys()}, dict(stored.metadata())  # noqa: SIM118
    if not keep_digest:
        texts.pop("sha256")
    change(tensors, texts)
    save_file(tensors, file, metadata=texts)


def checkpoint(tmp_path: Path) -> Path:
    return make_model(tmp_path / "results") / "fold_0" / "checkpoint_best.safetensors"


def test_weights_that_are_not_numbers(tmp_path):
    file = checkpoint(tmp_path)
    rewritten(file, lambda tensors, _: next(iter(tensors.values())).view(-1)[0].fill_(float("nan")))
    assert "not numbers" in fails(load_weights, file, file=file).problem


def test_a_weight_that_could_be_broadcast(tmp_path):
    file = checkpoint(tmp_path)

    def narrow(tensors, _):
        name = next(name for name in tensors if name.endswith("conv.weight"))
        tensors[name] = tensors[name][:1].clone()

    rewritten(file, narrow)
    assert "does not have the form" in fails(load_weights, file, file=file).problem


def test_one_other_bit_in_the_weights_or_in_their_description(tmp_path):
    file = checkpoint(tmp_path)
    whole = file.read_bytes()
    for place in (len(whole) - 5, whole.index(b"FidelityTrainer")):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert "have changed" in fails(load_weights, file, file=file).problem
    file.write_bytes(whole)
    assert load_weights(file).sha256


@pytest.mark.parametrize("width", [10**9, -1, 0])
def test_a_described_network_of_a_billion_features(tmp_path, width):
    file = checkpoint(tmp_path)

    def wide(_, texts):
        header = json.loads(texts["gdmunet"])
        header["network"]["features"][-1] = width
        texts["gdmunet"] = json.dumps(header)

    rewritten(file, wide)
    assert "features" in fails(load_weights, file, file=file).problem


@pytest.mark.parametrize("key", ["widths", "blocks", "fine", "dimensions"])
def test_an_encoder_of_a_billion_filters(tmp_path, key):
    file = tmp_path / "e.safetensors"
    save_encoder(random_encoder(2, 0, widths=(2, 3), blocks=(1, 1)), file, {})
    with safe_open(file, framework="pt") as stored:
        tensors, texts = {name: stored.get_tensor(name) for name in stored.keys()}, dict(stored.metadata())  # noqa: SIM118
    header = json.loads(texts["gdmunet_encoder"])
    header[key] = [10**9, 10**9] if isinstance(header[key], list) else 10**9
    save_file(tensors, file, metadata={"gdmunet_encoder": json.dumps(header)})
    fails(load_encoder_file, file, file=file)


@pytest.mark.parametrize(
    "layer", ["torch.load", "torch.hub.load", "torch.nn.functional.relu", "torch.nn.Parameter", "os.system", 3]
)
def test_a_layer_that_is_no_layer(tmp_path, layer):
    """``torch.load`` as an activation, with a file as its argument, would run what the pickle holds."""
    folder = tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    folder.mkdir()
    torch.save({}, folder / "checkpoint_final.pth")
    arguments = {"nonlin": layer, "nonlin_kwargs": {"f": "evil.pth", "weights_only": False}}
    architecture = {
        "network_class_name": "a.PlainConvUNet",
        "arch_kwargs": arguments,
        "_kw_requires_import": ["nonlin"],
    }
    plans = {"configurations": {"3d_fullres": {"architecture": architecture, "normalization_schemes": ["CT"]}}}
    (folder / "plans.json").write_text(json.dumps(plans))
    assert "not PyTorch's" in fails(read_model_folder, folder).problem


def packed(tmp_path: Path) -> Path:
    return export_model(make_model(tmp_path / "made"), tmp_path / "model.zip")


def refused(archive: Path, tmp_path: Path) -> GdmError:
    error = fails(import_model, archive, tmp_path / "results")
    assert not list((tmp_path / "results").rglob("*"))
    return error


def test_an_archive_that_is_encrypted(tmp_path):
    archive = packed(tmp_path)
    data = bytearray(archive.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = data.find(signature)
        while place >= 0:
            data[place + flags] |= 1
            place = data.find(signature, place + 4)
    archive.write_bytes(data)
    assert "encrypted" in refused(archive, tmp_path).problem


def test_an_archive_that_unpacks_to_a_thousand_times_its_size(tmp_path):
    archive = packed(tmp_path)
    shutil.copy(archive, tmp_path / "old.zip")
    with zipfile.ZipFile(tmp_path / "old.zip") as old, zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.infolist():
            data = old.read(member)
            new.writestr(member.filename, data + b" " * 3_000_000 if member.filename.endswith("plans.json") else data)
    assert "unpacks to more" in refused(archive, tmp_path).problem


def test_weights_in_an_archive_that_are_larger_than_their_network(tmp_path):
    archive = packed(tmp_path)
    shutil.copy(archive, tmp_path / "old.zip")
    with zipfile.ZipFile(tmp_path / "old.zip") as old, zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as new:
        for member in old.infolist():
            data = old.read(member)
            new.writestr(member.filename, data + bytes(len(data) * 3) if "checkpoint" in member.filename else data)
    assert "larger than it can be" in refused(archive, tmp_path).problem


def test_a_disk_without_room_for_an_archive(tmp_path, monkeypatch):
    archive = packed(tmp_path)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    assert "no room" in refused(archive, tmp_path).problem


def test_saved_tensors_are_never_broadcast():
    own = {"a": torch.zeros(3, 4)}
    for given in ({"a": torch.ones(4)}, {"a": torch.ones(1, 4)}, {"a": torch.ones(())}, {}):
        with pytest.raises(GdmError, match="not those of the network"):
            copy_each(own, given)
    assert not own["a"].any()
