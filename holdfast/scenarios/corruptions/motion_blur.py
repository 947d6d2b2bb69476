"""Motion blur: the camera moves in a straight line while the shutter is open."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

import torch

from holdfast.scenarios.corruptions.base import Corruption, Parameters

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.seeding import Noise


@final
class MotionBlur(Corruption):
    """Average along a line of one random direction for each image, 45 degrees at most from the horizontal.

    The kernel is ImageMagick's, which the published sets were made with: one-sided, Gaussian weights at whole
    steps, each at the nearest pixel, edges repeated.

    Source: Hendrycks and Dietterich 2019, section 3.1.
    """

    reference: ClassVar[str] = "Hendrycks and Dietterich 2019, arXiv:1903.12261, section 3.1 (motion blur)"
    cifar: ClassVar[Parameters] = ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))
    imagenet: ClassVar[Parameters] = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))

    def corrupt(self, x: Tensor, ids: Tensor, parameters: tuple[float, ...], noise: Noise) -> Tensor:
        """Blur with radius ``parameters[0]`` and standard deviation ``parameters[1]``, in pixels."""
        radius, sigma = parameters
        step = torch.arange(2 * int(radius) + 1, dtype=torch.float64, device=x.device)
        weights = torch.exp(-step.square() / (2.0 * sigma**2))
        angle = torch.deg2rad(noise.uniform(ids, (), -45.0, 45.0).double())[:, None]
        down = torch.ceil(step * torch.sin(angle) - 0.5).long()
        right = torch.ceil(step * torch.cos(angle) - 0.5).long()
        return _average(x, down, right, (weights / weights.sum()).tolist())


def _average(x: Tensor, down: Tensor, right: Tensor, weights: list[float]) -> Tensor:
    """Average pixels at offsets (n, steps) from each pixel of x (n, c, h, w), edges repeated."""
    n, channels, height, width = x.shape
    rows, columns = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
    total = torch.zeros_like(x)
    for i, weight in enumerate(weights):
        row = (rows + down[:, i, None]).clamp(0, height - 1)
        column = (columns + right[:, i, None]).clamp(0, width - 1)
        index = (row[:, :, None] * width + column[:, None, :]).reshape(n, 1, -1).expand(n, channels, -1)
        total += weight * x.flatten(2).gather(2, index).reshape(x.shape)
    return total
