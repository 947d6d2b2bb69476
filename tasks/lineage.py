"""What made a version: composed once at its registration, kept in the ledger, read by all who judge or show it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.training.workshop import recipe_digest
from tasks.recovery import open_ledger

if TYPE_CHECKING:
    from holdfast.data.source import RowsSeen
    from holdfast.model import ModelSpec
    from holdfast.params import Params
    from holdfast.results import DataSnapshot, Json, ModelVersion
    from holdfast.stores import Stores

PARAM_SECTIONS = ("name", "seed", "metric", "data", "integrity", "model", "training", "evaluation", "recovery")


def compose(params: Params, snapshot: DataSnapshot, spec: ModelSpec, key: str, seen: RowsSeen) -> Json:
    """Say from what a version is made: data, params, recipe, model, code and the rows that it learned from.

    Args:
        params: those that it was trained with.
        snapshot: the data that it was trained on.
        spec: of the trained model.
        key: of the training.
        seen: rows that it learned from.
    """
    recipe = params.recipe()
    return {
        "data": snapshot.model_dump(mode="json"), "key": key, "params": params.section_digest(*PARAM_SECTIONS),
        "seed": params.seed, "recipe": params.training.recipe, "recipe_settings": recipe.model_dump(mode="json"),
        "recipe_digest": recipe_digest(recipe, spec), "factory": spec.factory, "factory_settings": spec.settings,
        "code": spec.code, "rows_seen": seen.fingerprint(),
    }  # fmt: skip


def registered(stores: Stores, version: ModelVersion) -> Json:
    """Give what made a version, as the ledger recorded it at registration; empty where the ledger has no record of it.

    Raises:
        StoreError: the ledger does not answer.
    """
    with open_ledger(stores).reading() as view:
        entries = view.entries(model=version.name, version=version.version, kinds=("registered",))
        return next((dict(entry.body["lineage"]) for entry in entries), {})
