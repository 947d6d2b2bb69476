"""The panel: all detectors together, under one declared budget of false alarms."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Protocol

import numpy as np
import torch
from pydantic import Field
from scipy import stats

from holdfast.digests import digest_json
from holdfast.errors import DataError
from holdfast.monitoring.base import Detector
from holdfast.results import Json, Score, Signal, Value
from holdfast.statistics import share

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from holdfast.data.stream import Array, Window
    from holdfast.monitoring.base import Asks, Needs, Reading
    from holdfast.seeding import Noise

FEWEST_REPLAYS = 200
"""Fewer clean windows than this say nothing of a tail."""
STREAM = 50
"""Windows of one replayed stream: detectors with a memory start afresh after them."""
_TAIL, _FEWEST_BEYOND = 0.05, 40
"""Share of the replays to which the tail is fitted, and how many at least."""
_FEWEST_LIMITED = 10
"""Values beyond the start of the tail from which its scale has a limit worth the name."""
_SURE = 1.645
"""Standard errors above 0 from which a tail's shape counts as heavy."""


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
    achieved: Score
    """Share of *other* clean windows whose statistics are all within their thresholds."""
    seed: int

    def sentence(self) -> str:
        """Say the achieved rate of false alarms beside the budget."""
        told = self.achieved
        alarms = told.n - round(told.value * told.n)
        ends = f"{100 * (1 - told.high):.2f} to {100 * (1 - told.low):.2f} %"
        rate = f"{100 * alarms / told.n:.2f} % ({ends}), the budget is {100 * self.budget:g} %"
        return f"{alarms} of {told.n} other clean windows of {self.rows} rows alarmed: {rate}"


class Stretch(Value):
    """What detectors read on the clean windows of one replayed stream."""

    statistics: dict[str, tuple[float, ...]]


class Memo(Protocol):
    """Whoever keeps what was replayed."""

    def __call__(self, part: str, play: Callable[[], Stretch]) -> Stretch:
        """Give a part that was played before, or play and keep it."""


def played_anew(part: str, play: Callable[[], Stretch]) -> Stretch:
    """Keep nothing."""
    del part
    return play()


class Panel(Value):
    """Detectors by name, and the budget that they share."""

    detectors: dict[str, Detector]
    budget: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.001

    def calibrate(
        self,
        past: Window,
        rows: int,
        replays: int,
        noise: Noise,
        progress: Callable[[int], None] = lambda _: None,
        memo: Memo = played_anew,
    ) -> Calibration:
        """Replay clean windows to find thresholds that keep the budget, and read the rate on as many others.

        The budget is parted by the detectors' weights (Bonferroni: it holds whatever their dependence). Where theory
        gives no threshold, the tail of the replayed statistics is extrapolated.

        A clean window and a clean past are two parts of the past, split at random again and again: any one split
        would take its own accident for the world's. Detectors that add windows up meet streams of rows drawn with
        replacement from the whole past instead, against a past that is drawn likewise: sums over few rows, each drawn
        once, would scatter too little.

        Args:
            past: what detectors compare with; half of it is what replayed windows are drawn from.
            rows: of a window.
            replays: clean windows for the thresholds; as many again for the achieved rate.
            noise: source of the draws.
            progress: called with the number of windows done, of twice as many as ``replays``.
            memo: keeps each stream of windows that was replayed, so that who is interrupted goes on from there.

        Raises:
            DataError: too few replays, or too few rows to draw windows from.

        Source: permutation of two samples, Pitman 1937, JRSS Supplement 4; bootstrap, Efron 1979, Annals of
        Statistics 7.
        """
        if replays < FEWEST_REPLAYS:
            raise DataError(
                "monitoring.replays", found=str(replays), expected=f"at least {FEWEST_REPLAYS}", remedy="Raise it."
            )
        levels = self.levels()
        theory = {name: detector.threshold(levels[name], past, rows) for name, detector in self.detectors.items()}
        unknown = [name for name, value in theory.items() if value is None]
        told = self.replay(past, rows, replays, noise.derive("calibrate"), unknown, progress, memo)
        thresholds = {
            name: _replayed(name, self.detectors[name], told[name], levels[name])
            if value is None
            else Threshold(value=value, source="theory")
            for name, value in theory.items()
        }
        others = self.replay(
            past,
            rows,
            replays,
            noise.derive("check"),
            list(self.detectors),
            lambda done: progress(replays + done),
            memo,
        )
        alarms = [others[name] > thresholds[name].value for name in others]
        return Calibration(
            budget=self.budget, rows=rows, thresholds=thresholds, replays=replays, seed=noise.seed,
            achieved=share(~np.any(alarms, axis=0)),
        )  # fmt: skip

    def of_rows(self, calibration: Calibration, past: Window, rows: int) -> Calibration:
        """Give thresholds for windows of other length than those replayed: what theory gives, it gives for their own.

        Statistics of more rows scatter less, so that replayed thresholds of fewer are on the safe side. One that adds
        rows up has more of them to rise in.
        """
        levels = self.levels()
        theory = {name: each.threshold(levels[name], past, rows) for name, each in self.detectors.items()}
        own = {name: Threshold(value=value, source="theory") for name, value in theory.items() if value is not None}
        return calibration.model_copy(update={"thresholds": {**calibration.thresholds, **own}})

    def watch(
        self,
        window: Window,
        past: Window,
        calibration: Calibration,
        memories: Mapping[str, Json],
        needs: Collection[Needs] = ("inputs", "outputs", "embeddings", "labels"),
        names: Collection[str] | None = None,
    ) -> tuple[tuple[Signal, ...], dict[str, Json]]:
        """Let every detector that can look at a window look, and give signals and what to remember.

        A detector whose needs are not there yet gives no signal, which is no good news: it is asked again when
        the labels mature. ``needs`` and ``names`` ask some only: those that looked before must not look again.
        """
        signals, kept = [], dict(memories)
        for name, detector in self.detectors.items():
            if detector.needs not in needs or (names is not None and name not in names):
                continue
            if not detector.applicable(window):
                continue
            reading = detector.read(window, past, kept.get(name, {}))
            kept[name] = reading.memory
            signals.append(self._signal(name, detector, window, reading, calibration.thresholds[name]))
        return tuple(signals), kept

    def levels(self) -> dict[str, float]:
        """Give each detector's part of the budget: the share of clean windows in which it may alarm."""
        whole = sum(detector.weight for detector in self.detectors.values())
        return {name: self.budget * detector.weight / whole for name, detector in self.detectors.items()}

    def asks(self, part: Asks) -> bool:
        """Tell whether any detector reads this part of a window."""
        return any(detector.asks(part) for detector in self.detectors.values())

    def digest(self) -> str:
        """Name the panel by what it asks."""
        settings = {
            name: [type(each).__module__, each.model_dump(mode="json")] for name, each in self.detectors.items()
        }
        return digest_json([settings, self.levels()])

    def replay(
        self,
        past: Window,
        rows: int,
        replays: int,
        noise: Noise,
        names: Sequence[str],
        progress: Callable[[int], None] = lambda _: None,
        memo: Memo = played_anew,
    ) -> dict[str, Array]:
        """Read the statistics (replays,) of some detectors on clean windows, in streams of `STREAM` windows each."""
        told: dict[str, list[float]] = {name: [] for name in names}
        for start in range(0, replays if names else 0, STREAM):
            places = range(start, min(start + STREAM, replays))
            part = memo(f"{noise.key}-{start}", partial(self._stretch, past, rows, places, noise, names))
            for name, found in part.statistics.items():
                told[name] += found
            progress(places.stop)
        return {name: np.array(found) for name, found in told.items()}

    def _stretch(self, past: Window, rows: int, places: range, noise: Noise, names: Sequence[str]) -> Stretch:
        """Replay one stream: detectors with a memory have it to its end, and none is left of the stream before."""
        told: dict[str, list[float]] = {name: [] for name in names}
        alone = {name: self.detectors[name] for name in names if not self.detectors[name].sequential}
        among = {name: self.detectors[name] for name in names if self.detectors[name].sequential}
        split: Iterator[tuple[Window, Window]] = iter(())
        memories, before = dict[str, Json](), past.bootstrap(len(past), noise.derive("past", places.start), -1)
        for place in places:
            if alone:
                if (part := next(split, None)) is None:
                    split = _split(past, rows, noise.derive("split", place))
                    part = next(split)
                for name, detector in alone.items():
                    told[name].append(detector.replay(*part, {}).statistic)
            window = past.bootstrap(rows, noise.derive("stream", place), place)
            for name, detector in among.items():
                reading = detector.replay(window, before, memories.get(name, {}))
                memories[name] = reading.memory
                told[name].append(reading.statistic)
        return Stretch(statistics={name: tuple(found) for name, found in told.items()})

    @staticmethod
    def _signal(name: str, detector: Detector, window: Window, reading: Reading, threshold: Threshold) -> Signal:
        return Signal(
            detector=name, about=detector.about, needs=detector.needs,
            window=window.id, position=window.position, n=len(window),
            statistic=reading.statistic, threshold=threshold.value,
            alarm=reading.valid and reading.statistic > threshold.value,
            effect=reading.effect, effect_unit=reading.effect_unit, p_value=reading.p_value, e_value=reading.e_value,
            details=reading.details,
        )  # fmt: skip


def _split(past: Window, rows: int, noise: Noise) -> Iterator[tuple[Window, Window]]:
    """Part rows at random into a past and windows, none of which share a row.

    Raises:
        DataError: half of the rows make no window.
    """
    order = torch.randperm(len(past), generator=noise.generator()).numpy()
    half = len(past) // 2
    before = past.take(order[half:], -1)
    if half < rows:
        raise DataError(
            "reference rows", found=f"{len(past)} rows", expected=f"at least {2 * rows} to draw windows of {rows} from",
            remedy="Give the calibration role more rows.",
        )  # fmt: skip
    for start in range(0, half - rows + 1, rows):
        yield past.take(order[start : start + rows], 0), before


def _replayed(name: str, detector: Detector, told: Array, level: float) -> Threshold:
    if not np.isfinite(told).all():
        raise DataError(
            f"detector {name}", found="statistics that are not finite on clean windows", expected="numbers",
            remedy="The detector cannot look at these data: take it out of the panel, or mend it.",
        )  # fmt: skip
    value = max(tail_quantile(told, level), detector.least(level))
    return Threshold(value=value, source=f"replay of {len(told)} clean windows")


def tail_quantile(values: Array, level: float) -> float:
    """Give a value that a statistic exceeds with probability ``level`` at most, from a sample (n,) of it.

    Inside the sample it is the empirical quantile, conservative by one rank. Beyond, the largest values are taken for
    an exponential tail, its scale at the upper 95 % limit, or for a generalized Pareto tail where they are clearly
    heavier; tails with an end are not believed, for a few dozen values often seem to have one. It is never less than
    the largest value seen.

    Source: Siffer et al. 2017, KDD, section 3 (peaks over threshold).
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n = len(ordered)
    if level * n >= 1.0:
        return float(ordered[min(n - 1, int(np.ceil((1.0 - level) * n)))])
    start = ordered[n - 1 - min(n - 1, max(int(_TAIL * n), _FEWEST_BEYOND))]
    excess = ordered[ordered > start] - start
    k = len(excess)
    if k == 0:
        return float(ordered[-1])
    # Of a statistic that is hardly ever above 0, the limit of a few values would be beyond any attack.
    surely = 2.0 * k / float(stats.chi2.ppf(0.05, 2 * k)) if k >= _FEWEST_LIMITED else 1.0
    scale = float(excess.mean()) * surely
    light = start + scale * float(np.log(k / (level * n)))
    shape, width = _pareto(excess)
    clearly = shape > _SURE * (4.0 / (3.0 * k)) ** 0.5  # the standard error of a shape near 0
    heavy = start + width / shape * ((level * n / k) ** -shape - 1.0) if clearly else light
    return float(max(light, heavy, ordered[-1]))


def _pareto(excess: Array) -> tuple[float, float]:
    """Fit a generalized Pareto law to excesses (k,) in rising order by moments, and give its shape, below 1, and scale.

    Maximum likelihood runs away on statistics that take few values.

    Source: Hosking and Wallis 1987, Technometrics 29, section 4 (probability-weighted moments).
    """
    k = len(excess)
    mean, weighted = float(excess.mean()), float((excess * (k - np.arange(1, k + 1)) / max(k - 1, 1)).mean())
    gap = mean - 2.0 * weighted
    return (2.0 - mean / gap, 2.0 * mean * weighted / gap) if gap > 0.0 else (0.0, mean)
