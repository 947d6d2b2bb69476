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
    from datetime import datetime

    from rich.progress import TaskID

    from holdfast.results import Decision, Reason, StageReport
    from tasks.publishing import LifecycleReport

STDERR = Console(stderr=True, highlight=False, emoji=False)


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


def report_lines(report: LifecycleReport, promoted: datetime | None) -> list[str]:
    """Say in a few lines what a run did: the decision with its reasons, the scores, ledger and page.

    Args:
        report: what the run gives.
        promoted: when the champion was promoted; read where nothing was decided.
    """
    from holdfast.scorecard import headline  # noqa: PLC0415  numbers, that `--help` needs none of

    scores = [f"  {entry.dimension:<11} {headline(entry)}" for entry in report.scorecard.dimensions]
    chain = "verified" if report.chain_valid else "BROKEN"
    return [
        *decision_lines(report.decision, promoted),
        *scores,
        f"ledger {chain}, head {report.ledger_head[:16]}",
        f"report {report.report}",
    ]


def drill_lines(report: StageReport) -> list[str]:
    """Say what each incident came to: its score or why it has none, and whether the right response was given."""
    lines = []
    for finding in report.findings:
        score = finding.score
        told = f"{score.value:.3f} [{score.low:.3f}, {score.high:.3f}] n={score.n}" if score else finding.unscored
        checks = "; ".join(f"{check.name} {check.status}: {check.reason}" for check in finding.checks)
        lines.append(f"{finding.path}: {finding.dimension} {told}; {checks}")
    return lines


def decision_lines(decision: Decision, promoted: datetime | None) -> list[str]:
    """Say a decision, who serves after it, and why; where nothing was decided, why the champion once was promoted.

    Args:
        decision: what was decided. A decision ``none`` also has the reasons that once made the champion, marked so.
        promoted: when the champion was promoted, where that is recorded.
    """
    from holdfast.recovery.gate import now_and_formerly  # noqa: PLC0415  numbers, that `--help` needs none of

    version = decision.candidate
    who = f"{version.name} version {version.version} (digest {version.digest[:16]})" if version else "no version"
    now, once = now_and_formerly(decision)
    when = f" on {promoted:%Y-%m-%d %H:%M} UTC" if promoted else ""
    return [
        f"{decision.action}: {who}{_standing(decision)}",
        *map(_reason, now),
        *([f"promoted{when} because:"] if once else []),
        *map(_reason, once),
    ]


def _standing(decision: Decision) -> str:
    """Say who serves after a decision that moved nothing."""
    if decision.action in {"promote", "rollback"}:
        return ""
    if decision.champion is None:
        return "; there is still no champion"
    stays = f"; version {decision.champion.version} stays champion"
    if decision.action == "none" and not all(reason.passed for reason in decision.reasons):
        return f"{stays}, and FAILS its gate now: nothing was demoted"
    return stays


def _reason(reason: Reason) -> str:
    return f"  {'ok  ' if reason.passed else 'FAIL'} {reason.about}: {reason.text}"
