"""Frost: ice on the lens or on a window before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

import torch

from holdfast.scenarios.corruptions._colour import RGB, luminance
from holdfast.scenarios.corruptions._fields import power_law
from holdfast.scenarios.corruptions.base import Corruption, Parameters

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.seeding import Noise


_LOOKS = (
    (0.306, 0.582, 0.646, 0.063), (0.775, 0.792, 0.828, 0.078), (0.776, 0.792, 0.829, 0.078),
    (0.568, 0.626, 0.677, 0.103), (0.390, 0.435, 0.482, 0.140),
)  # fmt: skip
"""Of each of the five photographs: mean red, green and blue, and the standard deviation within a crop."""


@final
class Frost(Corruption):
    """Blend with a bluish texture of ice.

    The published code crops photographs of ice, whose licence is not shown. Here the texture is generated: a Gaussian
    field whose power falls as a power of the frequency, with the mean colour, contrast and fall of those photographs,
    one of the five that the published code draws from for each image. It has no needles or edges.

    Source: Hendrycks and Dietterich 2019, section 3.1.
    """

    reference: ClassVar[str] = "Hendrycks and Dietterich 2019, arXiv:1903.12261, section 3.1 (frost)"
    cifar: ClassVar[Parameters] = (
        (1.0, 0.2, 0.8),
        (1.0, 0.3, 0.8),
        (0.9, 0.4, 0.8),
        (0.85, 0.4, 0.8),
        (0.75, 0.45, 0.8),
    )
    imagenet: ClassVar[Parameters] = (
        (1.0, 0.4, 1.8),
        (0.8, 0.6, 1.8),
        (0.7, 0.7, 1.8),
        (0.65, 0.7, 1.8),
        (0.6, 0.75, 1.8),
    )

    def corrupt(self, x: Tensor, ids: Tensor, parameters: tuple[float, ...], noise: Noise) -> Tensor:
        """Keep a share of the image and add an amount of ice, whose power falls by an exponent."""
        kept, amount, fall = parameters
        height, width = x.shape[2:]
        look = torch.tensor(_LOOKS, dtype=x.dtype, device=x.device)[noise.derive("look").integers(ids, len(_LOOKS))]
        colour, deviation = look[:, :RGB, None, None], look[:, RGB:, None, None]
        if x.shape[1] != RGB:
            colour = luminance(colour)
        field = power_law(ids, (height, width), fall, noise.derive("field"))[:, None]
        ice = (colour + deviation * field).clamp(0.0, 1.0)
        return kept * x + amount * ice
