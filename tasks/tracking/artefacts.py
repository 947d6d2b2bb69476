"""Artefacts: whether the store that keeps a version's files still has them, which no silent store says; put back."""

from __future__ import annotations

from itertools import product
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from holdfast.errors import StoreError
from tasks.tracking.connection import answering, client, code_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow.store.artifact.artifact_repo import ArtifactRepository

    from holdfast.results import ModelVersion
    from holdfast.stores import Stores

_FILES = {"model.safetensors", "spec.json"}
_CODE = "code"  # many folders, none of which holds weights


def holds_weights(stores: Stores, version: ModelVersion) -> bool:
    """Tell whether a version's artefact has its two files in one folder; False only when registry and store answered.

    Raises:
        StoreError: one of them does not answer, or the folder of all artefacts is gone, as that of a disk that is not
            mounted: that is no answer about one of them.
    """
    with answering(stores):
        client(stores)  # MLflow finds the logged model through the store that it was last pointed at
        try:
            repository = get_artifact_repository(version.source, tracking_uri=stores.tracking.get_secret_value())
            top = _local_top(repository)
            if top is None or top.is_dir():
                files = set(map(PurePosixPath, _files(repository)))
                return any({path.with_name(name) for name in _FILES} <= files for path in files)
        except MlflowException as error:
            if code_of(error) == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
                return False
            raise
    raise StoreError(
        str(top), found="no such folder", expected="the folder that holds every model's artefact",
        remedy="Mount or restore it; where it is lost for good, make it empty: what was in flight is undone then.",
    )  # fmt: skip


def write_back(stores: Stores, version: ModelVersion, folder: Path) -> bool:
    """Put a version's two files in the place of those that its artefact has, wherever either of them lies.

    Returns:
        Whether that could be done: not where the registry has no artefact of the version, or names another run's.

    Raises:
        StoreError: registry or artefact store do not answer, or take no file.
    """
    ident = version.source.rsplit("/", 1)[-1]
    with answering(stores):
        tracker = client(stores)
        try:
            made_by = tracker.get_logged_model(ident).source_run_id
        except MlflowException as error:
            if code_of(error) == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
                return False
            raise
        if made_by != version.run_id:  # somebody changed the version's source: these files are another version's
            return False
        repository = get_artifact_repository(version.source, tracking_uri=stores.tracking.get_secret_value())
        files = map(PurePosixPath, _files(repository))
        places = {path.parent for path in files if path.name in _FILES} or {PurePosixPath("data", folder.name)}
        for place, name in product(sorted(places), sorted(_FILES)):
            tracker.log_model_artifact(ident, str(folder / name), artifact_path=str(place) if place.name else None)
        return True


def _local_top(repository: ArtifactRepository) -> Path | None:
    """Give the folder of all models' artefacts, ``models/<id>/artifacts`` being one; None where it is not local."""
    own = getattr(repository, "repo", repository)
    return Path(own.artifact_dir).parents[1] if isinstance(own, LocalArtifactRepository) else None


def _files(repository: ArtifactRepository, folder: str | None = None) -> Iterator[str]:
    for entry in repository.list_artifacts(folder):
        if not entry.is_dir:
            yield entry.path
        elif entry.path != _CODE:
            yield from _files(repository, entry.path)
