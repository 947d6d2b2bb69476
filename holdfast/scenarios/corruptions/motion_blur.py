"""Motion blur: the camera moves in a straight line while the shutter is open."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from holdfast.scenarios.corruptions._filters import motion
from holdfast.scenarios.corruptions.base import Corruption, Parameters

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.seeding import Noise


@final
class MotionBlur(Corruption):
    """Average along a line of one random direction for each image, 45 degrees at most from the horizontal.

    The kernel is ImageMagick's, which the published sets were made with: one-sided, Gaussian weights at whole
    steps, each at the nearest pixel, edges repeated.

    Source: Hendrycks and Dietterich 2019, section 3.1.
    """

    reference: ClassVar[str] = "Hendrycks and Dietterich 2019, arXiv:1903.12261, section 3.1 (motion blur)"
    cifar: ClassVar[Parameters] = ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))
    imagenet: ClassVar[Parameters] = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))

    def corrupt(self, x: Tensor, ids: Tensor, parameters: tuple[float, ...], noise: Noise) -> Tensor:
        """Blur with radius ``parameters[0]`` and standard deviation ``parameters[1]``, in pixels."""
        radius, sigma = parameters
        return motion(x, radius, sigma, noise.uniform(ids, (), -45.0, 45.0))
