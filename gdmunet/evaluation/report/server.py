"""The page with whole volumes: a web server for this machine alone, behind a secret path."""

from __future__ import annotations

import json
import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from gdmunet.errors import GdmError
from gdmunet.evaluation.report.cases import KINDS, LoadedCase, load_case, slices_of, volume_of
from gdmunet.evaluation.report.content import ReportContent, worst_and_best
from gdmunet.evaluation.report.page import VIEWER, asset, page_text
from gdmunet.metrics import DECIDING, metric_of_cases

HOST = "127.0.0.1"
_KEPT_CASES = 2


class ReportServer(ThreadingHTTPServer):
    """Serves one page and its volumes on the loopback interface.

    Everything lies under a random path (`address`), so that other users of the machine cannot read it, and requests
    under another host's name are refused, so that no web page elsewhere can. Volumes are found by number: no path of
    a request ever becomes a path of a file.

    Parameters
    ----------
    port
        0: any free one.
    metric
        Name of the metric that decides which cases are the worst and the best.
    """

    daemon_threads = True

    def __init__(self, content: ReportContent, port: int = 0, metric: str = DECIDING) -> None:
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise GdmError(f"cannot listen on port {port}: {error.strerror}", remedy="give another --port") from error
        self.secret = secrets.token_urlsafe(16)
        self.page = page_text(content, metric_of_cases(metric), server=True).encode()
        self.files = {files.identifier: files for files in content.files}
        self.order = worst_and_best(content, metric_of_cases(metric))
        self._cases: OrderedDict[int, LoadedCase] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def address(self) -> str:
        """Address of the page."""
        return f"http://{HOST}:{self.server_port}/{self.secret}/"

    def case(self, number: int) -> LoadedCase:
        """The volumes of a case; the last ones asked for are kept, because a page asks for four of each."""
        with self._lock:
            if number not in self._cases:
                self._cases[number] = load_case(self.files[self.order[number]])
                while len(self._cases) > _KEPT_CASES:
                    self._cases.popitem(last=False)
            self._cases.move_to_end(number)
            return self._cases[number]


class _Handler(BaseHTTPRequestHandler):
    server: ReportServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer the page, the viewer's code, the slices or one volume of a case."""
        if self.headers.get("Host") not in (
            f"{HOST}:{self.server.server_port}",
            f"localhost:{self.server.server_port}",
        ):
            return self._send(403, "text/plain", b"wrong host")
        start = f"/{self.server.secret}/"
        if not secrets.compare_digest(self.path[: len(start)].encode(), start.encode()):
            return self._send(404, "text/plain", b"not found")
        rest = self.path[len(start) :]
        for pattern, answer in _ROUTES.items():
            match = re.fullmatch(pattern, rest)
            if match:
                return self._answer(answer, *match.groups())
        return self._send(404, "text/plain", b"not found")

    def log_message(self, format: str, *arguments: Any) -> None:
        """Write nothing: the terminal shows only the address."""

    def _answer(self, answer: Callable[..., tuple[str, bytes] | None], *words: str) -> None:
        try:
            reply = answer(self.server, *words)
        except GdmError as error:
            return self._send(500, "text/plain; charset=utf-8", str(error).encode())
        if reply is None:
            return self._send(404, "text/plain", b"not found")
        return self._send(200, *reply)

    def _send(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()
        self.wfile.write(content)


def _page(server: ReportServer) -> tuple[str, bytes]:
    return "text/html; charset=utf-8", server.page


def _code(_server: ReportServer) -> tuple[str, bytes]:
    return "text/javascript; charset=utf-8", asset(VIEWER).encode()


def _slices(server: ReportServer, number: str) -> tuple[str, bytes] | None:
    if not _known(server, number):
        return None
    try:
        shown = slices_of(server.case(int(number)))
    except GdmError as error:
        shown = {"problem": error.one_line()}
    return "application/json", json.dumps(shown).encode()


def _volume(server: ReportServer, number: str, kind: str, trainer: str | None) -> tuple[str, bytes] | None:
    if not _known(server, number):
        return None
    case = server.case(int(number))
    labels = list(case.predictions)
    place = int(trainer or 0)
    if place >= len(labels) or (kind == "condition" and case.condition is None):
        return None
    return "application/gzip", volume_of(case, kind, labels[place])


def _known(server: ReportServer, number: str) -> bool:
    return int(number) < len(server.order) and server.order[int(number)] in server.files


_ROUTES: dict[str, Callable[..., tuple[str, bytes] | None]] = {
    "": _page,
    re.escape(VIEWER): _code,
    r"slices/(\d{1,6})": _slices,
    rf"volume/(\d{{1,6}})/({'|'.join(KINDS)})(?:-(\d{{1,3}}))?": _volume,
}
