"""A rehearsal: one incident played in a sandbox through the real flows, in a process of its own, arm by arm.

``python -m flows.rehearsal FOLDER INCIDENT SEEDS`` plays what no earlier rehearsal finished; ``... --worker PLACE`` is
the worker that an incident kills.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from flows.console import narrated
from flows.environment import ended_by_sigterm, prefect_server, prepare
from holdfast.digests import work_key
from holdfast.drills.curve import ARMS, Course
from holdfast.errors import HoldfastError, StoreError
from holdfast.params import Params
from holdfast.stores import ResultStore, Stores

if TYPE_CHECKING:
    from holdfast.drills.curve import Arm, Taken
    from holdfast.drills.incident import Incident
    from holdfast.results import DataSnapshot
    from tasks.rehearsal import Stage


def course_key(incident: Incident, params: Params, folder: Path, arm: Arm, seed: int) -> str:
    """Name one arm of one drill by all that it depends on; the folder's name says champion, data and params."""
    asked = [incident.fingerprint(), str(params.drills.rows), folder.name, arm]
    return work_key("drill", *asked, seed=seed)


def courses(folder: Path) -> ResultStore:
    """Open the finished courses of one sandbox."""
    return ResultStore(folder / "courses")


def rehearse(folder: Path, incident: Incident, seeds: tuple[int, ...]) -> None:
    """Play every arm and seed of an incident that is not finished, in the order of the seeds."""
    params, kept = read_params(folder), courses(folder)
    origin, snapshot = _template(folder, params)
    from tasks.progress import tell  # noqa: PLC0415  Prefect reads its settings at import

    for seed in seeds:
        for arm in ARMS:
            key = course_key(incident, params, folder, arm, seed)
            if kept.get(key, Course) is None:
                began = monotonic()
                course = _play(params, origin, snapshot, incident, arm, seed, folder / "arms" / incident.name)
                kept.put(key, course.model_copy(update={"seconds": round(monotonic() - began, 3)}))
                ends = f"quality {course.quality[0]:.3f} to {course.quality[-1]:.3f}, lowest {min(course.quality):.3f}"
                tell("drills", f"{incident.name}  seed {seed}  {arm}: {ends}  {monotonic() - began:.0f} s")


def read_params(folder: Path) -> Params:
    """Give the params that a sandbox was made for."""
    return Params.model_validate_json((folder / "params.json").read_text())


def _template(folder: Path, params: Params) -> tuple[Stores, DataSnapshot]:
    """Give the stores that every arm begins with, and the data: examined, and the panel calibrated, once."""
    from flows.integrity import integrity  # noqa: PLC0415  Prefect reads its settings at import
    from tasks import sandbox  # noqa: PLC0415  as above
    from tasks.monitoring import calibrate_for  # noqa: PLC0415  as above
    from tasks.recovery import find_version  # noqa: PLC0415  as above

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
    from tasks.rehearsal import Stage, called, old_world, script, taught  # noqa: PLC0415  Prefect reads its settings first
    from tasks.sandbox import copy_of  # noqa: PLC0415  as above

    batches = script(params, origin, snapshot, incident, seed)
    if arm == "oracle":
        quality = taught(params, origin, snapshot, incident, batches, seed)
        return Course(
            incident=incident.name, arm=arm, seed=seed, quality=tuple(quality), rows=params.drills.rows,
        )  # fmt: skip
    stores = copy_of(origin, place)
    stage = Stage(params, stores, snapshot, place, batches)
    course = _watched(stage, incident, arm, seed)
    try:
        old, robust = old_world(params, stores, snapshot)
        asr = called(params, stores, snapshot, incident)
    except HoldfastError as error:  # bytes that do not verify: nobody serves at the end
        old, robust, asr = None, None, None
        course = course.model_copy(update={"notes": (*course.notes, f"at the end: {error}")})
    shutil.rmtree(place)
    return course.model_copy(update={"old": old, "old_robust": robust, "asr": asr})


def _watched(stage: Stage, incident: Incident, arm: Arm, seed: int) -> Course:
    """Stream every window: clients ask who serves, then the loop watches and responds where responses are on."""
    from tasks.responses import answered_so_far  # noqa: PLC0415  Prefect reads its settings at import
    from tasks.sandbox import unreachable  # noqa: PLC0415  as above

    quality: list[float] = []
    champions: list[int] = []
    responses: list[Taken] = []
    notes: list[str] = []
    to_kill = incident.kill
    for place in range(incident.horizon):
        stage.befall(incident, place, seed)
        away = incident.outage is not None and incident.outage[0] <= place < incident.outage[1]
        stores = unreachable(stage.stores) if away else stage.stores
        value, version = stage.answered(place, stores)
        quality.append(value)
        champions.append(version)
        stage.deliver(place, incident.label_delay)
        if arm == "off":
            continue
        if to_kill and place >= incident.onset:
            to_kill = not _killed(stage, stores, notes, place)
        _respond(stage, stores, notes, place, away=away)
        responses += answered_so_far(stage.params, stage.stores, place)[len(responses) :]
    return Course(
        incident=incident.name, arm=arm, seed=seed, quality=tuple(quality), rows=stage.params.drills.rows,
        responses=tuple(responses), champions=tuple(champions), poisoned=stage.poisoned(), notes=tuple(notes),
    )  # fmt: skip


def _killed(stage: Stage, stores: Stores, notes: list[str], place: int) -> bool:
    """Let a worker handle what has come, and kill it in the middle of a training; tell whether it came to that."""
    from tasks.rehearsal import killed_in_training  # noqa: PLC0415  Prefect reads its settings at import

    given = stage.feed.parent / "worker.json"
    given.write_text(json.dumps({"params": stage.params.model_dump(mode="json"), "stores": _plain(stores)}))
    killed = killed_in_training(["-m", "flows.rehearsal", "--worker", str(given)], stores)
    if killed:
        notes.append(f"window {place}: the worker was killed in training")
    return killed


def _respond(stage: Stage, stores: Stores, notes: list[str], place: int, *, away: bool) -> None:
    """Let the loop handle what has come; with the registry away it refuses, and nothing is lost."""
    from flows.monitoring import monitoring  # noqa: PLC0415  Prefect reads its settings at import

    try:
        monitoring(stage.params, stores)
    except StoreError as error:
        if not away:
            raise
        notes.append(f"window {place}: {error.where}: {error.found}")


def _plain(stores: Stores) -> dict[str, str]:
    return {"project": str(stores.project), "root": str(stores.root), "actor": stores.actor}


def _work(given: Path) -> None:
    """Be the worker: handle what has come."""
    from flows.monitoring import monitoring  # noqa: PLC0415  Prefect reads its settings at import

    asked = json.loads(given.read_text())
    where = asked["stores"]
    monitoring(
        Params.model_validate(asked["params"]),
        Stores.local(Path(where["project"]), Path(where["root"]), actor=where["actor"]),
    )


def main() -> None:
    """Run as a process of its own."""
    sys.path.insert(0, str(Path.cwd()))  # where the user's model module lies
    if sys.argv[1] == "--worker":
        place = Path(sys.argv[2])
        prepare(Stores.local(place.parent, place.parent / "server"))
        _work(place)
        return
    folder, incident, seeds = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
    server = Stores.local(folder, folder / "server")
    server.root.mkdir(parents=True, exist_ok=True)
    prepare(server)
    try:
        with ended_by_sigterm(), narrated(), prefect_server(server):
            chosen = read_params(folder).incidents()[incident]
            rehearse(folder, chosen, tuple(seeds))
    except HoldfastError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
