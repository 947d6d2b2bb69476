"""Ctrl-C and SIGTERM: the first unwinds what runs and keeps what is finished, a second Ctrl-C ends at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.console import STDERR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

INTERRUPTED = 130
TERMINATED = 143
_SOON = 0.01
"""Seconds after which a stroke that was swallowed comes once more."""


class Terminated(KeyboardInterrupt):
    """SIGTERM: whatever a Ctrl-C ends and keeps, this ends and keeps too."""


@dataclass
class Strokes:
    """What the strokes of Ctrl-C do here."""

    at_once: Callable[[], None] = lambda: None
    """Ends what a process that is gone would leave running; nothing until there is such a thing."""
    swallowed: threading.Timer | None = None

    def unwind(self, number: int, _frame: FrameType | None) -> None:
        """Say that the stroke was heard, and unwind: what computes in another thread first comes to its end."""
        # A function, not SIG_IGN: that would be handed to processes that the clean-up starts.
        signal.signal(signal.SIGTERM, lambda *_: None)
        if number == signal.SIGTERM:
            raise Terminated
        signal.signal(signal.SIGINT, self.end)
        STDERR.print("[yellow]stopping[/]: what is under way ends first; Ctrl-C again ends at once")
        raise KeyboardInterrupt

    def insist(self, error: BaseException) -> None:
        """Raise once more, soon, what a finalizer or the callback of a weak reference swallowed.

        A stroke is raised between any two steps of the main thread, and Python drops what is raised in those: it would
        have been heard, and nothing would stop. SIGTERM carries it, which is deaf since the first stroke.
        """

        def again(_number: int, _frame: FrameType | None) -> None:
            signal.signal(signal.SIGTERM, lambda *_: None)
            raise type(error)

        signal.signal(signal.SIGTERM, again)
        main = threading.main_thread().ident or 0
        self.swallowed = threading.Timer(_SOON, signal.pthread_kill, (main, signal.SIGTERM))
        self.swallowed.daemon = True
        self.swallowed.start()

    def rest(self) -> None:
        """See to it that nothing comes once more when nobody would unwind it."""
        if self.swallowed is not None:
            signal.signal(signal.SIGTERM, lambda *_: None)
            self.swallowed.cancel()
            self.swallowed.join()

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
    dropped = sys.unraisablehook

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        mine = threading.current_thread() is threading.main_thread()  # no stroke is raised in another
        if mine and isinstance(unraisable.exc_value, KeyboardInterrupt):
            strokes.insist(unraisable.exc_value)
        else:
            dropped(unraisable)

    former = {number: signal.signal(number, strokes.unwind) for number in numbers}
    sys.unraisablehook = hook
    try:
        yield strokes
    finally:
        sys.unraisablehook = dropped
        strokes.rest()
        for number, handler in former.items():
            signal.signal(number, handler)
