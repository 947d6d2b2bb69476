"""Proving that classes cannot be overtaken: intervals first, then lines through the whole network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from holdfast.errors import ScenarioError
from holdfast.scenarios.certificates._layers import (
    Convolution,
    Dense,
    Flat,
    Interval,
    Layer,
    Rectifier,
    Relaxation,
    Rows,
)
from holdfast.scenarios.certificates._network import read

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from holdfast.data import Samples
    from holdfast.model import Target
    from holdfast.perturbation import Threat
    from holdfast.space import Box

_POINTS = 64
"""Points of one part."""
_NUMBERS = 1 << 21
"""Coefficients of one part of the rows: bounds memory."""
_SURE = 1.001
"""Times what float32 can err; the thousandth is for float64 bounds, which err 2^29 times less."""


@dataclass(frozen=True)
class Proof:
    """What was certified (n,), by which bounds how many, and how far float32 may be off, at most."""

    certified: Tensor
    decided: dict[str, int]
    rounding: float


class Region(NamedTuple):
    """The inputs of some points: a box (n, *shape), and for L2 the ball inside of it around the points."""

    centre: Tensor
    low: Tensor
    high: Tensor
    radius: float | None
    """Of the L2 ball; None where the box is all."""

    @classmethod
    def around(cls, x: Tensor, threat: Threat, space: Box) -> Region:
        """Enclose what a threat leaves of images (n, *shape)."""
        low, high = threat.hull(x, space)
        return cls(x.double(), low, high, threat.reach if threat.norm == "l2" else None)

    def take(self, points: Tensor) -> Region:
        """Select points."""
        return self._replace(centre=self.centre[points], low=self.low[points], high=self.high[points])

    def least(self, rows: Rows) -> Tensor:
        """Give the least value of each linear function of the input (m,); of box and ball whichever says more."""
        a = rows.coefficients
        low, high = rows.gather(self.low), rows.gather(self.high)
        in_box = rows.constant + (a.clamp(min=0.0) * low + a.clamp(max=0.0) * high).flatten(1).sum(1)
        if self.radius is None:
            return in_box
        free = torch.where(high > low, a, 0.0).flatten(1).norm(dim=1)
        in_ball = rows.constant + (a * rows.gather(self.centre)).flatten(1).sum(1) - self.radius * free
        return torch.maximum(in_box, in_ball)


class Enclosure(NamedTuple):
    """What is known of some points in a network: bounds of every layer's input, and lines around rectifiers."""

    layers: tuple[Layer, ...]
    region: Region
    bounds: list[Interval]
    """One more than there are layers: the last is of the logits."""
    lines: dict[int, Relaxation]
    """By the rectifier's place among the layers."""

    def back(self, at: int, rows: Rows) -> Rows:
        """Carry linear functions of one layer's output to its input: lower bounds stay lower bounds."""
        layer = self.layers[at]
        return layer.backward(rows, self.lines[at]) if isinstance(layer, Rectifier) else layer.backward(rows)

    def through(self, rows: Rows, until: int) -> Rows:
        """Carry linear functions of the last output back to the input of one layer."""
        for at in reversed(range(until, len(self.layers))):
            rows = self.back(at, rows)
        return rows

    def after(self, first: int) -> Enclosure:
        """Forget the layers before one, and all but the box of what it reads."""
        low, high, _ = self.bounds[first]
        lines = {at - first: line for at, line in self.lines.items() if at >= first}
        return Enclosure(self.layers[first:], Region(low, low, high, None), self.bounds[first:], lines)


def prove(target: Target, space: Box, samples: Samples, asked: Tensor, threat: Threat) -> Proof:
    """Certify the points of a mask (n,) by intervals, by lines between intervals, and by lines all the way.

    Each point is certified or not for itself; a pair of point and class leaves with the first bound that decides it.

    Args:
        target: a model whose module has no `obstacle`.
        space: its images.
        samples: the points.
        asked: which of them to certify.
        threat: how far an input may move.

    Raises:
        ScenarioError: the model answers outside of its own bounds.
    """
    layers = read(target.module, tuple(samples.x.shape[1:]), target.device)
    certified, decided, worst = torch.zeros_like(asked), dict.fromkeys(_ATTEMPTS, 0), 0.0
    everything = torch.nonzero(asked).flatten()
    for start in range(0, len(everything), _POINTS):
        points = everything[start : start + _POINTS]
        part = samples.take(points)
        region = Region.around(part.x, threat, space)
        bounds = intervals(layers, region)
        _check(target, part.x, bounds[-1])
        left = torch.nonzero(torch.arange(layers[-1].out[0], device=part.y.device) != part.y[:, None])
        for name, attempt in _ATTEMPTS.items():
            if not len(left):
                break
            some, owner = torch.unique(left[:, 0], return_inverse=True)
            known = attempt(layers, region.take(some), [each.take(some) for each in bounds])
            least, rounding = margins(known, Pairs(owner, part.y[left[:, 0]], left[:, 1]))
            proved = least > _SURE * rounding
            left = left[~proved]
            decided[name] += len(some) - len(torch.unique(left[:, 0]))
            worst = max(worst, float(torch.where(proved, rounding, 0.0).max()))
        certified[points] = ~torch.isin(torch.arange(len(part), device=left.device), left[:, 0])
    return Proof(certified, decided, worst)


def intervals(layers: tuple[Layer, ...], region: Region) -> list[Interval]:
    """Bound every layer's input, and last the logits, by intervals alone (IBP)."""
    found = [Interval(region.low, region.high, torch.zeros_like(region.low))]
    for layer in layers:
        found.append(layer.forward(found[-1]))
    return found


def by_intervals(layers: tuple[Layer, ...], region: Region, bounds: list[Interval]) -> Enclosure:
    """Enclose by intervals what the last linear layers read, and no more."""
    first = max((at + 1 for at, layer in enumerate(layers) if isinstance(layer, Rectifier)), default=0)
    known = Enclosure(layers, region, bounds, {})
    return known.after(first) if first else known


def by_lines_between_intervals(layers: tuple[Layer, ...], region: Region, bounds: list[Interval]) -> Enclosure:
    """Enclose rectifiers by lines that suit intervals (CROWN-IBP, Zhang et al. 2020, arXiv:1906.06316)."""
    lines = {at: layer.relax(bounds[at]) for at, layer in enumerate(layers) if isinstance(layer, Rectifier)}
    return Enclosure(layers, region, bounds, lines)


def by_lines(layers: tuple[Layer, ...], region: Region, bounds: list[Interval]) -> Enclosure:
    """Enclose rectifiers by lines that suit bounds which lines have proved, one rectifier after another (CROWN)."""
    known = Enclosure(layers, region, bounds[:1], {})
    for at, layer in enumerate(layers):
        if isinstance(layer, Rectifier):
            if known.lines or region.radius is not None or _mixing(layers[:at]) > 1:
                known.bounds[at] = tighten(known._replace(layers=layers[:at]))
            known.lines[at] = layer.relax(known.bounds[at])
        known.bounds.append(layer.forward(known.bounds[at]))
    return known


def _mixing(layers: tuple[Layer, ...]) -> int:
    """Count the layers that add up: through one of them, intervals of a box are exact."""
    return sum(isinstance(layer, Dense | Convolution) for layer in layers)


_ATTEMPTS = {"ibp": by_intervals, "crown_ibp": by_lines_between_intervals, "crown": by_lines}
"""From the cheapest to the tightest."""


class Pairs(NamedTuple):
    """A point, its label and another class, for each margin (m,)."""

    owner: Tensor
    label: Tensor
    other: Tensor


def margins(known: Enclosure, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Bound from below by how much a label's logit exceeds another class's.

    Returns:
        Bounds (m,) in exact arithmetic, and how much float32 can take off each (m,). Errors that both logits inherit
        cancel as the logits do; those of the last layer itself add up.
    """
    last = known.layers[-1]
    eye = torch.eye(last.out[0], dtype=torch.float64, device=pairs.label.device)
    differences = eye[pairs.label] - eye[pairs.other]
    rows = Rows(pairs.owner, differences, torch.zeros_like(differences[:, 0]))
    least = torch.cat([lower(known, part) for part in _parts(known.layers, rows)])
    low, high, error = known.bounds[-2]
    own = last.forward(Interval(low - error, high + error, torch.zeros_like(error))).error
    shared = known.back(len(known.layers) - 1, rows).coefficients.abs()
    inherited = (shared * error[pairs.owner]).flatten(1).sum(1)
    return least, inherited + own[pairs.owner, pairs.label] + own[pairs.owner, pairs.other]


def tighten(known: Enclosure) -> Interval:
    """Bound the outputs of the layers by lines, where their intervals leave the sign open."""
    given = known.bounds[-1]
    where = torch.nonzero((given.low < 0) & (given.high > 0))
    low, high = given.low.clone(), given.high.clone()
    rows = _single(where, tuple(given.low.shape[1:]))
    stem = max((at + 1 for at in known.lines), default=0)  # until there upper and lower bounds are one function
    start = 0
    for part in _parts(known.layers, rows):
        index = tuple(where[start : start + len(part.owner)].T)
        start += len(part.owner)
        below = known.through(part, stem)
        rest = known._replace(layers=known.layers[:stem])
        low[index] = torch.maximum(low[index], lower(rest, below))
        high[index] = torch.minimum(high[index], -lower(rest, below.negated()))
    return Interval(low, high, given.error)


def lower(known: Enclosure, rows: Rows) -> Tensor:
    """Bound linear functions of the last layer's output from below (m,): section 3.2 of CROWN, layer by layer."""
    return known.region.least(known.through(rows, 0))


def _single(where: Tensor, shape: tuple[int, ...]) -> Rows:
    """Ask for one number of a layer's output each: by point and place (m, 1 + dimensions)."""
    flags = torch.nn.functional.one_hot(where[:, 1], shape[0]).double()
    constant = torch.zeros(len(where), dtype=torch.float64, device=where.device)
    if len(shape) == 1:
        return Rows(where[:, 0], flags, constant)
    return Rows(where[:, 0], flags[:, :, None, None], constant, where[:, 2:])


def _parts(layers: tuple[Layer, ...], rows: Rows) -> Iterator[Rows]:
    """Cut rows into parts that memory is for."""
    size = _size(layers, rows)
    for start in range(0, len(rows.owner), size):
        yield Rows(*(None if each is None else each[start : start + size] for each in rows))  # type: ignore[arg-type]


def _size(layers: tuple[Layer, ...], rows: Rows) -> int:
    """Say how many rows the widest layer on their way, or their windows of it, allows at a time."""
    window = None if rows.corner is None else (1, 1)
    most = 1
    for layer in reversed(layers):
        if isinstance(layer, Flat):
            window = None
        elif isinstance(layer, Convolution) and window is not None:
            window = layer.window(window)
        most = max(most, layer.shape[0] * window[0] * window[1] if window else torch.Size(layer.shape).numel())
    return max(1, _NUMBERS // most)


def _check(target: Target, x: Tensor, logits: Interval) -> None:
    """Hold what the model answers at the points themselves against the bounds.

    Raises:
        ScenarioError: the layers are not what the model computes.
    """
    with torch.no_grad():
        found = target.logits(x).double()
    outside = (found < logits.low - logits.error) | (found > logits.high + logits.error)
    if bool(outside.any()):
        raise ScenarioError(
            "certificates/linear_bounds", found=f"logits outside of their bounds at {int(outside.any(1).sum())} points",
            expected="what the layers compute, one after another",
            remedy="Take the scenario out of the pack for this model, and report its layers.",
        )  # fmt: skip
