"""Less contrast, as through haze or a dirty lens."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from holdfast.scenarios.corruptions.base import Corruption, Parameters

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.seeding import Noise


@final
class Contrast(Corruption):
    """Draw every pixel towards the mean of its channel over the image.

    Source: Hendrycks and Dietterich 2019, section 3.1.
    """

    reference: ClassVar[str] = "Hendrycks and Dietterich 2019, arXiv:1903.12261, section 3.1 (contrast)"
    cifar: ClassVar[Parameters] = ((0.75,), (0.50,), (0.40,), (0.30,), (0.15,))
    imagenet: ClassVar[Parameters] = ((0.40,), (0.30,), (0.20,), (0.10,), (0.05,))

    def corrupt(self, x: Tensor, ids: Tensor, parameters: tuple[float, ...], noise: Noise) -> Tensor:
        """Keep the share ``parameters[0]`` of each pixel's distance from the mean."""
        del ids, noise
        # In double precision, since the order of a float32 sum may depend on the size of the batch.
        mean = x.double().mean((2, 3), keepdim=True).to(x.dtype)
        return mean + parameters[0] * (x - mean)
