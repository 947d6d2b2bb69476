"""Drills: what the courses of an incident say, as a finding about the version; kept, logged and shown with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from prefect import task
from prefect.cache_policies import NO_CACHE

from holdfast.digests import digest_json
from holdfast.drills.curve import (
    ARMS,
    Course,
    Trio,
    evolution_score,
    measures,
    recovery_score,
    remembered,
    right_response,
)
from holdfast.drills.incident import Incident
from holdfast.drills.worlds import require_rows
from holdfast.params import Params
from holdfast.reporting.text import percent, quantity
from holdfast.results import Check, Cost, Curve, CurvePoint, DataSnapshot, Finding, ModelVersion, StageReport
from holdfast.scorecard import scorecard, tags
from holdfast.statistics.intervals import make_score
from holdfast.stores import Stores
from tasks import tracking
from tasks.evaluation import context
from tasks.progress import tell
from tasks.sandbox import loop_digest
from tasks.storage import load_data

if TYPE_CHECKING:
    from collections.abc import Sequence

DRILLED = ("recovery", "evolution")
BESIDE = frozenset({
    "quiet_windows_left_alone", "labels_spent", "minutes_of_training", "tampered_windows_served",
    "rows_answered_wrongly", "rows_unanswered", "poisoned_rows_admitted",
})  # fmt: skip
"""Measures that are told with the score."""


@task(cache_policy=NO_CACHE)
def require_rows_for(params: Params, stores: Stores, snapshot: DataSnapshot, incidents: tuple[Incident, ...]) -> None:
    """Refuse incidents that the pinned data have too few rows for, before a sandbox is made.

    Raises:
        DataError: they have.
    """
    data = load_data(stores, params, snapshot)
    for incident in incidents:
        require_rows(incident, data, params.drills.rows)


@task(task_run_name="report on {incident.name}", cache_policy=NO_CACHE)
def report_on(
    params: Params, stores: Stores, incident: Incident, trios: tuple[Trio, ...], champion: ModelVersion, folder: Path
) -> Finding:
    """Read scores, measures, curves and the right-response check off the courses of one incident."""
    del stores
    score = recovery_score(trios, incident) if incident.measures == "recovery" else evolution_score(trios)
    origin = context(params, _plain(params), None).origin(champion.digest, folder.name, "drill", "cpu")
    origin = origin.model_copy(update={"code": loop_digest()})
    scored = None if isinstance(score, str) else score
    finding = Finding(
        path=f"drills/{incident.name}", dimension=incident.measures,
        family="damage" if incident.measures == "recovery" else "change",
        settings=incident.model_dump(mode="json"), provenance=origin, score=scored,
        unscored=score if isinstance(score, str) else None, measures=measures(trios, incident),
        curves=tuple(_curve(trios, arm) for arm in ARMS),
        checks=(_right(trios, incident), _whole(trios, incident), *_kept(trios, incident)),
        details={"courses": [course.model_dump(mode="json") for trio in trios for course in (trio.on,)]},
        cost=Cost(seconds=sum(getattr(trio, arm).seconds for trio in trios for arm in ARMS)),
    )  # fmt: skip
    for line in (*story(trios[0].on, incident), *_told(finding)):
        tell("drills", line)
    said = f"{scored.value:.3f} [{scored.low:.3f}, {scored.high:.3f}]" if scored else f"unscored: {score}"
    tell("drills", f"{incident.name}: {incident.measures} {said}; {finding.checks[0].reason}")
    return finding


def story(course: Course, incident: Incident) -> list[str]:
    """Tell what happened in the arm with responses, a line for each window at which something did."""
    lines = [f"{incident.title}. {incident.about}"]
    for place, value in enumerate(course.quality):
        acts = [t for t in course.responses if t.at == place and (t.action != "none" or place == incident.onset)]
        said = "; ".join(
            f"window {t.window}: {t.cause}, {t.action}{f' ({t.outcome})' if t.outcome else ''}" for t in acts
        )
        if said or place == incident.onset:
            mark = "onset, " if place == incident.onset else ""
            lines.append(f"  window {place}: {mark}quality {value:.3f}. {said}".rstrip())
    lines += [f"  {note}" for note in course.notes]
    if course.repeated:
        lines.append(f"  {percent(course.repeated)} of the rows from onset on came in an earlier window too")
    return lines


def _told(finding: Finding) -> list[str]:
    """Say what stands beside the score: what was left alone, what it took, what harm was left."""
    return [f"  {m.name}: {quantity(m)}" for m in finding.measures if m.name in BESIDE]


def _plain(params: Params) -> DataSnapshot:
    return DataSnapshot(name=params.name, path="", md5="", file_md5="", revision="none", rows=0, period=None)


def _curve(trios: Sequence[Trio], arm: str) -> Curve:
    """Give one arm's quality by window: the mean over seeds, from the lowest to the highest of them."""
    points = []
    for place in range(len(trios[0].on.quality)):
        values = [getattr(trio, arm).quality[place] for trio in trios]
        mean, ends = sum(values) / len(values), (min(values), max(values))
        score = make_score(mean, ends, len(trios), "range over seeds")
        points.append(CurvePoint(at=float(place), score=score))
    return Curve(name=f"responses {arm}" if arm != "oracle" else "oracle", axis="window", points=tuple(points))


def _right(trios: Sequence[Trio], incident: Incident) -> Check:
    faults = {trio.on.seed: fault for trio in trios if (fault := right_response(trio.on, incident))}
    told = "; ".join(f"seed {seed}: {fault}" for seed, fault in faults.items())
    asked = " and ".join(dict.fromkeys(right.action for right in incident.right))
    return Check(
        name="right response", status="failed" if faults else "passed",
        reason=told or f"{asked} in {len(trios)} of {len(trios)} seeds",
        statistic=float(len(faults)), threshold=0.0,
    )  # fmt: skip


def _whole(trios: Sequence[Trio], incident: Incident) -> Check:
    """Hold that every window was decided on, once, whatever was killed or away."""
    wanted = list(range(incident.horizon))
    lost = [trio.on.seed for trio in trios if [t.window for t in trio.on.responses] != wanted]
    return Check(
        name="every window handled once", status="failed" if lost else "passed",
        reason=f"not in seed {', '.join(map(str, lost))}" if lost else f"{incident.horizon} windows in each seed",
    )  # fmt: skip


def _kept(trios: Sequence[Trio], incident: Incident) -> tuple[Check, ...]:
    """Say where forgetting, that an evolution score is lowered by, is of clean answers alone."""
    if incident.measures != "evolution" or remembered(trios) != "clean":
        return ()
    reason = "robust: not measured, the gate has no attack; forgetting is of clean answers alone"
    return (Check(name="forgetting under attack", status="not_applicable", reason=reason),)


def kept_key(version: ModelVersion) -> str:
    """Name what drills found about a version, in the result store."""
    return digest_json(["drills", version.name, version.digest])


def drilled(stores: Stores, version: ModelVersion) -> tuple[Finding, ...]:
    """Give what drills found about a version and the loop as it is; none where that was never drilled."""
    known = stores.results.get(kept_key(version), StageReport)
    return () if known is None else tuple(f for f in known.findings if f.provenance.code == loop_digest())


@task(cache_policy=NO_CACHE)
def keep(
    params: Params, stores: Stores, snapshot: DataSnapshot, champion: ModelVersion, found: tuple[Finding, ...]
) -> StageReport:
    """Log findings with the version, lay them over those of earlier drills, and tag it with the two dimensions."""
    run = tracking.open_run(
        stores, params.name, f"drill:{champion.version}:{champion.digest}:{snapshot.content}", title="drill",
        parent=tracking.parent_run(stores, champion), tags={"holdfast.version": str(champion.version)},
    )  # fmt: skip
    for finding in found:
        tracking.log_finding(stores, run, champion, finding)
    tracking.close_run(stores, run)
    fresh = {finding.path: finding for finding in found}
    earlier = {finding.path: finding for finding in drilled(stores, champion)}
    report = StageReport(stage="recovery", subject=champion.digest, findings=tuple((earlier | fresh).values()))
    stores.results.put(kept_key(champion), report)
    card = scorecard(report.findings, "drills", digest_json(sorted(earlier | fresh)))
    named = {f"holdfast.{name}": value for name in DRILLED if (value := tags(card).get(f"holdfast.{name}"))}
    tracking.tag_version(stores, champion, named)
    return report
