"""What params declare of single rows, asked of rows that no file pins: those of a window."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from holdfast.integrity.base import Material, run_checks
from holdfast.integrity.schema import Schema

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from holdfast.integrity.base import IntegrityCheck
    from holdfast.results import IntegrityFinding


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
