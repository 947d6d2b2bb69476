"""Pixelation: a small image shown large."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from holdfast.scenarios.corruptions._filters import box_weights, resample
from holdfast.scenarios.corruptions.base import Corruption, Parameters

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.seeding import Noise


@final
class Pixelate(Corruption):
    """Reduce by averages of whole pixels and enlarge by repetition, each as Pillow's box filter does.

    Source: Hendrycks and Dietterich 2019, section 3.1.
    """

    reference: ClassVar[str] = "Hendrycks and Dietterich 2019, arXiv:1903.12261, section 3.1 (pixelate)"
    cifar: ClassVar[Parameters] = ((0.95,), (0.90,), (0.85,), (0.75,), (0.65,))
    imagenet: ClassVar[Parameters] = ((0.60,), (0.50,), (0.40,), (0.30,), (0.25,))

    def corrupt(self, x: Tensor, ids: Tensor, parameters: tuple[float, ...], noise: Noise) -> Tensor:
        """Reduce each side to the share ``parameters[0]``, one pixel at least."""
        del ids, noise
        rows, columns = (self._matrix(size, parameters[0]).to(x.device) for size in x.shape[2:])
        return resample(x, rows, columns)

    @staticmethod
    def _matrix(size: int, share: float) -> Tensor:
        small = max(int(size * share), 1)
        return box_weights(small, size) @ box_weights(size, small)
