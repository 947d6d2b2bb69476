"""Colours of images with any number of channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

RGB = 3
_LUMINANCE = (0.299, 0.587, 0.114)


def luminance(x: Tensor) -> Tensor:
    """Give the brightness (n, 1, h, w): of three channels as of RGB (ITU-R BT.601), of another number their mean."""
    channels = x.shape[1]
    weights = _LUMINANCE if channels == RGB else (1 / channels,) * channels
    return sum((weight * x[:, i : i + 1] for i, weight in enumerate(weights)), start=torch.zeros_like(x[:, :1]))


def paint(colour: tuple[float, float, float], like: Tensor) -> Tensor:
    """Give an RGB colour (1, c, 1, 1) to images: as it is to three channels, its brightness to another number."""
    rgb = torch.tensor(colour, dtype=like.dtype, device=like.device)[None, :, None, None]
    return rgb if like.shape[1] == RGB else luminance(rgb).expand(1, like.shape[1], 1, 1)
