"""Simultaneous perturbation stochastic approximation: Adam on a gradient that random signs estimate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar, final

import torch
from pydantic import Field

from holdfast.scenarios.attacks._batch import margin
from holdfast.scenarios.attacks._estimates import Estimator
from holdfast.scenarios.attacks._search import signs

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.scenarios.attacks._batch import Batch
    from holdfast.seeding import Noise

_DECAYS = (0.9, 0.999)


@final
class Spsa(Estimator):
    """Lower the label's margin from the clean row by Adam, on an estimate from pairs of random sign vectors.

    As published in L-inf. Ours: Adam's step as a share of the radius (the paper's 0.01 where the radius is about 0.03),
    and L2, where that share is of the radius over the root of the number of pixels.
    """

    reference: ClassVar[str] = "Uesato et al. 2018, arXiv:1802.05666, section 4, algorithm 1"

    samples: Annotated[int, Field(gt=1)] = 128
    """Queries of one estimate: pairs of a random direction and its opposite."""
    delta: Annotated[float, Field(gt=0.0)] = 0.01
    """How far every pixel goes in a query, in shares of the pixels' range."""
    stride: Annotated[float, Field(gt=0.0)] = 0.3
    """Adam's step in shares of the radius."""

    def perturb(self, batch: Batch, noise: Noise) -> Tensor:
        """Propose the first query within the radius that breaks the point."""
        rows = batch.begin()
        z, delta = batch.origin[rows], self.delta * self.width(batch)
        mean, square, reach = torch.zeros_like(z), torch.zeros_like(z), batch.threat.epsilon
        if batch.threat.norm == "l2":
            reach /= math.sqrt(math.prod(z.shape[1:]))
        for step in range(self.rounds):
            if len(rows) == 0:
                break
            slope = self.estimate(batch, rows, z, _loss, _draw, delta, noise.derive("step", step))
            mean = _DECAYS[0] * mean + (1.0 - _DECAYS[0]) * slope
            square = _DECAYS[1] * square + (1.0 - _DECAYS[1]) * slope.square()
            grown = [1.0 - decay ** (step + 1) for decay in _DECAYS]
            way = (mean / grown[0]) / ((square / grown[1]).sqrt() + 1e-8)
            keep = batch.standing(rows)
            rows = rows[keep]
            z = batch.project(rows, (z + self.stride * reach * way)[keep])
            batch.query(rows, z)
            still = batch.standing(rows)
            rows, z, mean, square = rows[still], z[still], mean[keep][still], square[keep][still]
        return batch.adversarial


def _loss(logits: Tensor, y: Tensor) -> Tensor:
    return -margin(logits, y)


def _draw(noise: Noise, ids: Tensor, shape: tuple[int, ...]) -> Tensor:
    return signs(noise.uniform(ids, shape))
