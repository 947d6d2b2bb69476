"""Spatter: rain or mud on the lens."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

import torch

from holdfast.scenarios.corruptions._colour import paint
from holdfast.scenarios.corruptions._edges import canny, correlate, distance, equalise
from holdfast.scenarios.corruptions._filters import gaussian
from holdfast.scenarios.corruptions.base import Corruption, Parameters

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.seeding import Noise


_WATER = (175 / 255, 238 / 255, 238 / 255)
_MUD = (63 / 255, 42 / 255, 20 / 255)
_OPAQUE = 0.8
"""Cover of mud below which nothing is seen of it."""
_WEAK, _STRONG = 50, 150
"""Thresholds of the drops' edges."""
_FURTHEST = 20
"""Pixels from a drop's edge beyond which light does not change."""
_MEAN = ((1,) * 3,) * 3
_EMBOSS = ((-2, -1, 0), (-1, 1, 1), (0, 1, 2))


@final
class Spatter(Corruption):
    """Cover parts of the image with drops of water (severities 1 to 3) or of mud (4 and 5), drawn for each image.

    Water is lit by its own edges and pale turquoise, mud is brown; where there are not three channels, each takes the
    brightness of the colour. Where no drop falls, as may be on a very small image, the image stays as it is.

    Source: Hendrycks and Dietterich 2019, appendix B.
    """

    reference: ClassVar[str] = "Hendrycks and Dietterich 2019, arXiv:1903.12261, appendix B (spatter)"
    cifar: ClassVar[Parameters] = (
        (0.62, 0.1, 0.7, 0.7, 0.5, 0), (0.65, 0.1, 0.8, 0.7, 0.5, 0), (0.65, 0.3, 1.0, 0.69, 0.5, 0),
        (0.65, 0.1, 0.7, 0.69, 0.6, 1), (0.65, 0.1, 0.5, 0.68, 0.6, 1),
    )  # fmt: skip
    imagenet: ClassVar[Parameters] = (
        (0.65, 0.3, 4.0, 0.69, 0.6, 0), (0.65, 0.3, 3.0, 0.68, 0.6, 0), (0.65, 0.3, 2.0, 0.68, 0.5, 0),
        (0.65, 0.3, 1.0, 0.65, 1.5, 1), (0.67, 0.4, 1.0, 0.65, 1.5, 1),
    )  # fmt: skip

    def corrupt(self, x: Tensor, ids: Tensor, parameters: tuple[float, ...], noise: Noise) -> Tensor:
        """Draw liquid by mean, deviation, smoothness, threshold; show water of a strength, or mud of a blur."""
        mean, deviation, smoothness, threshold, strength, mud = parameters
        liquid = gaussian(mean + deviation * noise.normal(ids, (1, *x.shape[2:])), smoothness)
        if mud:
            cover = gaussian((liquid > threshold).to(x.dtype), strength)
            cover = torch.where(cover < _OPAQUE, 0.0, cover)
            return x * (1.0 - cover) + paint(_MUD, x) * cover
        liquid = torch.where(liquid < threshold, 0.0, liquid)
        return x + strength * _glint(liquid[:, 0])[:, None] * paint(_WATER, x)


def _glint(liquid: Tensor) -> Tensor:
    """Give how bright drops (n, h, w) shine, 0 to 1: by the published code's steps, on 256 levels as there."""
    levels = (liquid * 255.0).clamp(0.0, 255.0).to(torch.int32)
    depth = distance(canny(levels, _WEAK, _STRONG), _FURTHEST)
    depth = (correlate(depth.double(), _MEAN, "mirror") / 9.0 + 1e-6).to(torch.int32)
    depth = correlate(equalise(depth, _FURTHEST), _EMBOSS, "mirror").clamp(0, 255)
    depth = (correlate(depth, _MEAN, "mirror").double() / 9.0).round()
    light = (levels * depth).to(liquid.dtype)
    return light / light.amax((1, 2), keepdim=True).clamp(min=1.0)
