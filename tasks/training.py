"""Training: fit by the recipe, save without pickle, register once."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import torch
from prefect import task
from prefect.cache_policies import NO_CACHE

from holdfast.digests import canonical, work_key
from holdfast.errors import ModelError
from holdfast.factory import check_factory, factory_digest, factory_packages
from holdfast.model import ModelSpec, load_model, pick_device, save_model
from holdfast.params import Params
from holdfast.recovery.promotion import register as record_version
from holdfast.registry import code_of
from holdfast.results import DataSnapshot, Decision, ModelVersion, Value
from holdfast.stores import Stores
from holdfast.training.loop import EpochReport, fit
from holdfast.training.warm_start import Former, inherit
from tasks import tracking
from tasks.heldout import keep_rows_seen, rows_seen
from tasks.lineage import PARAMS_FILE, compose, params_text
from tasks.progress import tell
from tasks.recovery import find_version, open_ledger
from tasks.storage import load_data

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from holdfast.data.source import Loaded


class TrainedModel(Value):
    """A finished training, by reference."""

    digest: str
    key: str
    history: tuple[EpochReport, ...]
    best_epoch: int
    stopped_early: bool


def training_key(params: Params, snapshot: DataSnapshot, former: ModelVersion | None = None) -> str:
    """Name a training: what it reads of the params, the data and its roles, the user's module, the seed.

    With the digest of the weights that it begins from, where it does not begin afresh.
    """
    return work_key(
        "training",
        params.section_digest("name", "data", "model", "training", "device"),
        snapshot.content,
        factory_digest(params.model.factory),
        canonical(factory_packages(params.model.factory)),
        code_of(type(params.recipe())),
        pick_device(params.device).type,
        *([former.digest] if former else []),
        seed=params.seed,
    )


def require_model(params: Params) -> None:
    """Refuse a factory that cannot be called as params say, before any work.

    Raises:
        ModelError: it cannot be imported, or takes other settings.
    """
    check_factory(params.model.factory, params.model.settings)


@task(cache_policy=NO_CACHE)
def starting_point(params: Params, stores: Stores, decision: Decision) -> ModelVersion | None:
    """Give the version whose weights a retraining begins from, by the ledger's digest; None where it begins afresh.

    It is the champion that the decision is about, whoever serves by now: a retraining that was cut off after its
    candidate was crowned must not begin from that.

    Raises:
        ModelError: the decision is about none, or the ledger has other bytes for it.
        StoreError: there is no such version any more.
    """
    if not params.goes_on:
        return None
    champion = decision.champion
    if champion is None:
        raise ModelError(
            "recovery.retraining", found="a decision about no champion", expected="one to begin from",
            remedy="Set recovery.retraining to begin afresh.",
        )  # fmt: skip
    found = find_version.fn(params, stores, champion.version)
    if found.digest != champion.digest:
        raise ModelError(
            f"{found.name} version {found.version}", found=f"digest {found.digest[:16]} in the ledger",
            expected=f"{champion.digest[:16]}, as was decided on", remedy="`holdfast audit` says what was recorded.",
        )  # fmt: skip
    return found


@task(task_run_name="train {params.training.recipe}", cache_policy=NO_CACHE)
def train(params: Params, stores: Stores, snapshot: DataSnapshot, former: ModelVersion | None = None) -> TrainedModel:
    """Fit the user's model by the recipe, from a former version's weights where given; a killed one goes on."""
    key = training_key(params, snapshot, former)
    if (known := stores.results.get(key, TrainedModel)) is not None and (stores.models / known.digest).exists():
        tell("training", f"reused: digest {known.digest[:16]}, same data, recipe, code and seed")
        return known
    data = load_data(stores, params, snapshot)
    spec = ModelSpec(
        factory=params.model.factory, settings=params.model.settings, space=data.space, classes=data.classes,
        code=factory_digest(params.model.factory),
    )  # fmt: skip
    recipe, start = params.recipe(), None
    if former is not None:
        start = _former(stores, data, former, spec, pick_device(params.device))
        spec = start.target.spec
        tell("training", f"from version {former.version}, digest {former.digest[:16]}")
    if params.data.kind == "table":
        torch.set_num_threads(1)  # small products: a second thread costs more than it brings
    trained = fit(
        recipe, spec, data.samples("train", space=spec.space), data.samples("validation", space=spec.space),
        seed=params.seed, device=pick_device(params.device), former=start, checkpoints=stores.checkpoints / key,
        progress=lambda report: _tell(report, recipe.epochs),
    )  # fmt: skip
    digest = _keep(stores.models, trained.module, spec, key)
    result = TrainedModel(
        digest=digest, key=key, history=trained.history, best_epoch=trained.best_epoch,
        stopped_early=trained.stopped_early,
    )  # fmt: skip
    stores.results.put(key, result)
    shutil.rmtree(stores.checkpoints / key, ignore_errors=True)
    return result


def _former(stores: Stores, data: Loaded, version: ModelVersion, spec: ModelSpec, device: torch.device) -> Former:
    """Load the version that a training goes on from, verified, and tell which of these rows it learned from."""
    champion = load_model(tracking.fetch_model(stores, version), version.digest, device)
    learned = data.ids[data.recognise(rows_seen(stores, version))]
    return Former(target=inherit(champion, spec), learned=torch.from_numpy(learned))


def _tell(report: EpochReport, epochs: int) -> None:
    text = f"epoch {report.epoch}/{epochs}  loss {report.loss:.4f}  {report.measure} {report.validation.value:.3f}"
    tell("training", f"{text}  {report.seconds:.1f} s", done=report.epoch, total=epochs)


def _keep(folder: Path, module: nn.Module, spec: ModelSpec, key: str) -> str:
    """Save beside, then move into place under its digest: a reader sees a whole model or none."""
    part = folder / f".part-{key[:16]}"
    shutil.rmtree(part, ignore_errors=True)
    digest = save_model(part, module, spec)
    if (folder / digest).exists():
        shutil.rmtree(part)
    else:
        part.rename(folder / digest)
    return digest


@task(retries=2, retry_delay_seconds=1, cache_policy=NO_CACHE)
def register(
    params: Params,
    stores: Stores,
    snapshot: DataSnapshot,
    trained: TrainedModel,
    run_id: str,
    former: ModelVersion | None = None,
) -> ModelVersion:
    """Register the trained model once, verified, with its lineage in MLflow and in the ledger."""
    folder = stores.models / trained.digest
    target = load_model(folder, trained.digest)
    tracking.log_params(stores, run_id, {"recipe": params.training.recipe, **params.recipe().model_dump(mode="json")})
    tracking.log_snapshot(stores, run_id, snapshot, "training")
    seen = load_data(stores, params, snapshot).rows_seen()
    keep_rows_seen(stores, run_id, seen)  # first: a kill leaves no version of which nobody knows what it learned from
    version = tracking.register(stores, params.name, folder, target.spec, run_id, trained.key, trained.digest)
    if version.run_id not in {"", run_id}:
        keep_rows_seen(stores, version.run_id, seen)  # one key, one data: a record that was lost is made good
    ledger = open_ledger(stores)
    with ledger.reading() as view:
        known = view.digest(version.name, version.version) == version.digest
        parent = view.head(version.name)
    if not known:  # a version that is reused keeps the lineage it was made with, whatever params and git say now
        tracking.log_text(stores, version.run_id or run_id, PARAMS_FILE, params_text(params))
        lineage = compose(params, snapshot, target.spec, trained.key, seen, parent, former)
        record_version(ledger, version, who="holdfast", lineage=lineage)
    return version


@task(retries=2, retry_delay_seconds=1, cache_policy=NO_CACHE)
def log_training(stores: Stores, trained: TrainedModel, run_id: str) -> None:
    """Log the training curve."""
    history = [
        {"loss": e.loss, f"validation_{e.measure.replace(' ', '_')}": e.validation.value, "seconds": e.seconds}
        for e in trained.history
    ]
    tracking.log_history(stores, run_id, history)
