"""The third parties: each must have seen the work itself, and a run without one of them fails here by name."""

from __future__ import annotations

import subprocess
import time
from typing import Any

import pytest
import yaml
from dvc.repo import Repo
from safetensors import safe_open

from holdfast.model import ModelSpec

pytestmark = pytest.mark.timeout(900)  # whole runs, on a machine that may have other work


def test_prefect_recorded_every_flow_and_task(champion: Any, ask_prefect: Any) -> None:
    """Prefect's API lists the lifecycle with its stages and tasks, all completed."""
    wanted = {"settle", "examine", "train standard", "publish", "finish", "crown"}
    end = champion.entries()[-1].at.isoformat()  # other tests' runs of this project, failing ones too, began later
    for _ in range(60):
        began = {"start_time": {"before_": end}}
        flows = [
            run for run in ask_prefect("/flow_runs/filter", {"limit": 200, "flow_runs": began})
            if str(champion.folder) in str(run["parameters"].get("stores"))
        ]  # fmt: skip
        ids = [run["id"] for run in flows]
        tasks = ask_prefect("/task_runs/filter", {"limit": 200, "flow_runs": {"id": {"any_": ids}}})
        kinds = {run["name"].rsplit("-", 1)[0] for run in tasks} | {run["name"] for run in tasks}
        states = {run["state_type"] for run in (*flows, *tasks)}
        if wanted <= kinds and states == {"COMPLETED"}:
            break
        time.sleep(0.5)  # records arrive seconds late
    assert wanted <= kinds
    assert states == {"COMPLETED"}
    flow_ids = {run["flow_id"] for run in flows}
    named = {flow["name"] for flow in ask_prefect("/flows/filter", {"flows": {"id": {"any_": sorted(flow_ids)}}})}
    assert {"lifecycle", "integrity", "training", "evaluation", "promotion"} <= named
    assert any(run["name"] == "attacks/fgsm on test" for run in tasks)


def test_mlflow_holds_runs_model_and_alias(champion: Any) -> None:
    """MLflow finds the lifecycle by its tags, the version by its alias, and the findings as artefacts."""
    registry = champion.registry()
    (experiment,) = registry.search_experiments(filter_string="name = 'tiny'")
    (parent,) = registry.search_runs([experiment.experiment_id], "tags.`holdfast.decision` = 'promote'")
    version = registry.get_model_version_by_alias("tiny", "champion")
    assert registry.get_run(version.run_id).data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert registry.get_logged_model(version.source.rsplit("/", 1)[-1]).status.name == "READY"
    (evaluation,) = registry.search_runs([experiment.experiment_id], "run_name = 'evaluation'")
    (found,) = registry.list_artifacts(evaluation.info.run_id, "findings/probes")
    (decision,) = champion.entries("decision")
    assert found.path in {f"findings/probes/quality.test.{digest[:16]}.json" for digest in decision.body["evidence"]}


def test_dvc_pinned_the_data_that_lineage_names(champion: Any) -> None:
    """DVC finds data/ clean, holds its bytes in the cache, and pins the md5 that the ledger recorded."""
    pinned = yaml.safe_load((champion.folder / "data.dvc").read_text())["outs"][0]["md5"]
    (registered,) = champion.entries("registered")
    assert registered.body["lineage"]["data"]["md5"] == pinned
    with Repo(str(champion.folder)) as repo:
        assert repo.status() == {}
        assert repo.stage.load_one(str(champion.folder / "data.dvc")).outs[0].get_hash().value == pinned
        assert not repo.stage.load_one(str(champion.folder / "data.dvc")).outs[0].changed_cache()
    tracked = subprocess.run(
        ("git", "ls-files", "data"), cwd=champion.folder, check=True, capture_output=True, text=True
    ).stdout
    assert tracked == ""


def test_great_expectations_stops_data_that_breaks_its_declaration(champion: Any) -> None:
    """A column declared otherwise than it is blocks the run in Great Expectations' words, and nothing trains."""
    column = "{columns: {term: {type: text}}}"
    done = champion.run("--json", "--set", f"integrity.schema={column}", "--set", "seed=8", expect=4)
    assert done.document["error"]["kind"] == "IntegrityError"
    assert "term" in done.document["error"]["found"]
    assert "epoch" not in done.words
    assert [e.version for e in champion.entries("registered")] == [1]


def test_torch_weights_are_the_model(champion: Any) -> None:
    """The saved tensors are the state of the torch module that the description builds, and of no other size."""
    digest = champion.ledger().head("tiny").digest
    folder = champion.root / "models" / digest
    module = ModelSpec.model_validate_json((folder / "spec.json").read_bytes()).build(seed=0)
    with safe_open(folder / "model.safetensors", framework="pt") as stored:
        weights = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  not a mapping
    assert module.load_state_dict(weights).missing_keys == []
    assert sum(tensor.numel() for tensor in weights.values()) > 5000
