"""Readable windows: whether anyone could judge by a window or learn from it, before a person's word lets it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.data.escrow import Escrow
from holdfast.errors import DataError, ModelError
from tasks.monitoring import class_indices
from tasks.prediction import open_champion

if TYPE_CHECKING:
    from holdfast.monitoring.watch import WindowRecord
    from holdfast.params import Params
    from holdfast.stores import Stores


def unreadable(params: Params, stores: Stores, window: WindowRecord) -> str:
    """Say why a window's labels or rows cannot be read; empty where they can.

    Rows are shown to the champion. Where none opens, or none is asked as predictions are recorded, nobody can tell
    here, and the watch does when it comes to them.

    Raises:
        StoreError: escrow, ledger or registry do not answer, which says nothing of the window.
    """
    try:
        rows = Escrow(stores.escrow).rows(window.digest, window.position).asked
        if window.matured:
            class_indices(params, stores, window)
        if not params.recorded:
            open_champion(params, stores).examine(rows)
    except DataError as error:
        return str(error)
    except ModelError:
        return ""
    return ""
