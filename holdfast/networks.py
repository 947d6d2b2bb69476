"""Networks that ship with Holdfast; a user's own factory has the same two arguments, and any settings."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from holdfast.space import Table


class ImageEncoder(nn.Module):
    """Standardise images channel by channel, inside the model."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.reshape(-1, 1, 1), persistent=False)
        self.register_buffer("std", std.reshape(-1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, c, h, w) in pixel units to zero mean and unit variance."""
        standard: Tensor = (x - self.mean) / self.std
        return standard


class TableEncoder(nn.Module):
    """Turn raw rows into what a network can learn from, inside the model, so that gradients reach raw units.

    A number becomes sign(z) log(1 + |z|) of its distance z from the median in interquartile ranges, which tames
    amounts over many orders of magnitude, a flag for missing, and its piecewise linear encoding between training
    quantiles, with which a network finds thresholds as trees do. A category becomes one of k + 2: the k names, one
    for names not seen in training, one for missing.

    Source: Gorishniy, Rubachev and Babenko 2022, arXiv:2203.05556, equation 1, clamped at the outer knots.
    """

    median: Tensor
    unit: Tensor
    piece: Tensor
    left: Tensor
    length: Tensor
    most: Tensor
    first: Tensor

    def __init__(self, space: Table) -> None:
        super().__init__()
        numbers = space.columns("number")
        features = [space.features[i] for i in numbers]
        self.numbers = numbers
        self.coded = space.columns("category")
        most = [len(space.features[i].categories) for i in self.coded]
        first = [sum(most[:place]) + 2 * place for place in range(len(most))]
        self.options = sum(most) + 2 * len(most)
        self.register_buffer("most", torch.tensor(most, dtype=torch.float32), persistent=False)
        self.register_buffer("first", torch.tensor(first, dtype=torch.int64), persistent=False)
        self.register_buffer("median", torch.tensor([f.median for f in features]), persistent=False)
        self.register_buffer("unit", torch.tensor([f.iqr or f.std or 1.0 for f in features]), persistent=False)
        pieces = [(i, a, b - a) for i, f in enumerate(features) for a, b in pairwise(f.knots)]
        self.register_buffer("piece", torch.tensor([i for i, _, _ in pieces], dtype=torch.int64), persistent=False)
        self.register_buffer("left", torch.tensor([a for _, a, _ in pieces]), persistent=False)
        self.register_buffer("length", torch.tensor([b for _, _, b in pieces]), persistent=False)
        self.width = 2 * len(numbers) + len(pieces) + self.options

    def forward(self, x: Tensor) -> Tensor:
        """Map raw rows (n, features) to (n, width)."""
        raw = x[:, self.numbers]
        missing = raw.isnan()
        known = torch.where(missing, self.median, raw)
        z = (known - self.median) / self.unit
        parts = [torch.where(z < 0, -torch.log1p(-z.clamp(max=0)), torch.log1p(z.clamp(min=0))), missing.to(x.dtype)]
        parts.append(known[:, self.piece].sub_(self.left).div_(self.length).clamp_(0.0, 1.0))
        code = x[:, self.coded].detach()
        index = torch.where(code.isnan(), self.most + 1.0, torch.minimum(code.clamp(min=0.0), self.most)).round()
        one_of = torch.zeros(len(x), self.options, dtype=x.dtype, device=x.device)
        parts.append(one_of.scatter_(1, index.long() + self.first, 1.0))
        return torch.cat(parts, dim=1)


def cnn(shape: tuple[int, ...], classes: int, width: int = 32, hidden: int = 128) -> nn.Module:
    """Two strided convolution pairs with batch normalisation: small, and trains in seconds on a CPU.

    Args:
        shape: (channels, height, width) of one image.
        classes: number of logits.
        width: channels of the first pair; the second has twice as many.
        hidden: width of the layer before the logits.
    """
    channels, height, extent = shape
    wide = 2 * width
    rows, columns = -(-height // 4), -(-extent // 4)
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, wide, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(wide), nn.ReLU(),
        nn.Conv2d(wide, wide, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(wide), nn.ReLU(),
        nn.Flatten(), nn.Linear(wide * rows * columns, hidden), nn.ReLU(), nn.Linear(hidden, classes),
    )  # fmt: skip


def mlp(shape: tuple[int, ...], classes: int, width: int = 64, depth: int = 2, dropout: float = 0.0) -> nn.Module:
    """Build a multilayer perceptron on encoded rows.

    Args:
        shape: (features,) after encoding.
        classes: number of logits.
        width: units of each hidden layer.
        depth: number of hidden layers.
        dropout: share of units dropped in training.
    """
    layers: list[nn.Module] = []
    size = shape[0]
    for _ in range(depth):
        layers += [nn.Linear(size, width), nn.ReLU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
        size = width
    return nn.Sequential(*layers, nn.Linear(size, classes))
