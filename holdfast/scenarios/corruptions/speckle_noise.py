"""Speckle noise: what a pixel adds grows with its own brightness."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from holdfast.scenarios.corruptions.base import Corruption, Parameters

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.seeding import Noise


@final
class SpeckleNoise(Corruption):
    """Add to each value normal noise of a deviation that is a share of the value.

    Source: Hendrycks and Dietterich 2019, appendix B.
    """

    reference: ClassVar[str] = "Hendrycks and Dietterich 2019, arXiv:1903.12261, appendix B (speckle noise)"
    cifar: ClassVar[Parameters] = ((0.06,), (0.10,), (0.12,), (0.16,), (0.20,))
    imagenet: ClassVar[Parameters] = ((0.15,), (0.20,), (0.35,), (0.45,), (0.60,))

    def corrupt(self, x: Tensor, ids: Tensor, parameters: tuple[float, ...], noise: Noise) -> Tensor:
        """Add noise of ``parameters[0]`` times the value."""
        return x + x * (parameters[0] * noise.normal(ids, tuple(x.shape[1:])))
