"""Ctrl-C and SIGTERM: the first unwinds what runs and keeps what is finished, a second Ctrl-C ends at once."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.console import STDERR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

INTERRUPTED = 130
TERMINATED = 143


class Terminated(KeyboardInterrupt):
    """SIGTERM: whatever a Ctrl-C ends and keeps, this ends and keeps too."""


@dataclass
class Strokes:
    """What the strokes of Ctrl-C do here."""

    at_once: Callable[[], None] = lambda: None
    """Ends what a process that is gone would leave running; nothing until there is such a thing."""

    def unwind(self, number: int, _frame: FrameType | None) -> None:
        """Say that the stroke was heard, and unwind: what computes in another thread first comes to its end."""
        # A function, not SIG_IGN: that would be handed to processes that the clean-up starts.
        signal.signal(signal.SIGTERM, lambda *_: None)
        if number == signal.SIGTERM:
            raise Terminated
        signal.signal(signal.SIGINT, self.end)
        STDERR.print("[yellow]stopping[/]: what is under way ends first; Ctrl-C again ends at once")
        raise KeyboardInterrupt

    def end(self, _number: int, _frame: FrameType | None) -> None:
        """End as a kill does, which every store bears; but leave no server of ours behind."""
        try:
            STDERR.print("[yellow]ended at once[/]: what was finished is kept; the same command goes on from there")
            self.at_once()
        finally:
            os._exit(INTERRUPTED)


@contextmanager
def unwound() -> Iterator[Strokes]:
    """Let the first SIGINT or SIGTERM unwind what runs inside; a SIGTERM after it cannot cut the clean-up short.

    Raises:
        KeyboardInterrupt: SIGINT came; it stays deaf to it where the process was started so.
        Terminated: SIGTERM came.
    """
    strokes = Strokes()
    numbers = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not signal.SIG_IGN]
    former = {number: signal.signal(number, strokes.unwind) for number in numbers}
    try:
        yield strokes
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
