"""The challenger: how far the quick classifier that screens labels is ahead of the champion, row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from holdfast.data.source import quick_features
from holdfast.digests import work_key
from holdfast.integrity.classifiers import classify
from holdfast.monitoring.challenger import Challenger, allowed, lead
from holdfast.recovery.inspection import Inspection, looked_at, measure
from holdfast.results import Value
from holdfast.seeding import Noise
from tasks.progress import tell

if TYPE_CHECKING:
    from holdfast.data.source import Loaded
    from holdfast.monitoring.watch import Watch, WindowRecord
    from holdfast.params import Params
    from holdfast.results import ModelVersion
    from holdfast.stores import Stores

    Array = np.ndarray[Any, np.dtype[Any]]
_MOST_ROWS = 20_000
"""Training rows that a challenger of a new champion learns from, at most: as many as those that judge windows."""


class Allowance(Value):
    """How a challenger stood to a champion when that was new, on rows that neither learned from."""

    allowed: float
    """Lead that the challenger is allowed, as a share of rows: the upper limit of what it had, 0 at least."""
    right: tuple[bool, ...]
    """Rows of role calibration that the challenger got right, in their order."""


def is_asked(params: Params) -> bool:
    """Tell whether a detector of the panel asks for a challenger, and there is one.

    Where labels are facts there is none: what screens them allows for usual confusion, and answers nothing.
    """
    asked = not params.recovery.screening.facts
    return asked and any(isinstance(detector, Challenger) for detector in params.panel().detectors.values())


def allowance(params: Params, stores: Stores, champion: ModelVersion, data: Loaded, right: Array) -> Allowance:
    """Have a challenger learn what the champion learned, and compare both on held-out rows; once for a champion.

    Args:
        params: what names the seed.
        stores: where it is kept.
        champion: whose challenger it is.
        data: the champion's own.
        right: which of its rows of role calibration (n,) bool the champion gets right, in their order.
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
    its = np.asarray(told.argmax(1) == held.y.numpy())
    found = Allowance(allowed=allowed(its, right), right=tuple(its.tolist()))
    stores.results.put(key, found)
    return found


def lead_on(watch: Watch, record: WindowRecord, right: Array, allowance: Allowance) -> Array:
    """Give the lead (n,) on a window of the classifier that screened it; NaN on rows that it was not asked.

    Args:
        watch: where screenings are on record; one by the measure of an older release says nothing.
        record: the window.
        right: which of its rows (n,) bool the champion gets right.
        allowance: what is no lead.
    """
    found, told = np.full(len(right), np.nan), watch.screening(record.position)
    screened = Inspection(poison=False) if told is None else Inspection.model_validate_json(told)
    if screened.measure == measure(facts=False):
        its = screened.expected()
        chosen = looked_at(record.digest, record.rows, len(its))
        found[chosen] = lead(its, right[chosen], allowance.allowed)
    return found
