"""A DICOM node: it receives a series, predicts, and sends the synthetic CT (and its structure sets) on.

One case is worked on at a time; what comes meanwhile waits on the disk, up to a limit. Only known titles may connect,
and none but this machine unless an address is given. Protocol: DICOM PS3.4, storage service (C-STORE) and verification
(C-ECHO).
"""

from __future__ import annotations

import queue
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pydicom
from pydicom.uid import RTStructureSetStorage

from gdmunet.atomic import atomic_path, make_folder
from gdmunet.dicom.image_classes import CLASSES
from gdmunet.errors import GdmError

# Statuses of the standard's storage service (PS3.4, B.2.3 and PS3.7, C).
_SUCCESS, _OUT_OF_RESOURCES, _NOT_UNDERSTOOD = 0x0000, 0xA700, 0xC000
_RECEIVED = (*CLASSES, RTStructureSetStorage)
_TITLE_LENGTH = 16
Predict = Callable[[Path, str], Iterable[Path]]
"""Folder of a received study and the case's name, to the files that are sent on."""


@dataclass(frozen=True)
class Peer:
    """The node that predictions are sent to."""

    host: str
    port: int
    title: str

    @classmethod
    def parse(cls, text: str) -> Peer:
        """The peer that ``HOST:PORT:AET`` names (ValueError: another text)."""
        host, _, rest = text.partition(":")
        port, _, title = rest.partition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 1 << 16 or not 0 < len(title) <= _TITLE_LENGTH:
            raise ValueError(f"{text!r} is not HOST:PORT:AET")
        return cls(host, int(port), title)


@dataclass(frozen=True)
class NodeOptions:
    """Options of a node.

    Attributes
    ----------
    send
        Node that gets the predictions.
    folder
        Folder that received files lie in until their case is done.
    port, address
        Port and address that are listened on; the address of this machine alone by default.
    title
        Application entity title of the node.
    allowed
        Titles that may connect.
    most_bytes
        Most bytes of received files that wait; what would exceed them is refused.
    quiet_seconds
        Time without a further file of a study after which it is complete, once no association is open.
    """

    send: Peer
    folder: Path
    allowed: tuple[str, ...]
    port: int = 11112
    address: str = "127.0.0.1"
    title: str = "GDMUNET"
    most_bytes: float = 4e9
    quiet_seconds: float = 5.0

    def __post_init__(self) -> None:
        if not self.allowed:
            raise GdmError("no title may connect", remedy="name those that may with --allow")


@dataclass
class _Study:
    """The files of a study that have come, and when the last one did."""

    folder: Path
    last: float
    bytes: int = 0
    files: int = 0


@dataclass(frozen=True)
class CaseReport:
    """What became of a case: the number of files sent, or the reason why it failed."""

    case: str
    sent: int = 0
    failure: str | None = None

    def __str__(self) -> str:
        return f"{self.case}: failed: {self.failure}" if self.failure else f"{self.case}: {self.sent} files sent"


@dataclass
class DicomNode:
    """Receives, predicts and sends, from `__enter__` to `__exit__`.

    Parameters
    ----------
    options
        Options of the node.
    predict
        Function that makes the files to send; what it raises is the reason of a failed case.
    report
        Function that is told what became of each case.
    """

    options: NodeOptions
    predict: Predict
    report: Callable[[CaseReport], None]
    _studies: dict[str, _Study] = field(default_factory=dict)
    _ready: queue.Queue[_Study | None] = field(default_factory=queue.Queue)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _waiting: int = 0
    _count: int = 0

    def __enter__(self) -> Self:
        ae = _entity(self.options.title)
        ae.require_called_aet = True
        ae.require_calling_aet = list(self.options.allowed)
        for uid in _RECEIVED:
            ae.add_supported_context(uid)
        ae.add_supported_context("1.2.840.10008.1.1")  # verification, C-ECHO
        from pynetdicom import evt

        make_folder(self.options.folder)
        try:
            self._server: Any = ae.start_server(
                (self.options.address, self.options.port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
            )
        except OSError as error:
            raise GdmError(
                "the node cannot listen",
                found=f"{self.options.address}:{self.options.port}: {error.strerror or error}",
                remedy="give a free port with --port, and an address of this machine with --address",
            ) from error
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._watch, self._work)]
        for thread in self._threads:
            thread.start()
        return self

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.socket.getsockname()[1])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._stopped.set()
        self._ready.put(None)
        for thread in self._threads:
            thread.join()
        for study in self._studies.values():
            shutil.rmtree(study.folder, ignore_errors=True)

    def _store(self, event: Any) -> int:
        """Keep a file that comes, if there is room for it; gives the status of the answer."""
        content = bytes(event.request.DataSet.getvalue())
        with self._lock:
            if self._waiting + len(content) > self.options.most_bytes:
                return _OUT_OF_RESOURCES
            self._waiting += len(content)
        try:
            image = event.dataset
            image.file_meta = event.file_meta
            key = f"{event.assoc.requestor.ae_title}/{image.StudyInstanceUID}"
        except Exception:  # whatever a foreign file makes the reader raise
            with self._lock:
                self._waiting -= len(content)
            return _NOT_UNDERSTOOD
        with self._lock:
            study = self._studies.get(key)
            if study is None:
                self._count += 1
                folder = self.options.folder / f"case_{self._count:04d}_{uuid.uuid4().hex[:12]}"
                study = self._studies.setdefault(key, _Study(folder, time.monotonic()))
            study.files, study.bytes, study.last = study.files + 1, study.bytes + len(content), time.monotonic()
            try:
                make_folder(study.folder)
                # The name is a number: nothing of a foreign file is a part of a path.
                with atomic_path(study.folder / f"{study.files:06d}.dcm") as temporary:
                    pydicom.dcmwrite(temporary, image, enforce_file_format=True)
            except GdmError:  # the disk is full; what came before stays counted until its case is done
                return _OUT_OF_RESOURCES
        return _SUCCESS

    def _watch(self) -> None:
        """Hand over a study that has been quiet."""
        while not self._stopped.wait(min(0.2, self.options.quiet_seconds / 4)):
            with self._lock:
                if self._server.active_associations:
                    continue
                now = time.monotonic()
                for key in [key for key, one in self._studies.items() if now - one.last > self.options.quiet_seconds]:
                    self._ready.put(self._studies.pop(key))

    def _work(self) -> None:
        """One case after the other; a failed one is reported and does not end the node."""
        while (study := self._ready.get()) is not None:
            case = study.folder.name.rpartition("_")[0]
            try:
                files = list(self.predict(study.folder, case))
                done = CaseReport(case, send_files(files, self.options.send, self.options.title))
            except GdmError as error:
                done = CaseReport(case, failure=error.one_line())
            except Exception as error:  # a fault of one case is not the end of the node
                done = CaseReport(case, failure=f"{type(error).__name__}: {error}")
            finally:
                shutil.rmtree(study.folder, ignore_errors=True)
                with self._lock:
                    self._waiting -= study.bytes
            self.report(done)


def send_files(files: Iterable[Path], peer: Peer, title: str) -> int:
    """Send files in one association, and give their number.

    Raises
    ------
    GdmError
        The peer does not answer, or refuses a file; names its status.
    """
    images = [pydicom.dcmread(file) for file in files]
    ae = _entity(title)
    for uid, syntax in sorted({(one.SOPClassUID, one.file_meta.TransferSyntaxUID) for one in images}):
        ae.add_requested_context(uid, syntax)
    association = ae.associate(peer.host, peer.port, ae_title=peer.title)
    place = f"{peer.host}:{peer.port}:{peer.title}"
    if not association.is_established:
        remedy = "check --send, and that the receiver knows the title of this node"
        raise GdmError("the receiver does not take the connection", found=place, remedy=remedy)
    try:
        for image in images:
            answer = association.send_c_store(image)
            status = getattr(answer, "Status", None)
            if status is None or (status != _SUCCESS and status >> 12 != 0xB):  # 0xBxxx: a warning, and stored
                found = f"{place}: {'no answer' if status is None else f'status {status:#06x}'}"
                raise GdmError("the receiver refused an image", found=found, remedy="see the receiver's log")
    finally:
        association.release()
    return len(images)


def _entity(title: str) -> Any:
    try:
        from pynetdicom.ae import ApplicationEntity
    except ImportError as error:
        raise GdmError(
            "a DICOM node needs a package that is not installed",
            found=str(error),
            remedy='pip install "gdmunet[node]"',
        ) from error
    return ApplicationEntity(ae_title=title)
