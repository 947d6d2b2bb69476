"""Square Attack: random search that never asks for a gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, final

import torch
from pydantic import Field

from holdfast.scenarios.attacks._batch import margin
from holdfast.scenarios.attacks._search import Cells, Patches, Squares
from holdfast.scenarios.attacks.base import Attack
from holdfast.space import Box

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.scenarios.attacks._batch import Batch
    from holdfast.scenarios.attacks._search import Proposals
    from holdfast.seeding import Noise

_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries of 10,000 after which the share of changed pixels is halved."""


@final
class Square(Attack):
    """Keep the random changes that lower the label's margin; what no gradient can hide from.

    Images: squares of 2 epsilon in L-inf, moved mass in L2, as published, but each example draws its own.

    Tables, a form of ours: start at a random corner of the ball; each query sets a random subset of the mutable
    numbers (the published schedule's share of them, at least one) to random ends of the ball and, where categories
    may change, half of the queries give one mutable category another known value instead; with the budget of
    changes spent, a changed category goes back in exchange.
    """

    reference: ClassVar[str] = "Andriushchenko et al. 2020, arXiv:1912.00049, algorithms 1-3; tables ours"
    white_box: ClassVar[bool] = False
    counts_queries: ClassVar[bool] = True

    queries: Annotated[int, Field(gt=0)] = 5000
    share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.8
    """Share of pixels or features that the first queries change."""

    @property
    def most_forwards(self) -> int:
        """Forwards of one point at most."""
        return self.queries

    def perturb(self, batch: Batch, noise: Noise) -> Tensor:
        """Propose the first query that breaks the point."""
        rows = batch.begin()
        if len(rows) == 0:
            return batch.adversarial
        proposals = self._proposals(batch)
        z = proposals.first(rows, noise.derive("start"))
        lowest = margin(batch.query(rows, z), batch.y[rows])
        for query in range(1, self.queries):
            keep = batch.standing(rows)
            if not keep.all():
                rows, z, lowest = rows[keep], z[keep], lowest[keep]
            if len(rows) == 0:
                break
            tried = proposals.next(rows, z, self._share_at(query), noise.derive("query", query))
            found = margin(batch.query(rows, tried), batch.y[rows])
            better = found < lowest
            z = torch.where(better.reshape(-1, *[1] * (z.dim() - 1)), tried, z)
            lowest = torch.where(better, found, lowest)
        return batch.adversarial

    def _share_at(self, query: int) -> float:
        """Give the share to change; the published schedule is for 10,000 queries and is stretched to these."""
        at = query / self.queries * 10_000
        return self.share * 0.5 ** sum(at > bound for bound in _HALVINGS)

    def _proposals(self, batch: Batch) -> Proposals:
        if not isinstance(batch.space, Box):
            return Cells(batch)
        return Squares(batch) if batch.threat.norm == "linf" else Patches(batch)
