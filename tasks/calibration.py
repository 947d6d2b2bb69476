"""Calibration: the panel's thresholds for a champion, found by replaying clean windows, once."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from holdfast.digests import work_key
from holdfast.monitoring.panels import Calibration, Stretch
from holdfast.registry import code_of
from holdfast.seeding import Noise
from tasks.progress import tell

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.data.stream import Window
    from holdfast.params import Params
    from holdfast.results import ModelVersion
    from holdfast.stores import Stores

_TOLD = 100
"""Replayed windows between two words about them."""


def calibrated(params: Params, stores: Stores, champion: ModelVersion, reference: Window, rows: int) -> Calibration:
    """Give the panel's thresholds for windows of this many rows; replayed once for a champion and a panel.

    What theory gives is for the very number: windows that were replayed have fewer rows, far fewer after a short past.
    """
    size = min(_rounded(rows), len(reference) // 4)
    panel = params.panel()
    key = work_key(
        "calibration", panel.digest(), champion.digest, reference.id, str(size), str(params.monitoring.replays),
        "" if reference.lead is None else "challenged",
        *(code_of(type(detector)) for detector in panel.detectors.values()), seed=params.seed,
    )  # fmt: skip
    if (known := stores.results.get(key, Calibration)) is not None:
        return panel.of_rows(known, reference, rows)
    found = panel.calibrate(
        reference, size, params.monitoring.replays, Noise(params.seed, ("monitoring", champion.digest)),
        _told_of(2 * params.monitoring.replays), partial(_kept, stores, key),
    )  # fmt: skip
    stores.results.put(key, found)
    stores.results.put(_last(champion), found)
    tell("monitoring", f"thresholds of version {champion.version}: {found.sentence()}")
    return panel.of_rows(found, reference, rows)


def last_calibration(stores: Stores, champion: ModelVersion) -> Calibration | None:
    """Give what was found last for a champion; None where nothing was, or it is not kept any more."""
    return stores.results.get(_last(champion), Calibration)


def _last(champion: ModelVersion) -> str:
    return work_key("calibration", "last", champion.digest, seed=0)


def _kept(stores: Stores, key: str, part: str, play: Callable[[], Stretch]) -> Stretch:
    """Give a part of a replay that an interrupted one finished, or play it."""
    name = work_key(key, part, seed=0)
    known = stores.results.get(name, Stretch)
    if known is None:
        known = play()
        if all(np.isfinite(values).all() for values in known.statistics.values()):  # JSON has no other numbers
            stores.results.put(name, known)
    return known


def _told_of(total: int) -> Callable[[int], None]:
    """Tell how far a replay has come, and what its length depends on."""

    def told(done: int) -> None:
        if done % _TOLD == 0:
            text = f"{done} of {total} clean windows replayed, once for a champion, to find thresholds"
            tell("monitoring", f"{text} (monitoring.replays)", done=done, total=total)

    return told


def _rounded(rows: int) -> int:
    """Round down to two significant binary digits, so that windows of nearly one size share their thresholds."""
    step = max(1, 1 << max(rows.bit_length() - 3, 0))
    return rows // step * step
