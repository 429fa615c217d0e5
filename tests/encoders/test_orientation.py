"""An encoder sees volumes in its own axes, however the plans store them, and its maps come back in the plans' axes."""

import dataclasses

import pytest
import torch
from torch import nn

from gdmunet.encoders.base import FrozenEncoder
from gdmunet.plans import EncoderLevel


class Watching(FrozenEncoder):
    """Keeps what it sees; one convolution of stride 2 with a lopsided kernel."""

    def __init__(self, units, orientation):
        super().__init__((EncoderLevel("half", 2, (2, 2, 2)),), units, divisor=2, orientation=orientation)
        torch.manual_seed(0)
        self.convolution = nn.Conv3d(1, 2, 2, stride=2)

    def scale(self, raw):
        return raw

    def features(self, volume):
        self.seen = volume
        return [self.convolution(volume)]


# By hand: how a volume in (S, P, L) is brought to the orientation, as order of axes and flipped axes thereafter.
BY_HAND = {
    "SPL": ((0, 1, 2), ()),
    "RAS": ((2, 1, 0), (0, 1)),
    "LPS": ((2, 1, 0), ()),
    "SAR": ((0, 1, 2), (1, 2)),
    "ILA": ((0, 2, 1), (0, 2)),
}


def turn(volume, orientation):
    order, flips = BY_HAND[orientation]
    return volume.permute(0, 1, *(2 + axis for axis in order)).flip([2 + axis for axis in flips])


@pytest.mark.parametrize("orientation", BY_HAND)
def test_the_encoder_sees_its_own_axes(orientation, ct_units):
    encoder = Watching(ct_units, orientation).freeze()
    volume = torch.randn(1, 1, 4, 6, 8)
    found = encoder(volume)[0].values
    torch.testing.assert_close(encoder.seen, turn(ct_units.to_raw(volume), orientation))
    assert found.shape == (1, 2, 2, 3, 4)
    # Turning the map as the volume was turned gives what the encoder itself put out.
    torch.testing.assert_close(turn(found, orientation), encoder.convolution(encoder.seen))


@pytest.mark.parametrize("orientation", BY_HAND)
@pytest.mark.parametrize("transpose", [(1, 0, 2), (2, 0, 1), (2, 1, 0)])
def test_transposed_plans_show_it_the_same_volume(orientation, transpose, ct_units):
    canonical = torch.randn(1, 1, 4, 6, 8)
    straight = Watching(ct_units, orientation).freeze()
    turned = Watching(dataclasses.replace(ct_units, transpose=transpose), orientation).freeze()
    prepared = canonical.permute(0, 1, *(2 + axis for axis in transpose))
    expected = straight(canonical)[0].values.permute(0, 1, *(2 + axis for axis in transpose))
    torch.testing.assert_close(turned(prepared)[0].values, expected)
    torch.testing.assert_close(turned.seen, straight.seen)


@pytest.mark.parametrize("orientation", ["SPL", "RAS"])
def test_places_lie_on_the_voxels_they_cover_at_sizes_that_do_not_divide(orientation, ct_units):
    encoder = Watching(ct_units, orientation).freeze()
    volume = torch.randn(1, 1, 5, 7, 4, requires_grad=True)
    found = encoder(volume)[0].values
    assert found.shape == (1, 2, 3, 4, 2)
    gradient = torch.autograd.grad(found[0, :, 1, 2, 1].sum(), volume)[0]
    touched = gradient[0, 0].nonzero()
    assert touched.min(0).values.tolist() == [2, 4, 2]
    assert touched.max(0).values.tolist() == [3, 5, 3]
    # The last place covers the last voxel; what lies beyond the patch is background, not repeated anatomy.
    gradient = torch.autograd.grad(encoder(volume)[0].values[0, :, 2, 3, 1].sum(), volume)[0]
    assert gradient[0, 0].nonzero().tolist() == [[4, 6, 2], [4, 6, 3]]
