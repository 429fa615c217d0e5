"""Two jobs on one folder from two hosts: the second is refused while the first is alive, and takes over then."""

import os
import time

import numpy as np
import pytest
from prediction_samples import SPACING, make_head, make_model
from test_preprocess import prepare  # noqa: F401 (a fixture)
from test_train import folders, request  # noqa: F401

from gdmunet.claims import CLAIM_FILE, STALE_SECONDS, ClaimSpec
from gdmunet.errors import GdmError
from gdmunet.geometry import Geometry
from gdmunet.imageio import write_volume
from gdmunet.owners import Owner
from gdmunet.paths import Folders
from gdmunet.serialization import save_json
from gdmunet.workflows.predict import predict
from gdmunet.workflows.requests.prediction import PredictRequest
from gdmunet.workflows.train import train
from gdmunet.workflows.training_run import Run

ELSEWHERE = ClaimSpec(Owner("another-host", "another boot", 7, 12345), "a" * 32, "of the other host")


def claimed(file, age):
    """A claim of another host, whose last sign of life is `age` seconds old."""
    save_json(ELSEWHERE, file)
    os.utime(file, (time.time() - age,) * 2)


def check(work, file, capsys):
    """Refused at nine minutes, done at eleven."""
    claimed(file, STALE_SECONDS - 60)
    with pytest.raises(GdmError, match=r"another process|another-host") as error:
        work()
    assert "process 7 on another-host: of the other host" in str(error.value)
    assert file.is_file()
    claimed(file, STALE_SECONDS + 60)
    done = work()
    assert "is taken over; it was of process 7 on another-host" in capsys.readouterr().out
    assert not file.exists()
    return done


def test_a_fold(folders, capsys):  # noqa: F811
    asked = request(fold="all")
    assert check(lambda: train(asked, folders), Run.of(asked, folders).folder.running, capsys).is_dir()


def test_a_store_of_prepared_cases(prepare, tmp_path, capsys):  # noqa: F811
    done = check(prepare, tmp_path / "prepared/plans_3d_fullres" / CLAIM_FILE, capsys)
    assert len(done.prepared) == 3


def test_an_output_folder_of_a_prediction(tmp_path, capsys):
    make_model(tmp_path / "results")
    head = make_head()
    write_volume(tmp_path / "in" / "a_0000.nii.gz", head.astype(np.int16), Geometry(head.shape, SPACING))
    asked = PredictRequest(
        input=(tmp_path / "in",), output=tmp_path / "out", device="cpu", show_progress=False, step_size=1.0
    )
    places = Folders(tmp_path / "raw", tmp_path / "pre", tmp_path / "results")
    done = check(lambda: predict(asked, places), tmp_path / "out" / CLAIM_FILE, capsys)
    assert list(done.predicted) == ["a"]
