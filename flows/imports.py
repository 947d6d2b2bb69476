"""Imports: seconds of them at each start, which garbage collection would make longer."""

from __future__ import annotations

import atexit
import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def no_garbage() -> Iterator[None]:
    """Import without collecting garbage, and have no later collection walk through what was imported.

    Half a million objects live as long as the process does: walked through again and again they take a fifth of the
    imports' time, and seconds when the process ends.
    """
    atexit.register(gc.freeze)  # whatever else is done at exit comes before it
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()
