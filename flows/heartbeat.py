"""The heartbeat by which Prefect knows that a flow lives: one for each process, and not one for each subflow."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def one_heartbeat() -> Iterator[None]:
    """Let subflows live by the heartbeat of the flow whose process they share: one of their own costs each a second."""
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield
