"""Recovery: who serves. For now promotion by the gate; responses to drift and damage come with monitoring."""

from __future__ import annotations

from prefect import flow

from flows.evaluation import evaluation
from holdfast.params import Params
from holdfast.results import DataSnapshot, Decision, ModelVersion, StageReport
from holdfast.stores import Stores
from tasks.recovery import crown, judge, resolve_champion


@flow(name="promotion")
def promotion(
    params: Params, stores: Stores, snapshot: DataSnapshot, candidate: ModelVersion, scorecard: StageReport, run_id: str
) -> Decision:
    """Compare a candidate with the champion on the same gate rows, decide, and promote only when every gate passed."""
    champion = resolve_champion(params, stores)
    pack = params.evaluation.uses.gate
    ours = theirs = StageReport(stage="evaluation", subject="")
    if champion is None or champion.digest != candidate.digest:
        ours = evaluation(params, stores, snapshot, candidate, pack, "gate", run_id)
        if champion is not None:
            theirs = evaluation(params, stores, snapshot, champion, pack, "gate", run_id, side="champion")
    decision = judge(params, stores, candidate, champion, ours.findings, theirs.findings, scorecard.findings)
    if decision.action == "promote":
        crown(params, stores, decision)
    return decision
