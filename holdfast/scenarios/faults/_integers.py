"""Weights as integers: symmetric, one step for each tensor, as 8-bit hardware and searches over its bits have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch import nn


def matrices(module: nn.Module) -> dict[str, Tensor]:
    """Give the weights that are stored as integers: those of two dimensions or more, not biases and not scales."""
    floating = {name: each for name, each in module.named_parameters() if each.is_floating_point()}
    return {name: each for name, each in floating.items() if each.dim() > 1 and each.numel()}


def unfit(module: nn.Module) -> str | None:
    """Say why a module's weights cannot be stored as integers; None when they can."""
    weights = matrices(module)
    if not weights:
        return "no weights of two dimensions or more, which are what is stored as integers"
    lost = [name for name, weight in weights.items() if not weight.isfinite().all()]
    return f"weights that are not finite: {', '.join(lost)}" if lost else None


def coded(weight: Tensor, bits: int) -> tuple[Tensor, float]:
    """Round a weight to integers (int32) of so many bits, -(2^(bits-1) - 1) to 2^(bits-1) - 1, and give their step."""
    most = (1 << (bits - 1)) - 1
    step = float(weight.detach().abs().max()) / most
    if step == 0.0:
        return torch.zeros_like(weight, dtype=torch.int32), 0.0
    return (weight.detach().double() / step).round().clamp(-most, most).to(torch.int32), step
