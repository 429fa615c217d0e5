"""A DICOM node: real associations on loopback, by pynetdicom and by dcmtk."""

import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_samples import PATIENT_ID, make_series, make_structures
from prediction_samples import make_model

pytest.importorskip("pynetdicom")
from pynetdicom import AE, evt
from pynetdicom.sop_class import CTImageStorage, RTStructureSetStorage, Verification

from gdmunet.dicom.node import send_files
from gdmunet.errors import GdmError
from gdmunet.paths import Folders
from gdmunet.workflows.listen import listen
from gdmunet.workflows.requests.declaration import RequestError
from gdmunet.workflows.requests.node import ListenRequest

# pynetdicom leaves the socket of a refused connection to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
SPACING = (2.0, 1.0, 1.0)
# pynetdicom installs commands of the same names into the environment.
STORESCU, STORESCP = (shutil.which(name, path="/usr/bin:/usr/local/bin") for name in ("storescu", "storescp"))


class Archive:
    """The receiver of predictions: a storage provider that keeps what it gets."""

    def __init__(self):
        self.received = []
        entity = AE(ae_title="ARCHIVE")
        for uid in (CTImageStorage, RTStructureSetStorage):
            entity.add_supported_context(uid)
        self.server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self.keep)])
        self.port = self.server.socket.getsockname()[1]

    def keep(self, event):
        self.received.append(event.dataset)
        return 0

    def of(self, modality):
        return [one for one in self.received if one.Modality == modality]


class Reports(list):
    """What became of the cases, with a way to wait for them."""

    def __init__(self):
        super().__init__()
        self.came = threading.Condition()

    def take(self, report):
        with self.came:
            self.append(report)
            self.came.notify_all()

    def wait(self, number):
        with self.came:
            assert self.came.wait_for(lambda: len(self) >= number, 60)
        return self


@pytest.fixture
def archive():
    archive = Archive()
    yield archive
    archive.server.shutdown()


@pytest.fixture
def node(tmp_path, archive):
    """A running node and its reports."""
    with start(tmp_path, archive) as node:
        yield node


def start(tmp_path, archive, **options):
    asked = {
        "send": f"127.0.0.1:{archive.port}:ARCHIVE",
        "allow": ("SCANNER",),
        "model": make_model(tmp_path / "results"),
        "port": 0,
        "address": "127.0.0.1",
        "rtstruct": "copy",
        "folder": tmp_path / "received",
        "quiet": 0.3,
        "accept": ("size",),
        **options,
    }
    node = listen(ListenRequest(**asked), Folders(*(tmp_path / name for name in ("a", "b", "c", "d"))))
    node.reports = Reports()
    node.report = node.reports.take
    return node


def head_series(folder, description="Head"):
    """A CT of a ball, in whole stored numbers."""
    from prediction_samples import make_head

    make_series(folder, (make_head() + 1024).astype(np.int16), spacing=SPACING, description=description)
    return sorted(folder.iterdir())


def send(node, files, title="SCANNER"):
    entity = AE(ae_title=title)
    entity.add_requested_context(CTImageStorage)
    entity.add_requested_context(RTStructureSetStorage)
    entity.add_requested_context(Verification)
    association = entity.associate("127.0.0.1", node.port, ae_title="GDMUNET")
    if not association.is_established:
        return None
    try:
        return [association.send_c_store(pydicom.dcmread(file)).Status for file in files]
    finally:
        association.release()


def test_a_series_and_its_structures_come_back_as_a_synthetic_ct(tmp_path, node, archive):
    files = head_series(tmp_path / "in")
    images = [pydicom.dcmread(file) for file in files]
    first = images[5]
    corners = np.array([[4, 4, 0], [9, 4, 0], [9, 9, 0]]) + np.array(first.ImagePositionPatient)
    make_structures(tmp_path / "rs.dcm", tmp_path / "in", {"A": {first.SOPInstanceUID: corners}})
    assert set(send(node, [*files, tmp_path / "rs.dcm"])) == {0}
    [report] = node.reports.wait(1)
    assert report.failure is None
    assert report.sent == len(files) + 1
    made, [structures] = archive.of("CT"), archive.of("RTSTRUCT")
    assert {one.StudyInstanceUID for one in made} == {first.StudyInstanceUID}
    assert {one.PatientID for one in made} == {PATIENT_ID}
    assert {one.Manufacturer for one in made} == {"gdmunet"}
    [contour] = structures.ROIContourSequence[0].ContourSequence
    assert contour.ContourImageSequence[0].ReferencedSOPInstanceUID in {one.SOPInstanceUID for one in made}
    assert not any(file.is_file() for file in (tmp_path / "received").rglob("*"))  # nothing of the patient stays


def test_a_failed_case_says_why_and_the_next_one_is_served(tmp_path, node, archive):
    files = head_series(tmp_path / "gap")
    positions = sorted(files, key=lambda file: pydicom.dcmread(file).ImagePositionPatient[2])
    assert send(node, [file for file in files if file != positions[7]])
    node.reports.wait(1)
    assert send(node, head_series(tmp_path / "whole"))
    failed, served = node.reports.wait(2)
    assert "do not form a regular grid" in failed.failure
    assert PATIENT_ID not in str(failed)
    assert served.failure is None
    assert len(archive.received) == served.sent


def test_only_known_titles_connect(node):
    assert send(node, [], title="STRANGER") is None
    assert send(node, [], title="SCANNER") == []


def test_the_disk_is_bounded(tmp_path, archive):
    with start(tmp_path, archive, most=5e-6) as node:  # 5000 bytes
        statuses = send(node, head_series(tmp_path / "in"))
        assert statuses[0] == 0
        assert 0xA700 in statuses
        kept = sum(file.stat().st_size for file in (tmp_path / "received").rglob("*.dcm"))
        assert kept < 3 * 5000
        node.reports.wait(1)


def test_a_receiver_that_is_away_is_a_failure(tmp_path, archive):
    with start(tmp_path, archive, send="127.0.0.1:1:NOBODY") as node:
        send(node, head_series(tmp_path / "in"))
        [report] = node.reports.wait(1)
        assert "does not take the connection" in report.failure


def start_storescp(folder: Path) -> tuple[subprocess.Popen, int]:
    """DCMTK's receiver once it takes connections; a port that another program took meanwhile is left for another."""
    for _ in range(10):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        receiver = subprocess.Popen([STORESCP, "-aet", "DCMTK", "-od", str(folder), str(port)])
        while receiver.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return receiver, port
    raise RuntimeError("storescp found no port")


@pytest.mark.skipif(not (STORESCU and STORESCP), reason="storescu (Debian dcmtk) is not there")
def test_dcmtk_sends_and_receives(tmp_path, archive):
    head_series(tmp_path / "in")
    (tmp_path / "out").mkdir()
    receiver, port = start_storescp(tmp_path / "out")
    try:
        with start(tmp_path, archive, send=f"127.0.0.1:{port}:DCMTK") as node:
            words = [STORESCU, "-aet", "SCANNER", "-aec", "GDMUNET", "+sd", "127.0.0.1", str(node.port)]
            subprocess.run([*words, str(tmp_path / "in")], check=True, capture_output=True)
            [report] = node.reports.wait(1)
    finally:
        receiver.terminate()
        receiver.wait()
    assert report.failure is None
    assert len(list((tmp_path / "out").iterdir())) == report.sent == 20


@pytest.mark.parametrize("send_to", ["archive", "archive:104", "archive:0:A", "archive:x:A", f"archive:104:{'A' * 17}"])
def test_a_receiver_that_is_not_a_node_is_refused(send_to):
    with pytest.raises(RequestError):
        ListenRequest(send=send_to, allow=("SCANNER",))


def test_files_that_no_receiver_takes_are_an_error(tmp_path):
    from gdmunet.dicom.node import Peer

    files = head_series(tmp_path / "in")[:1]
    with pytest.raises(GdmError, match="does not take the connection"):
        send_files(files, Peer("127.0.0.1", 1, "NOBODY"), "GDMUNET")
