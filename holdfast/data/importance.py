"""Importance: which earlier rows a retraining still learns from, by how plausible they are in the present."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from holdfast.data.admission import uniform
from holdfast.data.source import quick_features
from holdfast.errors import DataError
from holdfast.integrity.base import Material
from holdfast.integrity.classifiers import out_of_sample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.data.source import Loaded

Array = np.ndarray[Any, np.dtype[Any]]
FOLDS, FEWEST = 3, 60
"""Folds of the classifier that tells the present from the past, and training rows of the present without which nothing
can be told."""


def implausible(grown: Loaded, recent: Sequence[int], seed: int) -> Array:
    """Choose the earlier training rows that a retraining leaves out: ids (m,), rising.

    A row with its label is kept with a probability of the density of the present, the last windows, over that of the
    past, at that row *and label*, and for certain from 1 on (truncated importance): what the world now contradicts is
    seldom kept, what still holds is. The ratio comes from a classifier that tells the two apart, cross-fitted, so that
    no row is judged by one that saw it. The draw is a function of each row's content.

    Args:
        grown: the data with every window admitted.
        recent: places of the windows that stand for the present.
        seed: of the classifier.

    Raises:
        DataError: no window was admitted, or the present has too few training rows.

    Source: Sugiyama, Suzuki and Kanamori 2012, Density Ratio Estimation in Machine Learning, chapter 4 (probabilistic
    classification); Bickel, Brückner and Scheffer 2009, JMLR 10 (resampling by importance);
    Ionides 2008, JCGS 17 (truncated importance).
    """
    trains = np.flatnonzero(grown.holds("train"))
    now = np.zeros(len(trains), dtype=bool) if grown.window is None else np.isin(grown.window[trains], recent)
    if now.sum() < FEWEST or (~now).sum() < FEWEST:
        raise DataError(
            "recovery.retraining.importance", found=f"{now.sum()} training rows of the present, {(~now).sum()} before",
            expected=f"at least {FEWEST} each", remedy="Raise recovery.retraining.recent, or switch importance off.",
        )  # fmt: skip
    ratio = _density_ratio(grown, now, seed)[~now]
    earlier = trains[~now]
    dropped = uniform(grown.digests[earlier]) >= ratio
    return np.sort(grown.ids[earlier[dropped]])


def _density_ratio(grown: Loaded, now: Array, seed: int) -> Array:
    """Give the density of the present over that of the past at each training row and its label (n,)."""
    import pandas as pd  # noqa: PLC0415  params are checked without it

    rows, n = grown.samples("train"), len(now)
    labels = np.eye(len(grown.classes), dtype=np.float32)[rows.y.numpy()]
    features = np.concatenate([quick_features(rows.x, grown.space), labels], axis=1)
    material = Material(
        frame=pd.DataFrame(index=pd.RangeIndex(n)), label=None, time=None, ids=np.arange(n), features=features,
        labels=now.astype(np.int64), roles=None, kind="images" if grown.frame is None else "table", provenance={},
        seed=seed,
    )  # fmt: skip
    present = out_of_sample(material, now.astype(np.int64), 2, FOLDS, "importance")[:, 1]
    return np.asarray(present / (1.0 - present) * (~now).sum() / now.sum())
