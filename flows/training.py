"""Training: a candidate from validated data, by the recipe that params name."""

from __future__ import annotations

from prefect import flow

from holdfast.params import Params
from holdfast.results import DataSnapshot, ModelVersion
from holdfast.stores import Stores
from tasks.training import TrainedModel, log_training, register, train


@flow(name="training")
def training(
    params: Params, stores: Stores, snapshot: DataSnapshot, run_id: str, former: ModelVersion | None = None
) -> tuple[ModelVersion, TrainedModel]:
    """Train, or take what was trained from the same data by the same code, and register it once."""
    trained = train(params, stores, snapshot, former)
    version = register(params, stores, snapshot, trained, run_id, former)
    log_training(stores, trained, run_id)
    return version, trained
