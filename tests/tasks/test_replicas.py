"""Replicas: what is spoilt of one copy is found by the ledger's digest and restored byte for byte from the other."""

from __future__ import annotations

import shutil
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from holdfast.errors import HoldfastError, ModelError, StoreError
from holdfast.model import WEIGHTS, ModelSpec, save_model
from holdfast.recovery.promotion import promote
from holdfast.recovery.promotion import register as record
from holdfast.results import Decision, Json, ModelVersion
from holdfast.space import Feature, Table
from holdfast.stores import Stores
from tasks import audit, doctor, recovery, replicas, tracking
from tasks.tracking import versions

if TYPE_CHECKING:
    from pathlib import Path

PARAMS: Any = SimpleNamespace(
    name="people",
    evaluation=SimpleNamespace(uses=SimpleNamespace(run="standard")),
    pack_digest=lambda pack: f"of {pack}",
)
SPEC = ModelSpec(
    factory="holdfast.networks:mlp", settings={"width": 4}, classes=("no", "yes"),
    space=Table(features=(Feature(name="age", kind="number", median=40, iqr=10),)),
)  # fmt: skip


def _crowned(stores: Stores, number: int, part: Path) -> ModelVersion:
    """Train, register and promote a version, as far as its bytes go."""
    digest = save_model(part, SPEC.build(seed=number), SPEC)
    folder, ledger = part.rename(stores.models / digest), recovery.open_ledger(stores)
    run = tracking.open_run(stores, "people", f"k{number}", title="training")
    version = tracking.register(stores, "people", folder, SPEC, run, f"k{number}", digest)
    record(ledger, version, who="t", lineage={})
    head = ledger.head("people")
    decision = Decision(action="promote", reasons=(), candidate=version, champion=head and head.reference())
    promote(ledger, tracking.MlflowProjection(stores), decision, expected=head and head.promotion, who="t", why="w")
    return version


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Stores in which version 2 reigns after version 1, each with both of its copies; put back before each test."""
    root = tmp_path_factory.mktemp("stores")
    stores = Stores.local(root, root / "state", actor="alice")
    tracking.prepare(stores, "people")
    stores.models.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(versions, "_code_paths", lambda _: [])  # hundreds of files that are fetched with each copy
        made = [_crowned(stores, number, root / "part") for number in (1, 2)]
    shutil.copytree(stores.root, root / "kept")
    return SimpleNamespace(stores=stores, versions=made, kept=root / "kept")


@pytest.fixture
def world(template: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Those stores as they were at first, the two files of each copy, and what people are told."""
    stores, told = template.stores, []
    for place in (stores.models, stores.artifacts):
        shutil.rmtree(place)
        shutil.copytree(template.kept / place.relative_to(stores.root), place)
    monkeypatch.setattr(replicas, "announce", lambda _, decision: told.append(decision))

    def weights(number: int, where: str) -> Path:
        version = template.versions[number - 1]
        if where == "local":
            return stores.models / version.digest / WEIGHTS
        (found,) = (stores.artifacts / "models" / version.source.rsplit("/", 1)[-1]).rglob(WEIGHTS)
        return found

    before = entries(stores)
    return SimpleNamespace(
        stores=stores, versions=template.versions, weights=weights, told=told, since=lambda: entries(stores)[len(before):]
    )  # fmt: skip


def entries(stores: Stores) -> list[tuple[str, str, Json]]:
    with recovery.open_ledger(stores).reading() as view:
        return [(entry.kind, entry.who, entry.body) for entry in view.entries()]


def spoil(path: Path) -> bytes:
    """Change one byte of a file, and give what it was."""
    kept = path.read_bytes()
    path.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    return kept


def examined(world: Any) -> list[tuple[int, bool, bool | None]]:
    found = replicas.examined(PARAMS, world.stores, recovery.open_ledger(world.stores))
    return [(copies.version.version, copies.registry, copies.local) for copies in found]


@pytest.mark.parametrize("number", [2, 1])
@pytest.mark.parametrize(
    ("where", "words"),
    [("registry", "the registry's copy was spoilt, and was restored from the local one"),
     ("local", "the local copy was spoilt, and was restored from the registry's")],
)  # fmt: skip
def test_a_spoilt_copy_is_restored_byte_for_byte_from_the_other(
    world: Any, where: str, words: str, number: int
) -> None:
    """Of the champion and of the version behind it, in a named person's or service's name; whole again, nothing is done."""
    path = world.weights(number, where)
    kept = spoil(path)
    assert (number, where == "local", where == "registry") in examined(world)
    (said,) = replicas.mend_copies.fn(PARAMS, world.stores)
    assert words in said
    assert path.read_bytes() == kept
    ((kind, who, body),) = world.since()
    assert (kind, who, body) == (
        "run", "alice", {"about": "replica", "digest": world.versions[number - 1].digest, "outcome": said}
    )  # fmt: skip
    assert replicas.mend_copies.fn(PARAMS, world.stores) == ()  # for both are whole again
    assert (len(world.since()), world.told) == (1, [])


def test_a_file_that_is_gone_and_one_that_was_laid_beside_are_made_good(world: Any) -> None:
    """Wherever the registry is read from after that, it is the version's bytes."""
    lost = world.weights(2, "registry")
    kept = lost.read_bytes()
    top = next(path for path in lost.parents if (path / "MLmodel").exists())
    lost.unlink()
    (top / "aside").mkdir()
    for decoy in (top / WEIGHTS, top / "aside" / WEIGHTS):
        decoy.write_bytes(b"other weights")
    replicas.mend_copies.fn(PARAMS, world.stores)
    assert {path.read_bytes() for path in top.rglob(WEIGHTS)} == {kept}
    assert examined(world)[0] == (2, True, True)
    shutil.rmtree(top)
    replicas.mend_copies.fn(PARAMS, world.stores)
    assert world.weights(2, "registry").read_bytes() == kept


@pytest.mark.parametrize("number", [2, 1])
def test_where_neither_copy_verifies_nothing_is_restored_and_a_person_is_told(world: Any, number: int) -> None:
    """Both are left as they lie; without a champion that verifies nothing goes on, without one behind it the night does."""
    paths = [world.weights(number, where) for where in ("registry", "local")]
    for path in paths:
        spoil(path)
    lying = [path.read_bytes() for path in paths]
    if number == 2:
        with pytest.raises(ModelError, match="expected a copy of the champion that verifies"):
            replicas.mend_copies.fn(PARAMS, world.stores)
    else:
        assert replicas.mend_copies.fn(PARAMS, world.stores) == ()
    assert [path.read_bytes() for path in paths] == lying
    ((kind, _, body),) = world.since()
    assert (kind, body["action"]) == ("decision", "alert")
    assert "nothing was restored" in body["reasons"][0]["text"]
    assert [decision.action for decision in world.told] == ["alert"]


def test_an_artefact_of_another_run_is_never_written_to(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where somebody changed a version's source, its bytes do not go over those of another version."""
    first, second = world.versions
    kept = world.weights(1, "registry").read_bytes()
    changed = second.model_copy(update={"source": first.source})
    monkeypatch.setattr(tracking, "get_version", lambda *asked: changed if asked[2] == 2 else first)
    assert replicas.mend_copies.fn(PARAMS, world.stores) == ()
    assert world.weights(1, "registry").read_bytes() == kept
    assert [decision.action for decision in world.told] == ["alert"]


def test_an_outage_says_nothing_about_a_copy(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that is silent is not spoilt: nothing is written, nobody is alarmed."""

    def silent(*_: object) -> None:
        raise StoreError("MLflow", found="no answer", expected="one", remedy="Start it.")

    monkeypatch.setattr(tracking, "get_version", silent)
    with pytest.raises(StoreError, match="no answer"):
        replicas.mend_copies.fn(PARAMS, world.stores)
    assert (world.since(), world.told) == ([], [])


def test_a_version_that_is_not_here_yet_is_fetched_and_no_damage(world: Any) -> None:
    """It is the replica that the registry can be restored from one day."""
    folder = world.weights(1, "local").parent
    shutil.rmtree(folder)
    assert doctor._copies(PARAMS, world.stores).endswith("the local one is not there yet")
    assert replicas.mend_copies.fn(PARAMS, world.stores) == ()
    assert (examined(world)[1], world.since()) == ((1, True, True), [])


def test_the_doctor_tells_of_a_spoilt_copy_and_changes_nothing(world: Any) -> None:
    """Its remedy is the audit's repair, which restores the copy; what it cannot restore it calls a problem."""
    assert "version 2: the registry's copy verifies, the local one verifies" in doctor._copies(PARAMS, world.stores)
    path = world.weights(2, "registry")
    kept = spoil(path)
    with pytest.raises(HoldfastError, match="the registry's copy is spoilt or gone") as caught:
        doctor._copies(PARAMS, world.stores)
    assert "holdfast audit --repair" in caught.value.remedy
    assert (path.read_bytes() != kept, world.since()) == (True, [])
    assert audit.answer(PARAMS, world.stores).restored == ()
    assert path.read_bytes() != kept
    (said,) = audit.answer(PARAMS, world.stores, repair="the disk was mended").restored
    assert said.startswith("version 2: the registry's copy was spoilt")
    assert path.read_bytes() == kept
    for where in ("registry", "local"):
        spoil(world.weights(1, where))
    again = audit.answer(PARAMS, world.stores, repair="again")
    assert again.restored == ()
    assert (
        "version 1: the registry's copy is spoilt or gone, the local one is spoilt: nothing was restored"
        in again.problems
    )
