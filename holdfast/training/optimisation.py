"""What every descent is made of: the learning rate of a step, the weight of a class, the parameters that decay."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

WARM_UP = 0.25
"""Share of the steps over which the learning rate rises to its peak."""


def learning_rate(peak: float, step: int, steps: int) -> float:
    """One-cycle schedule: rise linearly over the first quarter of ``steps``, then fall as a cosine to zero.

    Source: Smith and Topin 2018, arXiv:1708.07120; cosine arm, Loshchilov and Hutter 2017, arXiv:1608.03983, eq. 5.
    """
    rising = max(1.0, WARM_UP * steps)
    if step < rising:
        return peak * (step + 1) / rising if step + 1 < rising else peak
    return peak * 0.5 * (1.0 + math.cos(math.pi * (step - rising) / max(steps - rising, 1.0)))


def class_weights(y: Tensor, classes: int) -> Tensor:
    """Weigh classes (classes,) by the inverse of their share of the labels (n,); the mean weight of a row is 1."""
    counts = torch.bincount(y, minlength=classes)
    present = int((counts > 0).sum())
    return torch.where(counts > 0, len(y) / (present * counts.clamp(min=1).to(torch.float32)), 0.0)


def decay_groups(module: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Decay matrices and kernels, and neither biases nor normalisation (Loshchilov and Hutter 2019, section 4)."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
