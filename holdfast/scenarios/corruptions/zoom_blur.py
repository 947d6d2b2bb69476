"""Zoom blur: the camera moves towards the object while the shutter is open."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

import numpy as np

from holdfast.scenarios.corruptions._filters import zoom
from holdfast.scenarios.corruptions.base import Corruption, Parameters

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.seeding import Noise


@final
class ZoomBlur(Corruption):
    """Average the image with enlargements of its middle.

    Each axis of an image that is not square is enlarged about its own middle.

    Source: Hendrycks and Dietterich 2019, section 3.1.
    """

    reference: ClassVar[str] = "Hendrycks and Dietterich 2019, arXiv:1903.12261, section 3.1 (zoom blur)"
    cifar: ClassVar[Parameters] = ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01))
    imagenet: ClassVar[Parameters] = ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))

    def corrupt(self, x: Tensor, ids: Tensor, parameters: tuple[float, ...], noise: Noise) -> Tensor:
        """Average over factors from 1 to below ``parameters[0]`` in steps of ``parameters[1]``."""
        del ids, noise
        stop, step = parameters
        factors = np.arange(1.0, stop, step).tolist()  # as published: rounding decides whether the last one is included
        total = x.clone()
        for factor in factors:
            total += zoom(x, factor)
        return total / (len(factors) + 1)
