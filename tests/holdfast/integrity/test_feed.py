"""Stuck columns: told from columns that are constant by nature, or have become so."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from holdfast.integrity.feed import stuck

DRAWS = np.random.default_rng(0)
PAST = pd.DataFrame(
    {
        "moves": DRAWS.normal(size=2000), "still": np.zeros(2000), "hidden": DRAWS.normal(size=2000),
        "programme": DRAWS.choice(["yes", "no"], 2000), "rooms": DRAWS.integers(1, 5, 2000),
    }
)  # fmt: skip
COLUMNS = ("moves", "still", "programme", "rooms")


def test_a_window_of_the_past_passes() -> None:
    """Columns that vary, and columns that never did, do not block."""
    assert stuck(PAST.iloc[:500], PAST, COLUMNS).verdict == "pass"


@pytest.mark.parametrize("value", [0.5, np.nan])
def test_a_number_that_no_longer_changes_blocks(value: float) -> None:
    """One value throughout, or none at all, blocks by name where the past held many."""
    finding = stuck(PAST.iloc[:200].assign(moves=value), PAST, COLUMNS)
    assert finding.verdict == "block"
    assert finding.reason.startswith("moves is")


def test_what_becomes_constant_without_a_fault_does_not_block() -> None:
    """A category that dies out, a number of few values, a handful of rows, a column that no model reads."""
    assert stuck(PAST.iloc[:200].assign(programme="no", rooms=2), PAST, COLUMNS).verdict == "pass"
    assert stuck(PAST.iloc[:10].assign(moves=0.5), PAST, COLUMNS).verdict == "pass"
    assert stuck(PAST.iloc[:200].assign(hidden=0.0), PAST, COLUMNS).verdict == "pass"
