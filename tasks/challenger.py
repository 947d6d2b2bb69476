"""The challenger: how far the quick classifier that screens labels is ahead of the champion, row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from holdfast.data.source import quick_features
from holdfast.digests import work_key
from holdfast.integrity.classifiers import classify
from holdfast.monitoring.challenger import Challenger, allowed, losses
from holdfast.recovery.inspection import Inspection, looked_at, measure
from holdfast.results import Value
from holdfast.seeding import Noise
from tasks.progress import tell

if TYPE_CHECKING:
    from holdfast.data.source import Loaded
    from holdfast.monitoring.watch import Watch, WindowRecord
    from holdfast.params import Params
    from holdfast.recovery.inspection import Kind
    from holdfast.results import ModelVersion
    from holdfast.stores import Stores

    Array = np.ndarray[Any, np.dtype[Any]]
_MOST_ROWS = 20_000
"""Training rows that a challenger of a new champion learns from, at most: as many as those that judge windows."""


class Allowance(Value):
    """How a challenger stood to a champion when that was new, on rows that neither learned from."""

    allowed: tuple[float, float]
    """Leads that the challenger is allowed, in Brier score and in being right: upper limits of what it had."""
    losses: tuple[tuple[float, float], ...]
    """Of the challenger on the rows of role calibration, in their order: half of the Brier score, and 1 if wrong."""

    def leads(self, own: Array) -> Array:
        """Give its leads (n, 2) on those rows over a champion with losses (n, 2), less what is allowed."""
        return np.asarray(own - np.array(self.losses) - np.array(self.allowed))


def is_asked(params: Params) -> bool:
    """Tell whether a detector of the panel asks for a challenger, and there is one.

    Where labels are facts there is none: what screens them allows for usual confusion, and answers nothing.
    """
    asked = not params.recovery.screening.facts
    return asked and any(isinstance(detector, Challenger) for detector in params.panel().detectors.values())


def allowance(params: Params, stores: Stores, champion: ModelVersion, data: Loaded, own: Array) -> Allowance:
    """Have a challenger learn what the champion learned, and compare both on held-out rows; once for a champion.

    Args:
        params: what names the seed.
        stores: where it is kept.
        champion: whose challenger it is.
        data: the champion's own.
        own: losses (n, 2) of the champion on its rows of role calibration, in their order.
    """
    key = work_key("challenger", champion.digest, data.digest, str(_MOST_ROWS), seed=params.seed)
    if (known := stores.results.get(key, Allowance)) is not None:
        return known
    tell("monitoring", f"version {champion.version}: a challenger learns what it learned, to be compared with later")
    train, held = data.samples("train"), data.samples("calibration")
    chosen = np.sort(Noise(0, ("challenger",)).numpy().permutation(len(train))[:_MOST_ROWS])
    told = classify(
        "images" if data.frame is None else "table", quick_features(train.x[chosen], data.space),
        train.y.numpy()[chosen], quick_features(held.x, data.space), len(data.classes), params.seed & 0x7FFFFFFF,
    )  # fmt: skip
    its = losses(told, held.y.numpy())
    score, errors = allowed(own - its).tolist()
    found = Allowance(allowed=(score, errors), losses=tuple((brier, wrong) for brier, wrong in its.tolist()))
    stores.results.put(key, found)
    return found


def leads_on(watch: Watch, record: WindowRecord, own: Array, allowance: Allowance, kind: Kind) -> Array:
    """Give the leads (n, 2) on a window of the classifier that screened it; NaN on rows that it was not asked.

    Args:
        watch: where screenings are on record; one by the measure of an older release says nothing.
        record: the window.
        own: losses (n, 2) of the champion on its rows.
        allowance: what is no lead.
        kind: which classifier screens.
    """
    found, told = np.full(own.shape, np.nan), watch.screening(record.position)
    screened = Inspection(poison=False) if told is None else Inspection.model_validate_json(told)
    if screened.measure == measure(kind, facts=False):
        its = screened.scores()
        chosen = looked_at(record.digest, record.rows, len(its))
        found[chosen] = own[chosen] - its - np.array(allowance.allowed)
    return found
