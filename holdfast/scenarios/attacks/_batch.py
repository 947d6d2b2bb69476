"""Points under attack: what an attack may do to them, and the books that are kept meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from holdfast.scenarios.attacks._planes import dual_lengths
from holdfast.scenarios.attacks._swaps import changed
from holdfast.space import Table

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.model import Target
    from holdfast.perturbation import Threat
    from holdfast.space import Box


_HELD = 1 << 26
"""Elements of all classes' gradients held at a time: bounds memory, and changes no result."""
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
        asked: queries of each point until it broke, or of all that were made (n,).
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
        self.steps, self.asked = torch.zeros_like(y), torch.zeros_like(y)
        self.space: Box | Table = target.space
        self._relaxed = _without_grid(target.space)
        self._categories = target.space.columns("category", mutable=True) if isinstance(target.space, Table) else []
        self._baseline = torch.full(y.shape, torch.nan, dtype=x.dtype, device=y.device)

    def __len__(self) -> int:
        return len(self.y)

    @property
    def gridded(self) -> bool:
        """Whether features move in whole steps, so that what the model sees is not the iterate itself."""
        return self._relaxed is not self.space

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

    def confine(self, rows: Tensor, z: Tensor) -> Tensor:
        """Move iterates (m, *shape) into the space, wherever the ball ends; grids apart."""
        return self._relaxed.project(z, self._home(rows, z))

    def room(self, rows: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Give how far each feature of iterates (m, *shape) may fall, and rise, inside the space, in its units."""
        scale = self.space.scale(z.device)
        low, high = self.space.limits(self._home(rows, z))
        down, up = ((end / scale.clamp(min=1e-12)).clamp(min=0.0) for end in (z - low, high - z))
        return down, up

    def query(self, rows: Tensor, z: Tensor, *, beyond: bool = False) -> Tensor:
        """Give the logits (m, classes) at iterates (m, *shape), put on their grids, and book what they break.

        Args:
            rows: row numbers (m,).
            z: iterates in the ball; or, confined, anywhere in the space.
            beyond: the iterates may lie outside the ball, and breaking a point there is nothing to book.
        """
        return self.query_each(rows, z[:, None], beyond=beyond)[:, 0]

    def query_each(self, rows: Tensor, z: Tensor, *, beyond: bool = False) -> Tensor:
        """Give the logits (m, k, classes) at k iterates of each row (m, k, *shape), and book what they break.

        They count as asked one after the other: of a point that breaks those behind its first such row are no queries,
        though the model has seen them.
        """
        count = z.shape[1]
        every, flat = rows.repeat_interleave(count), z.flatten(0, 1)
        x = self._real(every, flat, beyond=beyond)
        with torch.no_grad():
            logits = self.target.logits(x)
        self._book_inside(every, x, logits, beyond=beyond, each=count)
        return logits.reshape(len(rows), count, logits.shape[1])

    def gradient(
        self, rows: Tensor, z: Tensor, loss: Callable[[Tensor, Tensor], Tensor], *, beyond: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Give loss (m,), its gradient (m, *shape) and logits at iterates (m, *shape), and book what they break.

        Args:
            rows: row numbers (m,).
            z: iterates; they are put on their grids first.
            loss: maps (logits (k, classes), positions in ``rows`` (k,)) to losses (k,), to be climbed.
            beyond: as in ``query``.
        """
        x = self._real(rows, z, beyond=beyond)
        values, logits, gradient = self.target.value_and_gradient(x, loss)
        gradient = torch.where(x.isnan(), 0.0, gradient)
        self._trace(rows, x, values, gradient)
        self._book_inside(rows, x, logits, beyond=beyond)
        return values, gradient.nan_to_num(0.0, 0.0, 0.0), logits

    def nearest(self, rows: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Find the wrong class whose boundary is nearest to iterates (m, *shape), by all classes' gradients.

        The iterates may lie outside the ball, as in ``query``; what they break inside is booked.

        Returns:
            That class's logit less the label's (m,), and the gradient of this difference (m, *shape).
        """
        size = max(_HELD // (self.x[0].numel() * len(self.target.classes)), 1)
        pieces = [self._nearest(rows[at : at + size], z[at : at + size]) for at in range(0, len(rows), size)]
        leads, gradients = zip(*pieces, strict=True)
        return torch.cat(leads), torch.cat(gradients)

    def _nearest(self, rows: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        x, y, each = self._real(rows, z, beyond=True), self.y[rows], torch.arange(len(rows), device=z.device)
        logits, slopes = self.target.jacobian(x)
        slopes = torch.where(x[:, None].isnan(), 0.0, slopes)
        leads, slopes = logits - logits[each, y, None], slopes - slopes[each, y][:, None]
        raised = dual_lengths(self.threat.norm, (slopes * self.space.scale(z.device)).flatten(2).double())
        far = (leads.abs() / (raised + 1e-12)).nan_to_num(torch.inf).scatter(1, y[:, None], torch.inf)
        chosen = far.argmin(1)
        lead, gradient = leads[each, chosen], slopes[each, chosen]
        self._trace(rows, x, lead, gradient)
        self._book_inside(rows, x, logits, beyond=True)
        return lead, gradient.nan_to_num(0.0, 0.0, 0.0)

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

    def _real(self, rows: Tensor, z: Tensor, *, beyond: bool = False) -> Tensor:
        if not self.gridded:
            return z
        home = self._home(rows, z)
        return self.space.project(z, home) if beyond else self.threat.project(z, home, self.space)

    def _home(self, rows: Tensor, z: Tensor) -> Tensor:
        """Give the origins of these rows with the categories of ``z``, which no ball moves back."""
        home = self.origin[rows]
        if self._categories:
            home[:, self._categories] = z[:, self._categories]
        return home

    def _book_inside(self, rows: Tensor, x: Tensor, logits: Tensor, *, beyond: bool, each: int = 1) -> None:
        """Book, but for what lies outside the ball: by no tolerance, since nothing has projected these rows.

        Of ``each`` rows of a point in a row, its first that breaks it is kept, or else its last inside.
        """
        inside = torch.ones_like(rows, dtype=torch.bool)
        if beyond:
            inside = self.threat.distance(x, self.x[rows], self.space) <= self.threat.epsilon
        place = torch.arange(1, each + 1, device=rows.device)
        inside, breaks = (t.reshape(-1, each) for t in (inside, inside & fooled(logits, self.y[rows])))
        points, x, broke = rows[::each], x.reshape(-1, each, *x.shape[1:]), breaks.any(1)
        chosen = torch.where(broke, breaks.to(place.dtype).argmax(1), (inside * place).argmax(1))
        self.asked[points] += torch.where(broke, chosen + 1, each)
        kept = inside.any(1)
        self.adversarial[points[kept]] = x[kept, chosen[kept]]
        self.broken[points] |= broke

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


def likeliest(batch: Batch) -> Tensor:
    """Rank for each standing point (n, classes) all classes by their logits at the origin, the label last."""
    rows = batch.begin()
    logits = batch.query(rows, batch.origin[rows])
    ranked = logits.scatter(1, batch.y[rows, None], -torch.inf).argsort(dim=1, descending=True, stable=True)
    order = torch.zeros((len(batch), logits.shape[1]), dtype=torch.int64, device=logits.device)
    order[rows] = ranked
    return order


def fooled(logits: Tensor, y: Tensor) -> Tensor:
    """Tell which points (m,) are broken: another class leads, or there is no finite answer."""
    return (logits.argmax(1) != y) | ~logits.isfinite().all(1)


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
