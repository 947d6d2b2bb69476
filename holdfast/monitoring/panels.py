"""The panel: all detectors together, under one declared budget of false alarms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field
from scipy import stats

from holdfast.digests import digest_json
from holdfast.errors import DataError
from holdfast.monitoring.base import Detector
from holdfast.results import Json, Score, Signal, Value
from holdfast.statistics import share

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from holdfast.data.stream import Array, Window
    from holdfast.monitoring.base import Needs, Reading
    from holdfast.seeding import Noise

FEWEST_REPLAYS = 200
"""Fewer clean windows than this say nothing of a tail."""
STREAM = 50
"""Windows of one replayed stream: detectors with a memory start afresh after them."""
_TAIL = 0.1
"""Share of the replays to which the tail is fitted."""


class Threshold(Value):
    """What one detector's statistic must exceed, and where that comes from."""

    value: float
    source: str
    """``theory``, or ``replay`` with the number of clean windows behind it."""


class Calibration(Value):
    """Thresholds of a panel, for one champion, one reference and one window size."""

    budget: Annotated[float, Field(gt=0.0, lt=1.0)]
    """Clean windows in which any detector of the panel may alarm, as a share."""
    rows: int
    """Rows of a window."""
    thresholds: dict[str, Threshold]
    replays: int
    achieved: Score | None = None
    """Share of *other* clean windows without any alarm; None where none were replayed."""
    unchecked: tuple[str, ...] = ()
    """Detectors that were not replayed: theory gives their threshold, and the achieved rate leaves them out."""
    seed: int


class Panel(Value):
    """Detectors by name, and the budget that they share."""

    detectors: dict[str, Detector]
    budget: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.001

    def calibrate(
        self,
        past: Window,
        clean: Window,
        rows: int,
        replays: int,
        noise: Noise,
        progress: Callable[[int], None] | None = None,
    ) -> Calibration:
        """Replay clean windows to find thresholds that keep the budget, and read the rate on as many others.

        Each detector gets an equal part of the budget (Bonferroni: it holds whatever their dependence). Where theory
        gives no threshold, the tail of the replayed statistics is extrapolated by a generalized Pareto distribution.

        Args:
            past: what detectors compare with.
            clean: other rows of the same time, from which windows are drawn.
            rows: of a window.
            replays: clean windows for the thresholds; as many again for the achieved rate.
            noise: source of the draws.
            progress: called with the number of windows done.

        Raises:
            DataError: too few replays, or too few rows to draw windows from.

        Source: Siffer et al. 2017, KDD, section 3 (peaks over threshold).
        """
        if replays < FEWEST_REPLAYS:
            raise DataError(
                "monitoring.replays", found=str(replays), expected=f"at least {FEWEST_REPLAYS}", remedy="Raise it."
            )
        level = self.budget / len(self.detectors)
        told = self._replay(past, clean, rows, replays, noise.derive("calibrate"), progress)
        thresholds = {
            name: self._threshold(name, detector, told.get(name), level, replays)
            for name, detector in self.detectors.items()
        }
        others = self._replay(past, clean, rows, replays, noise.derive("check"), progress)
        alarms = [others[name] > thresholds[name].value for name in others]
        return Calibration(
            budget=self.budget, rows=rows, thresholds=thresholds, replays=replays, seed=noise.seed,
            achieved=share(~np.any(alarms, axis=0)) if alarms else None,
            unchecked=tuple(sorted(set(self.detectors) - set(others))),
        )  # fmt: skip

    def watch(
        self,
        window: Window,
        past: Window,
        calibration: Calibration,
        memories: Mapping[str, Json],
        needs: Collection[Needs] = ("inputs", "outputs", "labels"),
    ) -> tuple[tuple[Signal, ...], dict[str, Json]]:
        """Let every detector that can look at a window look, and give signals and what to remember.

        A detector whose needs are not there yet gives no signal, which is no good news: it is asked again when
        the labels mature. ``needs`` asks some only: those that looked at the rows before need not look again.
        """
        signals, kept = [], dict(memories)
        for name, detector in self.detectors.items():
            if detector.needs not in needs or not detector.applicable(window):
                continue
            reading = detector.read(window, past, kept.get(name, {}))
            kept[name] = reading.memory
            signals.append(self._signal(name, detector, window, reading, calibration.thresholds[name]))
        return tuple(signals), kept

    def digest(self) -> str:
        """Name the panel by what it asks."""
        settings = {
            name: [type(each).__module__, each.model_dump(mode="json")] for name, each in self.detectors.items()
        }
        return digest_json([settings, self.budget])

    def _replay(
        self, past: Window, clean: Window, rows: int, replays: int, noise: Noise, progress: Callable[[int], None] | None
    ) -> dict[str, Array]:
        """Read the statistics (replays,) of each detector on drawn windows, in clean streams of `STREAM` windows."""
        asked = {name: detector for name, detector in self.detectors.items() if detector.replayed}
        told = {name: np.empty(replays) for name in asked}
        memories: dict[str, Json] = {}
        for place in range(replays):
            if place % STREAM == 0:
                memories = {}
            window = clean.resample(rows, noise.derive(place), place)
            for name, detector in asked.items():
                reading = detector.replay(window, past, memories.get(name, {}))
                memories[name], told[name][place] = reading.memory, reading.statistic
            if progress:
                progress(place + 1)
        return told

    @staticmethod
    def _threshold(name: str, detector: Detector, told: Array | None, level: float, replays: int) -> Threshold:
        theory = detector.threshold(level)
        if theory is not None:
            return Threshold(value=theory, source="theory")
        if told is None or not np.isfinite(told).all():
            raise DataError(
                f"detector {name}", found="statistics that are not finite on clean windows", expected="numbers",
                remedy="The detector cannot look at these data: take it out of the panel, or mend it.",
            )  # fmt: skip
        return Threshold(value=tail_quantile(told, level), source=f"replay of {replays} clean windows")

    @staticmethod
    def _signal(name: str, detector: Detector, window: Window, reading: Reading, threshold: Threshold) -> Signal:
        return Signal(
            detector=name, about=detector.about, needs=detector.needs,
            window=window.id, position=window.position, n=len(window),
            statistic=reading.statistic, threshold=threshold.value, alarm=reading.statistic > threshold.value,
            effect=reading.effect, effect_unit=reading.effect_unit, p_value=reading.p_value, e_value=reading.e_value,
            details=reading.details,
        )  # fmt: skip


def tail_quantile(values: Array, level: float) -> float:
    """Give the value that a statistic exceeds with probability ``level``, from a sample (n,) of it.

    Inside the sample it is the empirical quantile, conservative by one rank; beyond, a generalized Pareto tail fitted
    to the largest tenth, and never less than the largest value seen.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n = len(ordered)
    if level * n >= 1.0:
        return float(ordered[min(n - 1, int(np.ceil((1.0 - level) * n)))])
    start = ordered[int((1.0 - _TAIL) * n)]
    excess = ordered[ordered > start] - start
    if len(excess) == 0 or excess.max() == 0:
        return float(ordered[-1])
    shape, _, scale = stats.genpareto.fit(excess, floc=0.0)
    beyond = float(stats.genpareto.isf(level * n / len(excess), shape, 0.0, scale))
    return max(float(start + beyond), float(ordered[-1]))
