"""Fog: a drifting white layer takes light and contrast."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from holdfast.scenarios.corruptions._fields import plasma
from holdfast.scenarios.corruptions.base import Corruption, Parameters

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.seeding import Noise


@final
class Fog(Corruption):
    """Add clouds to every channel, and scale back to the image's own maximum.

    Source: Hendrycks and Dietterich 2019, section 3.1.
    """

    reference: ClassVar[str] = "Hendrycks and Dietterich 2019, arXiv:1903.12261, section 3.1 (fog)"
    cifar: ClassVar[Parameters] = ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))
    imagenet: ClassVar[Parameters] = ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4))

    def corrupt(self, x: Tensor, ids: Tensor, parameters: tuple[float, ...], noise: Noise) -> Tensor:
        """Add ``parameters[0]`` times clouds whose scales decay by ``parameters[1]``."""
        density, decay = parameters
        height, width = x.shape[2:]
        clouds = plasma(ids, (height, width), decay, noise.derive("clouds"))[:, None]
        highest = x.amax((1, 2, 3), keepdim=True)
        return (x + density * clouds) * (highest / (highest + density))
