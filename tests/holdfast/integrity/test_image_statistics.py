"""Image statistics: numbers that can be checked by hand, and faults that a schema then sees."""

import numpy as np
import pytest

from holdfast.errors import DataError
from holdfast.integrity.image_statistics import image_statistics
from holdfast.integrity.schema import Schema

SCHEMA = Schema(
    columns={
        "mean": {"type": "number", "min": 0.02, "max": 0.9},
        "std": {"type": "number", "min": 0.02},
        "saturated": {"type": "number", "max": 0.5},
        "width": {"type": "integer", "in_set": [28]},
        "height": {"type": "integer", "in_set": [28]},
        "channels": {"type": "integer", "in_set": [1]},
        "sha": {"type": "text", "unique": True},
    }
)


def test_statistics_by_hand():
    """A half-white image has mean and deviation one half, and half its pixels saturated, as uint8 and as float."""
    image = np.zeros((1, 1, 2, 4), dtype=np.uint8)
    image[..., :2] = 255
    for form in (image, image.astype(np.float32) / 255):
        row = image_statistics(form).iloc[0]
        assert (row["mean"], row["std"], row["saturated"]) == (0.5, 0.5, 0.5)
        assert (row["width"], row["height"], row["channels"]) == (4, 2, 1)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (np.zeros_like, "mean: outside"),
        (lambda x: np.full_like(x, 1.0), "saturated: outside"),
        (lambda x: np.full_like(x, 0.5), "std: outside"),
    ],
)
def test_a_spoilt_image_is_quarantined(build, fashion, spoil, reason):
    """A black, a white and a grey image among the embedded ones are found, and no other."""
    features, _ = fashion
    images = features[:500].copy().reshape(-1, 1, 28, 28)
    images[77] = spoil(images[77])
    material = build(image_statistics(images), features=features[:500], kind="images")
    finding = SCHEMA.examine(material)
    assert finding.rows == (int(material.ids[77]),)
    assert reason in finding.reasons[str(material.ids[77])]


def test_other_sizes_block(build):
    """Images of another size are a fault in every row, and block."""
    images = np.random.default_rng(0).uniform(size=(50, 1, 32, 28)).astype(np.float32)
    finding = SCHEMA.examine(build(image_statistics(images), kind="images"))
    assert finding.verdict == "block"


@pytest.mark.parametrize("wrong", [np.zeros((2, 28, 28), dtype=np.uint8), np.zeros((2, 1, 2, 2), dtype=np.int64)])
def test_what_is_no_image_is_refused(wrong):
    """Arrays without a channel axis, or of another type, are errors."""
    with pytest.raises(DataError, match="channels, height, width"):
        image_statistics(wrong)
