"""Devices that are asked for, and the precision of what they compute."""

import pytest
import torch

from gdmunet import device
from gdmunet.device import exact_float32, find_device, full_precision, other_work
from gdmunet.errors import GdmError


def test_an_apple_gpu_is_not_taken_unasked_and_refused_if_asked_for(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_device() == torch.device("cpu")
    with pytest.raises(GdmError, match=r"kind mps are not supported(.|\n)*-device cpu"):
        find_device("mps")


def tf32() -> tuple[bool, bool]:
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


@pytest.mark.usefixtures("tf32_on")
def test_tf32_is_off_inside_and_as_before_afterwards_also_after_an_error():
    seen = []

    @exact_float32()
    def fail():
        seen.append(tf32())
        raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert (seen, tf32()) == ([(False, False)], (True, True))


def test_full_precision_switches_autocast_off_where_there_is_one():
    with torch.autocast("cpu", torch.bfloat16), full_precision(torch.device("cpu")):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    with full_precision(torch.device("meta")):
        pass


@pytest.mark.parametrize(("load", "words"), [(15.2, "load 15 on 2 cores"), (2.4, "")])
def test_a_busy_machine_is_told_from_one_that_does_our_own_work(monkeypatch, load, words):
    monkeypatch.setattr(device, "usable_cores", lambda: 2)
    monkeypatch.setattr(device.psutil, "getloadavg", lambda: (load, 0.0, 0.0))
    assert other_work() == words
