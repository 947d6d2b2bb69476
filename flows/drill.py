"""The drill: incidents rehearsed in a sandbox, and what they say of the champion's recovery and evolution."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect import flow

from flows.arms import Asked, Play, course_key, courses, shared_out
from flows.environment import in_a_sandbox
from flows.heartbeat import one_heartbeat
from flows.integrity import integrity
from flows.lifecycle import published
from holdfast.drills.curve import ARMS, Course, Trio
from holdfast.params import Params
from holdfast.results import Finding, ModelVersion, StageReport
from holdfast.stores import Stores
from tasks.drills import keep, report_on, require_rows_for
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
        champion, incidents = find_version(params, stores, None), params.incidents()
        chosen = [incidents[name] for name in names] or list(incidents.values())
        require_rows_for(params, stores, snapshot, tuple(chosen))
        folder = pack(params, stores, snapshot, champion)
        seeds = range(params.seed, params.seed + params.drills.seeds)
        _rehearse(params, folder, tuple(Play(incident=incident, seed=seed) for incident in chosen for seed in seeds))
        found = tuple(_read_off(params, stores, folder, incident, champion) for incident in chosen)
        report = keep(params, stores, snapshot, champion, found)
        published(params, stores, snapshot, data, champion)
        return report


def _rehearse(params: Params, folder: Path, plays: tuple[Play, ...]) -> None:
    """Play what is not played yet, in processes of their own."""
    wanted = Asked(rows=params.drills.rows, plays=plays)
    if not shared_out(folder, wanted, 1):
        return
    asked = folder / "asked.json"
    asked.write_text(wanted.model_dump_json())
    in_a_sandbox("flows.rehearsal", str(folder), str(asked))


def _read_off(params: Params, stores: Stores, folder: Path, incident: Incident, champion: ModelVersion) -> Finding:
    """Say what an incident came to, by its courses."""
    seeds = range(params.seed, params.seed + params.drills.seeds)
    kept = courses(folder)
    played = {
        (seed, arm): kept.get(course_key(incident, params, folder, arm, seed), Course) for seed in seeds for arm in ARMS
    }
    if lacking := [f"seed {seed} {arm}" for (seed, arm), course in played.items() if course is None]:
        raise StoreError(
            f"drill {incident.name}", found=f"no course of {', '.join(lacking)}", expected="every arm of every seed",
            remedy="The code changed while it was played: run `holdfast drill` again.",
        )  # fmt: skip
    trios = tuple(Trio.model_validate({arm: played[seed, arm] for arm in ARMS}) for seed in seeds)
    return report_on(params, stores, incident, trios, champion, folder)
