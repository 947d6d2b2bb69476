"""Faults of a window's rows: what params declare and they break, and rows that no model can answer or learn from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from holdfast.digests import work_key
from holdfast.integrity.feed import stuck
from holdfast.integrity.rows import declared_of_rows, examine_rows, out_of_reach
from holdfast.results import IntegrityFinding
from holdfast.space import Table
from tasks.storage import load_data

if TYPE_CHECKING:
    import pandas as pd

    from holdfast.data.recorded import Recorded
    from holdfast.data.streams.base import Arrival
    from holdfast.integrity.schema import Schema
    from holdfast.params import Params
    from holdfast.predictor import Predictor
    from holdfast.results import DataSnapshot
    from holdfast.stores import Stores


def quality_of(
    params: Params, stores: Stores, snapshot: DataSnapshot, arrival: Arrival
) -> tuple[IntegrityFinding, ...]:
    """Hold a window's rows to what params declare of each row; what is declared of the whole set is no window's."""
    wide = declared_of_rows(params.checks(), params.data.label)
    if wide is None or isinstance(arrival.rows, np.ndarray):
        return ()
    lacking = [name for name in wide.columns if name not in arrival.rows]
    if lacking:
        told = f"no column {', '.join(lacking)}"
        return (IntegrityFinding(check="schema", verdict="block", reason=told, examined=len(arrival)),)
    data, found = load_data(stores, params, snapshot), _declared(params, stores, wide, arrival.rows, arrival.digest)
    if data.frame is None or not isinstance(data.space, Table):
        return (found,)
    return (found, stuck(arrival.rows, data.frame[data.holds("train")], data.space.names))


def faulty_rows(params: Params, stores: Stores, arrival: Arrival, predictor: Predictor | Recorded) -> tuple[int, ...]:
    """List the rows of a window, by their places, that train nothing, as such rows of pinned data.

    They break what params declare; or the champion has no finite answer to them, or hardly: a model that learns from
    one of those learns nothing at all.

    Raises:
        DataError: the champion cannot read the rows.
    """
    wide = declared_of_rows(params.checks(), params.data.label)
    declared: tuple[int, ...] = ()
    if wide is not None and not isinstance(arrival.rows, np.ndarray):
        declared = _declared(params, stores, wide, arrival.rows, arrival.digest).rows
    told = predictor.examine(arrival.asked)
    silent = ~np.isfinite(told.probabilities).all(axis=1) | out_of_reach(told.inputs, predictor.space)
    return tuple(sorted({*declared, *np.flatnonzero(silent).tolist()})) if silent.any() else declared


def _declared(params: Params, stores: Stores, wide: Schema, rows: pd.DataFrame, digest: str) -> IntegrityFinding:
    """Ask what is declared of a window's rows; once, for each retraining needs to know it of every window."""
    key = work_key("rows of a window", wide.model_dump_json(), digest, seed=params.seed)
    known = stores.results.get(key, IntegrityFinding)
    if known is not None:
        return known
    found = examine_rows(wide, rows, params.seed)
    stores.results.put(key, found)
    return found
