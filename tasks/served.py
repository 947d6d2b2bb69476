"""What was served: answers that clients were given to a window's rows, held against those of the champion's bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.data.recorded import Told
from holdfast.prediction_log import PredictionLog
from holdfast.stores import WallClock

if TYPE_CHECKING:
    from holdfast.predictor import Predictions
    from holdfast.stores import Stores


def served_otherwise(stores: Stores, told: Predictions | Told) -> tuple[int, str]:
    """Count a window's rows that the champion was asked by others, and say what they were answered and it would not.

    Answers follow from bytes and row alone, so who served others had other bytes, or hardware that fails. Of several
    answers to one row the last counts: who serves may have been started anew since.

    Raises:
        StoreError: the prediction log does not answer.
    """
    if isinstance(told, Told):
        return 0, ""  # nobody else was asked: the records are all there is
    given = PredictionLog(stores.predictions, WallClock()).served(told.version, [each.input for each in told.answers])
    rows, unlike = told.against(given)
    return rows, f"{len(unlike)} of {rows} answers served were not the champion's: {unlike[0]}" if unlike else ""
