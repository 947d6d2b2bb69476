"""What every image corruption is: one operation on pixels in [0, 1], with published severities."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal, cast, final

import torch

from holdfast.scenarios.disturbance import Disturbance

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.seeding import Noise
    from holdfast.space import Box, Table

Parameters = tuple[tuple[float, ...], ...]
"""For each severity, 1 to 5, what the operation needs."""

_SMALL = 64
"""Shorter side in pixels up to which an image counts as small."""
_VALUES = 1 << 21
"""Values corrupted at once: bounds memory, and changes no row."""


class Corruption(Disturbance):
    """An operation of Hendrycks and Dietterich, on images of any size and number of channels.

    Pixels are scaled from the space's bounds to [0, 1], corrupted, clipped and scaled back. Values stay real
    numbers: nothing but ``jpeg`` rounds to 256 levels, where the published sets round all.
    """

    family: ClassVar[str] = "corruptions"
    kinds: ClassVar[frozenset[str]] = frozenset({"box"})
    cifar: ClassVar[Parameters]
    """Parameters of CIFAR-10-C, for small images."""
    imagenet: ClassVar[Parameters]
    """Parameters of ImageNet-C, for large ones."""

    scale: Literal["auto", "cifar", "imagenet"] = "auto"
    """Whose parameters; ``auto``: CIFAR-10-C's where the shorter side has at most 64 pixels, else ImageNet-C's."""

    @abstractmethod
    def corrupt(self, x: Tensor, ids: Tensor, parameters: tuple[float, ...], noise: Noise) -> Tensor:
        """Corrupt images x (n, c, h, w) in [0, 1]; the base clips what comes out."""

    @final
    def disturb(self, x: Tensor, ids: Tensor, severity: int, noise: Noise, space: Box | Table) -> Tensor:
        """Corrupt images in the space's own bounds."""
        box = cast("Box", space)  # `kinds` admits no other
        extent = box.high - box.low
        unit = ((x - box.low) / extent).clamp(0.0, 1.0)
        parameters, several = self.parameters(severity, box), max(_VALUES // math.prod(box.shape), 1)
        pieces = zip(torch.split(unit, several), torch.split(ids, several), strict=True)
        corrupted = torch.cat([self.corrupt(part, of, parameters, noise) for part, of in pieces]).clamp(0.0, 1.0)
        return (box.low + extent * corrupted).to(x.dtype)

    def parameters(self, severity: int, space: Box) -> tuple[float, ...]:
        """Look up what one severity, 1 to 5, means for images of this size."""
        small = self.scale == "cifar" or (self.scale == "auto" and min(space.shape[1:]) <= _SMALL)
        return (self.cifar if small else self.imagenet)[severity - 1]
