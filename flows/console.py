"""What people see while a command works: one line for each thing done, and a bar for the stage under way, on stderr."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import TaskID

STDERR = Console(stderr=True, highlight=False)


class _Lines(logging.Handler):
    """Draw progress records: their text as a line, their numbers as a bar."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self.progress = progress
        self.bars: dict[str, TaskID] = {}

    def emit(self, record: logging.LogRecord) -> None:
        stage, text = getattr(record, "stage", "holdfast"), getattr(record, "text", record.getMessage())
        self.progress.console.print(f"[bold cyan]{stage:<11}[/] {escape(text)}", soft_wrap=True)
        total, done = getattr(record, "total", None), getattr(record, "done", None)
        if total is not None:
            bar = self.bars.setdefault(stage, self.progress.add_task(stage, total=total))
            self.progress.update(bar, completed=done or 0, total=total, visible=(done or 0) < total)


@contextmanager
def narrated() -> Iterator[None]:
    """Show the progress of everything that happens inside."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=STDERR, transient=True, disable=not STDERR.is_terminal) as progress:
        handler, logger = _Lines(progress), logging.getLogger("holdfast")
        logger.addHandler(handler)
        logger.propagate = False
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.propagate = True
