"""What the processes of a training tell each other about their end, so that none waits for one that is gone.

Each process keeps a connection to the first one. A process that ends says how before it closes its connection; a
connection that closes without a word is that of a process that was killed, and the system closes it at once (after half
a minute if a whole machine is gone). The first process passes on what it hears. One of them prints the reason, and the
others end in silence.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import selectors
import signal
import socket
import sys
import threading
import time
import weakref
from typing import Any, Literal

from gdmunet.ending import abandon_threads
from gdmunet.errors import SIGNALLED, GdmError, SilentEnd, Stopped
from gdmunet.paths import StartedProcess
from gdmunet.progress import say

End = Literal["done", "error", "fault", "stopped", "gone"]

# Seconds until every process has connected, those in which one hears why its sum failed, those in which a process may
# leave by itself, and those in which a process with a smaller number speaks first.
_CONNECT, _HEAR, _GRACE, _FIRST = 60.0, 5.0, 8.0, 1.5
_LETTERS: dict[str, End] = {"d": "done", "e": "error", "f": "fault", "s": "stopped", "g": "gone"}
_OPEN: weakref.WeakSet[Watch] = weakref.WeakSet()


class DeadProcessError(GdmError):
    """A process of the group died; the training can go on from its last state."""

    @classmethod
    def of(cls, found: str) -> DeadProcessError:
        """The error about a process that `found` names, with the end that it had."""
        return cls(
            "a training process died",
            found=found,
            remedy="often memory ran out: use fewer processes that make patches (-np), or plan with a smaller budget",
        )


class Watch:
    """The connections of this process to its fellows: to all for the first one, to the first for the others.

    Parameters
    ----------
    place
        Place of this process.
    hosts
        Machine of each process.
    connections
        Connection by the number of the process at its other end.
    """

    def __init__(self, place: StartedProcess, hosts: list[str], connections: dict[int, socket.socket]) -> None:
        self._place, self._hosts, self._connections = place, hosts, connections
        self._ends: dict[int, End] = {}
        self._lock = threading.Lock()
        self._trouble = threading.Event()
        self._leaving = threading.Event()
        _OPEN.add(self)
        threading.Thread(target=self._listen, name="watch", daemon=True).start()

    @classmethod
    def open(cls, store: Any, place: StartedProcess, hosts: list[str]) -> Watch:
        """Connect all processes of a group; every one calls it.

        Parameters
        ----------
        store
            Store of the group, by which they find each other.

        Raises
        ------
        OSError
            The first process cannot be reached.
        """
        if place.number:
            port, token = json.loads(store.get("watch"))
            connection = socket.create_connection((place.address, port), _CONNECT)
            connection.sendall(f"{token} {place.number}\n".encode())
            _keep_alive(connection)
            return cls(place, hosts, {0: connection})
        token = secrets.token_hex(16)
        connections: dict[int, socket.socket] = {}
        with socket.create_server(("", 0), backlog=place.size) as server:
            server.settimeout(_CONNECT)
            store.set("watch", json.dumps([server.getsockname()[1], token]))
            while len(connections) < place.size - 1:
                connection, _ = server.accept()
                connection.settimeout(_CONNECT)
                given, _, number = _line(connection).partition(" ")
                if secrets.compare_digest(given, token):
                    connections[int(number)] = connection
                    _keep_alive(connection)
                else:
                    connection.close()
        return cls(place, hosts, connections)

    def judged(self, error: BaseException) -> BaseException:
        """What this process ends with after an error: the error itself, its cause in another process, or silence."""
        self._leaving.set()
        # A group whose other processes are gone may wait for them when it is taken down.
        abandon_threads()
        if isinstance(error, GdmError):
            if self._first_trouble() is None:
                self._tell("error")
                self._let_others_speak()
            return error if self._speaks("error") else SilentEnd(1)
        if isinstance(error, KeyboardInterrupt):
            status = error.status if isinstance(error, Stopped) else SIGNALLED + signal.SIGINT
            if self._first_trouble() is None or self._trouble_is("stopped"):
                self._tell("stopped")
                return error if self._place.number == 0 else SilentEnd(status)
            return self._consequence()  # the launcher ends those that are left
        if isinstance(error, SystemExit):
            self._tell("error")
            return error
        # A sum that failed: most likely its other end knows why.
        if self._trouble.wait(_HEAR):
            return self._consequence()
        self._tell("fault")
        self._let_others_speak()
        return error if self._speaks("fault") else SilentEnd(1)

    def close(self) -> None:
        """Say that this process has done its work."""
        self._leaving.set()
        self._tell("done")

    def drop(self) -> None:
        """Close the connections of a process that was forked off: it is not the one that they speak of."""
        for connection in self._connections.values():
            connection.close()

    def _consequence(self) -> BaseException:
        """What remains to say here about the end of another process."""
        number, end = self._first_trouble() or (0, "gone")
        if end == "stopped":
            return SilentEnd(SIGNALLED + signal.SIGTERM)
        if end != "gone" or self._place.number != (1 if number == 0 else 0):
            return SilentEnd(1)
        return self._died(number)

    def _died(self, number: int) -> GdmError:
        return DeadProcessError.of(
            f"process {number + 1} of {self._place.size} on {self._hosts[number]} is gone without a word: it was "
            "killed, or its machine is down"
        )

    def _first_trouble(self) -> tuple[int, End] | None:
        with self._lock:
            return next(((number, end) for number, end in self._ends.items() if end != "done"), None)

    def _trouble_is(self, end: End) -> bool:
        first = self._first_trouble()
        return first is not None and first[1] == end

    def _speaks(self, end: End) -> bool:
        """Whether this process prints: the one with the smallest number of those with such an end, the first cause."""
        with self._lock:
            others = {
                number: how for number, how in self._ends.items() if how != "done" and number != self._place.number
            }
        earlier = [how for how in others.values() if how != end]
        return not (earlier and end == "fault") and not any(
            number < self._place.number and how == end for number, how in others.items()
        )

    def _let_others_speak(self) -> None:
        if self._place.number:
            time.sleep(_FIRST)

    def _tell(self, end: End) -> None:
        with self._lock:
            self._ends.setdefault(self._place.number, end)
        self._pass_on(self._place.number, end)

    def _pass_on(self, number: int, end: End) -> None:
        for other, connection in list(self._connections.items()):
            if other != number:
                with contextlib.suppress(OSError):
                    connection.sendall(f"{end[0]} {number}\n".encode())

    def _listen(self) -> None:
        """Hear the ends of the others, and end this process if it does not leave after one."""
        with selectors.DefaultSelector() as selector:
            for number, connection in self._connections.items():
                connection.settimeout(_CONNECT)
                selector.register(connection, selectors.EVENT_READ, number)
            while selector.get_map() and not self._trouble.is_set():
                for key, _ in selector.select(1.0):
                    number, line = key.data, _line(key.fileobj)  # type: ignore[arg-type]
                    if not line:
                        selector.unregister(key.fileobj)
                    self._hear(number, line)
        if self._trouble.is_set() and not self._leaving.wait(_GRACE):
            self._end_at_once()

    def _hear(self, number: int, line: str) -> None:
        letter, _, said = line.partition(" ")
        known = number in self._ends
        if not line and known:
            return  # it said so before
        number, end = (int(said), _LETTERS[letter]) if line else (number, "gone")
        with self._lock:
            self._ends.setdefault(number, end)
        if self._place.number == 0:
            self._pass_on(number, end)
        if end != "done":
            self._trouble.set()

    def _end_at_once(self) -> None:
        """End a process that waits inside a sum for one that is gone."""
        cause = self._consequence()
        if isinstance(cause, GdmError):
            say(f"error: {cause}", sys.stderr)
        os._exit(cause.status if isinstance(cause, SilentEnd) else 1)


def _line(connection: socket.socket) -> str:
    """A line, byte by byte, since the next one is another's; empty at the end of the connection."""
    line = b""
    try:
        while not line.endswith(b"\n"):
            byte = connection.recv(1)
            if not byte:
                return ""
            line += byte
    except OSError:
        return ""
    return line.decode(errors="replace").strip()


def _keep_alive(connection: socket.socket) -> None:
    """Let the system find out within half a minute that the other machine is gone."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _drop_all() -> None:
    for watch in list(_OPEN):
        watch.drop()


if hasattr(os, "register_at_fork"):  # processes that make patches are forked off
    os.register_at_fork(after_in_child=_drop_all)
