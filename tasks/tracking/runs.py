"""Runs: one for each piece of work, with its data, settings, curves, findings and texts."""

from __future__ import annotations

import re
import tempfile
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
from mlflow.data.dataset_source import DatasetSource
from mlflow.data.dataset_source_registry import register_dataset_source
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from holdfast.digests import canonical
from tasks.tracking.connection import answering, client, code_of, paged

if TYPE_CHECKING:
    from holdfast.results import DataSnapshot, Finding, ModelVersion
    from holdfast.stores import Stores


class DvcSource(DatasetSource):
    """A data set as DVC knows it: path, md5 and git revision; ``load`` opens that revision."""

    def __init__(self, path: str, md5: str, revision: str) -> None:
        self.path, self.md5, self.revision = path, md5, revision

    @staticmethod
    def _get_source_type() -> str:
        return "dvc"

    def load(self, **_: Any) -> Any:  # noqa: ANN401  a file system
        """Open the file system of that revision."""
        from tasks.versioning import file_system  # noqa: PLC0415  lineage is read without DVC

        return file_system(self.revision, md5=self.md5)

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:  # noqa: ANN401  MLflow's signature
        return isinstance(raw_source, str) and raw_source.startswith("dvc://")

    @classmethod
    def _resolve(cls, raw_source: Any) -> DvcSource:  # noqa: ANN401  MLflow's signature
        return cls(raw_source.removeprefix("dvc://"), "", "none")

    def to_dict(self) -> dict[Any, Any]:
        """Give the JSON form."""
        return {"path": self.path, "md5": self.md5, "revision": self.revision}

    @classmethod
    def from_dict(cls, source_dict: dict[Any, Any]) -> DvcSource:
        """Read the JSON form."""
        return cls(**source_dict)


register_dataset_source(DvcSource)  # type: ignore[arg-type]  # MLflow annotates an instance and takes the class


def prepare(stores: Stores, name: str) -> str:
    """Make the experiment and the registered model of a name, once, and give the experiment's id.

    Afterwards a registry that has never heard of the model is an error and not an absence.
    """
    where = experiment(stores, name)
    with answering(stores):
        try:
            client(stores).create_registered_model(name)
        except MlflowException as error:
            if code_of(error) != "RESOURCE_ALREADY_EXISTS":
                raise
    return where


def experiment(stores: Stores, name: str) -> str:
    """Give the id of the experiment of a model, made when it is not there."""
    with answering(stores):
        tracker = client(stores)
        found = tracker.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        local = stores.tracking.get_secret_value().startswith("sqlite:")
        return str(tracker.create_experiment(name, artifact_location=stores.artifacts.as_uri() if local else None))


def open_run(
    stores: Stores, name: str, key: str, *, title: str, parent: str = "", tags: dict[str, str] | None = None
) -> str:
    """Give the id of the run of one piece of work: the one that was begun for this key, else a fresh one.

    Args:
        stores: where tracking is.
        name: the model's name, which is the experiment's.
        key: cache key of the work; a killed start is found again by it.
        title: run name.
        parent: id of the run that this one is nested in.
        tags: more tags.
    """
    where = experiment(stores, name)
    with answering(stores):
        tracker = client(stores)
        found = tracker.search_runs([where], f"tags.`holdfast.key` = '{key}'", max_results=1)
        if found:
            run_id = str(found[0].info.run_id)
            tracker.update_run(run_id, status="RUNNING")
            return run_id
        nested = {"mlflow.parentRunId": parent} if parent else {}
        run = tracker.create_run(where, tags={"holdfast.key": key, **nested, **(tags or {})}, run_name=title)
        return str(run.info.run_id)


def close_run(stores: Stores, run_id: str, *, status: str = "FINISHED", tags: dict[str, str] | None = None) -> None:
    """End a run."""
    with answering(stores):
        for tag, value in (tags or {}).items():
            client(stores).set_tag(run_id, tag, value)
        client(stores).set_terminated(run_id, status=status)


def fail_runs(stores: Stores, name: str, parent: str) -> None:
    """Mark a lifecycle's run, and those nested in it that are still running, as failed."""
    where = experiment(stores, name)
    with answering(stores):
        tracker = client(stores)
        running = f"tags.`mlflow.parentRunId` = '{parent}' and attributes.status = 'RUNNING'"
        nested = list(paged(partial(tracker.search_runs, [where], running)))  # all, before any leaves the pages
        for run_id in (*(run.info.run_id for run in nested), parent):
            tracker.set_terminated(run_id, status="FAILED")


def log_snapshot(stores: Stores, run_id: str, snapshot: DataSnapshot, context: str) -> None:
    """Log a data snapshot as the input of a run; a second time changes nothing."""
    source = DvcSource(snapshot.path, snapshot.md5, snapshot.revision)
    data = Dataset(
        name=snapshot.name, digest=snapshot.file_md5[:36], source_type="dvc", source=canonical(source.to_dict()),
        profile=canonical({"rows": snapshot.rows, "period": snapshot.period}),
    )  # fmt: skip
    tags = [InputTag("mlflow.data.context", context), InputTag("dvc.md5", snapshot.md5)]
    with answering(stores):
        known = client(stores).get_run(run_id).inputs
        if known is None or not known.dataset_inputs:
            client(stores).log_inputs(run_id, [DatasetInput(data, tags)])


def log_params(stores: Stores, run_id: str, params: dict[str, object]) -> None:
    """Log settings of a run; a second time with equal values changes nothing."""
    with answering(stores):
        client(stores).log_batch(run_id, params=[Param(key, str(value)[:500]) for key, value in params.items()])


def log_history(stores: Stores, run_id: str, history: list[dict[str, float]]) -> None:
    """Log training curves, one metric for each name and one step for each epoch."""
    now = _now()
    metrics = [Metric(name, value, now, step) for step, row in enumerate(history) for name, value in row.items()]
    with answering(stores):
        for start in range(0, len(metrics), 1000):
            client(stores).log_batch(run_id, metrics=metrics[start : start + 1000])


def log_finding(stores: Stores, run_id: str, version: ModelVersion, finding: Finding, side: str = "") -> None:
    """Log a finding once: its score, tied to the model and the data, and its JSON as artefact.

    Known by its fingerprint and not by its question: what broke once and is scored later is logged again. The
    artefact carries it in its name, so that what a decision once read is never overwritten.

    Args:
        stores: where tracking is.
        run_id: the run that asked.
        version: the version that the finding is about.
        finding: what was found.
        side: prefix of names, where a run asks about a version that is not its own: ``champion``.
    """
    name = "/".join(part for part in (side, finding.path) if part)
    role = finding.provenance.role
    with answering(stores):
        tracker, tag, digest = client(stores), f"finding.{name}.{role}", finding.fingerprint()
        if tracker.get_run(run_id).data.tags.get(tag) == digest:
            return
        model_id, now = version.source.rsplit("/", 1)[-1], _now()
        tracker.log_batch(
            run_id,
            metrics=[
                Metric(metric, value, now, 0, model_id=model_id, run_id=run_id,
                       dataset_name=version.name, dataset_digest=finding.provenance.data[:36])
                for metric, value in _metrics(finding, side).items()
            ],
        )  # fmt: skip
        tracker.log_text(run_id, finding.model_dump_json(indent=1), f"findings/{name}.{role}.{digest[:16]}.json")
        # Last, so that a kill before it logs the finding again.
        tracker.log_batch(run_id, tags=[RunTag(tag, digest)])


def _metrics(finding: Finding, side: str) -> dict[str, float]:
    """Metrics of a finding: no score for one that is unscored, and the measures that it has all the same."""
    role = "" if finding.provenance.role == "test" else finding.provenance.role
    prefix = "/".join(part for part in (side, role, finding.dimension, finding.path) if part)
    score, named = finding.score, dict[str, float]()
    if score is not None:
        named = {"": score.value, ".low": score.low, ".high": score.high, ".n": float(score.n)}
    measured = {f".{_plain(m.name)}": m.value for m in finding.measures if m.value is not None}
    return {f"{prefix}{suffix}": value for suffix, value in {**named, **measured}.items()}


def _plain(name: str) -> str:
    """Write a name as MLflow takes it."""
    return re.sub(r"[^\w.-]+", "_", name)


def log_text(stores: Stores, run_id: str, name: str, text: str) -> None:
    """Keep a text as an artefact of a run."""
    with answering(stores):
        client(stores).log_text(run_id, text, name)


def log_texts(stores: Stores, run_id: str, folder: str, texts: dict[str, str]) -> None:
    """Keep texts, by file name, in one folder of a run's artefacts: one call for all."""
    with answering(stores), tempfile.TemporaryDirectory() as scratch:
        for name, text in texts.items():
            Path(scratch, name).write_text(text, encoding="utf-8")
        client(stores).log_artifacts(run_id, scratch, folder)


def _now() -> int:
    return int(datetime.now(UTC).timestamp() * 1000)


def read_text(stores: Stores, run_id: str, name: str) -> str | None:
    """Read a text that was kept as an artefact of a run; None only when tracking answers that there is none."""
    folder = name.rpartition("/")[0] or None
    with answering(stores), tempfile.TemporaryDirectory() as scratch:
        if name not in {found.path for found in client(stores).list_artifacts(run_id, folder)}:
            return None
        url = stores.tracking.get_secret_value()
        path = mlflow.artifacts.download_artifacts(
            run_id=run_id, artifact_path=name, dst_path=scratch, tracking_uri=url
        )
        return Path(path).read_text()
