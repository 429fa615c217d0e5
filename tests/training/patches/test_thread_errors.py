"""Errors of a thread that another library starts."""

import threading
import types

from gdmunet.training.patches.thread_errors import ThreadErrors


def _failing_thread():
    def fail():
        raise OSError("half a message")

    return threading.Thread(target=fail)


def test_the_error_of_a_watched_thread_is_kept_and_not_printed(monkeypatch):
    printed = []
    monkeypatch.setattr(threading, "excepthook", printed.append)
    owner = types.SimpleNamespace(thread=None)
    errors = ThreadErrors(owner, "thread")
    owner.thread = _failing_thread()
    owner.thread.start()
    owner.thread.join()
    assert isinstance(errors.error, OSError)
    assert not printed


def test_the_error_of_another_thread_goes_to_the_hook_before(monkeypatch):
    seen = []
    monkeypatch.setattr(threading, "excepthook", seen.append)
    errors = [ThreadErrors(types.SimpleNamespace(thread=None), "thread") for _ in range(2)]
    other = _failing_thread()
    other.start()
    other.join()
    assert [failure.thread for failure in seen] == [other]
    assert all(one.error is None for one in errors)
