"""Threats: how far an attacker may move an input; what adversarial training and attacks both stand on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from holdfast.results import Value

if TYPE_CHECKING:
    from holdfast.seeding import Noise
    from holdfast.space import Box, Table


class Threat(Value):
    """A ball of radius epsilon in the space's units: pixel values for images, training IQRs for tables."""

    norm: Literal["linf", "l2"] = "linf"
    epsilon: Annotated[float, Field(ge=0.0)]

    def project(self, x: Tensor, origin: Tensor, space: Box | Table) -> Tensor:
        """Move x (n, *shape) into the ball around its origin, and then to an input that can exist."""
        scale = space.scale(x.device)
        move = torch.where(origin.isnan(), 0.0, x - origin)
        if self.norm == "linf":
            inside = _add(origin, torch.minimum(torch.maximum(move, -self.epsilon * scale), self.epsilon * scale))
        else:
            length = _lengths(_unscale(move, scale))
            shrink = (self.epsilon / length.clamp(min=1e-12)).clamp(max=1.0)
            inside = _add(origin, torch.where(scale > 0, move * shrink, 0.0))
        return space.project(inside, origin)

    def holds(self, x: Tensor, origin: Tensor, space: Box | Table) -> Tensor:
        """Tell which rows (n,) lie inside the ball and can exist; categories are not the ball's business."""
        move = torch.where(origin.isnan(), 0.0, x - origin)
        inside = self.distance(x, origin, space) <= self._admitted
        return inside & _keeps_still(move, space) & space.feasible(x, origin)

    def distance(self, x: Tensor, origin: Tensor, space: Box | Table) -> Tensor:
        """Give the distance (n,) of rows from their origins, in the space's units; what cannot move has none."""
        move = torch.where(origin.isnan(), 0.0, x - origin)
        moves = _unscale(move, space.scale(x.device)).flatten(1)
        length: Tensor = moves.abs().amax(1) if self.norm == "linf" else moves.double().norm(dim=1)
        return length

    @property
    def _admitted(self) -> float:
        """Epsilon, and what float32 may add to it."""
        return self.epsilon * (1 + 1e-4) + 1e-6

    @property
    def reach(self) -> float:
        """The largest distance, in exact arithmetic, of what ``holds`` admits: its own is float32."""
        return self._admitted * (1 + 2.0**-20)

    def hull(self, origin: Tensor, space: Box) -> tuple[Tensor, Tensor]:
        """Give the smallest and the largest values (n, *shape), float64, of images that ``holds`` admits.

        An origin outside the bounds widens them to itself, as in projection. For L2 it is the box around the ball.
        """
        x = origin.double()
        low, high = space.outermost(x)
        return torch.maximum(x - self.reach, low), torch.minimum(x + self.reach, high)

    def start(self, origin: Tensor, ids: Tensor, noise: Noise, space: Box | Table) -> Tensor:
        """Draw a start in the ball: uniform for L-inf, uniform on the sphere times a uniform radius for L2."""
        scale, shape = space.scale(origin.device), tuple(origin.shape[1:])
        if self.norm == "linf":
            move = noise.uniform(ids, shape, -self.epsilon, self.epsilon)
        else:
            direction = noise.normal(ids, shape)
            radius = noise.derive("radius").uniform(ids, (), 0.0, self.epsilon)
            move = direction * _column(radius, origin) / _lengths(direction).clamp(min=1e-12)
        return self.project(origin + move * scale, origin, space)

    def ascend(self, x: Tensor, gradient: Tensor, stride: Tensor | float, space: Box | Table) -> Tensor:
        """Take one steepest step of length ``stride`` (a number, or (n,)) in the space's units, not yet projected."""
        scale = space.scale(x.device)
        slope = gradient * scale
        direction = slope.sign() if self.norm == "linf" else slope / _lengths(slope).clamp(min=1e-12)
        length = _column(stride, x) if isinstance(stride, Tensor) else stride
        return x + length * scale * direction


def _column(values: Tensor, like: Tensor) -> Tensor:
    """Reshape (n,) so that it broadcasts over (n, *shape)."""
    return values.reshape(-1, *[1] * (like.dim() - 1))


def _add(origin: Tensor, move: Tensor) -> Tensor:
    """Add a move, rounded towards the origin: beside large amounts, float32 would overrun a small budget."""
    x = origin + move
    return torch.where((x - origin).abs() > move.abs(), torch.nextafter(x, origin), x)


def _keeps_still(move: Tensor, space: Box | Table) -> Tensor:
    """Tell which rows (n,) leave the numbers without a unit of distance where they are."""
    if space.kind == "box":
        return torch.ones(len(move), dtype=torch.bool, device=move.device)
    still = [i for i in space.columns("number") if not (space.features[i].mutable and space.features[i].unit)]
    return (move[:, still] == 0).all(1)


def _lengths(x: Tensor) -> Tensor:
    """L2 length of each row, shaped to broadcast; summed in float64, so that the rows beside it change no bit."""
    return _column(x.flatten(1).double().norm(dim=1).to(x.dtype), x)


def _unscale(move: Tensor, scale: Tensor) -> Tensor:
    """Distances in units of scale; what cannot move has none."""
    return torch.where(scale > 0, move / scale.clamp(min=1e-12), 0.0)
