"""Shot noise: light arrives in single photons, as in a very short exposure."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from holdfast.scenarios.corruptions._fields import poisson
from holdfast.scenarios.corruptions.base import Corruption, Parameters

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.seeding import Noise


@final
class ShotNoise(Corruption):
    """Count photons by the Poisson distribution, a given number of them for a full pixel.

    Source: Hendrycks and Dietterich 2019, section 3.1.
    """

    reference: ClassVar[str] = "Hendrycks and Dietterich 2019, arXiv:1903.12261, section 3.1 (shot noise)"
    cifar: ClassVar[Parameters] = ((500,), (250,), (100,), (75,), (50,))
    imagenet: ClassVar[Parameters] = ((60,), (25,), (12,), (5,), (3,))

    def corrupt(self, x: Tensor, ids: Tensor, parameters: tuple[float, ...], noise: Noise) -> Tensor:
        """Draw counts of mean ``x * parameters[0]``."""
        full = parameters[0]
        return poisson(x * full, noise.normal(ids, tuple(x.shape[1:]))) / full
