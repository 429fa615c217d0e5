"""Weight files of public hubs: a cache folder, and downloads that are either whole and checked or not there.

Nothing here is called during training: only planning and ``gdm_download_encoder`` may reach for the network.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

from gdmunet.errors import CommandLine, GdmError
from gdmunet.progress import Progress
from gdmunet.serialization import load_json, save_json

HUB = "https://huggingface.co"
# A machine without network must learn so quickly: names are looked up and the hub answers within this time, or not.
CONNECT_SECONDS = 8.0
_READ_SECONDS = 60.0
_BLOCK = 1 << 20


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
        Where a source states it; else None: recorded at the first download and checked from then on.
    """

    repository: str
    path: str
    revision: str
    megabytes: int
    sha256: str | None = None

    def url(self, hub: str = HUB) -> str:
        """Where the file is fetched from."""
        return f"{hub}/{self.repository}/resolve/{self.revision}/{self.path}"

    @property
    def name(self) -> str:
        """File name in the cache."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class DownloadRecord:
    """What lies beside a downloaded file (``<file>.json``): where it came from and what it must stay.

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
    """What was recorded when `file` was downloaded; None for a file that was put there by hand."""
    beside = _record_path(Path(file))
    return load_json(DownloadRecord, beside) if beside.is_file() else None


def expected_sha256(source: HubFile, file: Path) -> str | None:
    """The hash that a cached file must have: the pinned one, else the recorded one."""
    record = read_record(file)
    return source.sha256 or (record.sha256 if record else None)


def file_sha256(file: Path) -> str:
    """sha256 of a file, hexadecimal."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_sha256(file: Path, found: str, expected: str, remedy: str, command: CommandLine | None = None) -> None:
    """Refuse a file whose hash is not the expected one."""
    if found != expected:
        raise GdmError(
            "the weights are not the expected ones",
            file=file,
            found=found,
            expected=expected,
            remedy=remedy,
            command=command,
        )


def download(source: HubFile, folder: Path, *, show_progress: bool = True, hub: str = HUB) -> Path:
    """Fetch a weight file into `folder`, or return the one that lies there; check its hash.

    An interrupted transfer goes on where it stopped, as long as the hub still offers the same content.

    Raises
    ------
    GdmError
        No network, the hub refuses, the disk is full, or the content is not the expected one.
    """
    folder = Path(folder)
    file = folder / source.name
    wanted = expected_sha256(source, file)
    if file.is_file():
        if wanted:
            check_sha256(file, file_sha256(file), wanted, f"delete {file}, then fetch it again")
        return file
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _transfer(source, file, wanted, show_progress, hub)
    except urllib.error.HTTPError as error:
        raise _failed(source, file, f"the hub answered {error.code} {error.reason}", hub) from error
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise _failed(
            source, file, str(getattr(error, "reason", None) or error or type(error).__name__), hub
        ) from error
    except OSError as error:
        raise GdmError(
            f"cannot write {file.name}: {error.strerror or error}",
            file=file,
            remedy="free disk space, or choose another cache folder with GDM_ENCODERS",
        ) from error


def _transfer(source: HubFile, file: Path, wanted: str | None, show_progress: bool, hub: str) -> Path:
    url = source.url(hub)
    answer = _open(url)
    stated = answer.stated_sha256
    if wanted and stated and stated != wanted:
        answer.close()
        check_sha256(file, stated, wanted, f"the hub offers other content at {url}: report it, do not use it")
    # Named by the content: a half file of other content is never continued.
    partial = file.with_name(f".part-{(wanted or stated or 'unknown')[:16]}-{file.name}")
    known = wanted or stated
    have = partial.stat().st_size if known and partial.is_file() else 0
    if have != answer.length:
        if have:
            answer.close()
            answer = _open(url, {"Range": f"bytes={have}-"})
            have = have if answer.status == 206 else 0
        _receive(answer, partial, have, source, show_progress)
    answer.close()
    found = file_sha256(partial)
    if known and found != known:
        partial.unlink()
        check_sha256(file, found, known, "run the command again; if it happens again, the hub's file was changed")
    record = DownloadRecord(url, answer.commit or source.revision, found, partial.stat().st_size, stated == found)
    save_json(record, _record_path(file))
    partial.replace(file)
    return file


def _receive(answer: _Answer, partial: Path, have: int, source: HubFile, show_progress: bool) -> None:
    total = have + answer.length if answer.length is not None else source.megabytes * 1_000_000
    title = f"downloading {source.name} (MB)"
    with (
        Progress(title, max(1, round(total / 1e6)), show_progress) as progress,
        open(partial, "ab" if have else "wb") as out,
    ):
        done = have
        shown = 0
        while block := answer.stream.read(_BLOCK):
            out.write(block)
            done += len(block)
            if (count := int(done / 1e6) - shown) > 0:
                progress.step(count=count)
                shown += count
        out.flush()
        os.fsync(out.fileno())
    if answer.length is not None and done != total:
        raise ConnectionError(f"the connection broke after {done / 1e6:.0f} of {total / 1e6:.0f} MB")


@dataclass
class _Answer:
    """An open response, with what the hub said of the file on the way to it."""

    stream: Any
    said: list[Message]

    @property
    def status(self) -> int:
        return int(self.stream.status)

    @property
    def length(self) -> int | None:
        text = self.stream.headers.get("Content-Length")
        return int(text) if text else None

    @property
    def stated_sha256(self) -> str | None:
        """The hub names the sha256 of large files in a header (the content's ETag)."""
        text = self._header("X-Linked-ETag").strip('"').removeprefix("W/").strip('"').lower()
        return text if len(text) == 64 and set(text) <= set("0123456789abcdef") else None

    @property
    def commit(self) -> str | None:
        return self._header("X-Repo-Commit") or None

    def close(self) -> None:
        self.stream.close()

    def _header(self, name: str) -> str:
        return next((str(headers[name]) for headers in self.said if headers.get(name)), "")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Keeps the headers of every redirect: the hub names commit and hash there, not in the final answer."""

    def __init__(self) -> None:
        self.said: list[Message] = []

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        self.said.append(headers)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(url: str, headers: dict[str, str] | None = None) -> _Answer:
    """Open `url`; looking up the name has no time limit of its own, so a thread does it and is left alone if late."""
    redirects = _Redirects()
    result: list[Any] = []

    def work() -> None:
        try:
            request = urllib.request.Request(url, headers={"User-Agent": "gdmunet", **(headers or {})})
            result.append(urllib.request.build_opener(redirects).open(request, timeout=_READ_SECONDS))
        except Exception as error:  # handed to the caller's thread
            result.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(CONNECT_SECONDS)
    if not result:
        raise TimeoutError(f"no answer within {CONNECT_SECONDS:.0f} s")
    if isinstance(result[0], Exception):
        raise result[0]
    return _Answer(result[0], [*redirects.said, result[0].headers])


def _record_path(file: Path) -> Path:
    return file.with_name(file.name + ".json")


def _failed(source: HubFile, file: Path, reason: str, hub: str) -> GdmError:
    return GdmError(
        f"{source.name} could not be downloaded: {reason}",
        file=file,
        expected=source.url(hub),
        remedy=f"on a machine with network: curl -L -o {source.name} {source.url(hub)}; "
        f"then put it at {file}, or name it with --encoder-path {source.name}",
    )
