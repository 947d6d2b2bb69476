"""Experience replay: each batch mixes fresh rows with rows from a memory of the old ones, at a stated ratio."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, final

import torch
from pydantic import Field

from holdfast.training.continual import ContinualRecipe

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.data import Samples
    from holdfast.seeding import Noise


@final
class Replay(ContinualRecipe):
    """Descend the cross-entropy of batches of which a stated share are rows that the champion learned from.

    The memory is a uniform sample of the old rows, or one with equally many rows of each class. It is chosen by row
    id alone, so that rows that come later displace some and reshuffle none (the sample of a reservoir, Vitter 1985,
    without its order). Every batch has the same number of old and of fresh rows; an epoch sees every fresh row, and
    goes round the memory as often as that takes.
    """

    reference: ClassVar[str] = "Chaudhry et al. 2019, arXiv:1902.10486; Rolnick et al. 2019, arXiv:1811.11682"

    batch_size: Annotated[int, Field(gt=1)] = 128
    """Two at least: each batch has a row of either kind."""
    ratio: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Share of old rows in a batch, to the nearest row."""
    memory: Annotated[int, Field(gt=0)] | None = 2000
    """Old rows that are remembered at most; None for all of them."""
    sample: Literal["reservoir", "balanced"] = "reservoir"
    """``reservoir``: uniform over the old rows. ``balanced``: equally many of each class, as far as there are."""

    def batches(self, rows: Samples, learned: Tensor, noise: Noise, epoch: int) -> tuple[Tensor, ...]:
        """Lay fresh and remembered rows together, batch by batch, in an order of the epoch's own."""
        fresh, kept = torch.nonzero(~learned).flatten(), self.remembered(rows, learned, noise)
        steps, size, old = self._mixture(len(fresh))
        draw = noise.derive(epoch)
        parts = zip(
            torch.split(_rounds(fresh, steps * size, draw.derive("fresh")), size),
            torch.split(_rounds(kept, steps * old, draw.derive("old")), old),
            strict=True,
        )
        return tuple(torch.cat(pair) for pair in parts)

    def seen(self, rows: Samples, learned: Tensor, noise: Noise) -> Tensor:
        """Share an epoch's places out evenly, those of old rows over the memory and the rest over the fresh rows.

        One epoch may see a part of the memory only, and a class that is rare in it not at all.
        """
        fresh, kept = torch.nonzero(~learned).flatten(), self.remembered(rows, learned, noise)
        steps, size, old = self._mixture(len(fresh))
        told = torch.zeros(len(rows), dtype=torch.float64)
        told[fresh], told[kept] = steps * size / len(fresh), steps * old / len(kept)
        return told

    def _mixture(self, fresh: int) -> tuple[int, int, int]:
        """Give the batches of an epoch with so many fresh rows, and how many fresh and old rows each of them has."""
        old = min(max(round(self.ratio * self.batch_size), 1), self.batch_size - 1)
        size = self.batch_size - old
        if fresh < size:  # fewer than one batch: the ratio is kept, and not the size
            size = fresh
            old = max(round(size * self.ratio / (1.0 - self.ratio)), 1)
        return math.ceil(fresh / size), size, old

    def remembered(self, rows: Samples, learned: Tensor, noise: Noise) -> Tensor:
        """Choose the row numbers (m,) of the memory among rows of which ``learned`` (n,) bool are old."""
        old = torch.nonzero(learned).flatten()
        rank = noise.derive("memory").uniform(rows.ids.cpu())[old]
        old = old[torch.argsort(rank, stable=True)]
        most = len(old) if self.memory is None else min(self.memory, len(old))
        if self.sample == "reservoir":
            return old[:most].sort().values
        labels = rows.y.cpu()[old]
        # Place of each row among those of its class: the first of every class come first, until the memory is full.
        place = torch.empty_like(labels)
        for label in torch.unique(labels):
            place[labels == label] = torch.arange(int((labels == label).sum()))
        return old[torch.argsort(place, stable=True)[:most]].sort().values


def _rounds(index: Tensor, count: int, noise: Noise) -> Tensor:
    """Give ``count`` of the row numbers (m,): all of them in a random order, then again in another."""
    orders = [
        index[torch.randperm(len(index), generator=noise.derive(turn).generator())]
        for turn in range(math.ceil(count / len(index)))
    ]
    return torch.cat(orders)[:count]
