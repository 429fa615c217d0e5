"""Parts of a command: any order, any repetition and two at once give the files of one run, bit for bit."""

import gzip
import io
import pickle
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gdmunet import workers
from gdmunet.claims import Claim
from gdmunet.conversion.folders import claim_number
from gdmunet.dicom.writing import SeriesLabel, write_ct_series
from gdmunet.errors import GdmError
from gdmunet.evaluation.scores import case_scores
from gdmunet.geometry import Geometry
from gdmunet.imageio import Volume, write_volume
from gdmunet.owners import temporary_beside
from gdmunet.parts import OpenParts, PartOptions
from gdmunet.paths import Folders
from gdmunet.serialization import save_json
from gdmunet.workers import on_scheduler
from gdmunet.workflows.convert import simulate_svct
from gdmunet.workflows.convert_dicom import convert_dicom
from gdmunet.workflows.evaluate import evaluate
from gdmunet.workflows.preparation import extract_fingerprint, preprocess
from gdmunet.workflows.requests.datasets import ConvertDicomRequest
from gdmunet.workflows.requests.declaration import RequestError
from gdmunet.workflows.requests.evaluation import EvaluateRequest
from gdmunet.workflows.requests.planning import ExtractFingerprintRequest, PreprocessRequest
from gdmunet.workflows.requests.simulation import SimulateSvctRequest
from gdmunet.workflows.requests.spelling import command_line

NAMES = tuple("abcde")
GRID = Geometry((6, 24, 28), (4.0, 4.0, 4.0), (5.0, -6.0, 7.0))
OTHERS = ("convert", "fingerprint", "evaluate")
COMMANDS = ("simulate", "preprocess", *OTHERS)


def ct(seed):
    rng = np.random.default_rng(seed)
    array = np.full(GRID.shape, -1000, np.int16)
    array[:, 4:20, 5:22] = rng.integers(-20, 60, (GRID.shape[0], 16, 17))
    array[:, 9 + seed % 5 : 11 + seed % 5, 8:11] = 800
    return array


def content(path):
    """The bytes of a file; of a packed one those inside, since its header holds the time of writing."""
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


@dataclass(frozen=True)
class Case:
    """A command on the same input: how it is run, where it writes, and what it writes there."""

    run: object
    request: object
    folders: Folders
    output: Path

    def part(self, part, number=3):
        return self.run(replace(self.request, num_parts=number, part_id=part), self.folders)

    def files(self):
        """Content of the files that others read."""
        paths = sorted(path for path in self.output.rglob("*") if path.is_file())
        inside = [path.relative_to(self.output) for path in paths]
        return {
            path.as_posix(): content(self.output / path)
            for path in inside
            if not any(part.startswith(".parts") for part in path.parts)
        }


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """CT volumes, DICOM series, and predictions of targets."""
    root = tmp_path_factory.mktemp("inputs")
    for seed, name in enumerate(NAMES):
        write_volume(root / "ct" / f"{name}.nii.gz", ct(seed), GRID)
        write_volume(root / "predicted" / f"{name}.nii.gz", ct(seed) + seed + 1, GRID)
        for channel in ("condition", "target"):
            series = Volume(ct(seed) + (channel == "target"), GRID)
            write_ct_series(root / "dicom" / name / channel, series, SeriesLabel("A"), patient_id=f"P{seed // 2}")
    return root


@pytest.fixture
def make(inputs, tmp_path, make_plans):
    """A command with an output of its own."""

    def one(command, name="one"):
        raw, own = tmp_path / "raw", tmp_path / name
        folders = Folders(own, own, own)
        quiet = {"show_progress": False, "processes": 1}
        if command == "simulate":
            request = SimulateSvctRequest(
                input=(inputs / "ct",), dataset=7, name="Heads", views=9, test=("c",), **quiet
            )
            return Case(simulate_svct, request, folders, own)
        if command == "convert":
            request = ConvertDicomRequest(input=inputs / "dicom", dataset=7, channel=("CT",), **quiet)
            return Case(convert_dicom, request, folders, own)
        if command == "evaluate":
            request = EvaluateRequest(
                reference=inputs / "ct", prediction=inputs / "predicted", output=own / "summary.json", **quiet
            )
            return Case(evaluate, request, folders, own)
        if not raw.exists():
            simulate_svct(replace(one("simulate").request), Folders(raw, raw, raw))
        save_json(make_plans(), own / "Dataset007_Heads" / "plans.json")
        folders = Folders(raw, own, own)
        if command == "fingerprint":
            return Case(extract_fingerprint, ExtractFingerprintRequest(dataset=("7",), **quiet), folders, own)
        return Case(preprocess, PreprocessRequest(dataset=("7",), plans="plans", **quiet), folders, own)

    return one


@pytest.mark.parametrize("command", COMMANDS)
def test_parts_in_any_order_and_again_are_one_run(command, make, capsys):
    alone, parts = make(command, "alone"), make(command, "parts")
    alone.run(alone.request, alone.folders)
    expected = alone.files()
    capsys.readouterr()
    for part in (2, 0, 0):
        parts.part(part)
        said = capsys.readouterr().out
        missing = {2: (0, 1), 0: (1,)}[part]
        for other in range(3):  # each missing part by the command that makes it
            words = str(command_line(replace(parts.request, num_parts=3, part_id=other)))
            assert (f"{words}\n" in said) == (other in missing), said
        assert parts.files() != expected
    for part in (1, 1, 0, 2):
        parts.part(part)
        assert parts.files() == expected
        assert "missing" not in capsys.readouterr().out


@pytest.mark.parametrize("command", [*COMMANDS[:2], *(pytest.param(one, marks=pytest.mark.slow) for one in OTHERS)])
def test_two_parts_at_once_do_not_trip_over_each_other(command, make):
    alone, parts = make(command, "alone"), make(command, "parts")
    alone.run(alone.request, alone.folders)
    flags = ["--raw", str(parts.folders.raw)]
    if command in ("fingerprint", "preprocess"):
        flags += ["--preprocessed", str(parts.folders.preprocessed)]
    started = []
    for part in range(2):
        line = command_line(replace(parts.request, num_parts=2, part_id=part))
        module = line.words[0].removeprefix("gdm_")
        start = f"from gdmunet.cli.{module} import main; raise SystemExit(main())"
        words = [sys.executable, "-c", start, *line.words[1:], *flags]
        started.append(subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    said = [process.communicate(timeout=300)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    assert parts.files() == alone.files()


class NoVolume(pickle.Pickler):
    """Refuses what a scheduler must not carry: values of voxels, or bytes in their number."""

    def reducer_override(self, value):
        assert not isinstance(value, np.ndarray | torch.Tensor), type(value)
        return NotImplemented


def weight(value):
    """Bytes of a value on its way to or from a worker."""
    stream = io.BytesIO()
    NoVolume(stream).dump(value)
    return stream.tell()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_scheduler_carries_names_and_results_and_no_volume(command, make, monkeypatch):
    """Every task and every answer of a command, on their way through a scheduler that works in this process."""
    carried = {}

    def scheduler(work, items, *_):
        for index, (name, arguments) in enumerate(items):
            answer = work(*arguments)
            carried[name] = max(weight((work, arguments)), weight(answer))
            yield index, answer

    monkeypatch.setattr(workers, "run_on_scheduler", scheduler)
    case = make(command)
    with on_scheduler("tcp://nowhere"):
        case.run(replace(case.request, scheduler="tcp://nowhere"), case.folders)
    assert {name.rsplit("/", 1)[-1] for name in carried} >= set(NAMES) - {"c"}  # which is held out
    assert max(carried.values()) < ct(0).nbytes, carried


def test_the_same_part_twice_at_once_is_refused(make):
    case = make("simulate")
    with claim_number(case.output, 7, PartOptions(3, 1)):
        with pytest.raises(GdmError, match="another process builds data set 7"):
            case.part(1)
        with pytest.raises(GdmError, match="another process builds data set 7"):
            case.part(1, number=2)  # cut in another way
        case.part(0)
    case = make("preprocess", "two")
    with Claim.on_folder(case.output / "Dataset007_Heads/plans_3d_fullres", "preprocessing", PartOptions(3, 1)):
        with pytest.raises(GdmError, match="another process writes into this folder"):
            case.part(1)
        case.part(2)


def test_what_a_living_process_is_writing_stays_while_another_part_begins(make):
    case = make("simulate")
    case.part(0)
    beside = temporary_beside(case.output / "Dataset007_Heads/imagesTr/b_0000.nii.gz")
    beside.write_bytes(b"of this process, which lives")
    case.part(1)
    assert beside.is_file()


def test_a_part_with_another_number_of_parts_goes_on_from_what_is_kept(make, monkeypatch):
    case = make("evaluate")
    for part in (0, 1):
        assert isinstance(case.part(part), OpenParts)
    scored: list[str] = []
    whole = case_scores._score_files
    monkeypatch.setattr(
        case_scores, "_score_files", lambda files, *more: scored.append(files.identifier) or whole(files, *more)
    )
    case.part(1, number=2)
    assert scored == []  # b and d were scored as parts of three
    case.part(0, number=2)
    assert scored == ["c"]
    assert case.files()


def test_a_file_that_changed_is_scored_again(make, inputs, tmp_path):
    case = make("evaluate")
    shutil.copytree(inputs / "predicted", tmp_path / "mine")
    case = replace(case, request=replace(case.request, prediction=tmp_path / "mine"))
    case.part(0, number=2)
    before = case.part(1, number=2)
    write_volume(tmp_path / "mine" / "b.nii.gz", ct(1) + 100, GRID)
    assert isinstance(case.part(0, number=2), OpenParts)  # b belongs to the other part
    after = case.part(1, number=2)
    rows = [summary.cases["b"]["mae"] for summary in (before, after)]
    assert rows == [2.0, 100.0]


def test_a_damaged_record_is_made_again(make):
    case = make("evaluate")
    case.part(0, number=2)
    record = next(case.output.rglob("a.json"))
    record.write_bytes(record.read_bytes()[:20])
    assert case.part(1, number=2).cases == ("a",)
    case.part(0, number=2)
    assert (case.output / "summary.json").is_file()


def test_parts_need_cases_and_label_maps_that_are_there(inputs):
    with pytest.raises(RequestError, match="one series has no parts"):
        ConvertDicomRequest(input=inputs / "dicom", num_parts=2)
    with pytest.raises(RequestError, match="--segment makes the label maps of all cases"):
        EvaluateRequest(reference=inputs, prediction=inputs, segment="a {in} {out}", num_parts=2)


def test_there_is_no_data_set_before_all_parts_are_converted(make):
    case = make("convert")
    case.part(0, number=2)
    assert not list(case.output.glob("Dataset*"))
    assert sorted(path.stem for path in case.output.glob(".parts_*/*.json")) == ["a", "c", "e"]
    case.part(1, number=2)
    assert [path.name for path in case.output.glob("Dataset*")] == ["Dataset007_Dicom"]
    assert not list(case.output.glob(".parts_*/*/*"))  # the volumes lie in the data set
