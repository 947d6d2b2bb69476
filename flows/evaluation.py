"""Evaluation: every scenario of a pack against one version."""

from __future__ import annotations

from prefect import flow, unmapped
from prefect.task_runners import ThreadPoolTaskRunner

from holdfast.params import Params
from holdfast.results import DataSnapshot, ModelVersion, Role, StageReport
from holdfast.stores import Stores
from tasks.evaluation import Answer, cross_check, record, run_scenario
from tasks.heldout import LeftOut

CORPUS = "probes/regression_corpus"
AT_ONCE = 2
"""Scenarios at a time in one process."""
_RUNNER: ThreadPoolTaskRunner[Answer] = ThreadPoolTaskRunner(max_workers=AT_ONCE)


@flow(name="evaluation", task_runner=_RUNNER)  # type: ignore[arg-type]  # the decorator asks for an invariant future
def evaluation(
    params: Params,
    stores: Stores,
    snapshot: DataSnapshot,
    version: ModelVersion,
    pack: str,
    role: Role,
    run_id: str,
    side: str = "",
    left_out: LeftOut | None = None,
) -> StageReport:
    """Report every finding of a pack about one version on the rows of one role, but for those that are left out.

    The regression corpus is replayed first, and beside test rows alone: it grows between the two sides of a gate.
    """
    asked = params.scenarios(pack)
    replays = [path for path in asked if path.split("-")[0] == CORPUS and role == "test"]
    scenarios = {path: asked[path] for path in asked if path in replays or path.split("-")[0] != CORPUS}
    found: dict[str, Answer] = {}
    for paths in filter(None, (replays, [path for path in scenarios if path not in replays])):
        answers = run_scenario.map(
            paths,
            [scenarios[path] for path in paths],
            params=unmapped(params),
            stores=unmapped(stores),
            snapshot=unmapped(snapshot),
            version=unmapped(version),
            role=role,
            left_out=unmapped(left_out),
        ).result()
        found |= dict(zip(paths, answers, strict=True))
    answers = [found[path] for path in scenarios]
    checked = cross_check(tuple(answer.finding for answer in answers))
    record(checked, version, stores, run_id, side)
    reused = tuple(answer.finding.path for answer in answers if answer.reused)
    return StageReport(stage="evaluation", subject=version.digest, findings=checked, reused=reused)
