"""JPEG compression at low quality."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

import torch

from holdfast.scenarios.corruptions.base import Corruption, Parameters
from holdfast.scenarios.corruptions.jpeg_codec import round_trip

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.seeding import Noise


@final
class Jpeg(Corruption):
    """Encode as a baseline JPEG and decode again, pixels rounded to 256 levels.

    Three channels are taken for RGB and coded as luminance and chrominance of half resolution; any other
    number is coded channel by channel.

    Source: Hendrycks and Dietterich 2019, section 3.1; ITU-T T.81, annexes A and K.
    """

    reference: ClassVar[str] = "Hendrycks and Dietterich 2019, arXiv:1903.12261, section 3.1 (JPEG); ITU-T T.81"
    cifar: ClassVar[Parameters] = ((80,), (65,), (58,), (50,), (40,))
    imagenet: ClassVar[Parameters] = ((25,), (18,), (15,), (10,), (7,))

    def corrupt(self, x: Tensor, ids: Tensor, parameters: tuple[float, ...], noise: Noise) -> Tensor:
        """Compress at quality ``parameters[0]``."""
        del ids, noise
        coded = round_trip((x * 255.0).round().to(torch.int32), int(parameters[0]))
        return coded.to(x.dtype) / 255.0
