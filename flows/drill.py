"""The drill: incidents rehearsed in a sandbox, and what they say of the champion's recovery and evolution."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect import flow

from flows.arms import Asked, course_key, courses
from flows.environment import in_a_sandbox
from flows.heartbeat import one_heartbeat
from flows.integrity import integrity
from flows.lifecycle import published
from holdfast.drills.curve import ARMS, Course, Trio
from holdfast.params import Params
from holdfast.results import Finding, ModelVersion, StageReport
from holdfast.stores import Stores
from tasks.drills import keep, report_on
from tasks.recovery import find_version, settle
from tasks.sandbox import pack
from tasks.training import require_model

if TYPE_CHECKING:
    from pathlib import Path

    from holdfast.drills.incident import Incident
from holdfast.errors import StoreError


@flow(name="drill")
def drill(params: Params, stores: Stores, names: tuple[str, ...] = ()) -> StageReport:
    """Rehearse incidents on a copy of the champion, all that params list or some, and score the version by them.

    Production is read and not touched until all is played; what an interrupted drill had finished is not played again.
    """
    with one_heartbeat():
        require_model(params)
        settle(params, stores)
        snapshot, data = integrity(params, stores)
        champion = find_version(params, stores, None)
        folder = pack(params, stores, snapshot, champion)
        incidents = params.incidents()
        chosen = [incidents[name] for name in names] or list(incidents.values())
        found = tuple(_rehearsed(params, stores, folder, incident, champion) for incident in chosen)
        report = keep(params, stores, snapshot, champion, found)
        published(params, stores, snapshot, data, champion)
        return report


def _rehearsed(params: Params, stores: Stores, folder: Path, incident: Incident, champion: ModelVersion) -> Finding:
    """Play an incident in a process of its own, and read off what it came to."""
    seeds = tuple(range(params.seed, params.seed + params.drills.seeds))
    kept, keys = courses(folder), {
        (seed, arm): course_key(incident, params, folder, arm, seed) for seed in seeds for arm in ARMS
    }  # fmt: skip
    if any(kept.get(key, Course) is None for key in keys.values()):
        asked = folder / f"{incident.name}.json"
        asked.write_text(Asked(incident=incident, rows=params.drills.rows, seeds=seeds).model_dump_json())
        in_a_sandbox("flows.rehearsal", str(folder), str(asked))
    played = {place: kept.get(key, Course) for place, key in keys.items()}
    if lacking := [f"seed {seed} {arm}" for (seed, arm), course in played.items() if course is None]:
        raise StoreError(
            f"drill {incident.name}", found=f"no course of {', '.join(lacking)}", expected="every arm of every seed",
            remedy="The code changed while it was played: run `holdfast drill` again.",
        )  # fmt: skip
    trios = tuple(Trio.model_validate({arm: played[seed, arm] for arm in ARMS}) for seed in seeds)
    return report_on(params, stores, incident, trios, champion, folder)
