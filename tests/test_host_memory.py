"""Work that cannot fit is refused with its figures."""

import pytest

from gdmunet import host_memory
from gdmunet.errors import GdmError
from gdmunet.host_memory import available_memory, check_memory


def test_what_is_free_is_a_number_of_bytes():
    assert 0 < available_memory() < 2**60


def test_work_that_does_not_fit_says_its_voxels_and_bytes(monkeypatch):
    monkeypatch.setattr(host_memory, "available_memory", lambda: 10**9)
    check_memory(10**9, (10, 10, 10), "resampling", "choose a coarser spacing")
    with pytest.raises(GdmError, match="not enough memory for resampling") as caught:
        check_memory(193 * 2**30, (4096, 4096, 4096), "resampling", "choose a coarser spacing")
    assert caught.value.found == "207 GB for 4096 x 4096 x 4096 voxels"
    assert caught.value.expected == "at most 1 GB, which are free"


def test_the_limit_of_a_container_counts(monkeypatch, tmp_path):
    limit, used = tmp_path / "memory.max", tmp_path / "memory.current"
    monkeypatch.setattr(host_memory, "_CONTAINERS", ((limit, used),))
    limit.write_text("5000000\n")
    used.write_text("4000000\n")
    assert available_memory() == 10**6
    limit.write_text("max\n")
    assert available_memory() > 10**6
