"""Rotation against turns that are exact."""

from __future__ import annotations

import pytest
import torch

from holdfast.scenarios.drift.rotation import Rotation, rotate
from holdfast.seeding import Noise
from holdfast.space import Box


def images(n=3, height=9, width=9):
    return Noise(4).uniform(torch.arange(n), (2, height, width), 0.5, 1.0)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_quarter_turns_are_exact(turns):
    """Ninety degrees counter-clockwise is what torch.rot90 does."""
    x = images()
    turned = rotate(x, torch.full((3,), 90.0 * turns))
    assert torch.allclose(turned, torch.rot90(x, turns, (2, 3)), atol=1e-4)


def test_half_turn_of_an_oblong_image():
    """Height and width differ, and nothing is stretched."""
    x = images(2, 6, 11)
    assert torch.allclose(rotate(x, torch.full((2,), 180.0)), x.flip(2, 3), atol=1e-4)


def test_forth_and_back_is_nearly_nothing():
    """A smooth blob in the middle survives 30 degrees and back, up to interpolation."""
    axis = torch.linspace(-2, 2, 41)
    blob = torch.exp(-((axis[:, None] - 0.3) ** 2 + axis[None, :] ** 2) * 2)[None, None]
    back = rotate(rotate(blob, torch.tensor([30.0])), torch.tensor([-30.0]))
    assert float((back - blob).abs().max()) < 0.02


def test_both_sides_are_drawn_and_corners_are_dark():
    """About half of the images turn left; what comes in from outside is the lowest value."""
    x = torch.full((200, 1, 9, 9), 2.0)
    x[:, :, 0, 4] = 1.5  # a mark at the top
    box = Box(shape=(1, 9, 9), low=-1.0, high=2.0, mean=(0.0,), std=(1.0,))
    turned = Rotation().disturb(x, torch.arange(200), 5, Noise(0), box)
    left = turned[:, 0, :, :4].sum((1, 2)) < turned[:, 0, :, 5:].sum((1, 2))
    assert 70 < int(left.sum()) < 130
    assert float(turned.min()) < 0.0
    assert float(turned.min()) >= -1.0
    assert float(turned.max()) <= 2.0
