"""An attack shard by shard: what a shard came to is kept at once, and no more is attacked than a verdict needs."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import torch

from holdfast.digests import digest_json
from holdfast.training.checkpoints import CheckpointFolder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from holdfast.data import Samples
    from holdfast.model import Target

POINTS = 250
"""Points of a shard: what a kill costs at most, and after how many a verdict is looked for."""


@dataclass(frozen=True)
class Strike:
    """What one attack did to some points: all fields one row for each point (n, ...)."""

    adversarial: Tensor
    predicted: Tensor
    robust: Tensor
    """Right under attack; of points that were right when clean."""
    flat: Tensor
    wild: Tensor
    rose: Tensor
    steps: Tensor
    asked: Tensor
    """Queries until it was broken, or all that were made."""
    free: Tensor
    first: Tensor


@dataclass(frozen=True)
class Shard:
    """What some points came to, and the passes that it took."""

    logits: Tensor
    """Clean (n, classes)."""
    right: Tensor
    """Right when clean (n,)."""
    strike: Strike
    passes: tuple[tuple[int, int], ...]
    """Forwards and backwards of the model, then of the surrogate where there is one."""


def joined(shards: Sequence[Shard]) -> tuple[Tensor, Tensor, Strike]:
    """Join clean logits (n, classes), what is right when clean (n,), and strikes of shards, in their order."""
    strikes = [shard.strike for shard in shards]
    rows = {f.name: torch.cat([getattr(strike, f.name) for strike in strikes]) for f in fields(Strike)}
    return torch.cat([shard.logits for shard in shards]), torch.cat([shard.right for shard in shards]), Strike(**rows)


def passes(models: Sequence[Target]) -> tuple[tuple[int, int], ...]:
    """Read the forwards and backwards that models have counted."""
    return tuple((model.forwards, model.backwards) for model in models)


class Kept:
    """The shards of one question that are done; without a folder none is kept."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def get(self, points: Samples) -> Shard | None:
        """Give what these points came to before, or None where they were never attacked to the end.

        Raises:
            StoreError: what was kept is not what was written, or is of other points.
        """
        place = self._place(points)
        if place is None or (found := place.read()) is None:
            return None
        tensors, numbers = found
        tensors = {name: tensor.to(points.x.device) for name, tensor in tensors.items()}
        strike = Strike(**{f.name: tensors[f.name] for f in fields(Strike)})
        counted = tuple((int(forwards), int(backwards)) for forwards, backwards in numbers["passes"])
        return Shard(logits=tensors["logits"], right=tensors["right"], strike=strike, passes=counted)

    def put(self, points: Samples, shard: Shard) -> None:
        """Keep what these points came to.

        Raises:
            StoreError: the folder is full or read-only.
        """
        if (place := self._place(points)) is not None:
            tensors = {f.name: getattr(shard.strike, f.name) for f in fields(Strike)}
            place.write(0, {"logits": shard.logits, "right": shard.right, **tensors}, {"passes": shard.passes})

    def _place(self, points: Samples) -> CheckpointFolder | None:
        if self._folder is None:
            return None
        name = digest_json([self._folder.name, points.ids.tolist()])
        return CheckpointFolder(self._folder / name[:32], name)
