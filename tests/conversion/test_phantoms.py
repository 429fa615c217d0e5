"""Generated head phantoms."""

import numpy as np
import pytest

from gdmunet.conversion.phantoms import FIELD_OF_VIEW_MM, make_phantom, make_phantom_demo
from gdmunet.dataset import list_cases, load_descriptor
from gdmunet.errors import GdmError
from gdmunet.imageio import read_case


def test_a_seed_gives_one_phantom_and_another_seed_another():
    first, again, other = make_phantom(3, 24), make_phantom(3, 24), make_phantom(4, 24)
    for name in ("mr", "ct", "mask"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
        assert not np.array_equal(getattr(first, name), getattr(other, name))


def test_contrast_changes_the_mr_alone():
    t1, t2 = make_phantom(3, 24, "T1"), make_phantom(3, 24, "T2")
    assert np.array_equal(t1.mask, t2.mask)
    assert np.abs(t1.mr - t2.mr)[t1.mask].mean() > 50


def test_values_are_those_of_a_head():
    phantom = make_phantom(0, 32)
    assert phantom.ct.dtype == np.int16
    assert phantom.mr.dtype == np.float32
    assert phantom.mask.dtype == bool
    assert phantom.ct[~phantom.mask].mean() < -900
    assert 300 < phantom.ct.max() < 2000
    assert 0.2 < phantom.mask.mean() < 0.6
    brain = phantom.ct[14:18, 14:18, 14:18]
    assert -30 < brain.mean() < 80


def test_the_demo_data_set_is_complete(tmp_path):
    folder = make_phantom_demo(tmp_path, cases=5, size=16, show_progress=False)
    descriptor = load_descriptor(folder)
    training, test = list_cases(folder, descriptor), list_cases(folder, descriptor, "Ts")
    assert folder.name == "Dataset502_DemoPhantoms"
    assert [case.identifier for case in test] == ["head_003"]
    assert len(training) == 4
    volumes = read_case(test[0])
    assert volumes.target is not None
    assert volumes.mask is not None
    assert volumes.geometry.spacing == pytest.approx((FIELD_OF_VIEW_MM / 16,) * 3)


def test_too_few_phantoms_are_refused(tmp_path):
    with pytest.raises(GdmError, match="too few"):
        make_phantom_demo(tmp_path, cases=2)
