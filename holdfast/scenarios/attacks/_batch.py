"""Points under attack: what an attack may do to them, and the books that are kept meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from holdfast.scenarios.attacks._swaps import changed
from holdfast.space import Table

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.model import Target
    from holdfast.perturbation import Threat
    from holdfast.space import Box


BOOKS = ("flat", "wild", "rose")
"""What a batch notes of each point for the validity record."""


class Batch:
    """Points under attack; each leaves the moment a row that can exist breaks it.

    Attributes:
        target: the model.
        threat: how far a row may move.
        x: the clean rows (n, *shape).
        origin: where numeric moves start (n, *shape): the clean rows, on tables with categories already swapped.
        y: labels (n,).
        ids: example ids (n,).
        categories: how many mutable categorical features may differ from ``x``.
        surrogate: the model that the attacker trained; None where the attack knows only the target.
        adversarial: for each point the row that broke it, else the last one tried.
        broken: which points are broken (n,).
        flat: points whose first gradient was zero in every feature that can move (n,).
        wild: points that once had a gradient that is not finite (n,).
        rose: points whose loss rose within one run (n,).
        first: the inputs at which the first gradients were taken (n, *shape).
        steps: gradient evaluations of each point (n,).
    """

    def __init__(
        self, target: Target, threat: Threat, x: Tensor, y: Tensor, ids: Tensor, *,
        origin: Tensor | None = None, categories: int = 0, surrogate: Target | None = None,
    ) -> None:  # fmt: skip
        self.target, self.threat, self.categories, self.surrogate = target, threat, categories, surrogate
        self.x, self.y, self.ids = x, y, ids
        self.origin = x if origin is None else origin
        self.adversarial = self.origin.clone()
        self.first = self.origin.clone()
        self.broken, self.flat, self.wild, self.rose = (torch.zeros_like(y, dtype=torch.bool) for _ in range(4))
        self.steps = torch.zeros_like(y)
        self.space: Box | Table = target.space
        self._relaxed = _without_grid(target.space)
        self._categories = target.space.columns("category", mutable=True) if isinstance(target.space, Table) else []
        self._baseline = torch.full(y.shape, torch.nan, dtype=x.dtype, device=y.device)

    def __len__(self) -> int:
        return len(self.y)

    def begin(self) -> Tensor:
        """Start a run (a restart, a target) and give the row numbers (m,) of the points that still stand."""
        self._baseline.fill_(torch.nan)
        return torch.nonzero(~self.broken).flatten()

    def standing(self, rows: Tensor) -> Tensor:
        """Tell which of these rows (m,) still stand."""
        return ~self.broken[rows]

    def project(self, rows: Tensor, z: Tensor) -> Tensor:
        """Move iterates (m, *shape) into the ball and the space, grids apart: small steps must add up."""
        return self.threat.project(z, self._home(rows, z), self._relaxed)

    def ascend(self, rows: Tensor, z: Tensor, gradient: Tensor, stride: Tensor | float) -> Tensor:
        """Take one projected steepest step of length ``stride``, in the space's units, from iterates (m, *shape)."""
        return self.project(rows, self.threat.ascend(z, gradient, stride, self._relaxed))

    def start(self, rows: Tensor, directions: Tensor) -> Tensor:
        """Give the boundary point of the ball in each direction (m, *shape), projected."""
        scale = self.space.scale(directions.device)
        moves = torch.where(scale > 0, directions, 0.0).flatten(1).double()
        length = moves.abs().amax(1) if self.threat.norm == "linf" else moves.norm(dim=1)
        unit = (moves / length.clamp(min=1e-12)[:, None]).to(directions.dtype).reshape(directions.shape)
        return self.project(rows, self.origin[rows] + self.threat.epsilon * unit * scale)

    def query(self, rows: Tensor, z: Tensor) -> Tensor:
        """Give the logits (m, classes) at iterates (m, *shape), put on their grids, and book what they break."""
        x = self._real(rows, z)
        with torch.no_grad():
            logits = self.target.logits(x)
        self._book(rows, x, logits)
        return logits

    def gradient(
        self, rows: Tensor, z: Tensor, loss: Callable[[Tensor, Tensor], Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Give loss (m,), its gradient (m, *shape) and logits at iterates (m, *shape), and book what they break.

        Args:
            rows: row numbers (m,).
            z: iterates; they are put on their grids first.
            loss: maps (logits (k, classes), positions in ``rows`` (k,)) to losses (k,), to be climbed.
        """
        x = self._real(rows, z)
        values, logits, gradient = self.target.value_and_gradient(x, loss)
        gradient = torch.where(x.isnan(), 0.0, gradient)
        self._trace(rows, x, values, gradient)
        self._book(rows, x, logits)
        return values, gradient.nan_to_num(0.0, 0.0, 0.0), logits

    def bring_in(self, x: Tensor) -> Tensor:
        """Project final rows (n, *shape); with more categories changed than allowed, they go back to the origin's."""
        if isinstance(self.space, Table):
            over = changed(x, self.x, self.space).sum(1) > self.categories
            x = x.clone()
            x[:, self._categories] = torch.where(over[:, None], self.origin, x)[:, self._categories]
        inside = self.threat.holds(x, self.x, self.space)
        home = self._home(torch.arange(len(self), device=x.device), x)
        projected = self.threat.project(x, home, self.space)
        return torch.where(inside.reshape(-1, *[1] * (x.dim() - 1)), x, projected)

    def free(self) -> Tensor:
        """Tell which points (n,) the threat lets move at all."""
        return self._movable(self.origin).flatten(1).any(1)

    def _real(self, rows: Tensor, z: Tensor) -> Tensor:
        return z if self._relaxed is self.space else self.threat.project(z, self._home(rows, z), self.space)

    def _home(self, rows: Tensor, z: Tensor) -> Tensor:
        """Give the origins of these rows with the categories of ``z``, which no ball moves back."""
        home = self.origin[rows]
        if self._categories:
            home[:, self._categories] = z[:, self._categories]
        return home

    def _book(self, rows: Tensor, x: Tensor, logits: Tensor) -> None:
        wrong = (logits.argmax(1) != self.y[rows]) | ~logits.isfinite().all(1)
        self.adversarial[rows] = x
        self.broken[rows] |= wrong

    def _movable(self, origin: Tensor) -> Tensor:
        """Tell which features (n, *shape) the threat lets move, either way, from these origins."""
        reach = self.threat.epsilon * self.space.scale(origin.device)
        ways = [self.threat.project(origin + sign * reach, origin, self.space) for sign in (1, -1)]
        return ((ways[0] != origin) | (ways[1] != origin)) & ~origin.isnan()

    def _trace(self, rows: Tensor, x: Tensor, values: Tensor, gradient: Tensor) -> None:
        slope = torch.where(self.space.scale(gradient.device) > 0, gradient, 0.0).flatten(1)
        first = self.steps[rows] == 0
        self.flat[rows] |= first & (slope == 0).all(1)
        self.first[rows[first]] = x[first]
        self.wild[rows] |= ~slope.isfinite().all(1)
        self.steps[rows] += 1
        baseline = self._baseline[rows]
        self.rose[rows] |= values > baseline
        self._baseline[rows] = torch.where(baseline.isnan(), values, baseline)


def single_step(batch: Batch) -> None:
    """Take one step of the whole radius along the cross-entropy's gradient; what it breaks is booked."""
    rows = batch.begin()
    if len(rows) == 0:
        return
    z = batch.origin[rows]
    _, gradient, _ = batch.gradient(rows, z, cross_entropy(batch.y[rows]))
    keep = batch.standing(rows)
    if bool(keep.any()):
        batch.query(rows[keep], batch.ascend(rows[keep], z[keep], gradient[keep], batch.threat.epsilon))


def cross_entropy(y: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Build the cross-entropy (k,) for labels (m,): the loss of ``Batch.gradient``."""
    return lambda logits, at: F.cross_entropy(logits, y[at], reduction="none")


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """Give the label's logit less the largest other (m,); negative where the point is broken."""
    label = logits.gather(1, y[:, None])[:, 0]
    return label - logits.scatter(1, y[:, None], -torch.inf).amax(1)


def _without_grid(space: Box | Table) -> Box | Table:
    """Give the same space without steps, and the very same where it has none."""
    if not isinstance(space, Table) or not any(feature.step for feature in space.features):
        return space
    features = tuple(feature.model_copy(update={"step": None}) for feature in space.features)
    return space.model_copy(update={"features": features})
