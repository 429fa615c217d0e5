"""A stand-in for a model hub on this machine's loopback, units of volumes, and encoders of our own for tests."""

import hashlib
import http.server
import threading
from pathlib import Path

import pytest
import torch

from gdmunet.encoders.base import VolumeUnits
from gdmunet.plans import NormalizationSpec

OWN_ENCODER = """
import torch
from torch import nn
from gdmunet.encoders.base import FrozenEncoder
from gdmunet.plans import EncoderLevel


class Own(FrozenEncoder):
    window = (-500.0, 500.0)
    licence = "CC0"

    def __init__(self, units, dimensions, seed):
        levels = (EncoderLevel("fine", 4, (2,) * dimensions),)
        super().__init__(levels, units, dimensions=dimensions, divisor=2)
        torch.manual_seed(seed)
        self.convolution = (nn.Conv3d if dimensions == 3 else nn.Conv2d)(1, 4, 3, stride=2, padding=1)

    def scale(self, raw):
        return raw.clamp(-500, 500) / 500

    def features(self, volume):
        return [self.convolution(volume)]


def factory(file, units, dimensions, trust_checkpoint):
    return Own(units, dimensions, seed=0)


def other(file, units, dimensions, trust_checkpoint):
    return Own(units, dimensions, seed=1)


def wrong(file, units, dimensions, trust_checkpoint):
    return nn.Identity()
"""


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def own_encoder(tmp_path) -> Path:
    """A Python file with the factories ``factory``, ``other`` and ``wrong``."""
    file = tmp_path / "own_encoder.py"
    file.write_text(OWN_ENCODER)
    return file


@pytest.fixture
def ct_units() -> VolumeUnits:
    return VolumeUnits(NormalizationSpec("affine", (-1024.0, 3071.0), -200.0, 400.0), -1000.0, "CT")


@pytest.fixture
def mr_units() -> VolumeUnits:
    return VolumeUnits(NormalizationSpec("affine", (0.0, 900.0), 300.0, 120.0), 0.0, "T1")


class Hub:
    """A loopback server that answers as a hub does: a redirect that names commit and hash, then the content.

    Attributes
    ----------
    files
        Content by path.
    requests
        (path, Range header) of every content request.
    states_hash, cut_after, supports_range
        Whether the hash is named; bytes after which the connection breaks once; whether a part can be asked for.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.states_hash, self.supports_range = True, True
        self.cut_after: int | None = None
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.server.handle_error = lambda *arguments: None  # a client that turns away is no news
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def _handler(hub):  # noqa: N805 - the server's own self is needed inside
        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *arguments) -> None:
                pass

            def do_GET(self) -> None:
                path = self.path.removeprefix("/content")
                content = hub.files.get(path)
                if content is None:
                    self.send_error(404)
                elif path == self.path:
                    self.send_response(302)
                    self.send_header("Location", "/content" + path)
                    self.send_header("X-Repo-Commit", "c0ffee")
                    if hub.states_hash:
                        self.send_header("X-Linked-ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                else:
                    self._send(path, content)

            def _send(self, path: str, content: bytes) -> None:
                asked = self.headers.get("Range")
                hub.requests.append((path, asked))
                start = int(asked.split("=")[1].rstrip("-")) if asked and hub.supports_range else 0
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                cut, hub.cut_after = (hub.cut_after, None) if hub.cut_after else (len(content), None)
                self.wfile.write(content[start:cut] if start < cut else content[start:])

        return Handler


@pytest.fixture
def hub():
    hub = Hub()
    yield hub
    hub.close()
