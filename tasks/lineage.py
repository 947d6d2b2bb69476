"""What made a version: composed once at its registration, kept in the ledger, read by all who judge or show it."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from holdfast.digests import library_digest, library_versions
from holdfast.training.workshop import recipe_digest
from tasks.recovery import open_ledger

if TYPE_CHECKING:
    from holdfast.data.source import RowsSeen
    from holdfast.model import ModelSpec
    from holdfast.params import Params
    from holdfast.recovery.ledger import ChampionHead
    from holdfast.results import DataSnapshot, Json, ModelVersion
    from holdfast.stores import Stores

PARAM_SECTIONS = ("name", "seed", "metric", "data", "integrity", "model", "training", "evaluation", "recovery")


PARAMS_FILE = "params.json"
"""The complete validated params of a version, an artefact of its training run: names of secrets, never secrets."""


def params_text(params: Params) -> str:
    """Write the complete validated params as JSON, in their own order: checks run in that of the file."""
    return json.dumps(params.model_dump(mode="json"), indent=1) + "\n"


def compose(
    params: Params,
    snapshot: DataSnapshot,
    spec: ModelSpec,
    key: str,
    seen: RowsSeen,
    parent: ChampionHead | None,
    former: ModelVersion | None = None,
) -> Json:
    """Say from what a version is made: data, params, recipe, model, code, rows that it learned from, and its parent.

    Args:
        params: those that it was trained with.
        snapshot: the data that it was trained on.
        spec: of the trained model.
        key: of the training.
        seen: rows that it learned from.
        parent: champion at the time; None where there was none.
        former: version whose weights the training began from; None where it began afresh.
    """
    recipe = params.recipe()
    return {
        "data": snapshot.model_dump(mode="json"), "key": key, "params": params.section_digest(*PARAM_SECTIONS),
        "seed": params.seed, "recipe": params.training.recipe, "recipe_settings": recipe.model_dump(mode="json"),
        "recipe_digest": recipe_digest(recipe, spec, former.digest if former else ""),
        "factory": spec.factory, "factory_settings": spec.settings,
        "code": spec.code, "rows_seen": seen.fingerprint(), "revision": snapshot.revision,
        "library": library_digest(), "versions": library_versions(),
        "parent": None if parent is None else {"version": parent.version, "digest": parent.digest},
        "started_from": None if former is None else {"version": former.version, "digest": former.digest},
        "params_file": PARAMS_FILE, "params_sha256": hashlib.sha256(params_text(params).encode()).hexdigest(),
    }  # fmt: skip


def registered(stores: Stores, version: ModelVersion) -> Json:
    """Give what made a version, as the ledger recorded it at registration; empty where the ledger has no record of it.

    Raises:
        StoreError: the ledger does not answer.
    """
    with open_ledger(stores).reading() as view:
        entries = list(view.entries(model=version.name, version=version.version, kinds=("registered",)))
    return dict(entries[0].body["lineage"]) if entries else {}
