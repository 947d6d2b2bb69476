"""The codec against Pillow's own encoder and decoder."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from holdfast.scenarios.corruptions.jpeg import Jpeg
from holdfast.scenarios.corruptions.jpeg_codec import quantisation_table, round_trip
from holdfast.seeding import Noise
from holdfast.space import Box

QUALITIES = sorted({int(p[0]) for p in (*Jpeg.cifar, *Jpeg.imagenet)})


def pillow(image, quality):
    """Encode and decode one uint8 image (c, h, w) with one or three channels."""
    picture, stream = Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)), io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    decoded = np.asarray(Image.open(stream))
    return decoded[None] if decoded.ndim == 2 else decoded.transpose(2, 0, 1)


def smooth(rng, shape):
    steps = rng.normal(size=shape) * 6
    return np.clip(steps.cumsum(-1).cumsum(-2) + 128, 0, 255).astype(np.uint8)


@settings(max_examples=60, deadline=None)
@given(
    channels=st.sampled_from([1, 3]), height=st.integers(1, 40), width=st.integers(1, 40),
    quality=st.sampled_from(QUALITIES), seed=st.integers(0, 999), rough=st.booleans(),
)  # fmt: skip
def test_equals_pillow_bit_for_bit(channels, height, width, quality, seed, rough):
    """Smooth images and pure noise of any size come back exactly as from a real JPEG file."""
    rng = np.random.default_rng(seed)
    shape = (channels, height, width)
    image = rng.integers(0, 256, shape).astype(np.uint8) if rough else smooth(rng, shape)
    ours = round_trip(torch.tensor(image[None].astype(np.int32)), quality)[0].numpy()
    assert np.array_equal(ours, pillow(image, quality))


@pytest.mark.parametrize("quality", QUALITIES)
def test_the_tables_are_those_in_a_real_file(quality):
    """Luminance and chrominance tables equal what Pillow reads back from a file of that quality."""
    stream = io.BytesIO()
    Image.new("RGB", (16, 16)).save(stream, "JPEG", quality=quality)
    written = Image.open(stream).quantization
    assert quantisation_table(quality).flatten().tolist() == list(written[0])
    assert quantisation_table(quality, chrominance=True).flatten().tolist() == list(written[1])


def test_scales_to_the_bounds_of_the_space():
    """Pixels in [-1, 1] are compressed as their 256 levels."""
    image = smooth(np.random.default_rng(0), (1, 28, 28))
    box = Box(shape=(1, 28, 28), low=-1.0, high=1.0, mean=(0.0,), std=(1.0,))
    x = torch.tensor(image[None] / 127.5 - 1.0, dtype=torch.float32)
    ours = Jpeg().disturb(x, torch.tensor([1]), 5, Noise(0), box)
    assert torch.allclose((ours + 1.0) * 127.5, torch.tensor(pillow(image, 40)[None]).float(), atol=1e-3)


def test_other_numbers_of_channels_are_coded_one_by_one():
    """Two or four channels have no colours to mix."""
    image = torch.tensor(smooth(np.random.default_rng(1), (2, 4, 9, 13)).astype(np.int32))
    alone = round_trip(image.reshape(8, 1, 9, 13), 25)
    assert torch.equal(round_trip(image, 25), alone.reshape(image.shape))
