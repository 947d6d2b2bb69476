"""The feed of a window: columns that no longer change where the past says that they do."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from holdfast.results import IntegrityFinding

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

LEVEL = 1e-6
"""Chance at which a clean window of the past's world would be taken for a stuck one, over all columns."""


def stuck(window: pd.DataFrame, past: pd.DataFrame, columns: Sequence[str]) -> IntegrityFinding:
    """Find columns that hold one value throughout a window, and would not if rows were drawn as in the past.

    A window of n rows drawn from the past is constant with a chance of at most ``m ** (n - 1)``, where m is the share
    of the past's commonest value, missing ones counted as a value. Below `LEVEL` over the number of columns it blocks.

    Args:
        window: rows as they came (n, ...).
        past: rows of the champion's own time.
        columns: those that a model reads; others may stand still.
    """
    n, held = len(window), [name for name in columns if name in window and name in past]
    found = []
    for name in held:
        if window[name].unique().size > 1:
            continue
        commonest = float(past[name].value_counts(normalize=True, dropna=False).iloc[0])
        if commonest < 1.0 and (n - 1) * math.log(commonest) < math.log(LEVEL / max(len(held), 1)):
            found.append(f"{name} is {window[name].iloc[0]!s:.40} in all {n} rows")
    reason = "; ".join(found) or f"{len(held)} columns vary as before"
    return IntegrityFinding(check="feed", verdict="block" if found else "pass", reason=reason, examined=n)
