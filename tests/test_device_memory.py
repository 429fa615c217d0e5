"""Memory of a device: what may be used of it, and the error when there is none left."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from gdmunet import device_memory as module
from gdmunet.device_memory import DeviceMemory, MemoryAdvice, explained_memory, usable_bytes
from gdmunet.errors import CommandLine, GdmError
from gdmunet.out_of_memory import is_out_of_memory

ASK = "import torch; from gdmunet.device_memory import peak_memory_mb; print(peak_memory_mb(torch.device('cpu')))"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system's own figure is taken")
def test_peak_memory_is_the_processs_own():
    """Not that of the process that started it, which getrusage reports."""
    ballast = np.ones(150_000_000)  # 1.2 GB
    found = float(subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True).stdout)
    assert ballast.nbytes / 1e6 > 1000 > found > 20


@pytest.mark.parametrize(("free", "usable"), [(8, 6.5), (15, 13.5), (24, 21.6), (40, 36), (80, 72), (1, 0)])
def test_a_card_keeps_a_tenth_or_a_gigabyte_and_a_half(free, usable):
    assert usable_bytes(free * 1e9) == pytest.approx(usable * 1e9)
    assert DeviceMemory(round(free * 1e9), round(100e9)).usable == usable_bytes(free * 1e9)


def device_errors():
    """What the libraries raise."""
    yield torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    yield RuntimeError("CUDA error: out of memory")
    yield RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")
    yield RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
    for make in (torch.empty, np.empty):
        try:
            make(10**16)
        except (RuntimeError, MemoryError) as error:
            yield error


@pytest.mark.parametrize("error", tuple(device_errors()), ids=lambda error: type(error).__name__)
def test_every_way_of_saying_so_is_recognised(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("out of memory"), GdmError("x")]
)
def test_other_errors_pass(error):
    assert not is_out_of_memory(error)
    with pytest.raises(type(error)) as raised, explained_memory(torch.device("cpu"), dict):
        raise error
    assert raised.value is error


def test_the_error_says_predicted_free_and_peak_memory_and_what_to_do(monkeypatch):
    monkeypatch.setattr(module, "device_memory", lambda _: DeviceMemory(round(7e9), round(8e9), round(6.9e9)))
    advice = MemoryAdvice("training", round(6.4e9), "plan for less", CommandLine("gdm_plan_experiment", "-d", 1))
    with pytest.raises(GdmError) as raised, explained_memory(torch.device("cuda", 1), lambda: advice):
        raise torch.OutOfMemoryError("CUDA out of memory.")
    error = raised.value
    assert error.problem == "the GPU cuda:1 ran out of memory while training"
    assert error.found == "7 GB free of 8 GB, peak so far 6.9 GB"
    assert error.expected == "6.4 GB as predicted, and a reserve"
    assert str(error).endswith("plan for less: gdm_plan_experiment -d 1")
    assert isinstance(error.__cause__, torch.OutOfMemoryError)


def test_the_memory_of_this_computer():
    memory = module.device_memory(torch.device("cpu"))
    assert memory.peak > 0
    assert 0 < memory.free <= 2 * memory.total
