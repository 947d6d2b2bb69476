"""Gaussian blur: a lens slightly out of focus."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from holdfast.scenarios.corruptions._filters import gaussian
from holdfast.scenarios.corruptions.base import Corruption, Parameters

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.seeding import Noise


@final
class GaussianBlur(Corruption):
    """Average with Gaussian weights, edges repeated.

    Source: Hendrycks and Dietterich 2019, appendix B.
    """

    reference: ClassVar[str] = "Hendrycks and Dietterich 2019, arXiv:1903.12261, appendix B (Gaussian blur)"
    cifar: ClassVar[Parameters] = ((0.4,), (0.6,), (0.7,), (0.8,), (1.0,))
    imagenet: ClassVar[Parameters] = ((1.0,), (2.0,), (3.0,), (4.0,), (6.0,))

    def corrupt(self, x: Tensor, ids: Tensor, parameters: tuple[float, ...], noise: Noise) -> Tensor:
        """Blur by a standard deviation of ``parameters[0]`` pixels."""
        del ids, noise
        return gaussian(x, parameters[0])
