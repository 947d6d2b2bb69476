"""Elastic transform: the image is stretched and bent in small patches."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

import torch

from holdfast.scenarios.corruptions._filters import gaussian, sample
from holdfast.scenarios.corruptions.base import Corruption, Parameters

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.seeding import Noise


_LARGE = 244 / 224
"""The published code takes 244 for the size of images of 224 pixels."""
_FLAT = 1e-6
"""The least area, in square pixels, of three points that have moved onto one line."""


@final
class ElasticTransform(Corruption):
    """Move three points of the image at random, and then every pixel by a smooth random field, both bilinear.

    Lengths are shares of the shorter side, where the published code gives them for its own size of image.

    Source: Hendrycks and Dietterich 2019, section 3.1.
    """

    reference: ClassVar[str] = "Hendrycks and Dietterich 2019, arXiv:1903.12261, section 3.1 (elastic transform)"
    cifar: ClassVar[Parameters] = (
        (0.0, 0.0, 0.08),
        (0.05, 0.2, 0.07),
        (0.08, 0.06, 0.06),
        (0.1, 0.04, 0.05),
        (0.1, 0.03, 0.03),
    )
    imagenet: ClassVar[Parameters] = (
        (_LARGE * 2.0, _LARGE * 0.7, _LARGE * 0.1),
        (_LARGE * 2.0, _LARGE * 0.08, _LARGE * 0.2),
        (_LARGE * 0.05, _LARGE * 0.01, _LARGE * 0.02),
        (_LARGE * 0.07, _LARGE * 0.01, _LARGE * 0.02),
        (_LARGE * 0.12, _LARGE * 0.01, _LARGE * 0.02),
    )

    def corrupt(self, x: Tensor, ids: Tensor, parameters: tuple[float, ...], noise: Noise) -> Tensor:
        """Bend by noise of amplitude ``parameters[0]``, smoothed over [1]; move the points by up to [2]."""
        height, width = x.shape[2:]
        bend, smoothness, shift = (share * min(height, width) for share in parameters)
        points = shift * noise.derive("points").uniform(ids, (3, 2), -1.0, 1.0).double()
        x = sample(x, *_affine((height, width), points), "mirror")
        field = noise.derive("field").uniform(ids, (2, height, width), -1.0, 1.0)
        down, right = (bend * gaussian(field, smoothness, "reflect", truncate=3.0)).double().unbind(1)
        return sample(x, _count(height, x)[:, None] + down, _count(width, x) + right, "reflect")


def _count(size: int, like: Tensor) -> Tensor:
    return torch.arange(size, dtype=torch.float64, device=like.device)


def _affine(shape: tuple[int, int], shift: Tensor) -> tuple[Tensor, Tensor]:
    """Find where each pixel comes from, row and column (n, h, w), when three points move by shifts (n, 3, 2)."""
    side, (height, width) = max(min(shape) // 3, 1), shape
    corners = shift.new_tensor([[1, 1], [1, -1], [-1, -1]]) * side + shift.new_tensor([width // 2, height // 2])
    moved = corners + shift
    # The map is linear from the first point: two edges say how, and the inverse of their matrix leads back.
    (right_1, down_1), (right_2, down_2) = ((moved[:, i] - moved[:, 0]).unbind(1) for i in (1, 2))
    turn = right_1 * down_2 - right_2 * down_1
    turn = torch.where(turn.abs() < _FLAT, _FLAT, turn)
    across = _count(width, shift) - moved[:, 0, 0, None, None]
    along = _count(height, shift)[:, None] - moved[:, 0, 1, None, None]
    first = (down_2[:, None, None] * across - right_2[:, None, None] * along) / turn[:, None, None]
    second = (right_1[:, None, None] * along - down_1[:, None, None] * across) / turn[:, None, None]
    edges = corners[1:] - corners[0]
    column, row = (corners[0, i] + first * edges[0, i] + second * edges[1, i] for i in (0, 1))
    return row, column
