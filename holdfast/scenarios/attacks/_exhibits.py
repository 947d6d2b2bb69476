"""What the report shows of an attack: confusion before and after, and some points before and after."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from holdfast.results import Curve, CurvePoint
from holdfast.space import Box
from holdfast.statistics import share

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.data import Samples
    from holdfast.model import Target
    from holdfast.scenarios.attacks._shards import Strike
    from holdfast.space import Table

_SHOWN = 8
_SIDE = 64
"""Longest side of an image in a finding; larger ones are thinned out."""


def confusion(y: Tensor, clean: Tensor, attacked: Tensor, classes: int) -> dict[str, list[list[int]]]:
    """Count (true, predicted) pairs, clean and under attack; the last column counts outputs that are not finite."""
    return {name: _matrix(y, found, classes) for name, found in (("clean", clean), ("under_attack", attacked))}


def _matrix(y: Tensor, predicted: Tensor, classes: int) -> list[list[int]]:
    column = torch.where(predicted < 0, classes, predicted)
    counts = torch.bincount(y * (classes + 1) + column, minlength=classes * (classes + 1))
    rows: list[list[int]] = counts.reshape(classes, classes + 1).tolist()
    return rows


def against_queries(strike: Strike, most: int) -> Curve:
    """Give the share of points still right after so many queries each: 0, 1, 2, 5, 10, 20 ... and all ``most``.

    Args:
        strike: what the attack did to the points.
        most: queries of one point at most.
    """
    marks = (part * 10**power for power in range(len(str(most))) for part in (1, 2, 5))
    points = [(at, strike.robust | (strike.asked > at)) for at in (0, *(m for m in marks if m < most))]
    points.append((most, strike.robust))
    scores = tuple(CurvePoint(at=at, score=share(held.cpu().numpy(), kind="upper_bound")) for at, held in points)
    return Curve(name="robust accuracy", axis="queries", points=scores)


def pairs(target: Target, samples: Samples, adversarial: Tensor, predicted: Tensor, shown: Tensor) -> list[Any]:
    """Give up to 8 of the ``shown`` points (n,) before and after: pixels as uint8, or feature to value."""
    some = torch.nonzero(shown).flatten()[:_SHOWN].tolist()
    return [
        {
            "id": int(samples.ids[i]),
            "label": target.classes[int(samples.y[i])],
            "predicted": target.classes[int(predicted[i])] if int(predicted[i]) >= 0 else None,
            "before": _render(target.space, samples.x[i]),
            "after": _render(target.space, adversarial[i]),
        }
        for i in some
    ]


def _render(space: Box | Table, x: Tensor) -> list[Any] | dict[str, float | str | None]:
    return _image(space, x) if isinstance(space, Box) else _row(space, x)


def _image(space: Box, x: Tensor) -> list[Any]:
    """Nested uint8: (h, w) for one channel, else (c, h, w)."""
    thin = math.ceil(max(x.shape[1:]) / _SIDE)
    grey = ((x[:, ::thin, ::thin] - space.low) / (space.high - space.low)).clamp(0, 1)
    pixels: list[Any] = (grey * 255).round().to(torch.uint8).tolist()
    return pixels[0] if len(pixels) == 1 else pixels


def _row(space: Table, x: Tensor) -> dict[str, float | str | None]:
    """Feature to value; None is missing, and a category not seen in training says so."""
    values: dict[str, float | str | None] = {}
    for feature, value in zip(space.features, x.tolist(), strict=True):
        if math.isnan(value):
            values[feature.name] = None
        elif feature.kind == "category":
            code = int(value)
            values[feature.name] = feature.categories[code] if code < len(feature.categories) else "(not seen)"
        else:
            values[feature.name] = value
    return values
