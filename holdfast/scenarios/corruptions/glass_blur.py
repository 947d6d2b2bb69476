"""Glass blur: what stands behind frosted glass is shuffled within small distances."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

import torch

from holdfast.scenarios.corruptions._filters import gaussian
from holdfast.scenarios.corruptions.base import Corruption, Parameters

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.seeding import Noise


@final
class GlassBlur(Corruption):
    """Blur, let each pixel take the value of a near one, and blur again.

    As in the published code, pixels are visited from the last to the first, one that was visited before gives what it
    took itself, and none gives its own value in exchange. A margin of the image is not visited. Chains of takings are
    followed by doubling, and give exactly what the visits in their order would.

    Source: Hendrycks and Dietterich 2019, section 3.1.
    """

    reference: ClassVar[str] = "Hendrycks and Dietterich 2019, arXiv:1903.12261, section 3.1 (glass blur)"
    cifar: ClassVar[Parameters] = ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))
    imagenet: ClassVar[Parameters] = ((0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2))

    def corrupt(self, x: Tensor, ids: Tensor, parameters: tuple[float, ...], noise: Noise) -> Tensor:
        """Blur by ``parameters[0]``, take from ``parameters[1]`` pixels away at most, ``parameters[2]`` times over."""
        sigma, reach, rounds = parameters[0], int(parameters[1]), int(parameters[2])
        x = gaussian(x, sigma)
        for i in range(rounds):
            source = takings(ids, (x.shape[2], x.shape[3]), reach, noise.derive("round", i))
            x = x.flatten(2).gather(2, source[:, None].expand(-1, x.shape[1], -1)).reshape(x.shape)
        return gaussian(x, sigma)


def takings(ids: Tensor, shape: tuple[int, int], reach: int, noise: Noise) -> Tensor:
    """Draw from which pixel each one ends up with its value: flat places (n, h * w).

    A pixel takes from -``reach`` to ``reach`` - 1 rows and columns away.
    """
    height, width = shape
    row = torch.arange(height, device=ids.device)[:, None].expand(shape)
    column = torch.arange(width, device=ids.device).expand(shape)
    visited = (row > reach) & (row <= height - reach) & (column > reach) & (column <= width - reach)
    down, right = (noise.integers(ids, 2 * reach, (2, height, width)) - reach).unbind(1)
    place = row * width + column
    source = torch.where(visited, place + down * width + right, place).flatten(1)
    # One that stands before its source in reading order comes after it in the visits, and takes what that one took.
    place = place.flatten().expand_as(source)
    last = torch.where((source > place) & visited.flatten()[source], source, place)
    while True:
        further = last.gather(1, last)
        if torch.equal(further, last):
            return source.gather(1, last)
        last = further
