"""Recovery: who serves. For now promotion by the gate; responses to drift and damage come with monitoring."""

from __future__ import annotations

from prefect import flow

from flows.evaluation import evaluation
from holdfast.params import Params
from holdfast.results import DataSnapshot, Decision, ModelVersion, Reason, StageReport
from holdfast.stores import Stores
from tasks.heldout import hold_out
from tasks.recovery import judge, resolve_champion


@flow(name="promotion")
def promotion(
    params: Params, stores: Stores, snapshot: DataSnapshot, candidate: ModelVersion, scorecard: StageReport, run_id: str
) -> Decision:
    """Compare a candidate with the champion on gate rows that neither learned from; the alias is moved by who asked."""
    champion = resolve_champion(params, stores)
    pack = params.evaluation.uses.gate
    ours = theirs = StageReport(stage="evaluation", subject="")
    about_rows: tuple[Reason, ...] = ()
    if champion is None or champion.digest != candidate.digest:
        rows = hold_out(params, stores, snapshot, candidate, champion)
        if rows.decision is not None:
            return rows.decision
        about_rows = rows.reasons
        ours = evaluation(params, stores, snapshot, candidate, pack, "gate", run_id, left_out=rows.left_out)
        if champion is not None:
            theirs = evaluation(
                params, stores, snapshot, champion, pack, "gate", run_id, side="champion", left_out=rows.left_out
            )
    return judge(params, stores, candidate, champion, ours.findings, theirs.findings, scorecard.findings, about_rows)
