"""Prediction: the champion opened as every caller must open it, and a file of rows answered by it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from holdfast.data.images import read_inputs
from holdfast.data.table import read_table
from holdfast.errors import DataError, ModelError
from holdfast.model import load_model, pick_device
from holdfast.prediction_log import PredictionLog
from holdfast.predictor import Predictor
from holdfast.recovery.ledger import Ledger
from holdfast.results import ModelVersion, Value
from holdfast.space import Box
from holdfast.stores import WallClock
from tasks import tracking
from tasks.lineage import registered
from tasks.progress import tell
from tasks.recovery import located, still_good, trusted_champion

if TYPE_CHECKING:
    from pathlib import Path

    from holdfast.model import Target
    from holdfast.params import Params
    from holdfast.space import Table
    from holdfast.stores import Stores


Array = np.ndarray[Any, np.dtype[Any]]


class PredictionSummary(Value):
    """What ``holdfast predict --json`` prints."""

    version: ModelVersion
    rows: int
    abstained: int
    out: str
    ignored: tuple[str, ...] = ()
    """Columns of the file that are no features of the champion."""


def open_champion(params: Params, stores: Stores) -> Predictor:
    """Open the champion: named by the ledger, shown by the alias, its bytes verified, its answers logged.

    Raises:
        ArtefactError: its bytes are not those that were promoted.
        ModelError: there is no champion, or the user's module is not the one that it was trained with.
        LedgerError: the ledger was tampered with.
        ProjectionError: the alias names another version than the ledger.
        StoreError: ledger or registry do not answer.
    """
    ledger = Ledger(stores.ledger.get_secret_value(), WallClock())
    head = trusted_champion(stores, ledger, params.name)
    if head is None:
        raise ModelError(
            f"model {params.name}", found="no champion", expected="one that passed its gate",
            remedy="`holdfast run` makes one when its gate passes. `holdfast audit` lists what was kept out, and"
            " `holdfast report --version N` says why.",
        )  # fmt: skip
    version = located(stores, head)
    return Predictor.open(
        tracking.fetch_model(stores, version), version, PredictionLog(stores.predictions, WallClock()),
        abstain_below=params.prediction.abstain_below, unseen_categories=params.prediction.unseen_categories,
        device=pick_device(params.device),
    )  # fmt: skip


def open_former(params: Params, stores: Stores, champion: ModelVersion, place: str) -> Target | None:
    """Open who was champion when a champion was made; None where nobody was, or where it cannot be asked any more.

    The latter is told: it serves nobody, so a copy that is spoilt or a module that was edited since stop nothing.
    A copy that does not verify is fetched anew.

    Raises:
        StoreError: ledger or registry do not answer.
    """
    parent = registered(stores, champion).get("parent")
    if parent is None:
        return None
    former = ModelVersion(name=champion.name, version=int(parent["version"]), digest=str(parent["digest"]))
    why = "no copy of its bytes verifies"
    try:
        if still_good(stores, former):
            return load_model(stores.models / former.digest, former.digest, pick_device(params.device))
    except ModelError as error:
        why = str(error)
    tell("monitoring", f"{place}  what the last retraining paid is not known: version {former.version}: {why}")
    return None


def predict_file(params: Params, stores: Stores, rows: Path, out: Path, client: str) -> PredictionSummary:
    """Answer every row of a file, and write the answers beside their row numbers.

    Raises:
        DataError: the rows cannot be read or do not fit the champion's schema; nothing was answered.
    """
    _check_out(out)
    predictor = open_champion(params, stores)
    asked = read_table(rows) if params.data.kind == "table" else read_inputs(rows)
    answers = predictor.predict(asked, client, place=rows.name)
    _write(answers.frame(), out)
    return PredictionSummary(
        version=predictor.version, rows=len(answers), abstained=int(answers.abstained.sum()), out=str(out),
        ignored=_ignored(asked, predictor.space),
    )  # fmt: skip


def _ignored(asked: pd.DataFrame | Array, space: Table | Box) -> tuple[str, ...]:
    """List columns that had no say: a label perhaps, or a feature that the champion does not know."""
    if isinstance(space, Box) or not isinstance(asked, pd.DataFrame):
        return ()
    return tuple(str(name) for name in asked.columns if name not in space.names)


def _check_out(out: Path) -> None:
    if out.suffix.lower() not in {".parquet", ".csv"} or not out.absolute().parent.is_dir():
        raise DataError(
            str(out), found=f"suffix {out.suffix or 'none'}, folder {out.absolute().parent}",
            expected="a .parquet or .csv file in a folder that exists", remedy="Name one with --out.",
        )  # fmt: skip


def _write(table: pd.DataFrame, out: Path) -> None:
    try:
        if out.suffix.lower() == ".csv":
            table.to_csv(out, index_label="row")
        else:
            table.to_parquet(out)
    except OSError as error:
        raise DataError(
            str(out), found=str(error), expected="a file that can be written",
            remedy="Name another with --out; the answers are in the prediction log.",
        ) from error  # fmt: skip
