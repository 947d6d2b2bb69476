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


def class_weights(y: Tensor, seen: Tensor, classes: int) -> Tensor:
    """Weigh classes (classes,) by the inverse of their share of what is seen; the mean weight of a row seen is 1.

    Args:
        y: labels (n,), on the CPU: sums on a GPU have no fixed order.
        seen: how often each row is seen (n,) float64, not all 0.
        classes: how many there are; one that is never seen weighs 0.
    """
    counts = torch.bincount(y, weights=seen, minlength=classes)
    present = int((counts > 0).sum())
    weights = seen.sum() / (present * torch.where(counts > 0, counts, 1.0))
    return torch.where(counts > 0, weights, 0.0).to(torch.float32)


def decay_groups(module: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Decay matrices and kernels, and neither biases nor normalisation (Loshchilov and Hutter 2019, section 4)."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
