"""Membership inference by likelihood ratio: shadow models say what a row's confidence is like with and without it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, final

import numpy as np
import torch
from pydantic import Field

from holdfast.results import Measure
from holdfast.scenarios.base import Outcome, choose
from holdfast.scenarios.privacy.base import Privacy, comparable
from holdfast.statistics import membership_auc, membership_score, tpr_at_fpr

if TYPE_CHECKING:
    import numpy.typing as npt

    from holdfast.data import Samples
    from holdfast.model import Target
    from holdfast.scenarios.base import Context
    from holdfast.seeding import Noise
    from holdfast.training.workshop import Workshop

    Floats = npt.NDArray[np.float64]
    Flags = npt.NDArray[np.bool_]

OWN_VARIANCE = 64
"""Shadows from which each row has a variance of its own; with fewer, all rows share one (section VI-C)."""
FEWEST = 20
"""Non-members without which no rate can be read."""


@final
class MembershipLira(Privacy):
    """Guess which rows a model was trained on, by the likelihood-ratio attack.

    Each shadow trains on half of the training rows, each row being in half of the shadows; the target is one
    more model, whose half is drawn apart. A row's statistic is the log-odds of its own label. Online, it is
    held against Gaussians of the shadows that saw the row and of those that did not; offline, against the
    latter alone. One query for each row, without augmentations.
    """

    reference: ClassVar[str] = "Carlini et al. 2022, arXiv:2112.03570, algorithm 1 and eq. 3-4"

    shadows: Annotated[int, Field(ge=4, multiple_of=2)] = 8
    fpr: Annotated[float, Field(gt=0, lt=1)] = 0.001
    """False positive rate at which the true positive rate is read, where there are 10 / fpr non-members."""

    def measure_recipe(self, workshop: Workshop, noise: Noise, context: Context) -> Outcome:
        """Train the shadows and the target, and attack."""
        rows = workshop.train
        halves = shadow_halves(rows.ids, self.shadows, noise)
        members = (noise.derive("target").integers(rows.ids, 2) == 1).numpy(force=True)
        audited = choose(rows, self.points, context.seed)
        place = {int(i): k for k, i in enumerate(rows.ids)}
        audit = torch.tensor([place[int(i)] for i in audited.ids], dtype=torch.long)
        inside = members[audit.numpy()]
        if min(inside.sum(), (~inside).sum()) < FEWEST or halves.sum(1).min() == 0:
            return Outcome(score=None, unscored=f"fewer than {FEWEST} members or non-members among {len(rows)} rows")
        test = workshop.test.require("test").to(workshop.device)
        if len(test) == 0:
            return Outcome(score=None, unscored="no test rows")
        statistics, right = [], []
        for number, mask in enumerate([*halves, members]):
            model = self._train(workshop, mask, noise.derive("model", number))
            statistics.append(log_odds(model, audited))
            right.append((model.predict(test.x) == test.y).numpy(force=True))
        online, offline = likelihood_ratios(np.stack(statistics[:-1]), halves[:, audit.numpy()], statistics[-1])
        return self._outcome(online, offline, inside, right)

    def _train(self, workshop: Workshop, mask: Flags, noise: Noise) -> Target:
        half = workshop.train.take(torch.from_numpy(np.flatnonzero(mask)).to(workshop.train.y.device))
        return workshop.fit(half, seed=noise.generator().initial_seed(), epochs=self.epochs)

    def _outcome(self, online: Floats, offline: Floats, inside: Flags, right: list[Flags]) -> Outcome:
        rate = tpr_at_fpr(online[inside], online[~inside], self.fpr)
        accuracies = [float(flags.mean()) for flags in right]
        # All are trainings of one recipe: a target among its shadows, the outermost aside, is no model of another kind.
        inner = np.argsort(accuracies[:-1], kind="stable")[1:-1]
        nearest = int(inner[np.argmin(np.abs(np.array(accuracies)[inner] - accuracies[-1]))])
        return Outcome(
            score=membership_score(online[inside], online[~inside]),
            measures=(
                _area("auc_online", online, inside),
                _area("auc_offline", offline, inside),
                Measure(
                    name=f"tpr_at_fpr_{rate.fpr:.4g}", value=rate.value, unit="share", better="lower", low=rate.low,
                    high=rate.high, n=int(inside.sum()), method="clopper_pearson",
                ),
                Measure(name="target_accuracy", value=accuracies[-1], unit="share", better="higher"),
                Measure(name="shadow_accuracy", value=float(np.mean(accuracies[:-1])), unit="share", better="neither"),
            ),
            checks=(comparable(right[-1], right[nearest]),),
            details={"roc": roc(online[inside], online[~inside]), "members": int(inside.sum()),
                     "nonmembers": int((~inside).sum())},
        )  # fmt: skip


def shadow_halves(ids: torch.Tensor, shadows: int, noise: Noise) -> Flags:
    """Draw which shadow trains on which row: bool (shadows, rows), each row in exactly half of the shadows."""
    rank = noise.derive("shadows").uniform(ids, (shadows,)).argsort(dim=1, stable=True).argsort(dim=1)
    halves: Flags = (rank < shadows // 2).T.numpy(force=True)
    return halves


@torch.no_grad()
def log_odds(model: Target, rows: Samples) -> Floats:
    """Compute log(p / (1 - p)) (n,) of each row's own label, from logits and so without losing digits (eq. 3)."""
    logits = model.logits(rows.x.to(model.device)).to(torch.float64)
    labels = rows.y.to(model.device)[:, None]
    own = logits.gather(1, labels).squeeze(1)
    others = logits.scatter(1, labels, -math.inf).logsumexp(1)
    odds: Floats = (own - others).numpy(force=True)
    return odds


def likelihood_ratios(shadows: Floats, inside: Flags, target: Floats) -> tuple[Floats, Floats]:
    """Give membership scores (rows,), online and offline, larger for likelier members.

    Args:
        shadows: statistic of each row under each shadow, (shadows, rows).
        inside: whether the shadow trained on the row, (shadows, rows).
        target: statistic under the attacked model, (rows,).
    """
    mean_in, spread_in = _gaussians(shadows, inside)
    mean_out, spread_out = _gaussians(shadows, ~inside)
    offline = (target - mean_out) / spread_out
    online = 0.5 * offline**2 + np.log(spread_out) - 0.5 * ((target - mean_in) / spread_in) ** 2 - np.log(spread_in)
    return online, offline


def _gaussians(statistics: Floats, chosen: Flags) -> tuple[Floats, Floats]:
    """Mean and standard deviation (rows,) over the chosen shadows; unbiased, and never 0."""
    count = chosen.sum(axis=0)
    mean = np.where(chosen, statistics, 0.0).sum(axis=0) / count
    squares = np.where(chosen, (statistics - mean) ** 2, 0.0).sum(axis=0)
    if len(statistics) >= OWN_VARIANCE:
        variance = squares / (count - 1)
    else:
        variance = np.full_like(mean, squares.sum() / (count - 1).sum())
    return mean, np.sqrt(np.maximum(variance, 1e-12))


def roc(members: Floats, nonmembers: Floats, places: int = 60) -> dict[str, Any]:
    """Give the ROC curve at false positive rates from one non-member to all, evenly on a log scale."""
    order = np.sort(nonmembers)[::-1]
    allowed = np.unique(np.geomspace(1, len(order), places).round().astype(int))
    thresholds = order[allowed - 1]
    return {
        "fpr": [round(float((nonmembers >= t).mean()), 6) for t in thresholds],
        "tpr": [round(float((members >= t).mean()), 6) for t in thresholds],
    }


def _area(name: str, scores: Floats, inside: Flags) -> Measure:
    area = membership_auc(scores[inside], scores[~inside])
    return Measure(
        name=name, value=area.value, unit="area", better="lower", low=area.low, high=area.high, n=len(scores),
        method=area.method,
    )  # fmt: skip
