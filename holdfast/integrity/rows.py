"""What is asked of single rows that no file pins, those of a window: what params declare, and that a model can use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from holdfast.integrity.base import Material, run_checks
from holdfast.integrity.schema import Schema
from holdfast.results import IntegrityFinding
from holdfast.space import Table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    import pandas as pd
    from torch import Tensor

    from holdfast.integrity.base import IntegrityCheck
    from holdfast.space import Box

    Array = np.ndarray[Any, np.dtype[Any]]
REACH = 1e30
"""Units from the median beyond which a number trains nothing: float32 ends at 3.4e38, so that a candidate whose unit is
not the champion's still encodes what is nearer, and no row of any use lies anywhere near."""
_SHOWN = 5


def declared_of_rows(checks: Sequence[IntegrityCheck], label: str) -> Schema | None:
    """Give what is declared of single rows that have no label yet; None where nothing is.

    Args:
        checks: those that params name.
        label: column of the label.
    """
    schema = next((check for check in checks if isinstance(check, Schema)), None)
    return None if schema is None else schema.of_rows(exclude=(label,))


def examine_rows(schema: Schema, rows: pd.DataFrame, seed: int) -> IntegrityFinding:
    """Hold rows to what is declared of each; the finding names the faulty ones by their places."""
    n = len(rows)
    material = Material(
        frame=rows, label=None, time=None, ids=np.arange(n), features=np.zeros((n, 1), dtype=np.float32),
        labels=np.zeros(n, dtype=np.int64), roles=None, kind="table", provenance={}, seed=seed,
    )  # fmt: skip
    (found,) = run_checks([schema], material)
    return found


def unanswered(places: Array, n: int) -> IntegrityFinding:
    """Name the rows of a window, by their places (m,), that a champion which answers others has no finite output for.

    Args:
        places: of the rows.
        n: rows of the window.
    """
    named = ", ".join(map(str, places[:_SHOWN].tolist()))
    where = f"row {named}" if len(places) == 1 else f"rows {named}{', ...' if len(places) > _SHOWN else ''}"
    reason = f"{len(places)} of {n} rows have no finite answer ({where}), and the champion answers rows of its own time"
    rows = tuple(places.tolist())
    return IntegrityFinding(check="answers", verdict="quarantine", reason=reason, examined=n, rows=rows)


def out_of_reach(x: Tensor, space: Table | Box) -> Array:
    """Tell which rows (n,) of inputs (n, features) hold a number so far out that no network can learn from it."""
    far = np.zeros(len(x), dtype=bool)
    for column, feature in enumerate(space.features if isinstance(space, Table) else ()):
        if feature.kind == "number":
            unit = feature.iqr or feature.std or 1.0
            far |= np.abs(x[:, column].double().numpy() - feature.median) > REACH * unit  # not so where it is missing
    return far
