"""Defocus blur: a lens out of focus spreads every point to a disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from holdfast.scenarios.corruptions._filters import convolve, disk
from holdfast.scenarios.corruptions.base import Corruption, Parameters

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.seeding import Noise


@final
class DefocusBlur(Corruption):
    """Average over a disk with a blurred edge, edges of the image mirrored.

    Source: Hendrycks and Dietterich 2019, section 3.1.
    """

    reference: ClassVar[str] = "Hendrycks and Dietterich 2019, arXiv:1903.12261, section 3.1 (defocus blur)"
    cifar: ClassVar[Parameters] = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))
    imagenet: ClassVar[Parameters] = ((3.0, 0.1), (4.0, 0.5), (6.0, 0.5), (8.0, 0.5), (10.0, 0.5))

    def corrupt(self, x: Tensor, ids: Tensor, parameters: tuple[float, ...], noise: Noise) -> Tensor:
        """Spread over a radius ``parameters[0]``, edge blurred by ``parameters[1]``, in pixels."""
        del ids, noise
        return convolve(x, disk(*parameters))
