"""Every reader of foreign files: valid files to damage, the damage that aims at their format, the call that reads."""

import io
import json
import shutil
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pydicom
import torch

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests" / "samples"), str(ROOT / "tests" / "encoders"), str(Path(__file__).parent)]

import mutations as damage  # noqa: E402
from dicom_samples import make_enhanced, make_series, make_stored  # noqa: E402
from prediction_samples import make_head, make_model  # noqa: E402
from report_samples import make_comparison  # noqa: E402

from gdmunet.checkpoint import load_network, load_weights  # noqa: E402
from gdmunet.claims import Witness  # noqa: E402
from gdmunet.conversion.held_out import read_groups  # noqa: E402
from gdmunet.dataset import load_descriptor  # noqa: E402
from gdmunet.dicom.reading import read_series  # noqa: E402
from gdmunet.dicom.series import choose_series, scan_series  # noqa: E402
from gdmunet.encoders.base import VolumeUnits  # noqa: E402
from gdmunet.encoders.download import DownloadRecord  # noqa: E402
from gdmunet.encoders.fine import load_fine_level  # noqa: E402
from gdmunet.encoders.mini import fine_file  # noqa: E402
from gdmunet.encoders.nnunet import build  # noqa: E402
from gdmunet.encoders.residual import load_encoder_file, random_encoder, save_encoder  # noqa: E402
from gdmunet.encoders.weight_files import read_weights  # noqa: E402
from gdmunet.evaluation.comparison.paired import load_comparison  # noqa: E402
from gdmunet.evaluation.report.sources import read_content  # noqa: E402
from gdmunet.evaluation.scores.dial_curve import REALISMS, DialCurve  # noqa: E402
from gdmunet.evaluation.scores.summary import load_summary  # noqa: E402
from gdmunet.evaluation.scores.summary_text import format_table  # noqa: E402
from gdmunet.geometry import Geometry  # noqa: E402
from gdmunet.imageio import Volume, read_labels, read_mask, read_volume, write_volume  # noqa: E402
from gdmunet.inference.archive import export_model, import_model  # noqa: E402
from gdmunet.inference.prediction_settings import PredictionSpec  # noqa: E402
from gdmunet.journal import read_journal  # noqa: E402
from gdmunet.networks import build_network  # noqa: E402
from gdmunet.plans import STANDARD_HU, load_plans  # noqa: E402
from gdmunet.preprocessing.casestore import CaseStore  # noqa: E402
from gdmunet.preprocessing.fingerprint import Fingerprint  # noqa: E402
from gdmunet.scan_spec import ScanSpec  # noqa: E402
from gdmunet.serialization import load_json, save_json  # noqa: E402
from gdmunet.splits import read_splits  # noqa: E402
from gdmunet.tomography.simulation import simulate_scan  # noqa: E402
from gdmunet.tomography.sinogram import read_sinogram, write_sinogram  # noqa: E402
from gdmunet.training.loop import state as resume  # noqa: E402
from gdmunet.workflows.measured_prediction import Measurement  # noqa: E402

Mutation = Callable[[bytes, Random], bytes]
UNITS = VolumeUnits(STANDARD_HU, -1000.0, "CT")
ENDINGS = {
    ".nii.gz": partial(damage.packed_again, change=damage.changed_nifti),
    ".nii": damage.changed_nifti,
    ".mha": damage.swapped_word,
    ".nrrd": damage.swapped_word,
    ".nhdr": damage.swapped_word,
    ".mhd": damage.swapped_word,
}


@dataclass(frozen=True)
class Reader:
    """A reader.

    Attributes
    ----------
    name
        Of the reader, in the table of counts.
    make
        Writes valid files into an empty folder.
    damaged
        The file that is damaged, by its place in the folder, to the damage that aims at its format.
    read
        Reads the folder.
    share
        Inputs that it gets, relative to the others.
    """

    name: str
    make: Callable[[Path], Any]
    damaged: dict[str, Mutation]
    read: Callable[[Path], Any]
    share: int = 4


def _archived(*names: str) -> Callable[[Path], None]:
    """Files of the archive of version 1 by the ends of their names."""

    def make(folder: Path) -> None:
        with zipfile.ZipFile(ROOT / "tests" / "archive" / "version_1" / "files.zip") as archive:
            for name in names:
                whole = next(n for n in archive.namelist() if n.endswith(name))
                (folder / Path(name).name).write_bytes(archive.read(whole))

    return make


def _json(name: str, make: Callable[[Path], Any], read: Callable[[Path], Any], share: int = 6) -> Reader:
    return Reader(name, make, {name: damage.changed_json}, lambda folder: read(folder / name), share)


def _text(name: str, content: dict[str, Any]) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_text(json.dumps(content))


def _model(folder: Path) -> None:
    made = make_model(folder / "made")
    (made / "fold_0" / "settings.json").write_text("{}")
    export_model(made, folder / "model.zip")
    for name in ("plans.json", "fold_0/checkpoint_best.safetensors"):
        shutil.copy(made / name, folder)


def _plans(file: Path) -> Any:
    plans = load_plans(file)
    with torch.device("meta"):
        return [build_network(one.network) for one in plans.configurations.values()]


def _in_archive(name: str, content: bytes, random: Random) -> bytes:
    kinds = {".json": damage.changed_json, ".safetensors": damage.changed_safetensors}
    return damage.damaged(content, random, kinds[Path(name).suffix])


def _import(folder: Path) -> Any:
    try:
        return import_model(folder / "model.zip", folder / "results")
    finally:
        shutil.rmtree(folder / "results", ignore_errors=True)


def _store(folder: Path) -> None:
    store = folder / "Dataset502_A" / "p_3d"
    store.mkdir(parents=True)
    _archived("head_000.b2nd", "head_000.json", "head_000_mask.b2nd")(store)


def _patch(folder: Path) -> Any:
    case = CaseStore(folder / "Dataset502_A", "p", "3d").open("head_000")
    return case.condition[:, :9, :9, :9], case.target[:, 5:9] if case.target else None, case.mask[..., 3]


def _volume(ending: str) -> Reader:
    def make(folder: Path) -> None:
        grid = Geometry((6, 7, 8), (3.0, 1.0, 1.5), (5.0, 6.0, 7.0))
        values = np.random.default_rng(0).integers(-1000, 1000, grid.shape).astype(np.int16)
        write_volume(folder / f"a{ending}", values, grid)

    def read(folder: Path) -> Any:
        file = folder / f"a{ending}"
        mask = (read_mask, read_labels, read_volume, read_volume)[file.stat().st_size % 4]
        return mask(file)

    return Reader(f"volume {ending}", make, {f"a{ending}": ENDINGS.get(ending, damage.swapped_word)}, read, 5)


def _dicom_file(data: bytes, random: Random) -> bytes:
    """A DICOM file with another value, or without one, in some elements."""
    try:
        image = pydicom.dcmread(io.BytesIO(data))
        for _ in range(random.choice((1, 1, 2))):
            element = random.choice(list(image))
            if random.random() < 0.3:
                del image[element.tag]
                continue
            plain = (
                b"",
                b"0",
                b"-1",
                b"99999999999999999999",
                b"1e400",
                b"nan",
                b"\\\\\\",
                b"MONOCHROME1",
                b"1\\2\\3\\4\\5\\6\\7",
            )
            raw = pydicom.dataelem.RawDataElement(
                element.tag, element.VR, 0, random.choice((*plain, *damage.BYTES)), 0, False, True
            )
            image._dict[element.tag] = raw
        file = io.BytesIO()
        image.save_as(file)
        return file.getvalue()
    except Exception:  # pydicom refuses to write some values: then the bytes alone are damaged
        return damage.flip(data, random)


def _series(folder: Path) -> None:
    make_series(folder / "dicom", make_stored((4, 6, 7)))
    for place, file in enumerate(sorted((folder / "dicom").iterdir())):
        file.rename(folder / "dicom" / f"{place}.dcm")


def _read_dicom(folder: Path) -> Any:
    return read_series(choose_series(scan_series(folder / "dicom"), folder=folder))


def _nnunet(folder: Path) -> None:
    from dynamic_network_architectures.architectures.unet import PlainConvUNet
    from test_nnunet_encoder import write_model

    write_model(folder, PlainConvUNet)


def _sinogram(folder: Path) -> None:
    volume = Volume(make_head((4, 20, 20)), Geometry((4, 20, 20), (2.0, 1.0, 1.0)))
    write_sinogram(folder / "a.npz", simulate_scan(volume, ScanSpec(views=6), "a").sinogram)


def _comparison(folder: Path) -> None:
    shutil.copy(make_comparison(folder, {"a": 5.0, "b": 9.0}) / "comparison.json", folder)


def _curve(folder: Path) -> None:
    save_json(
        DialCurve(REALISMS, (5.0,) * len(REALISMS), 1.0, "HU", (0.1,) * len(REALISMS), "mini"), folder / "dial.json"
    )


def _measurement(folder: Path) -> None:
    save_json(Measurement({"0": (3, 4)}, 1, 2.0, 3.0, 4), folder / "measurement.json")


def _encoder(folder: Path) -> None:
    save_encoder(random_encoder(2, 0, widths=(2, 3), blocks=(1, 1), fine=2), folder / "e.safetensors", {})


def _pickle(folder: Path) -> None:
    torch.save({"state_dict": {"a": torch.ones(3), "b": torch.ones(2, 2)}}, folder / "w.pth")


def _splits(folder: Path) -> None:
    folds = [{"train": ["a", "b"], "val": ["c"]}, {"train": ["c", "a"], "val": ["b"]}]
    (folder / "splits.json").write_text(json.dumps(folds))


def _table(folder: Path) -> None:
    (folder / "groups.csv").write_text("case,patient,region\na,p1,AB\nb,p1,TH\nc,p2,AB\n")


RESULT = {"model": None, "folds": ["0"], "checkpoint": "best", "configuration": "3d", "step_size": 0.5, "tta": False,
          "precision": "float32", "device": "cpu", "skip_empty": True, "mask_folder": None, "as_float": False,
          "uncertainty": False}  # fmt: skip
RUNNING = {
    "owner": {"host": "h", "boot": "b", "pid": 1, "started": 1},
    "token": "t",
    "work": "w",
    "heartbeat": 30.0,
    "part": 0,
    "parts": 1,
}
RECORD = {"url": "https://x/y", "revision": "1", "sha256": "0" * 64, "size": 3, "stated_by_hub": True}

NNUNET = "nnUNetTrainer__nnUNetPlans__3d_fullres"
STORE = "Dataset502_A/p_3d/head_000"
READERS: tuple[Reader, ...] = (
    _json("dataset.json", _archived("dataset.json"), lambda file: load_descriptor(file.parent)),
    _json("plans.json", _archived("fullres/plans.json"), _plans),
    _json("dataset_fingerprint.json", _archived("dataset_fingerprint.json"), partial(load_json, Fingerprint)),
    Reader("journal.jsonl", _archived("fullres/fold_0/journal.jsonl", "fullres/fold_0/settings.json"),
           {"journal.jsonl": damage.changed_lines, "settings.json": damage.changed_json},
           lambda folder: (read_journal(folder / "journal.jsonl"), read_content(folder)), 6),
    _json("summary.json", _archived("summary.json"), lambda file: format_table(load_summary(file))),
    _json("comparison.json", _comparison, load_comparison, 3),
    _json("dial.json", _curve, lambda file: load_json(DialCurve, file).describe(), 2),
    _json("measurement.json", _measurement, partial(load_json, Measurement), 2),
    _json("prediction_settings.json", _text("prediction_settings.json", RESULT), partial(load_json, PredictionSpec), 3),
    _json("download.json", _text("download.json", RECORD), partial(load_json, DownloadRecord), 2),
    _json("running.json", _text("running.json", RUNNING), lambda file: Witness.of(file)),
    Reader("checkpoint", _model, {"checkpoint_best.safetensors": damage.changed_safetensors},
           lambda folder: load_network(load_weights(folder / "checkpoint_best.safetensors")), 6),
    Reader("resume.pt", _archived("resume.pt"), {"resume.pt": damage.flip},
           lambda folder: resume._read(folder / "resume.pt"), 2),
    Reader("model archive", _model, {"model.zip": partial(damage.changed_archive, change=_in_archive)}, _import, 3),
    Reader("encoder", _encoder,
           {"e.safetensors": damage.changed_safetensors}, lambda f: load_encoder_file(f / "e.safetensors"), 3),
    Reader("fine level", lambda folder: shutil.copy(fine_file(2), folder / "f.safetensors"),
           {"f.safetensors": damage.changed_safetensors}, lambda f: load_fine_level(f / "f.safetensors"), 2),
    Reader("weights .pth", _pickle, {"w.pth": damage.flip}, lambda folder: read_weights(folder / "w.pth"), 3),
    Reader("nnU-Net model", _nnunet, {f"{NNUNET}/plans.json": damage.changed_json},
           lambda folder: build(folder / NNUNET, UNITS, 3), 2),
    Reader("prepared case", _store, {f"{STORE}.json": damage.changed_json, f"{STORE}.b2nd": damage.flip,
           f"{STORE}_mask.b2nd": damage.flip}, _patch, 5),
    Reader("sinogram", _sinogram, {"a.npz": damage.flip}, lambda folder: read_sinogram(folder / "a.npz"), 3),
    _json("splits.json", _splits, read_splits, 3),
    Reader("groups.csv", _table, {"groups.csv": damage.inserted}, lambda folder: read_groups(folder / "groups.csv"), 3),
    *map(_volume, ENDINGS),
    Reader("DICOM series", _series, {"dicom/0.dcm": _dicom_file, "dicom/2.dcm": _dicom_file}, _read_dicom, 4),
    Reader("enhanced DICOM", lambda folder: make_enhanced(folder / "dicom" / "0.dcm", make_stored((4, 6, 7))),
           {"dicom/0.dcm": _dicom_file}, _read_dicom, 2),
)  # fmt: skip


def chosen(random: Random, names: tuple[str, ...] = ()) -> Reader:
    """A reader, by its share."""
    among = [reader for reader in READERS if not names or reader.name in names]
    return random.choices(among, [reader.share for reader in among])[0]
