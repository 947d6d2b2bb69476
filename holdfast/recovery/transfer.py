"""What a retraining kept and what it gained: parent and candidate on the same rows of the old world and of the new."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from holdfast.recovery.comparison import values_of
from holdfast.results import Measure, ModelVersion, Score, Value
from holdfast.statistics import paired_bootstrap, share, tango

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from holdfast.results import Finding

World = Literal["old world", "new windows"]
LEVEL = 0.025
"""One-sided level of either end of an interval."""


class Change(Value):
    """One question to parent and candidate, on the same rows."""

    world: World
    """``old world``: test rows of the pinned data. ``new windows``: held-out rows of windows that the parent never
    learned from."""
    path: str
    """Scenario that asked."""
    before: Score
    """The parent's."""
    after: Score
    """The candidate's."""
    difference: float
    """After minus before."""
    low: float
    high: float
    n: int
    method: str
    lost: int
    """Points that the parent was right about and the candidate is not; under attack, regressions."""


class Transfer(Value):
    """What came of a retraining, as Lopez-Paz and Ranzato define it for two tasks: the old world, then the windows."""

    parent: ModelVersion
    candidate: ModelVersion
    metric: str
    """What clean answers are scored by."""
    changes: tuple[Change, ...] = ()
    measures: tuple[Measure, ...] = ()
    missing: tuple[str, ...] = ()
    """What could not be told, and why."""


def transferred(
    parent: ModelVersion,
    candidate: ModelVersion,
    pairs: Mapping[World, Sequence[tuple[Finding, Finding]]],
    untrained: Finding | None,
    metric: str,
    costs: tuple[tuple[float, ...], ...] | None = None,
) -> Transfer:
    """Compare what was found about parent and candidate, and give backward and forward transfer and forgetting.

    Backward transfer is what the old world's clean answers gained, forward transfer what the parent made of the new
    windows above an untrained network of the same kind, and forgetting the most that the old world lost, clean or
    attacked.

    Args:
        parent: version that the retraining was to replace.
        candidate: version that it made.
        pairs: of each world, what was found about the parent and about the candidate, the clean question first.
        untrained: the clean question about the new windows, put to a network of fresh weights; None where not asked.
        metric: the user's, which scores clean answers.
        costs: of expected cost.

    Source: Lopez-Paz and Ranzato 2017, arXiv:1706.08840, eq. 3 and 4, for T = 2.
    """
    answers = [
        compared(world, before, after, metric if place == 0 else "accuracy", costs)
        for world, asked in pairs.items()
        for place, (before, after) in enumerate(asked)
    ]
    new = pairs.get("new windows")
    forward = None if not new or untrained is None else compared("new windows", untrained, new[0][0], metric, costs)
    changes = tuple(answer for answer in answers if isinstance(answer, Change))
    old = [change for change in changes if change.world == "old world"]
    clean = {asked[0][1].path for asked in pairs.values()}
    measures = [_measure("backward_transfer", change) for change in old if change.path in clean]
    measures += [_forgetting(old)] if old else []
    measures += [_regressions(change) for change in old if change.path not in clean]
    measures += [_measure("forward_transfer", forward)] if isinstance(forward, Change) else []
    return Transfer(
        parent=parent, candidate=candidate, metric=metric, changes=changes, measures=tuple(measures),
        missing=tuple(answer for answer in (*answers, forward) if isinstance(answer, str)),
    )  # fmt: skip


def compared(
    world: World,
    before: Finding,
    after: Finding,
    metric: str,
    costs: tuple[tuple[float, ...], ...] | None = None,
) -> Change | str:
    """Compare two findings of one question on the same points; or say why they cannot be.

    Shares of flags get Tango's interval, other metrics the percentiles of a paired bootstrap.
    """
    unscored = [finding.unscored for finding in (before, after) if finding.score is None]
    if before.score is None or after.score is None or before.per_example is None or after.per_example is None:
        return f"{world}, {after.path}: {unscored[0] if unscored else 'no flags to pair'}"
    ours, theirs = after.per_example, before.per_example
    if (ours.points, ours.labels) != (theirs.points, theirs.labels):
        return f"{world}, {after.path}: asked on other points"
    n, right, before_right = ours.n, ours.unpack_flags(), theirs.unpack_flags()
    won, lost = int((right & ~before_right).sum()), int((before_right & ~right).sum())
    if metric == "accuracy":
        difference = (won - lost) / n
        (low, high), method = tango(won, lost, n), "Tango"
    else:
        labels, a, b = ours.unpack_labels(), values_of(metric, ours), values_of(metric, theirs)
        found = paired_bootstrap(metric, labels, a, b, rng=np.random.default_rng(0), costs=costs, level=LEVEL)
        difference, low, high, method = found.value, found.low, found.high, "paired bootstrap"
    return Change(
        world=world, path=after.path, before=before.score, after=after.score, difference=difference, low=low,
        high=high, n=n, method=method, lost=lost,
    )  # fmt: skip


def _measure(name: str, change: Change) -> Measure:
    return Measure(
        name=name, value=change.difference, unit="points / 100", better="higher", low=change.low, high=change.high,
        n=change.n, method=change.method,
    )  # fmt: skip


def _regressions(attacked: Change) -> Measure:
    """Give the share of points that withstood the attack before and do not now."""
    found = share(np.arange(attacked.n) < attacked.lost)
    return Measure(
        name=f"regressions ({attacked.path})", value=found.value, unit="share of points", better="lower",
        low=found.low, high=found.high, n=found.n, method=found.method,
    )  # fmt: skip


def _forgetting(old: Sequence[Change]) -> Measure:
    """Give the largest loss on the old world, clean or attacked."""
    worst = min(old, key=lambda change: change.difference)
    return Measure(
        name=f"forgetting ({worst.path})", value=-worst.difference, unit="points / 100", better="lower",
        low=-worst.high, high=-worst.low, n=worst.n, method=worst.method,
    )  # fmt: skip
