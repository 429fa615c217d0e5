"""Weight files of public hubs: fetched by huggingface_hub, checked here, and either whole and checked or not there.

Nothing here is called during training: only planning, judges, audits and ``gdm_download_encoder`` may reach for the
network.
"""

from __future__ import annotations

import errno
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gdmunet.atomic import make_folder, move, scratch_folder
from gdmunet.consents import file_sha256
from gdmunet.encoders.weight_files import check_sha256
from gdmunet.errors import GdmError
from gdmunet.owners import sweep
from gdmunet.serialization import load_json, save_json

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata

# A machine without a network fails after this time: within it the name is looked up and the hub answers.
CONNECT_SECONDS = 8.0
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


@dataclass(frozen=True)
class HubFile:
    """A weight file on a hub.

    Attributes
    ----------
    repository, path
        ``owner/name`` and the file inside it.
    revision
        Commit that is fetched.
    megabytes
        Size (1e6 bytes), for messages.
    sha256
        Hash of the file if the source states it; else None: recorded at the first download and checked from then on.
    """

    repository: str
    path: str
    revision: str
    megabytes: int
    sha256: str | None = None

    def url(self, hub: str | None = None) -> str:
        """Address of the file; `hub` is the base address, None: ``HF_ENDPOINT``, else huggingface.co."""
        return f"{_base(hub)}/{self.repository}/resolve/{self.revision}/{self.path}"

    @property
    def name(self) -> str:
        """File name in the cache."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class DownloadOptions:
    """How a download is made.

    Attributes
    ----------
    hub
        Base address; None: ``HF_ENDPOINT``, else huggingface.co.
    show_progress
        Whether a progress bar is shown.
    connect_seconds
        Longest time until the first answer of the hub.

    Raises
    ------
    GdmError
        A time limit that is not positive.
    """

    hub: str | None = None
    show_progress: bool = True
    connect_seconds: float = CONNECT_SECONDS

    def __post_init__(self) -> None:
        if not self.connect_seconds > 0:
            raise GdmError(
                "the time limit of a download is not positive",
                found=self.connect_seconds,
                remedy="give a number of seconds above 0",
            )


@dataclass(frozen=True)
class DownloadRecord:
    """Record beside a downloaded file (``<file>.json``): its source and its hash.

    Attributes
    ----------
    stated_by_hub
        Whether the hub itself named this sha256 before the transfer.
    """

    url: str
    revision: str
    sha256: str
    size: int
    stated_by_hub: bool


def cached_file(source: HubFile, folder: Path) -> Path | None:
    """The file in `folder` if it was downloaded (or put there by hand), else None."""
    file = Path(folder) / source.name
    return file if file.is_file() else None


def read_record(file: Path) -> DownloadRecord | None:
    """The record of the download of `file`; None for a file that was put there by hand."""
    beside = _record_path(Path(file))
    return load_json(DownloadRecord, beside) if beside.is_file() else None


def expected_sha256(source: HubFile, file: Path) -> str | None:
    """The hash that a cached file must have: the pinned one, else the recorded one."""
    record = read_record(file)
    return source.sha256 or (record.sha256 if record else None)


def download(source: HubFile, folder: Path, options: DownloadOptions | None = None) -> Path:
    """Fetch a weight file into `folder`, or return the one that lies there; check its hash.

    After a failure nothing of the transfer is left, so that half a file is never taken for a whole one.

    Raises
    ------
    GdmError
        No network, the hub refuses, the disk is full, or the content is not the expected one.
    """
    options, folder = options or DownloadOptions(), Path(folder)
    file = folder / source.name
    wanted = expected_sha256(source, file)
    sweep(folder)  # also beside a whole file: a command may have been killed after its last step
    if file.is_file():
        if wanted:
            check_sha256(file, file_sha256(file), wanted, f"delete {file}, then fetch it again")
        return file
    try:
        make_folder(folder)
        # A name of this process alone: two commands that fetch the same file do not meet before the last rename.
        with scratch_folder(file) as staging:
            _transfer(source, file, wanted, staging, options)
    except GdmError:
        raise
    # huggingface_hub hands on what its transports raise, whose kinds change with its releases: no narrower base.
    except Exception as error:
        raise _failed(source, file, error, options.hub) from error
    return file


def _transfer(source: HubFile, file: Path, wanted: str | None, staging: Path, options: DownloadOptions) -> None:
    from huggingface_hub import hf_hub_download

    url, answer = source.url(options.hub), _first_answer(source, options)
    # The ETag of a large file is its sha256.
    stated = answer.etag if answer.etag and re.fullmatch("[0-9a-f]{64}", answer.etag) else None
    if wanted and stated:
        check_sha256(file, stated, wanted, f"the hub offers other content at {url}: report it, do not use it")
    with _progress_bars(options.show_progress):
        fetched = Path(
            hf_hub_download(
                source.repository,
                source.path,
                revision=source.revision,
                local_dir=staging,
                endpoint=options.hub,
                etag_timeout=options.connect_seconds,
            )
        )
    sha256 = file_sha256(fetched)
    if known := wanted or stated:
        check_sha256(file, sha256, known, "run the command again; if it happens again, the hub's file was changed")
    record = DownloadRecord(url, answer.commit_hash or source.revision, sha256, fetched.stat().st_size, bool(stated))
    save_json(record, _record_path(file))
    move(fetched, file)


def _first_answer(source: HubFile, options: DownloadOptions) -> HfFileMetadata:
    """The hub's answer about the file, within the time limit.

    Looking up the hub's name has no time limit of its own, so a thread asks and is abandoned if it is late.
    """
    from huggingface_hub import get_hf_file_metadata

    answers: list[HfFileMetadata | Exception] = []

    def ask() -> None:
        try:
            # The thread's own limit is longer: the one below is told in words.
            answers.append(get_hf_file_metadata(source.url(options.hub), timeout=2 * options.connect_seconds))
        except Exception as error:  # handed to the caller's thread
            answers.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(options.connect_seconds)
    if not answers:
        raise TimeoutError(f"no answer within {options.connect_seconds:g} s")
    if isinstance(answers[0], Exception):
        raise answers[0]
    return answers[0]


@contextmanager
def _progress_bars(show: bool) -> Iterator[None]:
    """Let huggingface_hub show its bars, or not; the switch is the whole process's and goes back where it was."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if show or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def _base(hub: str | None) -> str:
    if hub is not None:
        return hub.rstrip("/")
    from huggingface_hub.constants import ENDPOINT

    return ENDPOINT


def _record_path(file: Path) -> Path:
    return file.with_name(file.name + ".json")


def _failed(source: HubFile, file: Path, error: Exception, hub: str | None) -> GdmError:
    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
        return GdmError(
            f"cannot write {file.name}: {error.strerror or error}",
            file=file,
            remedy="free disk space, or choose another cache folder with GDM_ENCODERS",
        )
    status = getattr(getattr(error, "response", None), "status_code", None)
    remedy = (
        f"on a machine with a network: curl -L -o {source.name} {source.url(hub)}; "
        f"then put it at {file}, or name it with --encoder-path {source.name}"
    )
    if status in (401, 403):
        page = f"{_base(hub)}/{source.repository}"
        remedy = f"read the terms at {page}, log in with: hf auth login, then run the command again; or {remedy}"
    reason = f"the hub answered {status}" if status else (str(error).splitlines() or [type(error).__name__])[0]
    return GdmError(
        f"{source.name} could not be downloaded: {reason}", file=file, expected=source.url(hub), remedy=remedy
    )
