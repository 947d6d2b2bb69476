"""Integrity: data that is not what it should be is quarantined or blocked before it can train."""

from __future__ import annotations

from prefect import flow

from holdfast.params import Params
from holdfast.results import DataSnapshot, StageReport
from holdfast.stores import Stores
from tasks.integrity import examine, found_data, quarantine, refuse_blocked, usable_data


@flow(name="integrity")
def integrity(params: Params, stores: Stores) -> tuple[DataSnapshot, StageReport]:
    """Verify the pinned data, examine it, set faulty rows aside, and give the snapshot that may train.

    Raises:
        DataError: the data is not the data that ``data.dvc`` pins.
        IntegrityError: a check blocked it.
    """
    found = found_data(params, stores)
    report = examine(params, stores, found)
    refuse_blocked(params, stores, report)
    quarantine(params, stores, found, report)
    return usable_data(params, stores, report), report
