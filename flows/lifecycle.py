"""The main job: integrity, training, evaluation, promotion, and a page that says what happened."""

from __future__ import annotations

from prefect import flow

from flows.evaluation import evaluation
from flows.integrity import integrity
from flows.recovery import promotion
from flows.training import training
from holdfast.params import Params
from holdfast.results import Decision, ModelVersion, StageReport
from holdfast.stores import Stores
from tasks.publishing import LifecycleReport, publish
from tasks.recovery import find_version, settle
from tasks.runs import begin, finish


@flow(name="lifecycle")
def lifecycle(params: Params, stores: Stores) -> LifecycleReport:
    """Take data to a gated, scored, traceable champion.

    What a killed run had finished is not done again; what it left in flight is finished or undone first.
    """
    settle(params, stores)
    snapshot, data = integrity(params, stores)
    runs = begin(params, stores, snapshot)
    candidate, trained = training(params, stores, snapshot, runs.training)
    scorecard = evaluation(params, stores, snapshot, candidate, params.evaluation.uses.run, "test", runs.evaluation)
    decision = promotion(params, stores, snapshot, candidate, scorecard, runs.promotion)
    report = publish(params, stores, snapshot, data, trained, scorecard, decision, runs.lifecycle)
    finish(params, stores, runs, decision)
    return report


@flow(name="train-candidate")
def candidate(params: Params, stores: Stores) -> ModelVersion:
    """Validate the data and train a candidate: registered, and promoted by nothing here."""
    settle(params, stores)
    snapshot, _ = integrity(params, stores)
    runs = begin(params, stores, snapshot)
    version, _ = training(params, stores, snapshot, runs.training)
    finish(params, stores, runs)
    return version


@flow(name="evaluate-version")
def scorecard(params: Params, stores: Stores, version: int | None, pack: str) -> StageReport:
    """Put a registered version, the champion when none is named, through a pack on its test rows."""
    settle(params, stores)
    snapshot, _ = integrity(params, stores)
    subject = find_version(params, stores, version)
    runs = begin(params, stores, snapshot)
    report = evaluation(params, stores, snapshot, subject, pack, "test", runs.evaluation)
    finish(params, stores, runs)
    return report


@flow(name="promote-version")
def promote_version(params: Params, stores: Stores, version: int) -> Decision:
    """Put a registered version through the gate, and promote it when every gate passes."""
    settle(params, stores)
    snapshot, _ = integrity(params, stores)
    runs = begin(params, stores, snapshot)
    subject = find_version(params, stores, version)
    findings = evaluation(params, stores, snapshot, subject, params.evaluation.uses.run, "test", runs.evaluation)
    decision = promotion(params, stores, snapshot, subject, findings, runs.promotion)
    finish(params, stores, runs, decision)
    return decision
