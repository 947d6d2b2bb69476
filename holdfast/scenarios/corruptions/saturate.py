"""Saturation: colours turn pale or gaudy."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

import torch

from holdfast.scenarios.corruptions._colour import RGB
from holdfast.scenarios.corruptions.base import Corruption, Parameters

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.data import Samples
    from holdfast.model import Target
    from holdfast.seeding import Noise


@final
class Saturate(Corruption):
    """Scale and shift the saturation of the HSV colour, hue and value kept. Only for three channels, taken for RGB.

    A grey pixel has saturation 0 and, as in the published code, the hue of red: scaling leaves it alone, and the shift
    of severities 4 and 5 tints it. One channel has no colour to change: there the scenario does not apply.

    Source: Hendrycks and Dietterich 2019, appendix B.
    """

    reference: ClassVar[str] = "Hendrycks and Dietterich 2019, arXiv:1903.12261, appendix B (saturate)"
    cifar: ClassVar[Parameters] = ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2))
    imagenet: ClassVar[Parameters] = ((0.3, 0.0), (0.1, 0.0), (2.0, 0.0), (5.0, 0.1), (20.0, 0.2))

    def corrupt(self, x: Tensor, ids: Tensor, parameters: tuple[float, ...], noise: Noise) -> Tensor:
        """Multiply saturation by ``parameters[0]`` and add ``parameters[1]``."""
        del ids, noise
        factor, shift = parameters
        value = x.amax(1, keepdim=True)
        extent = value - x.amin(1, keepdim=True)
        saturation = (extent / value.clamp(min=1e-12) * factor + shift).clamp(0.0, 1.0)
        # How far each channel lies below the value, as a share of the furthest: 0 to 1, a function of the hue alone.
        red = torch.tensor([0.0, 1.0, 1.0], dtype=x.dtype, device=x.device)[None, :, None, None]
        below = torch.where(extent > 0, (value - x) / extent.clamp(min=1e-12), red)
        return value * (1.0 - saturation * below)

    def inapplicable(self, target: Target, samples: Samples) -> str | None:
        """Say why it means nothing here; also where images have no colour."""
        if reason := super().inapplicable(target, samples):
            return reason
        channels = samples.x.shape[1]
        return None if channels == RGB else f"saturation is of colour: it needs three channels (RGB), found {channels}"
