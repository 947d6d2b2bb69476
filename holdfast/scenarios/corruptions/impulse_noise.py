"""Salt and pepper: single values fail black or white, as from bit errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

import torch

from holdfast.scenarios.corruptions.base import Corruption, Parameters

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.seeding import Noise


@final
class ImpulseNoise(Corruption):
    """Set each value of each channel to the lowest or the highest, with a given probability, both alike.

    Source: Hendrycks and Dietterich 2019, section 3.1.
    """

    reference: ClassVar[str] = "Hendrycks and Dietterich 2019, arXiv:1903.12261, section 3.1 (impulse noise)"
    cifar: ClassVar[Parameters] = ((0.01,), (0.02,), (0.03,), (0.05,), (0.07,))
    imagenet: ClassVar[Parameters] = ((0.03,), (0.06,), (0.09,), (0.17,), (0.27,))

    def corrupt(self, x: Tensor, ids: Tensor, parameters: tuple[float, ...], noise: Noise) -> Tensor:
        """Hit the share ``parameters[0]`` of values."""
        draw = noise.uniform(ids, tuple(x.shape[1:]))
        hit, white = draw < parameters[0], draw < parameters[0] / 2
        return torch.where(hit, white.to(x.dtype), x)
