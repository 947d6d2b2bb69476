"""What a report is made of: everything that the page and its Markdown say, and nothing else."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from holdfast.recovery.transfer import Transfer
from holdfast.results import DataSnapshot, Decision, Finding, IntegrityFinding, ModelVersion, Value
from holdfast.scorecard import Scorecard


class Epoch(Value):
    """One epoch of training: mean loss, and what ``Page.measure`` names on ``validation`` where it was read."""

    epoch: Annotated[int, Field(ge=0)]
    loss: float
    validation: float | None = None


class HistoryRow(Value):
    """One version of the model, as ledger and tags tell it."""

    version: int
    digest: str
    status: str
    """In the words of the ledger: champion, kept out, rolled back ..."""
    at: datetime
    headlines: dict[str, str] = {}
    """Dimension to headline, as `holdfast.scorecard.headline` writes it."""
    pack_digest: str = ""
    """Of the pack behind the headlines; rows of another pack are marked as not comparable."""


class Page(Value):
    """One report about one version, or about a run that ended without one."""

    title: str
    decision: Decision
    scorecard: Scorecard
    generated_at: datetime
    version: ModelVersion | None = None
    findings: tuple[Finding, ...] = ()
    integrity: tuple[IntegrityFinding, ...] = ()
    snapshot: DataSnapshot | None = None
    """The data of this evaluation."""
    trained_on: DataSnapshot | None = None
    """The data that made the version, as registered."""
    lineage: dict[str, Any] = {}
    """What made the version, as registered: params, recipe, model, library and revision, parent, seed."""
    evaluated: dict[str, Any] = {}
    """What this evaluation used beside its data: seed, revision, library and params digest, champion, run id."""
    promoted: datetime | None = None
    """When the champion was promoted, where nothing was decided and its former reasons are given again."""
    training: tuple[Epoch, ...] = ()
    measure: str = "accuracy"
    """What ``validation`` of each epoch is: it chose the epoch, and need not be the user's metric."""
    history: tuple[HistoryRow, ...] = ()
    ledger_head: str = ""
    """Hash of the ledger's chain when the report was written; a copy outside the table that holds the chain."""
    warnings: tuple[str, ...] = ()
    transfer: Transfer | None = None
    """What a retraining kept and gained; None for a version that no retraining made."""
