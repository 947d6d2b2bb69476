"""The sandbox: a world of its own for drills, with copies of champion and data, and nothing of production."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from prefect import task
from prefect.cache_policies import NO_CACHE

from holdfast.data.source import RowsSeen
from holdfast.digests import canonical, digest_json, digest_sources, library_digest
from holdfast.errors import ModelError
from holdfast.factory import factory_packages
from holdfast.model import load_model
from holdfast.params import DrillParams, Params
from holdfast.recovery.promotion import promote, register
from holdfast.registry import code_of
from holdfast.results import DataSnapshot, Decision, ModelVersion, Reason
from holdfast.stores import Stores, write_atomically
from tasks import objects, tracking
from tasks.heldout import keep_rows_seen, rows_seen
from tasks.lineage import PARAMS_FILE, params_text, registered
from tasks.progress import tell
from tasks.recovery import open_ledger, record_decision, show_champion
from tasks.storage import read_manifest
from tasks.versioning import DATA, PIN

if TYPE_CHECKING:
    from holdfast.data.admission import Manifest
    from holdfast.results import Json

ACTOR = "drill"
_READY = "ready"
_UNSEEN = 2
"""Places below 0 that the champion's own windows keep free: -1 stands for pinned rows."""


@task(cache_policy=NO_CACHE)
def pack(params: Params, stores: Stores, snapshot: DataSnapshot, champion: ModelVersion) -> Path:
    """Copy what drills need of production, once for a champion, its data and these params, and give the folder.

    Production is read and never written, but for this folder.

    Raises:
        ModelError: the ledger does not say what the champion was made from.
    """
    params = params.model_copy(update={"drills": DrillParams()})  # another incident needs no other sandbox
    key = digest_json([champion.digest, snapshot.content, params.fingerprint(), loop_digest(), *_theirs(params)])[:16]
    folder = stores.root / "drills" / key
    if (folder / _READY).exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    tell("drills", f"sandbox {key}: copying version {champion.version} and its data")
    project = folder / "project"
    (project / ".dvc").mkdir(parents=True)
    shutil.copyfile(stores.project / PIN, project / PIN)
    (project / ".dvc" / "config").write_text("")  # no remote: what a drill makes stays in its own cache
    shutil.copytree(stores.project / DATA, project / DATA)
    shutil.copytree(tracking.fetch_model(stores, champion), folder / "model")
    if stores.quarantine.exists():
        shutil.copytree(stores.quarantine, folder / "quarantine")
    lineage = registered(stores, champion)
    if "data" not in lineage:
        raise ModelError(
            f"{champion.name} version {champion.version}", found="no record of what it was made from",
            expected="its lineage in the ledger", remedy="Retrain it; `holdfast audit` says what is on record.",
        )  # fmt: skip
    bundle = {
        "version": champion.version, "digest": champion.digest, "lineage": _moved(stores, project, lineage),
        "rows_seen": rows_seen(stores, champion).model_dump(mode="json"),
    }  # fmt: skip
    write_atomically(folder / "bundle.json", json.dumps(bundle))
    write_atomically(folder / "params.json", params.model_dump_json())
    write_atomically(folder / _READY, "")
    return folder


@cache
def loop_digest() -> str:
    """Name the loop itself, library, tasks and flows: a drill measures how they respond."""
    above = Path(__file__).parents[1]
    return digest_json([library_digest(), *(digest_sources(above / floor) for floor in ("tasks", "flows"))])


def _theirs(params: Params) -> list[str]:
    """Name the source of what in the loop is not Holdfast's own, and the packages that the network is built with."""
    scenarios = params.scenarios(params.evaluation.uses.gate).values()
    recipes = (params.recipe(), params.retrained().recipe())
    parts = (*params.checks(), *recipes, *params.panel().detectors.values(), *scenarios)
    return [*(code_of(type(part)) for part in parts), canonical(factory_packages(params.model.factory))]


def _moved(stores: Stores, project: Path, lineage: Json) -> Json:
    """Give a lineage for another stream: no parent, and the windows that it learned from lie before the first."""
    data = DataSnapshot.model_validate(lineage["data"])
    if data.manifest:
        manifest = read_manifest(stores.project, data.manifest)
        for md5 in manifest.objects():
            objects.keep(project, objects.read(stores.project, md5))
        data = data.model_copy(update={"manifest": objects.keep(project, _before(manifest).encode())})
    return {**lineage, "data": data.model_dump(mode="json"), "parent": None}


def _before(manifest: Manifest) -> str:
    shift = max(window.position for window in manifest.windows) + _UNSEEN
    windows = tuple(w.model_copy(update={"position": w.position - shift}) for w in manifest.windows)
    recent = tuple(place - shift for place in manifest.recent)
    return manifest.model_copy(update={"windows": windows, "recent": recent}).model_dump_json()


def template(folder: Path, params: Params) -> Stores:
    """Give the stores that every arm begins with a copy of: one champion, registered and crowned."""
    root = folder / "template"
    stores = Stores.local(folder / "project", root, actor=ACTOR)
    if (root / _READY).exists():
        return stores
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    if (folder / "quarantine").exists():
        shutil.copytree(folder / "quarantine", stores.quarantine)
    bundle = json.loads((folder / "bundle.json").read_text())
    digest = str(bundle["digest"])
    shutil.copytree(folder / "model", stores.models / digest)
    _crown(params, stores, digest, bundle)
    return stores


def ready(stores: Stores) -> None:
    """Mark a template as whole, once all that its first watch computes is in it."""
    write_atomically(stores.root / _READY, "")


def is_ready(stores: Stores) -> bool:
    """Tell whether a template is whole."""
    return (stores.root / _READY).exists()


def _crown(params: Params, stores: Stores, digest: str, bundle: Json) -> None:
    """Register the copy as version 1 of the sandbox, and let it reign."""
    tracking.prepare(stores, params.name)
    spec = load_model(stores.models / digest, digest).spec
    lineage, key = bundle["lineage"], str(bundle["lineage"]["key"])
    parent = tracking.open_run(stores, params.name, f"lifecycle:{key}", title="lifecycle")
    run = tracking.open_run(stores, params.name, f"training:{key}", title="training", parent=parent)
    keep_rows_seen(stores, run, RowsSeen.model_validate(bundle["rows_seen"]))
    tracking.log_text(stores, run, PARAMS_FILE, params_text(params))
    version = tracking.register(stores, params.name, stores.models / digest, spec, run, key, digest)
    ledger = open_ledger(stores)
    register(ledger, version, who=ACTOR, lineage=lineage)
    told = f"a copy of version {bundle['version']}, for drills"
    decision = Decision(action="promote", candidate=version, reasons=(Reason(about="drill", passed=True, text=told),))
    record_decision(params, stores, decision)
    promote(ledger, tracking.MlflowProjection(stores), decision, expected=None, who=ACTOR, why=told)
    show_champion(stores, ledger, params.name)
    for each in (run, parent):
        tracking.close_run(stores, each)


def copy_of(origin: Stores, place: Path) -> Stores:
    """Begin an arm: the template's stores copied to a place of their own.

    The registry's artefacts stay where the template has them: arms add to them, and read the champion's. What others
    who read the template's databases meanwhile lay beside these comes and goes, and holds nothing.
    """
    shutil.rmtree(place, ignore_errors=True)
    skipped = shutil.ignore_patterns("artifacts", _READY, "*.db-wal", "*.db-shm", "*.db-journal", ".part-*")
    shutil.copytree(origin.root, place / "state", ignore=skipped)
    return Stores.local(origin.project, place / "state", actor=ACTOR)


def unreachable(stores: Stores) -> Stores:
    """Give the same stores with a registry that does not answer: a port of this machine that nobody listens on."""
    from pydantic import SecretStr  # noqa: PLC0415  beside its one use

    return stores.model_copy(update={"tracking": SecretStr("http://127.0.0.1:9")})
