"""The feed of a window: numbers that no longer change where the past says that they do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from holdfast.results import IntegrityFinding

if TYPE_CHECKING:
    from collections.abc import Sequence

MANY, FEW_ROWS = 20, 30
"""Values from which a column of the past varies by nature, and rows from which a window must show it."""


def stuck(window: pd.DataFrame, past: pd.DataFrame, columns: Sequence[str]) -> IntegrityFinding:
    """Find numbers that hold one value throughout a window, and took many in the past; any blocks.

    Categories, and numbers of few values, are left alone: a programme that ends, a form that is no longer used, make
    them constant without a fault.

    Args:
        window: rows as they came (n, ...).
        past: rows of the champion's own time.
        columns: those that a model reads; others may stand still.
    """
    n, held = len(window), [name for name in columns if name in window and name in past]
    found = [
        f"{name} is {window[name].iloc[0]!s:.40} in all {n} rows"
        for name in held
        if n >= FEW_ROWS
        and window[name].unique().size == 1
        and pd.api.types.is_numeric_dtype(past[name].dtype)
        and past[name].value_counts().size >= MANY
    ]
    reason = "; ".join(found) or f"{len(held)} columns vary as before"
    return IntegrityFinding(check="feed", verdict="block" if found else "pass", reason=reason, examined=n)
