"""Transfer: what a retraining kept of the old world and gained in the new, asked of parent and candidate alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from holdfast.errors import HoldfastError
from holdfast.model import Target, load_model, pick_device
from holdfast.params import Params
from holdfast.recovery.transfer import Transfer, transferred
from holdfast.results import DataSnapshot, Decision, ModelVersion
from holdfast.scenarios.probes.quality import Quality
from holdfast.stores import Stores
from tasks import tracking
from tasks.evaluation import ask, context, run_scenario
from tasks.heldout import keep_left_out, left_out_ids, rows_seen
from tasks.lineage import registered
from tasks.progress import tell
from tasks.recovery import find_version
from tasks.storage import load_data, read_manifest

if TYPE_CHECKING:
    from holdfast.data.source import Array, Loaded
    from holdfast.recovery.transfer import World
    from holdfast.results import Finding, Role
    from holdfast.scenarios.base import OnModel
    from tasks.heldout import LeftOut

_ROLES: dict[World, Role] = {"old world": "test", "new windows": "gate"}
"""Rows that nobody learned from: pinned ones, and the held-out part of each window."""


@task(cache_policy=NO_CACHE)
def transfer(
    params: Params, stores: Stores, snapshot: DataSnapshot, decision: Decision, candidate: ModelVersion, run_id: str
) -> Transfer | None:
    """Ask the champion that a retraining was decided about and its candidate, paired; log what was kept and gained.

    None where the decision is about no champion, or the candidate has its very bytes. Where it cannot be told, nothing
    is compared and the reason is given: a page's part must not keep a version that passed its gate from serving.
    """
    if decision.champion is None or decision.champion.digest == candidate.digest:
        return None
    try:
        return _compared(params, stores, snapshot, decision.champion, candidate, run_id)
    except HoldfastError as error:
        tell("recovery", f"not compared with the champion before it: {error}")
        reference = decision.champion
        return Transfer(parent=reference, candidate=candidate, metric=params.metric, missing=(str(error),))


def _compared(
    params: Params, stores: Stores, snapshot: DataSnapshot, former: ModelVersion, candidate: ModelVersion, run_id: str
) -> Transfer:
    parent = find_version.fn(params, stores, former.version)
    data = load_data(stores, params, snapshot)
    asked = _questions(params)
    pairs: dict[World, list[tuple[Finding, Finding]]] = {}
    untrained: Finding | None = None
    worlds = _worlds(stores, data, parent, candidate)
    for world, held in worlds.items():
        if not held.any():
            continue
        role = _ROLES[world]
        left = keep_left_out(stores, data, data.holds(role) & ~held)
        before, after = (
            [run_scenario.fn(path, scenario, params, stores, snapshot, version, role, left).finding
             for path, scenario in asked.items()]
            for version in (parent, candidate)
        )  # fmt: skip
        pairs[world] = list(zip(before, after, strict=True))
        if world == "new windows":
            untrained = _untrained(params, stores, snapshot, candidate, next(iter(asked.items())), left)
    found = transferred(parent, candidate, pairs, untrained, params.metric, params.costs)
    tracking.log_history(stores, run_id, [_metrics(found)])
    for measure in found.measures:
        if measure.value is not None:
            tell("recovery", f"{measure.name} {measure.value:+.3f} [{measure.low:+.3f}, {measure.high:+.3f}]")
    return found


def _questions(params: Params) -> dict[str, OnModel]:
    """Give the clean question and the first attack of the gate's pack, where it has one, by path."""
    pack = params.scenarios(params.evaluation.uses.gate)
    clean = next(((p, s) for p, s in pack.items() if isinstance(s, Quality)), ("probes/quality", Quality()))
    attack = params.gate_attack()
    return dict([clean] if attack is None else [clean, attack])


def _worlds(stores: Stores, data: Loaded, parent: ModelVersion, candidate: ModelVersion) -> dict[World, Array]:
    """Tell of each world which rows (n,) bool neither version learned from."""
    seen = data.recognise(rows_seen(stores, parent)) | data.recognise(rows_seen(stores, candidate))
    window = np.full(len(data), -1) if data.window is None else data.window
    former = np.array(_windows_of(stores, parent), dtype=np.int64)
    return {
        "old world": data.holds("test") & ~seen & (window < 0) & ~data.later,
        "new windows": data.holds("gate") & ~seen & (window >= 0) & ~np.isin(window, former),
    }


def _windows_of(stores: Stores, version: ModelVersion) -> tuple[int, ...]:
    """List the windows that a version learned from; none where it was made from pinned data alone."""
    made = registered(stores, version).get("data")
    manifest = "" if made is None else DataSnapshot.model_validate(made).manifest
    return tuple(w.position for w in read_manifest(stores.project, manifest).windows) if manifest else ()


def _untrained(
    params: Params,
    stores: Stores,
    snapshot: DataSnapshot,
    candidate: ModelVersion,
    question: tuple[str, OnModel],
    left: LeftOut | None,
) -> Finding:
    """Put the clean question to a network of the candidate's kind with weights that nobody trained."""
    device = pick_device(params.device)
    trained = load_model(tracking.fetch_model(stores, candidate), candidate.digest, device)
    fresh = Target(trained.spec.build(params.seed), trained.spec, f"untrained {candidate.digest}", device)
    path, scenario = question
    data, origin = load_data(stores, params, snapshot), context(params, snapshot, trained.spec)
    return ask(scenario, fresh, data, "gate", origin, path, left_out_ids(stores, left))


def _metrics(found: Transfer) -> dict[str, float]:
    """Name what was found as metrics of the run."""
    named = {f"transfer/{m.name.split(' ')[0]}": m.value for m in found.measures if m.value is not None}
    for change in found.changes:
        prefix = f"transfer/{change.world.replace(' ', '_')}/{change.path}"
        named |= {f"{prefix}.before": change.before.value, f"{prefix}.after": change.after.value}
        named |= {f"{prefix}.difference": change.difference, f"{prefix}.n": float(change.n)}
    return named
