"""Natural evolution strategies: signed steps along a gradient that normal draws estimate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, final

from pydantic import Field
from torch.nn import functional as F

from holdfast.scenarios.attacks._estimates import Estimator

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.scenarios.attacks._batch import Batch
    from holdfast.seeding import Noise


@final
class Nes(Estimator):
    """Climb the cross-entropy from the clean row by steepest steps along an estimate from pairs of normal draws.

    As published in L-inf for a model that answers with all its logits. Ours: no target class, the step as a share of
    the radius (the paper's 0.01 where the radius is 0.05), and L2, where a step goes along the estimate itself.
    """

    reference: ClassVar[str] = "Ilyas et al. 2018, arXiv:1804.08598, sections 3.1 and 3.2, algorithm 1"

    sigma: Annotated[float, Field(gt=0.0)] = 0.001
    """How far a draw of length one is asked about, in shares of the pixels' range."""
    stride: Annotated[float, Field(gt=0.0)] = 0.2
    """Length of a step in shares of the radius."""

    def perturb(self, batch: Batch, noise: Noise) -> Tensor:
        """Propose the first query within the radius that breaks the point."""
        rows = batch.begin()
        z, sigma = batch.origin[rows], self.sigma * self.width(batch)
        for step in range(self.rounds):
            if len(rows) == 0:
                break
            slope = self.estimate(batch, rows, z, _loss, _draw, sigma, noise.derive("step", step))
            keep = batch.standing(rows)
            rows = rows[keep]
            z = batch.ascend(rows, z[keep], slope[keep], self.stride * batch.threat.epsilon)
            batch.query(rows, z)
            keep = batch.standing(rows)
            rows, z = rows[keep], z[keep]
        return batch.adversarial


def _loss(logits: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(logits, y, reduction="none")


def _draw(noise: Noise, ids: Tensor, shape: tuple[int, ...]) -> Tensor:
    return noise.normal(ids, shape)
