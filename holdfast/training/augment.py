"""Random changes of training images that keep their label."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.seeding import Noise

SHIFT = 2


def shift_and_mirror(x: Tensor, ids: Tensor, noise: Noise) -> Tensor:
    """Shift images (n, c, h, w) by up to two pixels in each direction and mirror every other one left to right.

    Pixels from beyond an edge repeat the edge. Each image's change depends on its id and on ``noise`` alone.

    Source: Krizhevsky, Sutskever and Hinton 2012, NeurIPS, section 4.1; He et al. 2016, arXiv:1512.03385, section 4.2.
    """
    height, width = x.shape[2:]
    moves = noise.derive("shift").integers(ids, 2 * SHIFT + 1, (2,)) - SHIFT
    mirrored = noise.derive("mirror").integers(ids, 2) == 1
    rows = (torch.arange(height, device=x.device) + moves[:, :1]).clamp(0, height - 1)
    columns = (torch.arange(width, device=x.device) + moves[:, 1:]).clamp(0, width - 1)
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    images = torch.arange(len(x), device=x.device)[:, None, None]
    return x[images, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
