"""Gaussian noise on every pixel, as from a sensor in poor light."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from holdfast.scenarios.corruptions.base import Corruption, Parameters

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.seeding import Noise


@final
class GaussianNoise(Corruption):
    """Add independent normal noise of a given standard deviation, in units of the pixel range.

    Source: Hendrycks and Dietterich 2019, section 3.1.
    """

    reference: ClassVar[str] = "Hendrycks and Dietterich 2019, arXiv:1903.12261, section 3.1 (Gaussian noise)"
    cifar: ClassVar[Parameters] = ((0.04,), (0.06,), (0.08,), (0.09,), (0.10,))
    imagenet: ClassVar[Parameters] = ((0.08,), (0.12,), (0.18,), (0.26,), (0.38,))

    def corrupt(self, x: Tensor, ids: Tensor, parameters: tuple[float, ...], noise: Noise) -> Tensor:
        """Add noise of standard deviation ``parameters[0]``."""
        return x + parameters[0] * noise.normal(ids, tuple(x.shape[1:]))
