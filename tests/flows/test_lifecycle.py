"""The lifecycle through the front door: from data to a champion that can be traced, and what is not done again."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
import yaml

from holdfast.model import load_model
from holdfast.pyfunc import Scorer

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.timeout(900)  # whole runs, on a machine that may have other work

REPOSITORY = Path(__file__).parents[2]
DIMENSIONS = ("robustness", "defence", "recovery", "evolution")
LOADER = """
import json, os, sys
here = sys.argv[1]
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
sys.path = [path for path in sys.path if "editable" not in path and os.path.realpath(path or ".") != here]
import mlflow, pandas
model = mlflow.pyfunc.load_model("models:/tiny/1")
answers = model.predict(pandas.read_parquet("rows.parquet"))
answers.to_parquet("answers.parquet")
print(json.dumps(sys.modules["holdfast"].__file__))
"""
USERS_MODEL = '''"""A network of the user's own."""

from torch import Tensor, nn

from shapes import WIDTH


class Gated(nn.Module):
    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.gate, self.out = nn.Linear(features, WIDTH), nn.Linear(WIDTH, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.gate(x).sigmoid())


def build(shape: tuple[int, ...], classes: int) -> nn.Module:
    return Gated(shape[0], classes)
'''


def test_the_first_run_crowns_a_version(champion: Any, first: Any) -> None:
    """One version passes the gate and is champion in ledger, alias and tags, its chain verified."""
    report = first.document
    assert report["decision"]["action"] == "promote"
    assert all(reason["passed"] for reason in report["decision"]["reasons"])
    assert report["chain_valid"]
    assert [entry.kind for entry in champion.entries("registered", "decision", "intent", "done")] == [
        "registered", "decision", "intent", "done",
    ]  # fmt: skip
    champion.hold()


def test_the_report_needs_no_network(champion: Any, first: Any) -> None:
    """The page is one file: nothing in it is fetched from anywhere."""
    page = Path(first.document["report"]).read_text()
    assert page.startswith("<!")
    assert not re.findall(r"(?:src|href|action|poster|data)\s*=\s*[\"']?(?!#|data:)[^\s\"'>]*//", page)
    assert not re.findall(r"<(?:link|script[^>]+src|iframe|object|embed)|@import|url\((?!['\"]?(?:data:|#))", page)
    assert first.document["snapshot"]["md5"] in page


def test_runs_are_nested_and_tie_scores_to_model_and_data(champion: Any) -> None:
    """A stage is a run inside the lifecycle's; its scores name the logged model and the data set."""
    registry = champion.registry()
    version = registry.get_model_version("tiny", "1")
    training = registry.get_run(version.run_id)
    parent = registry.get_run(training.data.tags["mlflow.parentRunId"])
    runs = registry.search_runs([training.info.experiment_id])
    nested = {run.info.run_name: run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id}
    assert set(nested) == {"training", "evaluation", "promotion"}
    assert {path.path for path in registry.list_artifacts(parent.info.run_id)} == {"report.html", "figures"}
    evaluation = nested["evaluation"]
    scores = {name for name in evaluation.data.metrics if name.endswith("/probes/quality")}
    assert scores
    assert {"loss", "validation_balanced_accuracy"} <= set(training.data.metrics)
    model = registry.get_logged_model(version.source.rsplit("/", 1)[-1])
    tied = {metric.key: metric for metric in model.metrics or []}
    assert scores <= set(tied)
    assert all(tied[name].dataset_digest and tied[name].dataset_name for name in scores)


def test_the_version_says_its_headlines_and_the_runs_their_data(champion: Any) -> None:
    """Tags hold the four dimensions; the input of the runs is the data that data.dvc pins, at this git revision."""
    registry = champion.registry()
    version = registry.get_model_version("tiny", "1")
    assert all(version.tags[f"holdfast.{dimension}"] for dimension in DIMENSIONS)
    assert "not due" in version.tags["holdfast.recovery"]
    (data,) = registry.get_run(version.run_id).inputs.dataset_inputs
    head = subprocess.run(
        ("git", "rev-parse", "HEAD"), cwd=champion.folder, check=True, capture_output=True, text=True
    ).stdout
    source = json.loads(data.dataset.source)
    assert source["revision"] == head.strip()
    assert source["md5"] == yaml.safe_load((champion.folder / "data.dvc").read_text())["outs"][0]["md5"]
    assert source["path"] == "data/sba_loans_small.parquet"


def test_a_second_run_reuses_everything_and_says_so(champion: Any) -> None:
    """Nothing changed: no epoch, no version, no decision, and each scenario is told as reused."""
    before, pages = len(champion.entries()), sorted(champion.root.glob("reports/*"))
    done = champion.run()
    assert "epoch" not in done.words
    assert done.words.count("reused") >= 4
    assert "the candidate is the champion already" in done.words
    assert len(champion.entries()) == before
    assert sorted(champion.root.glob("reports/*")) == pages
    champion.hold()


@pytest.mark.slow
def test_a_floor_that_was_raised_over_the_champion_is_told(champion: Any) -> None:
    """The same candidate under a higher floor: exit code 10, the failure first, and the champion stays."""
    raised = ("--set", "recovery.gates.floors.probes/quality=0.99")
    words = champion.run(*raised, expect=10).words
    assert "FAILS its gate now" in words
    assert words.index("FAIL probes/quality: floor 0.9900") < words.index("promoted on")
    champion.holdfast("promote", "1", "--params", "profiles/tiny.yaml", *raised, expect=10)
    champion.run()
    champion.hold()


@pytest.mark.slow
def test_a_second_model_on_the_same_data_runs_in_the_same_stores(champion: Any) -> None:
    """Another name, the same data and stores: each model has its champion, and the first one's run still ends well."""
    done = champion.run("--json", "--set", "name=second")
    assert done.document["decision"]["action"] == "promote"
    assert champion.ledger().head("second").version == champion.ledger().head("tiny").version == 1
    champion.run()
    assert champion.ledger().verify().valid


def loaded_elsewhere(project: Any, folder: Path) -> pd.DataFrame:
    """Predict fifty rows in a process that knows nothing of the project, the repository or an installed holdfast."""
    rows = pd.read_parquet(project.folder / "data" / "sba_loans_small.parquet").head(50)
    folder.mkdir()
    rows.to_parquet(folder / "rows.parquet")
    done = subprocess.run(
        (sys.executable, "-P", "-c", LOADER, str(REPOSITORY)), cwd=folder, check=False, capture_output=True, text=True,
        env={
            "PATH": "/usr/bin:/bin", "HOME": str(folder), "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_TRACKING_URI": f"sqlite:///{project.root / 'mlflow.db'}",
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert Path(json.loads(done.stdout.splitlines()[-1])).is_relative_to(project.root)  # the version's own code
    return pd.read_parquet(folder / "answers.parquet")


def in_process(project: Any) -> pd.DataFrame:
    """Predict the same rows by the model as it was saved."""
    head = project.ledger().head("tiny")
    rows = pd.read_parquet(project.folder / "data" / "sba_loans_small.parquet").head(50)
    return Scorer(load_model(project.root / "models" / head.digest, head.digest)).predict(rows)


def test_mlflow_loads_the_version_in_a_process_of_its_own(champion: Any, tmp_path: Path) -> None:
    """A stranger's process loads the version by its name alone and answers as the saved model does."""
    pd.testing.assert_frame_equal(loaded_elsewhere(champion, tmp_path / "elsewhere"), in_process(champion))


@pytest.mark.slow
def test_mlflow_loads_a_users_own_model_class(make: Callable[..., Any], tmp_path: Path, monkeypatch: Any) -> None:
    """A network from a package of the project, with a module beside it, travels with its version."""
    project = make()
    package = project.folder / "ours"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "shapes.py").write_text("WIDTH = 9\n")
    (package / "net.py").write_text(USERS_MODEL.replace("from shapes", "from ours.shapes"))
    done = project.run("--json", "--set", "model.factory=ours.net:build", "--set", "model.settings={}", expect=None)
    assert done.code in {0, 10}, done.err[-3000:]  # a network this small need not pass the gate
    answers = loaded_elsewhere(project, tmp_path / "elsewhere")
    monkeypatch.syspath_prepend(project.folder)
    digest = project.registry().get_model_version("tiny", "1").tags["holdfast.digest"]
    rows = pd.read_parquet(project.folder / "data" / "sba_loans_small.parquet").head(50)
    expected = Scorer(load_model(project.root / "models" / digest, digest)).predict(rows)
    pd.testing.assert_frame_equal(answers, expected)


@pytest.mark.slow
def test_a_candidate_is_trained_then_promoted_by_commands_of_their_own(make: Callable[..., Any]) -> None:
    """`train` registers and promotes nothing; `promote` puts the version through the gate; `run` then reuses both."""
    project, profile = make(), ("--params", "profiles/tiny.yaml", "--json")
    version = project.holdfast("train", *profile).document
    assert version["version"] == 1
    assert project.ledger().head("tiny") is None
    assert project.holdfast("promote", "1", *profile).document["action"] == "promote"
    assert "epoch" not in project.run().words
    project.hold()
