"""A surrogate under attack: the books of the row that goes furthest, and what the surrogate is worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from holdfast.results import Check, Measure
from holdfast.scenarios.attacks._batch import Batch, margin
from holdfast.scenarios.validity import REMEDIES, skip
from holdfast.statistics import excess, share

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from holdfast.data import Samples
    from holdfast.model import Target

COMPARABLE = "surrogate_comparable"
"""The check that says what a surrogate is worth; where it is worth too little, it does not apply."""
WORSE = 0.10
"""Accuracy by which a surrogate may fall short of the target before its rows say too little."""


class Rehearsal(Batch):
    """Points of a batch, attacked on the surrogate: none leaves, each keeps the row furthest beyond the boundary."""

    def __init__(self, surrogate: Target, batch: Batch, rows: Tensor) -> None:
        super().__init__(
            surrogate, batch.threat, batch.x[rows], batch.y[rows], batch.ids[rows],
            origin=batch.origin[rows], categories=batch.categories,
        )  # fmt: skip
        self._furthest = torch.full(self.y.shape, -torch.inf, dtype=self.x.dtype, device=self.y.device)

    def _book(self, rows: Tensor, x: Tensor, logits: Tensor) -> None:
        beyond = -margin(logits, self.y[rows])
        further = beyond > self._furthest[rows]
        self.adversarial[rows[further]] = x[further]
        self._furthest[rows] = torch.where(further, beyond, self._furthest[rows])


def lead(y: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Build the largest other logit less the label's (k,) for labels (m,): a loss that saturates nowhere."""
    return lambda logits, at: -margin(logits, y[at])


@dataclass(frozen=True)
class Testimony:
    """What a finding says of the surrogate behind it."""

    measures: tuple[Measure, ...]
    checks: tuple[Check, ...]
    details: dict[str, Any]


def testify(surrogate: Target, samples: Samples, right: Tensor, adversarial: Tensor) -> Testimony:
    """Hold a surrogate against the target on the points of an attack.

    Args:
        surrogate: the model that the attacker trained.
        samples: the points (n).
        right: which of them the target gets right when clean (n,).
        adversarial: the rows that the target was asked about (n, *shape).
    """
    passes = {"forwards": surrogate.forwards, "backwards": surrogate.backwards}
    own = surrogate.predict(samples.x) == samples.y
    fooled = (surrogate.predict(adversarial) != samples.y)[right]
    worse = excess(right.cpu().numpy(), own.cpu().numpy(), threshold=WORSE)
    check = Check(
        name=COMPARABLE, status="passed", statistic=worse.excess, threshold=WORSE, p_value=worse.p_value,
        reason="points that the model gets right and its surrogate not, net",
    )  # fmt: skip
    if worse.fails:  # the attacker's weakness, which says nothing against the model: its score stays an upper bound
        text = f"the surrogate gets {100 * worse.excess:.0f} % of the points wrong, net, that the model gets right"
        check = skip(COMPARABLE, f"{text}. {REMEDIES[COMPARABLE]}")
    measures = [_measure("surrogate_accuracy", own)]
    if bool(right.any()):
        measures.append(_measure("surrogate_broken", fooled))
    return Testimony(tuple(measures), (check,), passes)


def _measure(name: str, flags: Tensor) -> Measure:
    found = share(flags.cpu().numpy())
    return Measure(
        name=name, value=found.value, unit="share", better="neither", low=found.low, high=found.high, n=found.n,
        method=found.method,
    )  # fmt: skip
