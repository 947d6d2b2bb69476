"""Publishing: the report page of a version, kept beside the stores, in MLflow and with Prefect."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from holdfast.digests import library_digest
from holdfast.errors import LedgerError, StoreError
from holdfast.params import Params
from holdfast.recovery.transfer import Transfer
from holdfast.reporting.content import Epoch, HistoryRow, Page
from holdfast.reporting.markdown import markdown
from holdfast.reporting.page import drawings, render
from holdfast.results import DataSnapshot, Decision, ModelVersion, StageReport, Value
from holdfast.scenarios.packs import overrun
from holdfast.scorecard import Scorecard, scorecard, tags
from holdfast.stores import Stores, write_atomically
from tasks import tracking
from tasks.drills import drilled
from tasks.lineage import PARAM_SECTIONS, registered
from tasks.progress import tell
from tasks.recovery import open_ledger
from tasks.training import TrainedModel

if TYPE_CHECKING:
    from pathlib import Path

    from holdfast.results import Json

_DIMENSIONS = ("robustness", "defence", "recovery", "evolution")


class LifecycleReport(Value):
    """What ``holdfast run --json`` prints."""

    decision: Decision
    scorecard: Scorecard
    report: str
    """Path of the page."""
    snapshot: DataSnapshot
    run_id: str
    ledger_head: str
    chain_valid: bool


@task(cache_policy=NO_CACHE)
def publish(
    params: Params,
    stores: Stores,
    snapshot: DataSnapshot,
    data: StageReport,
    trained: TrainedModel | None,
    evaluated: StageReport,
    decision: Decision,
    run_id: str,
    kept: Transfer | None = None,
    pack: str | None = None,
) -> LifecycleReport:
    """Write the page of a version, log it, tag the version with its headlines, and give the summary.

    The headlines are of the pack that was asked: the one of `run` where none is named.
    """
    pack = pack or params.evaluation.uses.run
    found = (*evaluated.findings, *(drilled(stores, decision.candidate) if decision.candidate else ()))
    card = scorecard(found, pack, params.pack_digest(pack))
    chain = open_ledger(stores).verify()
    if decision.candidate is not None:
        tracking.tag_version(stores, decision.candidate, {**tags(card), **_standing(decision)})
    made = registered(stores, decision.candidate) if decision.candidate else {}
    page = Page(
        title=f"{params.name}: {_headline(decision)}", decision=decision, scorecard=card,
        generated_at=datetime.now(UTC), version=decision.candidate, findings=found,
        integrity=data.integrity, snapshot=snapshot,
        trained_on=DataSnapshot.model_validate(made["data"]) if "data" in made else None,
        lineage=_lineage(made, trained), evaluated=_evaluated(params, snapshot, decision, run_id),
        promoted=_promoted(stores, decision), training=_curve(trained), measure=_measure(trained),
        history=_history(params, stores), ledger_head=chain.head, warnings=_warnings(params, evaluated, pack),
        transfer=kept,
    )  # fmt: skip
    path = _path(stores, params.name, decision.candidate.version if decision.candidate else 0)
    drawn = drawings(page)
    html = render(page, drawn)
    write_atomically(path, html)
    tracking.log_text(stores, run_id, "report.html", html)
    tracking.log_texts(stores, run_id, "figures", drawn.files())
    create_markdown_artifact(markdown(page), key=f"{params.name}-report".replace("_", "-"))
    return LifecycleReport(
        decision=decision, scorecard=card, report=str(path), snapshot=snapshot, run_id=run_id,
        ledger_head=chain.head, chain_valid=chain.valid,
    )  # fmt: skip


@task(cache_policy=NO_CACHE)
def trained_as(stores: Stores, version: ModelVersion) -> TrainedModel | None:
    """Give the training that a version came from; None where it was trained on another machine."""
    key = tracking.version_tags(stores, version).get("holdfast.key", "")
    known = stores.results.get(key, TrainedModel) if key else None
    return known if known is not None and known.digest == version.digest else None


@task(cache_policy=NO_CACHE)
def verified(stores: Stores, report: LifecycleReport) -> LifecycleReport:
    """Give the summary with the ledger's head as it stands at the end.

    Raises:
        LedgerError: the chain is broken.
    """
    chain = open_ledger(stores).verify()
    if not chain.valid:
        raise LedgerError(
            "ledger", found=str(chain.problem), expected="an unbroken chain",
            remedy="Restore the ledger from a backup; `holdfast audit` says where it breaks.",
        )  # fmt: skip
    return report.model_copy(update={"ledger_head": chain.head, "chain_valid": chain.valid})


def _headline(decision: Decision) -> str:
    return "unchanged" if decision.action == "none" else decision.action


def _standing(decision: Decision) -> dict[str, str]:
    """Say on the version how the gate ended, if it was asked; a champion's status is written when it is crowned."""
    standing: dict[str, str] = {} if decision.action == "none" else {"holdfast.decision": decision.action}
    if decision.action not in {"promote", "none"}:
        standing["holdfast.status"] = "kept out"
    return standing


def _warnings(params: Params, evaluated: StageReport, pack: str) -> tuple[str, ...]:
    fresh = (finding for finding in evaluated.findings if finding.path not in evaluated.reused)
    late = overrun(fresh, params.evaluation.packs[pack].budget_seconds)
    if late is None:
        return ()
    tell("evaluation", f"pack {pack} {late}")
    return (f"Pack {pack} {late}.",)


def _path(stores: Stores, name: str, version: int) -> Path:
    return stores.reports / f"{name}-{version}.html"


def _measure(trained: TrainedModel | None) -> str:
    return trained.history[-1].measure if trained and trained.history else "accuracy"


def _curve(trained: TrainedModel | None) -> tuple[Epoch, ...]:
    return tuple(
        Epoch(epoch=e.epoch, loss=e.loss, validation=e.validation.value) for e in (trained.history if trained else ())
    )


def _lineage(made: Json, trained: TrainedModel | None) -> Json:
    """Say what made the version, as the ledger recorded it; what it did not record is not made up from what is now."""
    parent = made.get("parent")
    before = f"version {parent['version']}, digest {parent['digest']}" if parent else "none"
    return {
        **{label: made.get(name) for name, label in _RECORDED.items()},
        "parent (champion before)": before if "parent" in made else None,
        "began from": _began(made),
        "best epoch": trained.best_epoch if trained else "not on this machine",
    }  # fmt: skip


def _began(made: Json) -> str | None:
    """Say whose weights the training began from; None where that was not recorded."""
    start = made.get("started_from")
    fresh = "fresh weights" if "started_from" in made else None
    return fresh if start is None else f"version {start['version']}, digest {start['digest']}"


_RECORDED = {
    "params": "params digest", "params_file": "params (artefact of the run)", "params_sha256": "params sha256",
    "seed": "seed", "recipe": "recipe", "recipe_settings": "recipe settings", "recipe_digest": "recipe digest",
    "factory": "model factory", "factory_settings": "model settings", "code": "user's code digest",
    "revision": "git revision", "library": "library digest", "versions": "versions", "key": "training key",
    "rows_seen": "rows learned from (digest)",
}  # fmt: skip


def _evaluated(params: Params, snapshot: DataSnapshot, decision: Decision, run_id: str) -> Json:
    champion = decision.champion
    return {
        "seed": params.seed, "git revision": snapshot.revision, "library digest": library_digest(),
        "params digest": params.section_digest(*PARAM_SECTIONS),
        "champion at the time": f"version {champion.version}" if champion else "none", "MLflow run": run_id,
    }  # fmt: skip


def _history(params: Params, stores: Stores) -> tuple[HistoryRow, ...]:
    return tuple(
        HistoryRow(
            version=version.version, digest=version.digest, status=known.get("holdfast.status", "candidate"), at=made,
            headlines={name: known[f"holdfast.{name}"] for name in _DIMENSIONS if f"holdfast.{name}" in known},
            pack_digest=known.get("holdfast.pack_digest", ""),
        )
        for version, known, made in tracking.list_versions(stores, params.name)
    )  # fmt: skip


def _promoted(stores: Stores, decision: Decision) -> datetime | None:
    """Tell when the champion was promoted, where the decision gives its reasons again."""
    return promoted_at(stores, decision.champion) if decision.action == "none" and decision.champion else None


def promoted_at(stores: Stores, version: ModelVersion) -> datetime | None:
    """Tell when the decision was recorded that made a version champion; None where another way made it so."""
    with open_ledger(stores).reading() as view:
        entries = view.entries(model=version.name, version=version.version, kinds=("decision",), backwards=True)
        return next((entry.at for entry in entries if entry.body["action"] == "promote"), None)


def locate(params: Params, stores: Stores, version: int | None) -> Path:
    """Find the page of a version, the champion's when none is named; fetch it from MLflow when it is not here.

    Raises:
        StoreError: there is no such version, or no page of it.
    """
    number = version
    if number is None:
        head = open_ledger(stores).head(params.name)
        number = head.version if head else None
    found = tracking.get_version(stores, params.name, number) if number is not None else None
    if number is None or found is None:
        raise StoreError(
            f"model {params.name}", found="no champion" if version is None else f"no version {version}",
            expected="a registered version",
            remedy="`holdfast audit` lists the versions; --version N gives the page of one, with why it was kept out.",
        )  # fmt: skip
    path = _path(stores, params.name, number)
    if not path.exists():
        write_atomically(path, tracking.read_report(stores, found))
    return path
