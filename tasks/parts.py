"""The two parts of the gate's rows, told apart: those that data.dvc pins, and those that came with windows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from holdfast.digests import digest_json
from holdfast.errors import ScenarioError
from holdfast.params import Params
from holdfast.results import DataSnapshot, Finding, Reason, StageReport
from holdfast.scenarios.base import OnModel, choose
from holdfast.statistics import tango
from holdfast.stores import Stores
from tasks.heldout import LeftOut, left_out_ids
from tasks.storage import load_data

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.data.source import Array, Loaded


@task(cache_policy=NO_CACHE)
def told_apart(
    params: Params,
    stores: Stores,
    snapshot: DataSnapshot,
    left_out: LeftOut | None,
    ours: StageReport,
    theirs: StageReport,
) -> tuple[Reason, ...]:
    """Say how candidate and champion do on each part, for the record: the gate decides on both parts together.

    Nothing where no window's rows are in the gate.

    Raises:
        ScenarioError: a finding is about other points than its scenario chooses.
    """
    data, without = load_data(stores, params, snapshot), left_out_ids(stores, left_out)
    if data.window is None or not (data.holds("gate") & (data.window >= 0)).any():
        return ()
    before = {finding.path: finding for finding in theirs.findings}
    asked = params.scenarios(params.evaluation.uses.gate)
    return tuple(
        reason
        for finding in ours.findings
        if finding.path in before and isinstance(scenario := asked.get(finding.path), OnModel)
        for reason in _apart(finding, before[finding.path], _from_windows(params, data, scenario, without))
    )


def _from_windows(params: Params, data: Loaded, scenario: OnModel, without: tuple[int, ...]) -> tuple[str, Array]:
    """Name the points that a scenario chooses, and tell which of them (n,) came with windows."""
    ids = choose(data.samples("gate", scenario.period, without=without), scenario.points, params.seed).ids.numpy()
    came = data.ids[data.window >= 0] if data.window is not None else data.ids[:0]
    return digest_json(ids.tolist()), np.isin(ids, came)


def _apart(ours: Finding, theirs: Finding, points: tuple[str, Array]) -> Iterator[Reason]:
    name, new = points
    if ours.per_example is None or theirs.per_example is None:
        return
    if {ours.per_example.points, theirs.per_example.points} != {name}:
        raise ScenarioError(
            ours.path, found=f"points {ours.per_example.points[:16]} and {theirs.per_example.points[:16]}",
            expected=f"points {name[:16]}, which its settings choose", remedy="Run again: the data changed meanwhile.",
        )  # fmt: skip
    after, before = ours.per_example.unpack_flags(), theirs.per_example.unpack_flags()
    for part, rows in (("pinned rows", ~new), ("rows of windows", new)):
        if rows.any():
            yield Reason(about=f"{ours.path}, {part}", passed=True, text=_compared(after[rows], before[rows]))


def _compared(after: Array, before: Array) -> str:
    won, lost, n = int((after & ~before).sum()), int((before & ~after).sum()), len(after)
    low, high = tango(won, lost, n)
    return (
        f"right {after.mean():.4f}, the champion {before.mean():.4f}: {(won - lost) / n:+.4f} "
        f"[{low:+.4f}, {high:+.4f}] (tango, n = {n}); told, and decides nothing"
    )
