"""Bits of floating numbers: how each type lays them out, and what a number becomes when one of them turns over."""

from __future__ import annotations

import torch
from torch import Tensor

CLASSES = ("sign", "exponent", "mantissa")
LAYOUTS = {
    torch.float64: (torch.int64, 11, 52),
    torch.float32: (torch.int32, 8, 23),
    torch.float16: (torch.int16, 5, 10),
    torch.bfloat16: (torch.int16, 8, 7),
}
"""Integer type of the same size, bits of the exponent, bits of the mantissa; one more is the sign."""


def spans(kind: torch.dtype) -> dict[str, tuple[int, int]]:
    """Give the first bit and the number of bits of each class; bit 0 is the last of the mantissa."""
    _, exponent, mantissa = LAYOUTS[kind]
    return {"sign": (exponent + mantissa, 1), "exponent": (mantissa, exponent), "mantissa": (0, mantissa)}


def width(kind: torch.dtype) -> int:
    """Count the bits of one number."""
    _, exponent, mantissa = LAYOUTS[kind]
    return 1 + exponent + mantissa


def mask(bit: int, like: Tensor) -> Tensor:
    """Give the integer of one bit, in the type of the integers ``like``."""
    size = 8 * like.element_size()
    value = 1 << bit
    return torch.tensor(value - (1 << size) if bit == size - 1 else value, dtype=like.dtype, device=like.device)


def flipped(values: Tensor, bits: Tensor) -> Tensor:
    """Turn over one bit (n,) of each number (n,), by its place; the numbers that are given stay what they are."""
    integers = values.contiguous().view(LAYOUTS[values.dtype][0])
    masks = torch.stack([mask(bit, integers) for bit in range(width(values.dtype))])
    return (integers ^ masks[bits]).view(values.dtype)
