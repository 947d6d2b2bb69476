"""Stuck columns: told from columns that are nearly constant by nature."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from holdfast.integrity.feed import stuck

DRAWS = np.random.default_rng(0)
PAST = pd.DataFrame(
    {
        "moves": DRAWS.normal(size=2000), "rare": DRAWS.random(2000) < 0.001, "still": np.zeros(2000),
        "gaps": np.where(DRAWS.random(2000) < 0.5, np.nan, 1.0), "hidden": DRAWS.normal(size=2000),
    }
)  # fmt: skip
COLUMNS = ("moves", "rare", "still", "gaps")


def test_a_window_of_the_past_passes() -> None:
    """Columns that are constant by nature, or nearly so, do not block."""
    assert stuck(PAST.iloc[:500], PAST, COLUMNS).verdict == "pass"


@pytest.mark.parametrize(("column", "value"), [("moves", 0.5), ("gaps", 1.0), ("gaps", np.nan)])
def test_a_column_that_no_longer_changes_blocks(column: str, value: float) -> None:
    """One value throughout, or none at all, blocks by name where the past held several."""
    finding = stuck(PAST.iloc[:200].assign(**{column: value}), PAST, COLUMNS)
    assert finding.verdict == "block"
    assert finding.reason.startswith(f"{column} is")


def test_few_rows_and_columns_that_no_model_reads_do_not_block() -> None:
    """Ten rows of a column that is half missing may well be alike; what is not asked about is not judged."""
    few = PAST.iloc[:10].assign(gaps=1.0)
    assert stuck(few, PAST, COLUMNS).verdict == "pass"
    assert stuck(PAST.iloc[:200].assign(hidden=0.0), PAST, COLUMNS).verdict == "pass"
