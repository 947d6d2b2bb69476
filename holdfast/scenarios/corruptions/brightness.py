"""More light: the value of every pixel's colour is raised."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

import torch

from holdfast.scenarios.corruptions.base import Corruption, Parameters

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.seeding import Noise


@final
class Brightness(Corruption):
    """Add a constant to the value of the HSV colour, hue and saturation kept; for grey images, to the pixel.

    Source: Hendrycks and Dietterich 2019, section 3.1.
    """

    reference: ClassVar[str] = "Hendrycks and Dietterich 2019, arXiv:1903.12261, section 3.1 (brightness)"
    cifar: ClassVar[Parameters] = ((0.05,), (0.10,), (0.15,), (0.20,), (0.30,))
    imagenet: ClassVar[Parameters] = ((0.10,), (0.20,), (0.30,), (0.40,), (0.50,))

    def corrupt(self, x: Tensor, ids: Tensor, parameters: tuple[float, ...], noise: Noise) -> Tensor:
        """Raise the value by ``parameters[0]``."""
        del ids, noise
        value = x.amax(1, keepdim=True)
        raised = (value + parameters[0]).clamp(max=1.0)
        # At constant hue and saturation every channel is proportional to the value; black has no hue and turns grey.
        return torch.where(value > 0, x * (raised / value.clamp(min=1e-12)), raised)
