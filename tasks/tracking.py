"""MLflow, and only here: runs, versions with their lineage, the champion alias as the ledger's projection."""

from __future__ import annotations

import re
import tempfile
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import mlflow
from mlflow import MlflowClient
from mlflow.data.dataset_source import DatasetSource
from mlflow.data.dataset_source_registry import register_dataset_source
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelStatus, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode
from requests.exceptions import RequestException
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

import holdfast
from holdfast.digests import canonical
from holdfast.errors import StoreError
from holdfast.model import factory_sources
from holdfast.results import DataSnapshot, Finding, ModelVersion

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.model import ModelSpec
    from holdfast.stores import Stores

ALIAS = "champion"
_ABSENT = {ErrorCode.Name(RESOURCE_DOES_NOT_EXIST)}


class DvcSource(DatasetSource):
    """A data set as DVC knows it: path, md5 and git revision; ``load`` opens that revision."""

    def __init__(self, path: str, md5: str, revision: str) -> None:
        self.path, self.md5, self.revision = path, md5, revision

    @staticmethod
    def _get_source_type() -> str:
        return "dvc"

    def load(self, **_: Any) -> Any:  # noqa: ANN401  a file system
        """Open the file system of that revision."""
        from tasks.storage import file_system  # noqa: PLC0415  lineage is read without DVC

        return file_system(self.revision)

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


def shown(url: str) -> str:
    """Give a URL as people may see it: without its password."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return url.rsplit("@", 1)[-1]


def scrubbed(text: str, url: str) -> str:
    """Take a URL's secrets out of somebody else's words, however they quote it."""
    text = text.replace(url, shown(url))
    try:
        secret = make_url(url).password
    except ArgumentError:
        secret = None
    if secret:
        text = text.replace(quote(str(secret)), "***").replace(str(secret), "***")
    return re.sub(r"(//[^/\s:@]*:)[^@\s]+@", r"\1***@", text)


@contextmanager
def answering(stores: Stores) -> Iterator[None]:
    """Turn every way in which tracking can fail to answer into one error: an outage is never an absence."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, RequestException, OSError) as error:
        url = stores.tracking.get_secret_value()
        # The cause is cut off: its own text holds the URL, and Prefect keeps tracebacks in its database.
        raise StoreError(
            f"MLflow at {shown(url)}",
            found=f"{type(error).__name__}: {scrubbed(str(error), url).splitlines()[0][:200]}",
            expected="a tracking server or database that answers",
            remedy="Start or mend it and run again: finished work is kept, nothing was promoted.",
        ) from None


@cache
def _client(url: str) -> MlflowClient:
    if url.startswith("sqlite:///"):
        path = Path(url.removeprefix("sqlite:///"))
        path.parent.mkdir(parents=True, exist_ok=True)
        # First creation from several processes at once corrupts the schema; the caller holds the run lock.
        mlflow.MlflowClient(tracking_uri=url).search_experiments(max_results=1)
    return MlflowClient(tracking_uri=url, registry_uri=url)


def client(stores: Stores) -> MlflowClient:
    """Connect to the tracking store that these stores name."""
    url = stores.tracking.get_secret_value()
    # MLflow's own registry looks logged models up through its process-wide URI, whatever the client was given.
    mlflow.set_tracking_uri(url)
    mlflow.set_registry_uri(url)
    return _client(url)


def prepare(stores: Stores, name: str) -> str:
    """Make the experiment and the registered model of a name, once, and give the experiment's id.

    Afterwards a registry that has never heard of the model is an error and not an absence.
    """
    where = experiment(stores, name)
    with answering(stores):
        try:
            client(stores).create_registered_model(name)
        except MlflowException as error:
            if _code(error) != "RESOURCE_ALREADY_EXISTS":
                raise
    return where


def _code(error: MlflowException) -> str:
    return str(error.error_code)


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
        nested = tracker.search_runs(
            [where], f"tags.`mlflow.parentRunId` = '{parent}' and attributes.status = 'RUNNING'"
        )
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
    """Log a finding once for each key: its score, tied to the model and the data, and its JSON as artefact.

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
        tracker, tag = client(stores), f"finding.{name}.{role}"
        if tracker.get_run(run_id).data.tags.get(tag) == finding.key:
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
        tracker.log_text(run_id, finding.model_dump_json(indent=1), f"findings/{name}.{role}.json")
        # Last, so that a kill before it logs the finding again.
        tracker.log_batch(run_id, tags=[RunTag(tag, finding.key)])


def _metrics(finding: Finding, side: str) -> dict[str, float]:
    """Metrics of a finding: nothing at all for one that is unscored."""
    role = "" if finding.provenance.role == "test" else finding.provenance.role
    prefix = "/".join(part for part in (side, role, finding.dimension, finding.path) if part)
    if finding.score is None:
        return {}
    score = finding.score
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


def register(
    stores: Stores, name: str, folder: Path, spec: ModelSpec, run_id: str, key: str, digest: str
) -> ModelVersion:
    """Make a registered version of a saved model, once for each key, loadable by ``mlflow.pyfunc``, without a pickle.

    The version is tagged with the digest of its bytes; nobody serves it before the ledger says so.
    """
    if (found := find_version(stores, name, key)) is not None:
        if found.digest != digest:
            raise StoreError(
                f"{name} version {found.version}", found=f"digest {found.digest[:16]} of the same training",
                expected=f"{digest[:16]}, which this training gave",
                remedy="Training is not repeatable on this machine (threads, device), or the version was changed.",
            )  # fmt: skip
        return found
    where = experiment(stores, name)
    with answering(stores):
        tracker = client(stores)
        for orphan in tracker.search_logged_models([where], f"tags.`holdfast.key` = '{key}'"):
            tracker.delete_logged_model(orphan.model_id)  # a kill left it without a version
        made_for = {"holdfast.key": key}
        model_id = str(tracker.create_logged_model(where, name=name, source_run_id=run_id, tags=made_for).model_id)
        with tempfile.TemporaryDirectory() as scratch:
            packed = Path(scratch) / "model"
            mlflow.pyfunc.save_model(
                packed, loader_module="holdfast.pyfunc", data_path=str(folder), code_paths=_code_paths(spec),
                pip_requirements=["torch", "safetensors", "pydantic", "pandas", "pyarrow"],
                metadata={"holdfast.digest": digest},
            )  # fmt: skip
            tracker.log_model_artifacts(model_id, str(packed))
        tracker.finalize_logged_model(model_id, LoggedModelStatus.READY)
        tags = {"holdfast.key": key, "holdfast.digest": digest, "holdfast.status": "candidate"}
        made = tracker.create_model_version(name, f"models:/{model_id}", run_id=run_id, tags=tags, model_id=model_id)
        return _version(made)


def _code_paths(spec: ModelSpec) -> list[str]:
    """Code that goes with a version: this package, and the user's module or package."""
    paths = [str(Path(holdfast.__file__).parent)]
    if (sources := factory_sources(spec.factory)) is not None:
        root, files = sources
        paths += sorted({str(root / file.relative_to(root).parts[0]) for file in files})
    return paths


def _version(found: Any) -> ModelVersion:  # noqa: ANN401  MLflow's entity
    return ModelVersion(
        name=found.name,
        version=int(found.version),
        digest=found.tags.get("holdfast.digest", ""),
        source=found.source,
        run_id=found.run_id or "",
    )


def find_version(stores: Stores, name: str, key: str) -> ModelVersion | None:
    """Find the version that was registered for a key; None only when the registry answers that there is none."""
    with answering(stores):
        found = client(stores).search_model_versions(
            f"name = '{name}' and tags.`holdfast.key` = '{key}'", max_results=1
        )
        return _version(found[0]) if found else None


def get_version(stores: Stores, name: str, version: int) -> ModelVersion | None:
    """Look a version up by number; None only when the registry answers that there is none."""
    with answering(stores):
        try:
            return _version(client(stores).get_model_version(name, str(version)))
        except MlflowException as error:
            if _code(error) in _ABSENT:
                return None
            raise


def list_versions(stores: Stores, name: str) -> list[tuple[ModelVersion, dict[str, str], datetime]]:
    """List every version with its tags and when it was made, oldest first."""
    with answering(stores):
        found = client(stores).search_model_versions(f"name = '{name}'", max_results=1000)
        listed = [(_version(v), dict(v.tags), datetime.fromtimestamp(v.creation_timestamp / 1000, UTC)) for v in found]
        return sorted(listed, key=lambda row: row[0].version)


def parent_run(stores: Stores, version: ModelVersion) -> str:
    """Give the id of the lifecycle run that a version was made in."""
    with answering(stores):
        return str(client(stores).get_run(version.run_id).data.tags["mlflow.parentRunId"])


def kept_heads(stores: Stores, name: str) -> tuple[str, ...]:
    """Give the ledger heads that were written on versions when they were crowned: outside the ledger's own table."""
    tags = (known.get("holdfast.ledger_head") for _, known, _ in list_versions(stores, name))
    return tuple(dict.fromkeys(head for head in tags if head))


def version_tags(stores: Stores, version: ModelVersion) -> dict[str, str]:
    """Give the tags of a version."""
    with answering(stores):
        return dict(client(stores).get_model_version(version.name, str(version.version)).tags)


def finding_tags(stores: Stores, version: ModelVersion) -> dict[str, str]:
    """Give the keys of all findings about a version, by scenario path and role; of two, the later run's."""
    with answering(stores):
        tracker = client(stores)
        run = tracker.get_run(version.run_id)
        parent = run.data.tags.get("mlflow.parentRunId", "")
        own = f"tags.`mlflow.parentRunId` = '{parent}' and tags.`holdfast.version` = '{version.version}'"
        siblings = tracker.search_runs([run.info.experiment_id], own, order_by=["attributes.start_time ASC"])
        tags = {name: key for sibling in siblings for name, key in sibling.data.tags.items()}
        return {
            name.removeprefix("finding."): key
            for name, key in tags.items()
            if name.startswith("finding.") and not name.startswith("finding.champion/")
        }


def read_report(stores: Stores, version: ModelVersion) -> str:
    """Fetch the page of a version from the parent of the run that trained it.

    Raises:
        StoreError: tracking does not answer, or holds no page.
    """
    with answering(stores):
        parent = client(stores).get_run(version.run_id).data.tags["mlflow.parentRunId"]
        with tempfile.TemporaryDirectory() as scratch:
            url = stores.tracking.get_secret_value()
            path = mlflow.artifacts.download_artifacts(
                run_id=parent, artifact_path="report.html", dst_path=scratch, tracking_uri=url
            )
            return Path(path).read_text()


def tag_version(stores: Stores, version: ModelVersion, tags: dict[str, str]) -> None:
    """Set tags on a version."""
    with answering(stores):
        for name, value in tags.items():
            client(stores).set_model_version_tag(version.name, str(version.version), name, value)


def fetch_model(stores: Stores, version: ModelVersion) -> Path:
    """Bring a version's two files to the local store and give their folder; whoever loads them verifies the bytes."""
    if not re.fullmatch("[0-9a-f]{64}", version.digest):
        raise StoreError(
            f"{version.name} version {version.version}", found="a digest that is none", expected="64 hex digits",
            remedy="Somebody changed the version's tags in the registry: run `holdfast audit`.",
        )  # fmt: skip
    target = stores.models / version.digest
    if (target / "spec.json").exists() and (target / "model.safetensors").exists():
        return target
    with answering(stores), tempfile.TemporaryDirectory() as scratch:
        fetched = mlflow.artifacts.download_artifacts(
            artifact_uri=version.source, dst_path=scratch, tracking_uri=stores.tracking.get_secret_value()
        )
        data = next(path.parent for path in Path(fetched).rglob("model.safetensors"))
        target.mkdir(parents=True, exist_ok=True)
        for name in ("model.safetensors", "spec.json"):
            part = target / f".{name}.part"
            part.write_bytes((data / name).read_bytes())
            part.replace(target / name)
    return target


class MlflowProjection:
    """The champion alias, as the saga sees it: something to write and to read back."""

    def __init__(self, stores: Stores) -> None:
        self.stores = stores

    def read(self, model: str) -> int | None:
        """Read which version the alias names; None only when the registry answers that it names none."""
        with answering(self.stores):
            try:
                return int(client(self.stores).get_model_version_by_alias(model, ALIAS).version)
            except MlflowException as error:
                # A missing alias has the code of any wrong argument: only the text tells them apart.
                if _code(error) == "INVALID_PARAMETER_VALUE" and f"alias {ALIAS} not found" in str(error):
                    return None
                raise

    def write(self, model: str, version: int | None) -> None:
        """Let the alias name a version, or nothing."""
        with answering(self.stores):
            if version is None:
                client(self.stores).delete_registered_model_alias(model, ALIAS)
            else:
                client(self.stores).set_registered_model_alias(model, ALIAS, str(version))


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
