"""The short attacks inside training: gradient ascent on inputs that stays in the threat and among what can exist."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from holdfast.perturbation import Threat
    from holdfast.seeding import Noise
    from holdfast.space import Box, Table

VALIDATION_STEPS = 10


def stride_of(epsilon: float, steps: int) -> float:
    """Give the step, in the threat's units, that crosses the ball in ``steps`` and can still settle (Madry et al.)."""
    return 2.5 * epsilon / steps


class Ascent:
    """Rows under attack: where each row's climb stands, in the space's units, and the input that it stands for.

    The position moves freely in the ball, and the input is its projection: where a feature has a grid, steps
    smaller than the grid add up instead of being lost. Gradients are taken at the input.
    """

    def __init__(self, origin: Tensor, ids: Tensor, noise: Noise, threat: Threat, space: Box | Table) -> None:
        """Start at random in the ball around ``origin`` (n, *shape)."""
        self.origin, self.threat, self.space = origin, threat, space
        self.scale = space.scale(origin.device)
        self.x = threat.start(origin, ids, noise, space)
        moved = torch.where(origin.isnan(), 0.0, self.x - origin)
        self.position = torch.where(self.scale > 0, moved / self.scale.clamp(min=1e-12), 0.0)

    def step(self, gradient: Tensor, stride: float) -> None:
        """Take one steepest step of length ``stride`` along the loss gradient in the inputs (n, *shape)."""
        slope = gradient * self.scale
        if self.threat.norm == "linf":
            moved = self.position + stride * slope.sign()
            self.position = moved.clamp(-self.threat.epsilon, self.threat.epsilon)
        else:
            moved = self.position + stride * slope / _lengths(slope)
            self.position = moved * (self.threat.epsilon / _lengths(moved)).clamp(max=1.0)
        self.x = self.threat.project(self.origin + self.position * self.scale, self.origin, self.space)

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the rows, by mask (n,)."""
        self.origin, self.x, self.position = self.origin[rows], self.x[rows], self.position[rows]


def _lengths(x: Tensor) -> Tensor:
    """L2 length of each row, never 0, shaped to broadcast."""
    lengths: Tensor = torch.linalg.vector_norm(x.flatten(1), dim=1)
    return lengths.clamp(min=1e-12).reshape(-1, *[1] * (x.dim() - 1))


def slope(network: nn.Module, x: Tensor, objective: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Give the gradient in the inputs alone (n, *shape) of the objective's sum, and the logits (n, classes)."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        logits = network(leaf)
        (gradient,) = torch.autograd.grad(objective(logits).sum(), leaf)
    return gradient, logits.detach()


def _cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(logits, labels, reduction="none")


def climb(
    network: nn.Module, ascent: Ascent, steps: int, stride: float, objective: Callable[[Tensor], Tensor]
) -> Tensor:
    """Climb an objective of the logits; give the last input (n, *shape), feasible and inside the threat."""
    for _ in range(steps):
        gradient, _ = slope(network, ascent.x, objective)
        ascent.step(gradient, stride)
    return ascent.x


def survivors(
    network: nn.Module, x: Tensor, y: Tensor, ids: Tensor, noise: Noise, space: Box | Table, threat: Threat
) -> Tensor:
    """Tell which rows (n,) are right as they are and at every input of a ten-step PGD from one random start.

    It chooses epochs and is no verdict: the scorecard's attacks are stronger. Source: Madry et al. 2018,
    arXiv:1706.06083.
    """
    with torch.no_grad():
        right: Tensor = network(x).argmax(1) == y
    alive = right.nonzero().squeeze(1)
    if len(alive) == 0:
        return right
    ascent = Ascent(x[alive], ids[alive], noise, threat, space)
    for step in range(VALIDATION_STEPS + 1):
        labels = y[alive]
        gradient, logits = slope(network, ascent.x, partial(_cross_entropies, labels=labels))
        stands = logits.argmax(1) == labels
        right[alive[~stands]] = False
        if step == VALIDATION_STEPS or not stands.any():
            break
        if not stands.all():  # a broken row stays broken: what is left costs less
            alive, gradient = alive[stands], gradient[stands]
            ascent.keep(stands)
        ascent.step(gradient, stride_of(threat.epsilon, VALIDATION_STEPS))
    return right
