"""What a GPU does with windows, on the CPU: rows that move, sums that are carried, and memory that runs out."""

import numpy as np
import pytest
import torch

from gdmunet.device_memory import DeviceMemory
from gdmunet.errors import GdmError
from gdmunet.inference import blending, sliding_window
from gdmunet.inference.sliding_window import predict_tensor, predict_volume
from gdmunet.inference.window_options import WindowOptions
from gdmunet.preprocessing.memory import LiveBytes

SHAPE, WINDOW = (40, 13, 18), (8, 6, 18)
CPU = torch.device("cpu")


def condition(shape=SHAPE) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)


def edgy(batch: torch.Tensor) -> torch.Tensor:
    """A network whose windows disagree."""
    return batch[:, :1] + torch.linspace(-1, 1, batch.shape[-1]) * batch[:, 1:]


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Condition and output count as lying elsewhere."""
    created = []

    class Rows(sliding_window.ConditionRows):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.moves = True
            created.append(self)

    monkeypatch.setattr(sliding_window, "ConditionRows", Rows)
    monkeypatch.setattr(blending, "_OwnSums", lambda output: blending._CarriedSums(output, CPU))
    return created


@pytest.mark.parametrize("offset", [(0, 0, 0), (3, 1, 0)])
@pytest.mark.parametrize(("shape", "window"), [(SHAPE, WINDOW), ((3, 4, 5), (8, 8, 8)), ((20, 12, 9), (1, 6, 5))])
def test_sums_that_are_carried_are_those_in_the_output_itself(request, shape, window, offset):
    options = WindowOptions(offset=offset if window != (1, 6, 5) else (0, 0, 0), background_value=-2, batch_size=3)
    mask = np.zeros(shape, bool)
    mask[-1, -1, -1] = mask[0, 0, 0] = True
    expected = predict_volume(edgy, condition(shape), window, options, mask=mask, padding=(0.5, -0.5))
    request.getfixturevalue("as_on_a_gpu")
    np.testing.assert_array_equal(
        predict_volume(edgy, condition(shape), window, options, mask=mask, padding=(0.5, -0.5)), expected
    )


@pytest.mark.usefixtures("as_on_a_gpu")
def test_slabs_on_the_device_take_no_more_memory_than_counted(monkeypatch):
    counted = []
    whole = sliding_window._Windows.predict_into

    def counting(windows, outputs):
        counted.append(windows.slab_bytes())
        whole(windows, outputs)

    monkeypatch.setattr(sliding_window._Windows, "predict_into", counting)
    for rows in (96, 400):
        volume = condition((rows, 32, 30))[:1]
        with LiveBytes() as memory:
            predict_volume(lambda batch: batch[:, :1], volume, (16, 16, 16))
        output, windows, plane = volume[0].nbytes, 4 * 16**3 * 4, volume[0, 0].nbytes
        on_the_host = 2 * 16 * plane  # rows of the condition before they move, and complete rows after
        assert 0.6 * counted[-1] < memory.peak - output < counted[-1] + windows + on_the_host
    assert counted[0] == counted[1]  # bounded by the window, not by the volume


@pytest.mark.usefixtures("as_on_a_gpu")
def test_too_little_memory_for_the_slabs_is_said_with_numbers_before_anything_is_computed(monkeypatch):
    monkeypatch.setattr(sliding_window, "device_memory", lambda _: DeviceMemory(free=20_000, total=10**9))
    with pytest.raises(GdmError, match="slabs") as caught:
        predict_volume(lambda _: pytest.fail("computed"), condition(), WINDOW)
    assert "0.02 MB free" in str(caught.value)
    assert "0.082 MB as predicted" in str(caught.value)


def test_a_tensor_gives_the_same_as_an_array():
    array = predict_volume(edgy, condition(), WINDOW)
    tensor = predict_tensor(edgy, torch.from_numpy(condition()), WINDOW, WindowOptions())
    np.testing.assert_array_equal(tensor.numpy(), array)


def test_a_network_that_changes_its_input_does_not_change_the_condition():
    def changing(batch: torch.Tensor) -> torch.Tensor:
        return batch[:, :1].mul_(2)

    given = condition()
    prediction = predict_volume(changing, given, WINDOW)
    np.testing.assert_array_equal(given, condition())
    np.testing.assert_allclose(prediction, 2 * given[0], atol=1e-5)


class Small:
    """A device that holds `most` windows at a time."""

    def __init__(self, most: int) -> None:
        self.most, self.sizes = most, []

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(batch))
        if len(batch) > self.most:
            raise torch.OutOfMemoryError("out of memory")
        return edgy(batch)


def test_a_batch_that_memory_does_not_hold_is_halved_and_the_result_is_the_same():
    network = Small(most=3)
    prediction = predict_volume(network, condition(), WINDOW, WindowOptions(batch_size=14))
    assert network.sizes[:3] == [8, 4, 2]  # two starts of thin windows with four in each plane
    assert set(network.sizes[2:]) == {2}  # and no larger one is tried again
    np.testing.assert_allclose(prediction, predict_volume(edgy, condition(), WINDOW), atol=1e-6)


def test_memory_that_does_not_hold_one_window_is_an_error_with_numbers():
    with pytest.raises(GdmError, match="one window") as caught:
        predict_volume(Small(most=0), condition(), WINDOW, WindowOptions(batch_size=4))
    assert "8 x 6 x 18" in str(caught.value)
    assert "free of" in str(caught.value)
    assert "-device cpu" in str(caught.value)
