"""The main job: integrity, training, evaluation, promotion, and a page that says what happened."""

from __future__ import annotations

from prefect import flow

from flows.evaluation import evaluation
from flows.heartbeat import one_heartbeat
from flows.integrity import integrity
from flows.recovery import promotion
from flows.training import training
from holdfast.errors import ModelError
from holdfast.params import Params
from holdfast.results import DataSnapshot, Decision, ModelVersion, StageReport
from holdfast.stores import Stores
from tasks.history import History, ScoredVersion, every_version, headlines, refused
from tasks.publishing import LifecycleReport, publish, trained_as, verified
from tasks.recovery import crown, find_version, settle
from tasks.runs import about, begin, failing, finish, lifecycle_of
from tasks.training import require_model


@flow(name="lifecycle")
def lifecycle(params: Params, stores: Stores) -> LifecycleReport:
    """Take data to a gated, scored, traceable champion.

    What a killed run had finished is not done again; what it left in flight is finished or undone first. The page is
    written before the alias moves: a champion without its reasons never serves.
    """
    with one_heartbeat():
        require_model(params)
        settle(params, stores)
        snapshot, data = integrity(params, stores)
        runs = begin(params, stores, snapshot)
        with failing(params, stores, runs.lifecycle):
            version, trained = training(params, stores, snapshot, runs.training)
            findings, decision, nested = _judged(params, stores, snapshot, version)
            report = publish(params, stores, snapshot, data, trained, findings, decision, runs.lifecycle)
            if decision.action == "promote":
                crown(params, stores, decision)
            finish(stores, runs.lifecycle, (runs.training, *nested), decision)
            return verified(stores, report)


def _judged(
    params: Params, stores: Stores, snapshot: DataSnapshot, version: ModelVersion
) -> tuple[StageReport, Decision, tuple[str, ...]]:
    """Score a version on its test rows, put it through the gate, and name the runs that this took."""
    pack, gate = params.evaluation.uses.run, params.evaluation.uses.gate
    scored = about(params, stores, snapshot, version, "evaluation", pack)
    compared = about(params, stores, snapshot, version, "promotion", gate)
    findings = evaluation(params, stores, snapshot, version, pack, "test", scored)
    return findings, promotion(params, stores, snapshot, version, findings, compared), (scored, compared)


@flow(name="train-candidate")
def candidate(params: Params, stores: Stores) -> ModelVersion:
    """Validate the data and train a candidate: registered, and promoted by nothing here."""
    with one_heartbeat():
        require_model(params)
        settle(params, stores)
        snapshot, _ = integrity(params, stores)
        runs = begin(params, stores, snapshot)
        with failing(params, stores, runs.lifecycle):
            version, _ = training(params, stores, snapshot, runs.training)
            finish(stores, runs.lifecycle, (runs.training,))
            return version


@flow(name="evaluate-version")
def scorecard(params: Params, stores: Stores, version: int | None, pack: str) -> StageReport:
    """Put a registered version, the champion when none is named, through a pack on its test rows."""
    with one_heartbeat():
        settle(params, stores)
        snapshot, _ = integrity(params, stores)
        subject = find_version(params, stores, version)
        run_id = about(params, stores, snapshot, subject, "evaluation", pack)
        with failing(params, stores, run_id):
            report = evaluation(params, stores, snapshot, subject, pack, "test", run_id)
            headlines(params, stores, subject, report, pack)
            finish(stores, run_id, ())
            return report


@flow(name="evaluate-all-versions")
def history(params: Params, stores: Stores, pack: str) -> History:
    """Put every registered version through a pack on the same test rows; what was answered before is not asked again.

    One whose model cannot be asked keeps none of the others from it. What is found is kept of each as it is done.
    """
    with one_heartbeat():
        settle(params, stores)
        snapshot, _ = integrity(params, stores)
        scored = tuple(_scored(params, stores, snapshot, each, pack) for each in every_version(params, stores))
        return History(pack=pack, pack_digest=params.pack_digest(pack), versions=scored)


def _scored(params: Params, stores: Stores, snapshot: DataSnapshot, version: ModelVersion, pack: str) -> ScoredVersion:
    run_id = about(params, stores, snapshot, version, "evaluation", pack)
    try:
        with failing(params, stores, run_id):
            report = evaluation(params, stores, snapshot, version, pack, "test", run_id)
            scored = headlines(params, stores, version, report, pack)
            finish(stores, run_id, ())
            return scored
    except ModelError as error:
        return refused(version, error)


@flow(name="promote-version")
def promote_version(params: Params, stores: Stores, version: int) -> Decision:
    """Put a registered version through the gate, write its page, and promote it when every gate passes."""
    with one_heartbeat():
        settle(params, stores)
        snapshot, data = integrity(params, stores)
        return published(params, stores, snapshot, data, find_version(params, stores, version))


def published(
    params: Params, stores: Stores, snapshot: DataSnapshot, data: StageReport, subject: ModelVersion
) -> Decision:
    """Score and judge a registered version, write its page with all that is known of it, and crown it if it passed."""
    lifecycle_run = lifecycle_of(stores, subject)
    with failing(params, stores, lifecycle_run):
        findings, decision, nested = _judged(params, stores, snapshot, subject)
        publish(params, stores, snapshot, data, trained_as(stores, subject), findings, decision, lifecycle_run)
        if decision.action == "promote":
            crown(params, stores, decision)
        finish(stores, lifecycle_run, nested, decision)
        return decision
