"""Rotation: the camera, or the object before it, is tilted."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast, final

import torch
from torch.nn import functional as F

from holdfast.scenarios.disturbance import Disturbance

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.seeding import Noise
    from holdfast.space import Box, Table


@final
class Rotation(Disturbance):
    """Turn each image about its centre by 6, 12, 18, 24 or 30 degrees, to a side that is drawn for each image.

    Bilinear; what turns in from outside has the space's lowest value, as a black border.

    Source: Engstrom et al. 2019, arXiv:1712.02779, section 3 (rotations of up to 30 degrees).
    """

    family: ClassVar[str] = "shift"
    kinds: ClassVar[frozenset[str]] = frozenset({"box"})
    reference: ClassVar[str] = "Engstrom et al. 2019, arXiv:1712.02779, section 3"
    degrees: ClassVar[tuple[float, ...]] = (6.0, 12.0, 18.0, 24.0, 30.0)

    def disturb(self, x: Tensor, ids: Tensor, severity: int, noise: Noise, space: Box | Table) -> Tensor:
        """Turn by the angle of one severity."""
        box = cast("Box", space)  # `kinds` admits no other
        side = 2 * noise.integers(ids, 2) - 1
        turned = rotate(x - box.low, side * self.degrees[severity - 1]) + box.low
        # An image that reaches outside the bounds may do so as far as it did before.
        lowest, highest = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
        return torch.minimum(torch.maximum(turned, lowest.clamp(max=box.low)), highest.clamp(min=box.high))


def rotate(x: Tensor, degrees: Tensor) -> Tensor:
    """Turn images x (n, c, h, w) counter-clockwise by degrees (n,), zeros coming in from outside."""
    height, width = x.shape[2:]
    angle = torch.deg2rad(degrees.double())[:, None, None]
    down = torch.arange(height, device=x.device, dtype=torch.float64)[None, :, None] - (height - 1) / 2
    right = torch.arange(width, device=x.device, dtype=torch.float64)[None, None, :] - (width - 1) / 2
    # Where each pixel comes from, in pixels from the centre (y points down), then in units of half the image.
    source_x = (torch.cos(angle) * right - torch.sin(angle) * down) * 2 / width
    source_y = (torch.sin(angle) * right + torch.cos(angle) * down) * 2 / height
    grid = torch.stack([source_x, source_y], dim=3).to(x.dtype)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
