"""Screening: parts of a labelled window whose labels contradict what rows known to be good say of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field

from holdfast.errors import DataError
from holdfast.results import Share, Value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdfast.seeding import Noise

Array = np.ndarray[Any, np.dtype[Any]]
LEVELS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3)
"""Shares of the past's rows that are as contradicted as a row must be to count."""
LABEL, WHOLE = "the label", "the whole window"
"""Names of the two families of parts that no column makes."""
_PRIOR = 50.0
"""Rows at the past's overall rate that each value's own rate is shrunk by."""
_LEAST = 10
"""Rows of the smallest part that is looked at."""
_ANY = -1e-9
"""Margin of a label that is not the likeliest class, but for rounding."""
_RAREST = 1e-6
_MOST_RISEN = 3.0
"""Times the threshold that cleared windows may raise it to: poison that was missed once must not hide what follows."""
_LARGEST = 0.5
"""Largest part of a window that is held against the rest of it."""


class Screening(Value):
    """How matured windows are screened before any of them may train."""

    budget: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.02
    """Clean windows in which any part may come under suspicion, as a share; ablation clears most of these."""
    past: Annotated[int, Field(gt=0)] = 6
    """Last clean windows that a window is compared with; until there are as many, the pinned training rows too."""
    replays: Annotated[int, Field(ge=50)] = 200
    """Clean windows that are drawn from the past to find the threshold."""
    rows: Annotated[int, Field(ge=100)] = 4000
    """Rows of a window that are looked at, at most."""
    facts: bool = False
    """Whether a label is a fact of its row, as what an image shows is. Then labels that are contradicted in one class,
    or all over the window, are suspicious too. Leave it off where labels are outcomes: the world moves those."""
    numbers: bool = False
    """Whether ranges of numbers are parts too: a law that drifts moves along them, and would look like poison."""
    margin: Annotated[float, Field(ge=0.0)] = 0.02
    """Log loss on trusted rows, in nats. Where labels are facts, those are poison that do not help by more, and a part
    of a column that harms by more. Where they are outcomes, a part that harms by more than half of it, if the window's
    other rows are like the past's, and than twice of it, if they are told apart."""


class Suspect(Value):
    """One part of a window whose labels are contradicted more than chance and drift of the whole explain."""

    column: str
    """Column whose values make the part; or the label, or the whole window."""
    values: tuple[int, ...]
    """Codes of the values."""
    cut: float
    """Margin at or below which a label counts as contradicted."""
    rows: int
    """Rows of the part in the window."""
    contradicted: int
    """How many of them are contradicted, at that level."""
    expected: float
    """How many would be, by the past's rate of the same values, risen as it has in the rest of the window."""
    excess: float
    """Contradicted rows above the expected, as a share of the window."""
    statistic: float
    """Log likelihood ratio against the expected rate, the largest over all parts and levels."""
    threshold: float
    p_value: Share
    """Share of drawn clean windows with a statistic as large."""


@dataclass(frozen=True, eq=False)
class Judged:
    """Labelled rows, as a classifier that never saw them judges their labels.

    Raises:
        DataError: parts differ in length.
    """

    margins: Array
    """Probability (n,) of the label given over the likeliest class's, less 1: 0 where they agree, towards -1."""
    parts: Mapping[str, Array]
    """Name to codes (n,) int64 of values: each column of a table, the label where labels are facts."""

    def __post_init__(self) -> None:
        for name, codes in self.parts.items():
            if len(codes) != len(self.margins):
                raise DataError(
                    "rows to screen", found=f"{len(codes)} codes of {name}", expected=f"{len(self.margins)}, one a row",
                    remedy="Mend what builds them.",
                )  # fmt: skip

    def __len__(self) -> int:
        return len(self.margins)

    def take(self, rows: Array) -> Judged:
        """Give some rows (m,)."""
        return Judged(self.margins[rows], {name: codes[rows] for name, codes in self.parts.items()})


def margins_of(probabilities: Array, labels: Array) -> Array:
    """Give each row's margin (n,) in [-1, 0]: how certainly probabilities (n, k) contradict labels (n,).

    It is a ratio: a label with a tenth of the likeliest class's probability is doubted, one with a thousandth is wrong.
    """
    return np.asarray(probabilities[np.arange(len(labels)), labels] / probabilities.max(1) - 1.0)


def confusion_of(probabilities: Array, labels: Array) -> Array:
    """Say which labels (k, k) rows have that are given to each class: the classes' weights (n, k), by label (n,).

    Where shirts are often taken for coats, such a label contradicts little; one that is taken for a boot does. Held
    against it, labels are doubted that nobody confuses.

    Source: Northcutt, Jiang and Chuang 2021, JAIR 70 (joint of given and true labels); here each row counts by its
    probabilities, with half a row spread over each class for those that were never seen.
    """
    classes = probabilities.shape[1]
    weights = probabilities.T @ np.eye(classes)[labels] + 0.5 / classes
    return np.asarray(weights / weights.sum(1, keepdims=True))


def drawn_clean(past: Judged, rows: int, settings: Screening, noise: Noise) -> Array:
    """Draw clean windows from the past, and give the largest statistic of each, in rising order (replays,).

    Args:
        past: rows known to be good.
        rows: of the window that will be held against them.
        settings: how many are drawn, and whether labels are facts.
        noise: source of the draws.

    Raises:
        DataError: the past is too short to draw windows from.
    """
    size = min(rows, len(past) // 3)
    if size < _LEAST:
        raise DataError(
            "rows known to be good", found=f"{len(past)}", expected=f"at least {3 * _LEAST}", remedy="Pin more rows."
        )
    orders = [noise.derive(place).numpy().permutation(len(past))[:size] for place in range(settings.replays)]
    return np.sort(_Scan(past, facts=settings.facts).largest(np.stack(orders)))


def screen(window: Judged, past: Judged, drawn: Array, settings: Screening, lately: float = 0.0) -> tuple[Suspect, ...]:
    """Find the parts of a window whose labels are contradicted beyond what clean windows show.

    A part is any set of values of one column, at most half of the window; where labels are facts also each class, and
    the whole window. Its contradicted rows are counted at several levels and held against the past's rate of the same
    values, multiplied by as much as the rate has risen in the *rest* of the window: what moves all parts alike is
    drift. No rate, trigger or target of poison is assumed.

    Args:
        window: rows in question, judged by a classifier that saw none of them.
        past: rows known to be good, judged in the same way; the parts are the same, with the same codes.
        drawn: statistics of clean windows (replays,), rising.
        settings: the budget of false suspicion, and whether labels are facts.
        lately: the largest statistic that the last clean windows came with. Where labels are outcomes the world moves
            some parts more than others: what it did to windows that were cleared is no suspicion in the next. It
            raises the threshold threefold at most; where labels are facts it does not count.

    Returns:
        The suspects, at most one for each column, the gravest first; empty for most clean windows.

    Source: McFowland, Speakman and Neill 2013, JMLR 14 (nonparametric scan over levels, subsets by linear-time subset
    scanning); Zhang and Neill 2016, arXiv:1611.08292 (slices where a classifier is contradicted).
    """
    threshold = float(drawn[min(len(drawn) - 1, int(np.ceil((1.0 - settings.budget) * len(drawn))))])
    threshold = threshold if settings.facts else max(threshold, min(lately, _MOST_RISEN * threshold))
    found = [part for part in _Scan(past, facts=settings.facts).of(window) if part.statistic > threshold]
    return tuple(
        Suspect(
            **part._asdict(), threshold=threshold,
            p_value=(1 + int((drawn >= part.statistic).sum())) / (1 + len(drawn)),
        )
        for part in sorted(found, key=lambda part: -part.statistic)
    )  # fmt: skip


def largest(window: Judged, past: Judged, *, facts: bool) -> float:
    """Give the largest statistic of a window's parts, suspicious or not: what `screen` holds later windows against."""
    return max((part.statistic for part in _Scan(past, facts=facts).of(window)), default=0.0)


def belongs(suspect: Suspect, rows: Judged) -> Array:
    """Tell which rows (n,) bool lie in a suspect's part."""
    if suspect.column == WHOLE:
        return np.ones(len(rows), dtype=bool)
    return np.asarray(np.isin(rows.parts[suspect.column], suspect.values))


def contradicted(suspect: Suspect, rows: Judged) -> Array:
    """Tell which rows (n,) bool of a suspect's part are contradicted, by the cut that it was found with."""
    return np.asarray(belongs(suspect, rows) & (rows.margins <= suspect.cut))


class _Part(NamedTuple):
    """A part, before anyone says what a clean window would show."""

    column: str
    values: tuple[int, ...]
    cut: float
    rows: int
    contradicted: int
    expected: float
    excess: float
    statistic: float


class _Counts(NamedTuple):
    """Rows (..., values, 1) of each value, and how many are contradicted by each cut (..., values, cuts)."""

    rows: Array
    hits: Array

    def less(self, others: _Counts) -> _Counts:
        """Leave others out."""
        return _Counts(self.rows - others.rows, self.hits - others.hits)


class _Sets(NamedTuple):
    """Sets of values of one family: what is counted of each, and its statistic."""

    counts: Array
    """Rows, hits, expected hits and past rows (4, ..., values, cuts): of one value, or of all up to it."""
    statistic: Array
    """(..., values, cuts)."""
    rate: Array
    """Expected share of contradicted rows (..., values, cuts)."""


class _Scan:
    """The past, counted once, for any number of windows to be held against."""

    def __init__(self, past: Judged, *, facts: bool) -> None:
        cuts = np.quantile(past.margins, LEVELS)
        # Where the past hardly errs these say nothing; any label that is not the likeliest is the last cut.
        self._cuts = np.append(np.unique(cuts[cuts < _ANY]), _ANY)
        self._facts, self._past = facts, past
        self._values = {name: int(codes.max(initial=0)) + 1 for name, codes in past.parts.items()}
        self._known = {name: self._count(past, name, values) for name, values in self._values.items()}
        self._all = self._count(past, None, 1)

    def of(self, window: Judged) -> list[_Part]:
        """Find the gravest part of each family."""
        found = []
        for name, values in self._values.items():
            count = max(values, int(window.parts[name].max(initial=0)) + 1)
            found.append(self._gravest(name, self._count(window, name, count), _padded(self._known[name], count)))
        if self._facts:
            found.append(self._whole(self._count(window, None, 1), self._all))
        return found

    def largest(self, rows: Array) -> Array:
        """Give the largest statistic (draws,) of windows drawn from the past (draws, rows), each held out of it."""
        found = np.zeros(len(rows))
        for name, values in self._values.items():
            now = self._count(self._past, name, values, rows)
            _, told = self._sets(name, now, self._known[name].less(now))
            for sets in told:
                found = np.maximum(found, sets.statistic.max((-2, -1)))
        if self._facts:
            now = self._count(self._past, None, 1, rows)
            found = np.maximum(found, _as_a_whole(now, self._all.less(now))[0].max((-2, -1)))
        return found

    def _count(self, judged: Judged, name: str | None, values: int, rows: Array | None = None) -> _Counts:
        """Count by value and cut in one pass: a row that one cut contradicts, every later one does.

        With ``rows`` (draws, m), some of the judged are counted for each draw, all draws at once.
        """
        codes = np.zeros(len(judged), dtype=np.int64) if name is None else judged.parts[name]
        width = len(self._cuts) + 1
        cell = codes * width + np.searchsorted(self._cuts, judged.margins)
        shape: tuple[int, ...] = (values, width)
        if rows is not None:
            shape = (len(rows), *shape)
            cell = (cell[rows] + (np.arange(len(rows)) * values * width)[:, None]).ravel()
        table = np.bincount(cell, minlength=int(np.prod(shape))).reshape(shape).astype(np.float64)
        return _Counts(table.sum(-1, keepdims=True), table[..., :-1].cumsum(-1))

    @staticmethod
    def _sets(name: str, now: _Counts, known: _Counts) -> tuple[Array, list[_Sets]]:
        """Order values by their surplus, and hold each alone, and each with those before it, against the rest."""
        n = now.rows.sum(-2, keepdims=True)
        share = known.hits.sum(-2, keepdims=True) / np.maximum(known.rows.sum(-2, keepdims=True), 1.0)
        usual = (known.hits + _PRIOR * share) / (known.rows + _PRIOR)
        expected = now.rows * usual
        surplus = np.where(now.rows > 0, (now.hits - expected) / np.sqrt(np.maximum(expected, 1e-9)), -np.inf)
        order = np.argsort(-surplus, axis=-2, kind="stable")  # a set grows value by value, by its surplus
        alone = np.stack([
            np.take_along_axis(np.broadcast_to(each, usual.shape), order, -2)
            for each in (now.rows, now.hits, expected, known.rows + _PRIOR)
        ])  # fmt: skip
        counts = [alone] if name == LABEL else [alone, alone.cumsum(-2)]  # a class is a set of one
        hits, likely = now.hits.sum(-2, keepdims=True), expected.sum(-2, keepdims=True)
        return order, [_Sets(each, *_against(each, hits, likely, n)) for each in counts]

    def _gravest(self, name: str, now: _Counts, known: _Counts) -> _Part:
        """Find the set of values whose rows are contradicted most above the expected."""
        order, told = self._sets(name, now, known)
        which = int(np.argmax([sets.statistic.max() for sets in told]))
        counts, statistic, rate = told[which]
        place, cut = (int(i) for i in np.unravel_index(int(statistic.argmax()), statistic.shape))
        rows, hits = counts[0, place, cut], counts[1, place, cut]
        values = order[: place + 1, cut] if which else order[place : place + 1, cut]
        likely = float(rows * rate[place, cut])
        return _Part(
            column=name, values=tuple(sorted(values.tolist())), cut=float(self._cuts[cut]), rows=int(rows),
            contradicted=int(hits), expected=likely, excess=(float(hits) - likely) / float(now.rows.sum()),
            statistic=float(statistic[place, cut]),
        )  # fmt: skip

    def _whole(self, now: _Counts, known: _Counts) -> _Part:
        statistic, rate = _as_a_whole(now, known)
        cut, n = int(statistic.argmax()), float(now.rows.sum())
        hits = float(now.hits[0, cut])
        return _Part(
            column=WHOLE, values=(), cut=float(self._cuts[cut]), rows=int(n), contradicted=int(hits),
            expected=float(n * rate[0, cut]), excess=float(hits / n - rate[0, cut]), statistic=float(statistic[0, cut]),
        )  # fmt: skip


def _as_a_whole(now: _Counts, known: _Counts) -> tuple[Array, Array]:
    """Hold all rows of a window against the past: statistic and expected rate (..., 1, cuts)."""
    rate = np.clip(known.hits / known.rows, _RAREST, 1.0 - _RAREST)
    return likelihood_ratio(now.hits, now.rows, rate, known.rows), rate


def _padded(known: _Counts, values: int) -> _Counts:
    """Add values that the past never had."""
    more = ((0, values - len(known.rows)), (0, 0))
    return _Counts(np.pad(known.rows, more), np.pad(known.hits, more))


def _against(sets: Array, hits: Array, expected: Array, n: Array) -> tuple[Array, Array]:
    """Hold sets (4, ..., m, cuts) of rows, hits, expected hits and past rows against the rest of a window of n rows."""
    rows, own, usual, known = sets
    usual_rate, rest = np.clip(usual / np.maximum(rows, 1.0), _RAREST, 1.0 - _RAREST), np.maximum(hits - own, 0.0) + 0.5
    risen = np.maximum(1.0, rest / (np.maximum(expected - usual, 0.0) + 0.5))
    rate = np.clip(usual_rate * risen, _RAREST, 1.0 - _RAREST)
    # Both factors are estimates; by their relative variances the product is known as well as by this many rows.
    spread = (1.0 - usual_rate) / (known * usual_rate) + 1.0 / rest
    statistic = likelihood_ratio(own, np.maximum(rows, 1.0), rate, (1.0 - rate) / (rate * spread))
    return np.where((rows >= _LEAST) & (rows <= _LARGEST * n), statistic, 0.0), rate


def likelihood_ratio(hits: Array, rows: Array, rate: Array, known: Array) -> Array:
    """Give the log likelihood ratio (m,) of two binomial rates against one, 0 where the first is the lower.

    Args:
        hits: of the first sample, out of ``rows``.
        rows: of the first sample.
        rate: of the second sample.
        known: rows that the second rate was read on.
    """
    share = hits / rows
    pooled = (hits + rate * known) / (rows + known)
    ratio = rows * _divergence(share, pooled) + known * _divergence(rate, pooled)
    return np.asarray(np.where(share > rate, ratio, 0.0))


def _divergence(p: Array, q: Array) -> Array:
    p, q = np.clip(p, 1e-12, 1.0 - 1e-12), np.clip(q, 1e-12, 1.0 - 1e-12)
    return np.asarray(p * np.log(p / q) + (1.0 - p) * np.log((1.0 - p) / (1.0 - q)))
