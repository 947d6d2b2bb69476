"""The arms of a drill: windows streamed, clients answered, and the real flows called where responses are on."""

from __future__ import annotations

import json
import shutil
from time import monotonic
from typing import TYPE_CHECKING

from flows.environment import one_at_a_time
from flows.integrity import integrity
from flows.monitoring import monitoring
from holdfast.digests import work_key
from holdfast.drills.curve import ARMS, Course
from holdfast.drills.incident import Incident
from holdfast.errors import ModelError, StoreError
from holdfast.params import Params
from holdfast.results import Value
from holdfast.stores import ResultStore, Stores
from tasks import sandbox
from tasks.monitoring import calibrate_for
from tasks.on_record import answered_so_far
from tasks.progress import tell
from tasks.recovery import find_version
from tasks.rehearsal import Stage, called, killed_in_training, old_world, script, taught
from tasks.responses import HANDED_OVER
from tasks.sandbox import copy_of, unreachable

if TYPE_CHECKING:
    from pathlib import Path

    from holdfast.drills.curve import Arm, Taken
    from holdfast.results import DataSnapshot
    from tasks.rehearsal import Told


def course_key(incident: Incident, params: Params, folder: Path, arm: Arm, seed: int) -> str:
    """Name one arm of one drill by all that it depends on; the folder's name says champion, data and params."""
    asked = [incident.fingerprint(), str(params.drills.rows), folder.name, arm, *incident.code()]
    return work_key("drill", *asked, seed=seed)


def courses(folder: Path) -> ResultStore:
    """Open the finished courses of one sandbox."""
    return ResultStore(folder / "courses")


class Play(Value):
    """An incident with one seed: all three arms."""

    incident: Incident
    seed: int


class Asked(Value):
    """What a rehearsal is asked to play."""

    rows: int
    plays: tuple[Play, ...]


def shared_out(folder: Path, asked: Asked, workers: int) -> tuple[Asked, ...]:
    """Deal the plays of which an arm is not finished to so many workers, none of whom goes without."""
    params, kept = read_params(folder, asked.rows), courses(folder)
    left = tuple(
        play for play in asked.plays
        if any(kept.get(course_key(play.incident, params, folder, arm, play.seed), Course) is None for arm in ARMS)
    )  # fmt: skip
    workers = min(workers, len(left))
    return tuple(asked.model_copy(update={"plays": left[place::workers]}) for place in range(workers))


def rehearse(folder: Path, asked: Asked) -> None:
    """Play every arm that is not finished, in the order asked."""
    params, kept = read_params(folder, asked.rows), courses(folder)
    origin, snapshot = template(folder, params)

    for incident, seed in ((play.incident, play.seed) for play in asked.plays):
        for arm in ARMS:
            key = course_key(incident, params, folder, arm, seed)
            if kept.get(key, Course) is not None:
                continue
            began, named = monotonic(), f"{incident.name}-{seed}-{arm}"
            place = folder / "arms" / named  # of its own: clients keep databases open
            with one_at_a_time(Stores.local(folder, folder), lock=f"{named}.lock"):  # who was orphaned may still play
                course = _play(params, origin, snapshot, incident, arm, seed, place)
            kept.put(key, course.model_copy(update={"seconds": round(monotonic() - began, 3)}))
            ends = f"quality {course.quality[0]:.3f} to {course.quality[-1]:.3f}, lowest {min(course.quality):.3f}"
            tell("drills", f"{incident.name}  seed {seed}  {arm}: {ends}  {monotonic() - began:.0f} s")


def read_params(folder: Path, rows: int) -> Params:
    """Give the params that a sandbox was made for, with windows of this many rows."""
    params = Params.model_validate_json((folder / "params.json").read_text())
    return params.model_copy(update={"drills": params.drills.model_copy(update={"rows": rows})})


def template(folder: Path, params: Params) -> tuple[Stores, DataSnapshot]:
    """Give the stores that every arm begins with, and the data: examined, and the panel calibrated, once."""
    stores = sandbox.template(folder, params)
    snapshot, _ = integrity(params, stores)
    if not sandbox.is_ready(stores):
        calibrate_for(params, stores, find_version(params, stores, None), params.drills.rows)
        sandbox.ready(stores)
    return stores, snapshot


def _play(
    params: Params, origin: Stores, snapshot: DataSnapshot, incident: Incident, arm: Arm, seed: int, place: Path
) -> Course:
    """Play one arm in a copy of the template, and take the copy away."""
    batches, repeated = script(params, origin, snapshot, incident, seed)
    if arm == "oracle":
        told = taught(params, origin, snapshot, incident, batches, seed)
        return Course(
            incident=incident.name, arm=arm, seed=seed, quality=tuple(t.quality for t in told), rows=params.drills.rows,
            wrong=tuple(t.wrong for t in told), unanswered=tuple(t.unanswered for t in told), repeated=repeated,
        )  # fmt: skip
    stores = copy_of(origin, place)
    stage = Stage(params, stores, snapshot, place, batches)
    course = _watched(stage, incident, arm, seed)
    try:
        old, robust, withstood = old_world(params, stores, snapshot)
        asr = called(params, stores, snapshot, incident)
    except ModelError as error:  # bytes that do not verify: nobody serves at the end
        old, robust, withstood, asr = None, None, None, None
        course = course.model_copy(update={"notes": (*course.notes, f"at the end: {error}")})
    shutil.rmtree(place)
    ended = {"old": old, "old_robust": robust, "withstood": withstood, "asr": asr, "repeated": repeated}
    return course.model_copy(update=ended)


def _watched(stage: Stage, incident: Incident, arm: Arm, seed: int) -> Course:
    """Stream every window: clients ask who serves, then the loop watches and responds where responses are on."""
    told: list[Told] = []
    responses: list[Taken] = []
    notes: list[str] = []
    killed: int | None = None
    for place in range(incident.horizon):
        stage.befall(incident, place, seed)
        away = incident.outage is not None and incident.outage[0] <= place < incident.outage[1]
        stores = unreachable(stage.stores) if away else stage.stores
        told.append(stage.answered(place, stores))
        stage.deliver(place, incident.label_delay)
        if arm == "off":
            continue
        due = incident.kill and killed is None and place >= incident.onset and not away
        if due and _killed(stage, stores, notes, place):
            killed = place
        _respond(stage, stores, notes, place, away=away)
        known = answered_so_far(stage.params, stage.stores, place)
        given = (old.at for old in responses)  # what became of a decision may be known later than it
        responses = [new.model_copy(update={"at": next(given, place)}) for new in known]
    return Course(
        incident=incident.name, arm=arm, seed=seed, quality=tuple(t.quality for t in told),
        rows=stage.params.drills.rows, responses=tuple(responses), champions=tuple(t.version for t in told),
        wrong=tuple(t.wrong for t in told), unanswered=tuple(t.unanswered for t in told),
        tampered=tuple(place for place, t in enumerate(told) if t.tampered), poisoned=stage.poisoned(), killed=killed,
        notes=tuple(notes),
    )  # fmt: skip


def _killed(stage: Stage, stores: Stores, notes: list[str], place: int) -> bool:
    """Let a worker begin the retraining that was decided on, if any, and die in it; tell whether it came to that."""
    watched = monitoring(stage.params, stores, hand_over=True).windows
    if not any(window.action in HANDED_OVER for window in watched):
        return False  # a worker takes longer to start than a window to watch
    given = stage.feed.parent / "worker.json"
    given.write_text(json.dumps({"params": stage.params.model_dump(mode="json"), "stores": _plain(stores)}))
    killed = killed_in_training(["-m", "flows.rehearsal", "--worker", str(given)], stores)
    if killed:
        notes.append(f"window {place}: the worker was killed in training")
    return killed


def _respond(stage: Stage, stores: Stores, notes: list[str], place: int, *, away: bool) -> None:
    """Let the loop handle what has come; with the registry away it refuses, and nothing is lost."""
    try:
        monitoring(stage.params, stores)
    except StoreError as error:
        if not away:
            raise
        notes.append(f"window {place}: {error.where}: {error.found}")


def _plain(stores: Stores) -> dict[str, str]:
    return {"project": str(stores.project), "root": str(stores.root), "actor": stores.actor}
