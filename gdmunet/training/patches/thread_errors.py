"""Errors of a thread that another library starts, kept for the caller who knows what they mean."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

_WATCHED: weakref.WeakSet[ThreadErrors] = weakref.WeakSet()


class ThreadErrors:
    """The error that ended a thread of an object; Python would print it and go on.

    A process that dies, or is killed at the end, may leave half a message, and whoever reads it then fails too.

    Parameters
    ----------
    owner, attribute
        Object that holds the thread, under this name, once it has started it.

    Attributes
    ----------
    error
        None until the thread has ended by an error.
    """

    def __init__(self, owner: object, attribute: str) -> None:
        self._owner, self._attribute = owner, attribute
        self.error: BaseException | None = None
        if not isinstance(threading.excepthook, _Hook):
            threading.excepthook = _Hook(threading.excepthook)
        _WATCHED.add(self)

    def watches(self, thread: threading.Thread | None) -> bool:
        """Whether it is the thread of the owner."""
        return thread is not None and getattr(self._owner, self._attribute) is thread


class _Hook:
    """Python's hook for errors in threads; those of other threads go to the hook before it."""

    def __init__(self, former: Callable[[threading.ExceptHookArgs], Any]) -> None:
        self._former = former

    def __call__(self, failure: threading.ExceptHookArgs) -> None:
        for watched in list(_WATCHED):
            if watched.watches(failure.thread):
                watched.error = failure.exc_value
                return
        self._former(failure)
