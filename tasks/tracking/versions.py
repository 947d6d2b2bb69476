"""Versions: registered models with their lineage, and the champion alias as the ledger's projection."""

from __future__ import annotations

import re
import tempfile
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
from mlflow.entities import LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

import holdfast
from holdfast.errors import StoreError
from holdfast.factory import factory_sources
from holdfast.model import SPEC, WEIGHTS
from holdfast.results import ModelVersion
from holdfast.stores import write_atomically
from tasks.tracking.connection import answering, client, code_of, paged
from tasks.tracking.runs import experiment, read_text

if TYPE_CHECKING:
    from collections.abc import Collection

    from holdfast.model import ModelSpec
    from holdfast.stores import Stores

ALIAS = "champion"
PAGE = 1000
"""Versions that are asked for at a time."""
_ABSENT = {ErrorCode.Name(RESOURCE_DOES_NOT_EXIST)}


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
            if code_of(error) in _ABSENT:
                return None
            raise


def list_versions(stores: Stores, name: str) -> list[tuple[ModelVersion, dict[str, str], datetime]]:
    """List every version with its tags and when it was made, oldest first."""
    with answering(stores):
        found = paged(partial(client(stores).search_model_versions, f"name = '{name}'", max_results=PAGE))
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
    """Give the digests of all findings about a version, by scenario path and role; of two, the later run's."""
    with answering(stores):
        tracker = client(stores)
        run = tracker.get_run(version.run_id)
        parent = run.data.tags.get("mlflow.parentRunId", "")
        own = f"tags.`mlflow.parentRunId` = '{parent}' and tags.`holdfast.version` = '{version.version}'"
        order = ["attributes.start_time ASC"]
        siblings = paged(partial(tracker.search_runs, [run.info.experiment_id], own, order_by=order))
        tags = {name: digest for sibling in siblings for name, digest in sibling.data.tags.items()}
        return {
            name.removeprefix("finding."): digest
            for name, digest in tags.items()
            if name.startswith("finding.") and not name.startswith("finding.champion/")
        }


def read_findings(stores: Stores, version: ModelVersion, name: str, digests: Collection[str]) -> tuple[str, ...]:
    """Give the JSON of findings about a version by ``path.role``, as far as the runs that made them name these digests.

    Raises:
        StoreError: tracking does not answer.
    """
    if not digests:
        return ()
    with answering(stores):
        tracker = client(stores)
        run = tracker.get_run(version.run_id)
        parent = run.data.tags.get("mlflow.parentRunId", "")
        own = f"tags.`mlflow.parentRunId` = '{parent}' and tags.`holdfast.version` = '{version.version}'"
        siblings = list(paged(partial(tracker.search_runs, [run.info.experiment_id], own)))
    told = {str(each.info.run_id): each.data.tags.get(f"finding.{name}") for each in siblings}
    files = {run_id: f"findings/{name}.{digest[:16]}.json" for run_id, digest in told.items() if digest in digests}
    texts = (read_text(stores, run_id, file) for run_id, file in files.items())
    return tuple(text for text in texts if text is not None)


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
    """Bring a version's two files to the local store and give their folder; whoever loads them verifies the bytes.

    Raises:
        StoreError: tracking does not answer, or what it holds of the version is no model.
    """
    if not re.fullmatch("[0-9a-f]{64}", version.digest):
        raise StoreError(
            f"{version.name} version {version.version}", found="a digest that is none", expected="64 hex digits",
            remedy="Somebody changed the version's tags in the registry: run `holdfast audit`.",
        )  # fmt: skip
    target = stores.models / version.digest
    if (target / SPEC).exists() and (target / WEIGHTS).exists():
        return target
    with answering(stores), tempfile.TemporaryDirectory() as scratch:
        fetched = mlflow.artifacts.download_artifacts(
            artifact_uri=version.source, dst_path=scratch, tracking_uri=stores.tracking.get_secret_value()
        )
        folders = (path.parent for path in Path(fetched).rglob(WEIGHTS))
        data = next((folder for folder in folders if (folder / SPEC).exists()), None)
        if data is None:
            raise StoreError(
                f"{version.name} version {version.version}, {version.source}",
                found=f"no {WEIGHTS} with its {SPEC} in the artefact", expected="the two files of a registered model",
                remedy="Restore the artefact from a backup, or roll back with `holdfast promote`.",
            )  # fmt: skip
        for name in (WEIGHTS, SPEC):  # two scenarios at once may ask for one version
            write_atomically(target / name, (data / name).read_bytes())
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
                if code_of(error) == "INVALID_PARAMETER_VALUE" and f"alias {ALIAS} not found" in str(error):
                    return None
                raise

    def write(self, model: str, version: int | None) -> None:
        """Let the alias name a version, or nothing."""
        with answering(self.stores):
            if version is None:
                client(self.stores).delete_registered_model_alias(model, ALIAS)
            else:
                client(self.stores).set_registered_model_alias(model, ALIAS, str(version))
