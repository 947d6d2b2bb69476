"""Evidently, and only here: tests of every column against the past, and the page that people read after an alarm."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, final

import numpy as np

from holdfast.monitoring.base import Detector, Needs, Reading
from holdfast.space import Box

if TYPE_CHECKING:
    import pandas as pd

    from holdfast.data.stream import Window
    from holdfast.results import About, Json

_LEAST = 1e-300  # smaller p-values underflow: they are as good as this


@final
class Evidently(Detector):
    """Test each feature, and the predicted class, against the past; the smallest p-value counts, times their number.

    Methods are pinned: Evidently's defaults change with the number of rows. Images are told by their statistics.
    """

    needs: ClassVar[Needs] = "outputs"
    about: ClassVar[About] = "shift"
    replayed: ClassVar[bool] = False
    reference: ClassVar[str] = "Evidently's DataDriftPreset; Bonferroni over columns"

    numbers: Literal["ks", "anderson", "mannw", "t_test"] = "ks"
    """Test of a number, by Evidently's name."""
    categories: Literal["chisquare", "TVD", "g_test"] = "chisquare"
    """Test of a category, by Evidently's name."""

    def read(self, window: Window, past: Window, memory: Json) -> Reading:
        """Read minus the decimal logarithm of the corrected p-value; the effect is the share of columns below 5 %."""
        values = self.scores(window, past)
        # A column that is constant on both sides has no test, and has not moved.
        tested = {name: value for name, value in values.items() if math.isfinite(value)}
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

    def scores(self, window: Window, past: Window) -> dict[str, float]:
        """Give the p-value of each column by Evidently's own tests, those of its report.

        The report itself draws figures of every column whether or not somebody looks: seconds for a window.
        """
        from evidently.legacy.calculations.stattests.registry import get_stattest  # noqa: PLC0415  seconds

        now, before, names = self._tables(window, past)
        found = {}
        for name in before:
            kind, method = ("cat", self.categories) if name in names else ("num", self.numbers)
            here, there = now[name].dropna(), before[name].dropna()
            if len(here) == 0 or len(there) == 0:
                found[str(name)] = 1.0 if len(here) == len(there) else _LEAST  # a column that is gone, or came
                continue
            test = get_stattest(there, here, kind, method)
            with np.errstate(divide="ignore", invalid="ignore"):  # a category that the past never had
                found[str(name)] = float(test(there, here, kind, 0.05).drift_score)
        return found

    def threshold(self, level: float) -> float | None:
        """Give minus the decimal logarithm of the level: the p-value is corrected already."""
        return -math.log10(level)

    def page(self, window: Window, past: Window) -> str:
        """Render Evidently's own page (HTML, some megabytes) for one window."""
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "drift.html"
            self._run(window, past).save_html(str(path))
            return path.read_text()

    def _run(self, window: Window, past: Window) -> Any:  # noqa: ANN401  Evidently's snapshot
        from evidently import DataDefinition, Dataset, Report  # noqa: PLC0415  seconds
        from evidently.presets import DataDriftPreset  # noqa: PLC0415  as above

        now, before, names = self._tables(window, past)
        definition = DataDefinition(
            numerical_columns=[name for name in before if name not in names], categorical_columns=names
        )
        preset = DataDriftPreset(
            num_method=self.numbers, cat_method=self.categories, num_threshold=0.05, cat_threshold=0.05
        )
        current, reference = (Dataset.from_pandas(frame, data_definition=definition) for frame in (now, before))
        return Report([preset]).run(current, reference)

    @staticmethod
    def _tables(window: Window, past: Window) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
        """Give both sides as tables, without columns that stand still, and the names of the categories."""
        now, before = table_of(window), table_of(past)
        still = [name for name in before if len({*before[name], *now[name]}) == 1]  # nothing to test, only to divide by
        now, before = now.drop(columns=still), before.drop(columns=still)
        return now, before, [str(name) for name in before if before[name].dtype == object]


def table_of(window: Window) -> pd.DataFrame:
    """Lay a window out as people know it: raw numbers, names of categories, and the predicted class."""
    import pandas as pd  # noqa: PLC0415  params are checked without it

    from holdfast.integrity.image_statistics import image_statistics  # noqa: PLC0415  as above

    space = window.space
    if isinstance(space, Box):
        frame = image_statistics((window.x.clamp(0.0, 1.0) * 255).round().byte().numpy())
        frame = frame.select_dtypes("number")
    else:
        columns: dict[str, Any] = {}
        for place, feature in enumerate(space.features):
            values = window.x[:, place].double().numpy()
            if feature.kind == "number":
                columns[feature.name] = values
                continue
            names = np.array([*feature.categories, "(unseen)"], dtype=object)
            codes = np.where(np.isnan(values), len(feature.categories), values).astype(int)
            told = names[codes.clip(0, len(feature.categories))]
            columns[feature.name] = pd.Series(told, dtype=object)  # Evidently takes no other text
        frame = pd.DataFrame(columns)
    return frame.assign(**{"(predicted)": pd.Series(window.predicted.astype(str), dtype=object)})
