"""Evidently, and only here: tests of every column against the past, and the page that people read after an alarm."""

from __future__ import annotations

import json
import math
import tempfile
import warnings
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, final

import numpy as np
from scipy import special, stats

from holdfast.monitoring.base import Detector, Needs, Reading
from holdfast.space import Box

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sized

    import pandas as pd
    from torch import Tensor

    from holdfast.data.stream import Window
    from holdfast.results import About, Json

Array = np.ndarray[Any, np.dtype[Any]]
_Columns = dict[str, tuple[Array, tuple[str, ...]]]
"""By name: numbers (n,) and no names, or codes (n,) and the names that they stand for."""
_LEAST = 1e-300  # smaller p-values underflow: they are as good as this
_EXPECTED = 5.0
"""Rows of a window that a value of a category must make one expect, to be told from others (Cochran 1954)."""
_RARE = "(rare)"


@final
class Evidently(Detector):
    """Test each feature, and the predicted class, against the past; the smallest p-value counts, times their number.

    Methods are pinned: Evidently's defaults change with the number of rows. Images are told by their statistics. Of a
    category's values, those that a window hardly holds count as one.
    """

    needs: ClassVar[Needs] = "outputs"
    about: ClassVar[About] = "shift"
    reference: ClassVar[str] = "Evidently's DataDriftPreset; Bonferroni over columns"

    numbers: Literal["ks", "mannw", "t_test"] = "ks"
    """Test of a number, by Evidently's name; one whose p-values end at 0.001 could never alarm. Categories: chi-square,
    the only one for samples of unequal length whose p-values do not end."""

    def read(self, window: Window, past: Window, memory: Json) -> Reading:
        """Read minus the decimal logarithm of the corrected p-value; the effect is the share of columns below 5 %."""
        return self._reading(self._tests(window, past), memory)

    def replay(self, window: Window, past: Window, memory: Json) -> Reading:
        """Read the same without Evidently's tables, and among numbers only the test of the one that moved most."""
        if self.numbers != "ks":
            return self.read(window, past, memory)
        return self._reading(_quick(window, past), memory)

    def scores(self, window: Window, past: Window) -> dict[str, float]:
        """Give the p-value of each column by Evidently's own tests, those of its report."""
        return {test.name: test.p_value for test in self._tests(window, past) if test.by_evidently}

    def page(self, window: Window, past: Window) -> str:
        """Render Evidently's own page (HTML, some megabytes) for one window."""
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "drift.html"
            self.report(window, past).save_html(str(path))
            return path.read_text()

    @staticmethod
    def _reading(tests: Iterable[_Test], memory: Json) -> Reading:
        # A column that is constant on both sides has no test, and has not moved.
        tested = {test.name: test.honest() for test in tests if math.isfinite(test.p_value)}
        corrected = min(1.0, min(tested.values(), default=1.0) * max(len(tested), 1))
        low = sum(value * len(tested) < 0.05 for value in tested.values())  # noqa: PLR2004  told, and decides nothing
        return Reading(
            statistic=-math.log10(max(corrected, _LEAST)),
            effect=low / max(len(tested), 1),
            effect_unit="share of columns that moved",
            p_value=corrected,
            details={"columns": {name: tested[name] for name in sorted(tested, key=lambda name: tested[name])[:20]}},
            memory=memory,
        )

    def _tests(self, window: Window, past: Window) -> Iterator[_Test]:
        """Test each column that does not stand still.

        The report itself draws figures of every column whether or not somebody looks: seconds for a window.
        """
        known = _known(past)
        now, before = _tables(window, known)
        for name in map(str, before):
            if name not in known.counts:
                here, there = now[name].dropna(), before[name].dropna()
                yield _gone(name, here, there) or _Test(name, _score(there, here, "num", self.numbers))
            elif (exact := _exact(name, known, window)) is not None:
                yield exact
            else:
                score = _score(before[name], now[name], "cat", "chisquare")
                yield _Test(name, score, before[name].nunique(), len(now) / len(before))

    def report(self, window: Window, past: Window) -> Any:  # noqa: ANN401  Evidently's snapshot
        """Run Evidently's data drift preset on one window, methods pinned."""
        from evidently import DataDefinition, Dataset, Report  # noqa: PLC0415  seconds
        from evidently.presets import DataDriftPreset  # noqa: PLC0415  as above

        known = _known(past)
        now, before = _tables(window, known)
        definition = DataDefinition(
            numerical_columns=[name for name in before if name not in known.counts],
            categorical_columns=[name for name in before if name in known.counts],
        )
        preset = DataDriftPreset(
            num_method=self.numbers, cat_method="chisquare", num_threshold=0.05, cat_threshold=0.05, drift_share=0.5
        )
        current, reference = (Dataset.from_pandas(frame, data_definition=definition) for frame in (now, before))
        return Report([preset]).run(current, reference)


def f1_by_class(window: Window) -> dict[int, float]:
    """Give the F1 of each class that matured labels or answers name, by Evidently's own metric.

    Raises:
        DataError: the labels have not matured.
    """
    from evidently import DataDefinition, Dataset, MulticlassClassification, Report  # noqa: PLC0415  seconds
    from evidently.metrics import F1ByLabel  # noqa: PLC0415  as above

    names = np.array([str(each) for each in range(window.probabilities.shape[1])], dtype=object)
    parts = {"label": (window.matured, names), "predicted": (window.predicted, names)}
    if len(window) == 0:
        return {}
    asked = MulticlassClassification(target="label", prediction_labels="predicted")  # of two classes too: no positive
    definition = DataDefinition(classification=[asked], categorical_columns=list(parts))
    with warnings.catch_warnings():  # of classes that nobody was answered to be: their F1 is 0
        warnings.filterwarnings("ignore", message=".*is ill-defined", category=UserWarning)
        told = Report([F1ByLabel()]).run(Dataset.from_pandas(_frame(parts), data_definition=definition), None)
    return {int(name): float(value) for name, value in json.loads(told.json())["metrics"][0]["value"].items()}


def embedding_score(now: Tensor, before: Tensor) -> float:
    """Give Evidently's discrepancy of embeddings (n, d) and (m, d), 0 where it is negative; at most 1,000 rows each.

    Evidently's own threshold is one number for all data, and its bootstrap reseeds the global generator.
    """
    import pandas as pd  # noqa: PLC0415  params are checked without it
    from evidently.legacy.metrics.data_drift.embedding_drift_methods import MMDDriftMethod  # noqa: PLC0415  as above

    frames = [pd.DataFrame(each.double().numpy()) for each in (now, before)]  # made here: Evidently may write on them
    return float(MMDDriftMethod(bootstrap=False)(*frames)[0])


class _Test(NamedTuple):
    """One column's test."""

    name: str
    p_value: float
    cells: int = 0
    """Cells of a chi-square; 0 for tests of other kinds."""
    rows: float = 0.0
    """Rows of the window, as a share of the past's."""
    by_evidently: bool = True

    def honest(self) -> float:
        """Give the p-value of two samples.

        Evidently's chi-square takes the past for the truth; being a sample, it makes the statistic larger by the share
        of the window's rows (Pearson's statistic of two samples, against that of one).
        """
        if self.cells < 2:  # noqa: PLR2004  no degree of freedom
            return self.p_value
        degrees = self.cells - 1
        statistic = special.chdtri(degrees, max(self.p_value, _LEAST))
        return float(special.chdtrc(degrees, statistic / (1.0 + self.rows)))


class _Cells(NamedTuple):
    """The values of a category that are told apart in a window of some rows."""

    of: Array
    """Cell of each value (k,)."""
    before: Array
    """Rows of the past in each cell (cells,)."""
    labels: Array


class _Known(NamedTuple):
    """The past by columns."""

    columns: _Columns
    counts: dict[str, Array]
    """How often each value of a category is there (k,)."""
    ordered: dict[str, Array]
    """Numbers that are known, in order."""
    n: int

    def cells(self, name: str, rows: int) -> _Cells:
        """Tell frequent values apart; all others count as one, or as the rarest of those where they are too few."""
        counts, names = self.counts[name], np.array(self.columns[name][1], dtype=object)
        order, least = np.argsort(-counts, kind="stable"), _EXPECTED * self.n / max(rows, 1)
        kept = max(int((counts >= least).sum()), 1)
        merged = kept > 1 and counts[order[kept:]].sum() < least
        of = np.full(len(counts), kept - 1 if merged else kept)
        of[order[:kept]] = np.arange(kept)
        labels = names[order[:kept]] if merged else np.append(names[order[:kept]], _RARE)
        return _Cells(of, np.bincount(of, counts, len(labels)).astype(np.int64), labels)


@lru_cache(maxsize=4)  # a window is known by its identity: hundreds of windows are held against one past
def _known(past: Window) -> _Known:
    columns = _columns(past)
    counts = {name: np.bincount(values, minlength=len(names)) for name, (values, names) in columns.items() if names}
    ordered = {name: np.sort(values[~np.isnan(values)]) for name, (values, names) in columns.items() if not names}
    return _Known(columns, counts, ordered, len(past))


def _quick(window: Window, past: Window) -> Iterator[_Test]:
    """Test as Evidently does, on arrays; of numbers of one length only the farthest apart, the others at 1."""
    known = _known(past)
    farthest: dict[tuple[int, int], tuple[float, str, Array]] = {}
    for name, (values, names) in _columns(window).items():
        if names:
            cells = known.cells(name, len(window))
            now = np.bincount(cells.of[values], minlength=len(cells.before))
            if ((now > 0) | (cells.before > 0)).sum() > 1:
                yield _exact(name, known, window) or _chi_square(name, now, cells.before)
            continue
        here, there = values[~np.isnan(values)], known.ordered[name]
        if (gone := _gone(name, here, there)) is not None:
            yield gone
        elif len({here.min(), here.max(), there[0], there[-1]}) > 1 or len(here) < len(values) or len(there) < known.n:
            yield _Test(name, 1.0)
            found = (_distance(here, there), name, here)
            key = (len(here), len(there))
            farthest[key] = max(farthest.get(key, found), found, key=lambda each: each[0])
    for _, name, here in farthest.values():
        yield _Test(name, float(stats.ks_2samp(known.ordered[name], here).pvalue))


def _distance(here: Array, there: Array) -> float:
    """Give the Kolmogorov-Smirnov distance of some numbers from others, which are in order."""
    here = np.sort(here)
    both = np.concatenate([here, there])
    shares = [np.searchsorted(each, both, side="right") / len(each) for each in (here, there)]
    return float(np.abs(shares[0] - shares[1]).max())


def _chi_square(name: str, now: Array, before: Array) -> _Test:
    share = now.sum() / before.sum()
    statistic = float(((now - before * share) ** 2 / (before * share)).sum())
    return _Test(name, float(special.chdtrc(len(before) - 1, statistic)), len(before), share)


def _gone(name: str, here: Sized, there: Sized) -> _Test | None:
    """Judge a column of numbers that nobody knows on one side at least; None where both know some."""
    if len(here) and len(there):
        return None
    return _Test(name, 1.0 if len(here) == len(there) else _LEAST, by_evidently=False)


def _score(there: pd.Series[Any], here: pd.Series[Any], kind: str, method: str) -> float:
    from evidently.legacy.calculations.stattests.registry import get_stattest  # noqa: PLC0415  seconds

    with np.errstate(divide="ignore", invalid="ignore"):  # what Evidently makes of constant numbers
        return float(get_stattest(there, here, kind, method)(there, here, kind, 0.05).drift_score)


def _exact(name: str, known: _Known, window: Window) -> _Test | None:
    """Give Fisher's exact p-value of two cells of which a window hardly holds one; None where chi-square is right.

    Evidently calls the same function, for samples of equal length only.
    """
    cells = known.cells(name, len(window))
    if cells.before.min() * len(window) >= _EXPECTED * known.n:
        return None
    now = np.bincount(cells.of[_columns(window)[name][0]], minlength=len(cells.before))
    return _Test(name, float(stats.fisher_exact(np.stack([now, cells.before])).pvalue), by_evidently=False)


def _columns(window: Window) -> _Columns:
    """Take a window apart as people know it: raw numbers, categories, and the predicted class."""
    from holdfast.integrity.image_statistics import image_statistics  # noqa: PLC0415  params are checked without it

    space, found = window.space, _Columns()
    if isinstance(space, Box):
        frame = image_statistics((window.x.clamp(0.0, 1.0) * 255).round().byte().numpy()).select_dtypes("number")
        found = {str(name): (frame[name].to_numpy(np.float64), ()) for name in frame}
    else:
        for place, feature in enumerate(space.features):
            values, last = window.x[:, place].double().numpy(), len(feature.categories)
            if feature.kind == "number":
                found[feature.name] = (values, ())
            else:
                codes = np.where(np.isnan(values), last, values).astype(np.int64).clip(0, last)
                found[feature.name] = (codes, (*feature.categories, "(unseen)"))
    return found | {"(predicted)": (window.predicted, tuple(map(str, range(window.probabilities.shape[1]))))}


def table_of(window: Window) -> pd.DataFrame:
    """Lay a window out as people know it: raw numbers, names of categories, and the predicted class."""
    return _frame({name: (v, np.array(names, dtype=object)) for name, (v, names) in _columns(window).items()})


def _tables(window: Window, known: _Known) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Give both sides as tables, without columns that stand still: nothing to test in them, only to divide by."""
    sides = []
    for columns in (_columns(window), known.columns):
        laid = {}
        for name, (values, names) in columns.items():
            cells = known.cells(name, len(window)) if names else None
            laid[name] = (values, np.empty(0)) if cells is None else (cells.of[values], cells.labels)
        sides.append(_frame(laid))
    now, before = sides
    still = [name for name in map(str, before) if _constant(before[name], now[name])]
    return now.drop(columns=still), before.drop(columns=still)


def _constant(there: pd.Series[Any], here: pd.Series[Any]) -> bool:
    first = there.iloc[0]
    return bool((there == first).all() and (here == first).all())


def _frame(columns: dict[str, tuple[Array, Array]]) -> pd.DataFrame:
    import pandas as pd  # noqa: PLC0415  params are checked without it

    # Of text Evidently takes objects only.
    return pd.DataFrame(
        {name: pd.Series(labels[values], dtype=object) if len(labels) else values
         for name, (values, labels) in columns.items()}
    )  # fmt: skip
