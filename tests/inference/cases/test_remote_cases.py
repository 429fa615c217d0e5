"""Prediction from a server of objects: the files of a prediction from the folder, and nothing left of the copies."""

import gzip
import json

import fsspec
import numpy as np
import pytest
from object_store import s3, s3_server, upload  # noqa: F401 (fixtures)
from prediction_samples import SPACING, body_of, make_descriptor, make_head, make_model

from gdmunet import file_sources
from gdmunet.cli import predict
from gdmunet.errors import GdmError
from gdmunet.file_sources import RemoteSource
from gdmunet.geometry import Geometry
from gdmunet.imageio import write_volume
from gdmunet.inference.cases.remote import RemoteCases
from gdmunet.workflows.requests.declaration import RequestError
from gdmunet.workflows.requests.prediction import PredictRequest

NAMES = ("a", "b", "c")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Predicts with a small model; gives the exit status."""
    make_model(tmp_path / "results")
    monkeypatch.setenv("GDM_COPIES", str(tmp_path / "copies"))
    for seed, name in enumerate(NAMES):
        head = make_head(seed=seed)
        place = Geometry(head.shape, SPACING)
        write_volume(tmp_path / "in" / f"{name}.nii.gz", head.astype(np.int16), place)
        write_volume(tmp_path / "body" / f"{name}.nii.gz", body_of(head).astype(np.uint8), place)

    def one(source, output, *more):
        words = ["-i", str(source), "-o", str(tmp_path / output), "--results", str(tmp_path / "results")]
        return predict.main([*words, "-device", "cpu", "--no_pbar", "-step_size", "1", *map(str, more)])

    return one


def files(folder):
    """Predictions of a folder, unpacked."""
    return {path.name: gzip.decompress(path.read_bytes()) for path in sorted(folder.glob("*.nii.gz"))}


def left(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_conditions_and_masks_behind_a_url_give_the_predictions_of_the_folder(run, s3, tmp_path, capsys):  # noqa: F811
    upload(tmp_path / "in", f"{s3}/in")
    upload(tmp_path / "body", f"{s3}/body")
    assert run(tmp_path / "in", "here", "--mask", tmp_path / "body") == 0
    assert run(f"{s3}/in", "there", "--mask", f"{s3}/body") == 0
    assert sorted(files(tmp_path / "there")) == [f"{name}.nii.gz" for name in NAMES]
    assert files(tmp_path / "there") == files(tmp_path / "here")
    assert left(tmp_path / "copies") == []
    settings = json.loads((tmp_path / "there/prediction_settings.json").read_text())
    assert (settings["input_folder"], settings["mask_folder"]) == (f"{s3}/in", f"{s3}/body")
    capsys.readouterr()
    (tmp_path / "there/b.nii.gz").unlink()
    assert run(f"{s3}/in", "there", "--mask", f"{s3}/body", "--continue_prediction") == 0
    assert "predicted 1 case" in capsys.readouterr().out
    assert files(tmp_path / "there") == files(tmp_path / "here")


def test_an_object_that_stands_for_the_folder_is_not_a_file_of_it(s3, tmp_path):  # noqa: F811
    """As the pages of a cloud make one when a folder is made there."""
    store = fsspec.filesystem("s3")
    store.call_s3("put_object", Bucket="cases", Key="prepared/in/", Body=b"")
    store.pipe(f"{s3}/in/a.nii.gz", b"not read here")
    assert RemoteSource(f"{s3}/in").names("", "") == ["a.nii.gz"]
    assert RemoteCases([f"{s3}/in"], make_descriptor(), tmp_path).left_out() == []


def test_parts_and_workers_read_from_the_url(run, s3, tmp_path):  # noqa: F811
    pytest.importorskip("distributed", reason="Dask is not installed: pip install 'gdmunet[dask]'")
    upload(tmp_path / "in", f"{s3}/in")
    assert run(tmp_path / "in", "here") == 0
    for part in (1, 0):
        assert run(f"{s3}/in", "parts", "-num_parts", 2, "-part_id", part) == 0
    assert run(f"{s3}/in", "dask", "--scheduler", "local:2") == 0
    assert files(tmp_path / "parts") == files(tmp_path / "dask") == files(tmp_path / "here")
    assert left(tmp_path / "copies") == []


@pytest.fixture
def memory(tmp_path):
    """Files of a server in memory: one case, as a header with its voxels beside it, and a text."""
    store = fsspec.filesystem("memory")
    store.store.clear()
    head = make_head()
    write_volume(tmp_path / "one" / "a.mhd", head.astype(np.int16), Geometry(head.shape, SPACING))
    (tmp_path / "one/notes.txt").write_text("of the scanner")
    upload(tmp_path / "one", "memory://bucket/one")
    yield store
    store.store.clear()


@pytest.mark.usefixtures("memory")
def test_voxels_beside_a_header_are_copied_with_it_and_what_is_left_out_is_said(tmp_path):
    source = RemoteCases(["memory://bucket/one"], make_descriptor(), tmp_path / "copies")
    (case,) = source.list_cases()
    assert source.left_out() == ["memory://bucket/one: 1 volume taken, 1 file left out: notes.txt"]
    np.testing.assert_array_equal(source.read(case).conditions[0], make_head())
    assert left(tmp_path / "copies") == []


def test_a_damaged_volume_is_named_by_its_url(memory, tmp_path):
    memory.pipe("/bucket/bad/b_0000.nii.gz", b"not packed")
    source = RemoteCases(["memory://bucket/bad"], make_descriptor(), tmp_path / "copies")
    with pytest.raises(GdmError) as error:
        source.read(source.list_cases()[0])
    assert (error.value.case, str(error.value.file)) == ("b", "memory://bucket/bad/b_0000.nii.gz")
    assert left(tmp_path / "copies") == []


def test_a_server_that_is_gone_leads_on(memory, tmp_path, monkeypatch):
    source = RemoteCases(["memory://bucket/one"], make_descriptor(), tmp_path / "copies")
    (case,) = source.list_cases()
    monkeypatch.setattr(file_sources.time, "sleep", lambda _: None)
    monkeypatch.setattr(file_sources, "_open", lambda _: (_ for _ in ()).throw(ConnectionError("refused")))
    with pytest.raises(GdmError, match="does not answer") as error:
        source.read(case)
    assert error.value.case == "a"
    assert "--continue_prediction" in error.value.remedy
    assert memory.exists("/bucket/one/a.mhd")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"output": "s3://b/out"}, "a path on this machine"),
        ({"simulate": True}, "not read from a URL"),
        ({"series": ("1",)}, "not read from a URL"),
    ],
)
def test_what_has_no_url_is_refused_and_makes_no_folder_of_its_name(options, words):
    with pytest.raises(RequestError, match=words):
        PredictRequest(**{"input": "s3://b/in", "output": "out"} | options)


def test_the_url_of_one_file_is_refused(tmp_path):
    with pytest.raises(GdmError, match="a URL names a file"):
        RemoteCases(["memory://bucket/a.nii.gz"], make_descriptor(), tmp_path)
