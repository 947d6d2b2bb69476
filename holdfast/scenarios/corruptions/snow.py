"""Snow: streaks of flakes before a whitened scene."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

import torch

from holdfast.scenarios.corruptions._colour import luminance
from holdfast.scenarios.corruptions._filters import motion, zoom
from holdfast.scenarios.corruptions.base import Corruption, Parameters

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.seeding import Noise


@final
class Snow(Corruption):
    """Add bright streaks, and the same turned by half, to an image that is drawn towards white.

    Source: Hendrycks and Dietterich 2019, section 3.1.
    """

    reference: ClassVar[str] = "Hendrycks and Dietterich 2019, arXiv:1903.12261, section 3.1 (snow)"
    cifar: ClassVar[Parameters] = (
        (0.1, 0.2, 1.0, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1.0, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    )
    imagenet: ClassVar[Parameters] = (
        (0.1, 0.3, 3.0, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2.0, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4.0, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    )

    def corrupt(self, x: Tensor, ids: Tensor, parameters: tuple[float, ...], noise: Noise) -> Tensor:
        """Draw flakes by mean, deviation, size, threshold; streak them by radius, sigma; keep a share of the scene."""
        mean, deviation, size, threshold, radius, sigma, kept = parameters
        flakes = mean + deviation * noise.derive("flakes").normal(ids, (1, *x.shape[2:]))
        flakes = zoom(flakes, size).clamp(0.0, 1.0)
        flakes = torch.where(flakes < threshold, 0.0, flakes)
        angle = noise.derive("angle").uniform(ids, (), -135.0, -45.0)
        streaks = motion(flakes, radius, sigma, angle)
        white = torch.maximum(x, 1.5 * luminance(x) + 0.5)
        return kept * x + (1.0 - kept) * white + streaks + streaks.rot90(2, (2, 3))
