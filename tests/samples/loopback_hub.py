"""A stand-in for a model hub on this machine's loopback: it speaks what huggingface_hub asks."""

import base64
import hashlib
import http.server
import json
import threading

import pytest
from huggingface_hub import constants

COMMIT = "c0ffee" + "0" * 34


class Hub:
    """Answers HEAD with commit, size and hash and a redirect to the content, and GET of the content with ranges.

    Attributes
    ----------
    files
        Content by path.
    requests
        (path, Range header) of every GET of content.
    refusals
        HTTP status by path, for answers that are refused.
    states_hash, supports_range
        Whether the sha256 is named, and whether a part can be asked for.
    cut_after
        Bytes after which the connection breaks once.
    made
        (repository, private) of every one that was made.
    error_codes
        X-Error-Code by path, for refusals that have one.
    refuse_after_cut
        HTTP status of all content requests after the break; None: they are served.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.refusals: dict[str, int] = {}
        self.error_codes: dict[str, str] = {}
        self.made: list[tuple[str, bool]] = []
        self.states_hash, self.supports_range = True, True
        self.cut_after: int | None = None
        self.refuse_after_cut: int | None = None
        self.was_cut = False
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.server.handle_error = lambda *_: None  # a client that turns away is no news
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def _handler(hub):  # noqa: N805 - the server's own self is needed inside
        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *arguments) -> None:
                pass

            def do_HEAD(self) -> None:
                self._answer()

            def do_GET(self) -> None:
                self._answer()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if refusal := hub.refusals.get(self.path):
                    return self.send_error(refusal)
                if self.path == "/api/repos/create":
                    asked = json.loads(body)
                    name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
                    private = asked.get("private") or asked.get("visibility") == "private"
                    hub.made.append((name, bool(private)))
                    return self._tell({"url": f"{hub.url}/{name}", "name": name})
                if self.path == "/api/validate-yaml":
                    return self._tell({"errors": [], "warnings": []})
                repository, _, what = self.path.removeprefix("/api/models/").rpartition("/main")[0].rpartition("/")
                if what == "preupload":
                    files = json.loads(body)["files"]
                    plain = {"uploadMode": "regular", "shouldIgnore": False}
                    return self._tell({"files": [{"path": one["path"], **plain} for one in files]})
                if what == "commit":
                    for line in map(json.loads, body.splitlines()):
                        if line["key"] == "file":
                            content = base64.b64decode(line["value"]["content"])
                            for revision in ("main", COMMIT):
                                hub.files[f"/{repository}/resolve/{revision}/{line['value']['path']}"] = content
                    commit = {"commitUrl": f"{hub.url}/{repository}/commit/{COMMIT}", "commitOid": COMMIT}
                    return self._tell({"success": True, **commit})
                return self.send_error(404)

            def _tell(self, value: dict) -> None:
                text = json.dumps(value).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def _answer(self) -> None:
                path = self.path.removeprefix("/content")
                content, refusal = hub.files.get(path), hub.refusals.get(path)
                if refusal and path in hub.error_codes:
                    self.send_response(refusal)
                    self.send_header("X-Error-Code", hub.error_codes[path])
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                elif refusal:
                    self.send_error(refusal)
                elif content is None:
                    self.send_response(404)
                    self.send_header("X-Error-Code", "EntryNotFound")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                elif path == self.path:
                    self._redirect(path, content)
                elif hub.was_cut and hub.refuse_after_cut:
                    self.send_error(hub.refuse_after_cut)
                else:
                    self._send(path, content)

            def _describe(self, content: bytes) -> None:
                etag = hashlib.sha256(content).hexdigest() if hub.states_hash else hashlib.md5(content).hexdigest()
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("X-Linked-Size", str(len(content)))
                self.send_header("X-Linked-ETag", f'"{etag}"')

            def _redirect(self, path: str, content: bytes) -> None:
                self.send_response(302)
                self.send_header("Location", f"{hub.url}/content{path}")
                self._describe(content)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def _send(self, path: str, content: bytes) -> None:
                asked = self.headers.get("Range")
                if self.command == "GET":
                    hub.requests.append((path, asked))
                start = int(asked.split("=")[1].split("-")[0]) if asked and hub.supports_range else 0
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                self._describe(content)  # releases of huggingface_hub differ in the answer whose headers they read
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                if self.command == "HEAD":
                    return
                if hub.cut_after and not hub.was_cut:
                    hub.was_cut = True
                    content = content[: hub.cut_after]
                self.wfile.write(content[start:])

        return Handler


@pytest.fixture
def hub(monkeypatch):
    """A running `Hub`, with downloads allowed: all other tests run offline."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hub = Hub()
    yield hub
    hub.close()
