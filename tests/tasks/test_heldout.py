"""Two versions at the gate: neither is asked about rows that it, or the other, learned from."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from holdfast.data.params import DataParams
from holdfast.data.source import RowsSeen, load
from holdfast.errors import StoreError
from holdfast.model import ModelSpec, save_model
from holdfast.recovery.promotion import register as record_version
from holdfast.results import ModelVersion, PerExample
from holdfast.scenarios.base import choose
from holdfast.scenarios.probes.quality import Quality
from holdfast.stores import Stores
from tasks import evaluation, heldout, tracking
from tasks.heldout import ROWS_SEEN, LeftOut, hold_out, keep_rows_seen, left_out_ids, rows_seen

PARAMS = SimpleNamespace(
    name="people", seed=0, metric="accuracy", costs=None, device="cpu",
    model=SimpleNamespace(factory="holdfast.networks:mlp"),
)  # fmt: skip
SHARES = {"train": 0.6, "validation": 0.1, "gate": 0.2, "test": 0.1}
GREEDY = {"train": 0.92, "validation": 0.02, "gate": 0.03, "test": 0.03}
"""Trains on every row that SHARES gives to the gate."""


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Stores with a registry of their own, prepared once."""
    root = tmp_path_factory.mktemp("stores")
    made = Stores.local(root, root, actor="alice")
    tracking.prepare(made, PARAMS.name)
    return made


@pytest.fixture(scope="module")
def frame():
    """Numbers of which the label follows the first."""
    draw = np.random.default_rng(0)
    table = pd.DataFrame(draw.normal(size=(1500, 3)).round(6), columns=["a", "b", "c"])
    return table.assign(label=np.where(table["a"] > 0, "yes", "no"))


@pytest.fixture
def snapshot(tmp_path, monkeypatch):
    """Give a snapshot by what its params say and its frame; tasks load it as they load any other."""
    held = {}
    for module in (heldout, evaluation):
        monkeypatch.setattr(module, "load_data", lambda _stores, _params, reference: held[reference.content])

    def make(table, roles=SHARES, **said):
        table.to_csv(tmp_path / "people.csv", index=False)
        data = load(tmp_path, DataParams(kind="table", path="people.csv", label="label", roles=roles, **said))
        held[data.digest] = data
        return SimpleNamespace(content=data.digest, revision="none", data=data)

    return make


def version(stores, number, snapshot):
    """Save a model of that snapshot, open its training run, keep what it learned from and record it in the ledger."""
    spec = ModelSpec(factory="holdfast.networks:mlp", space=snapshot.data.space, classes=snapshot.data.classes)
    digest = save_model(stores.models / "part", spec.build(seed=number), spec)
    (stores.models / "part").rename(stores.models / digest)
    run_id = tracking.open_run(stores, PARAMS.name, f"training:{digest}:{number}", title="training")
    seen = snapshot.data.rows_seen()
    keep_rows_seen(stores, run_id, seen)
    made = ModelVersion(name=PARAMS.name, version=number, digest=digest, run_id=run_id)
    return recorded(stores, made, {"rows_seen": seen.fingerprint()})


def recorded(stores, made, lineage):
    """Record a version in the ledger, as its registration does."""
    record_version(heldout.open_ledger(stores), made, who="t", lineage=lineage)
    return made


def asked(stores, snapshot, subject, left_out=None, role="gate"):
    return evaluation.run_scenario.fn(
        "probes/quality", Quality(points=10_000), PARAMS, stores, snapshot, subject, role, left_out
    ).finding


def test_a_change_of_excluded_columns_leaves_no_row_that_the_champion_learned_from(stores, frame, snapshot):
    """Roles follow features: excluding one makes training rows of the champion gate rows, which both then leave out."""
    before = snapshot(frame)
    champion = version(stores, 1, before)
    after = snapshot(frame, exclude=("c",))
    candidate = version(stores, 2, after)
    learned = set(before.data.rows_seen().ids)
    gate = after.data.samples("gate").ids.tolist()
    fresh = [row for row in gate if row not in learned]
    assert 0 < len(fresh) < len(gate) / 2, "most gate rows trained the champion: the leak is there to be mended"

    rows = hold_out.fn(PARAMS, stores, after, candidate, champion)
    assert rows.decision is None
    (told,) = rows.reasons
    assert told.text.startswith(
        f"{len(fresh)} compared; {len(gate) - len(fresh)} left out that the candidate or champion"
    )
    assert set(left_out_ids(stores, rows.left_out)) == set(gate) & learned
    ours, theirs = (asked(stores, after, subject, rows.left_out) for subject in (candidate, champion))
    assert ours.score.n == theirs.score.n == len(fresh)
    assert ours.per_example.points == theirs.per_example.points
    gate_rows = after.data.samples("gate")
    expected = choose(gate_rows.take(torch.isin(gate_rows.ids, torch.tensor(fresh))), 10_000, PARAMS.seed).ids
    assert ours.per_example.points == PerExample.pack(expected, expected > 0, expected * 0).points
    assert {ours.provenance.data, theirs.provenance.data} != {after.content}
    assert ours.provenance.data == theirs.provenance.data
    whole = asked(stores, after, candidate)
    assert (whole.score.n, whole.provenance.data) == (len(gate), after.content)
    assert whole.key != ours.key
    assert asked(stores, after, candidate, rows.left_out) == ours, "answered once: the cache knows what was left out"


def test_equal_roles_leave_nothing_out(stores, frame, snapshot):
    """Where roles are as they were, the gate is whole, and findings keep their names."""
    here = snapshot(frame)
    rows = hold_out.fn(PARAMS, stores, here, version(stores, 3, here), version(stores, 4, here))
    assert (rows.left_out, rows.decision) == (None, None)
    (told,) = rows.reasons
    assert told.text.startswith(f"{here.data.holds('gate').sum()} compared; 0 left out")
    assert left_out_ids(stores, None) == ()


def test_the_first_version_is_held_to_its_own_rows(stores, frame, snapshot):
    """Without a champion the candidate alone says what it learned from."""
    subject = version(stores, 5, snapshot(frame))
    after = snapshot(frame, exclude=("b",))
    found = left_out_ids(stores, hold_out.fn(PARAMS, stores, after, subject, None).left_out)
    assert set(found) == set(after.data.samples("gate").ids.tolist()) & set(rows_seen(stores, subject).ids)


@pytest.mark.parametrize("why", ["a column is gone", "no row is left"])
def test_what_cannot_be_compared_is_blocked_and_recorded(stores, frame, snapshot, why):
    """A champion whose rows cannot be told apart, or that learned from all of them, is replaced by nobody."""
    before = snapshot(frame, roles=GREEDY if why == "no row is left" else SHARES)
    champion = version(stores, 6 if why == "no row is left" else 60, before)
    after = snapshot(frame.drop(columns="c") if why == "a column is gone" else frame)
    candidate = version(stores, 7 if why == "no row is left" else 70, after)
    decision = hold_out.fn(PARAMS, stores, after, candidate, champion).decision
    assert decision.action == "block"
    (reason,) = decision.reasons
    assert ("no column c" if why == "a column is gone" else "none is left") in reason.text
    with heldout.open_ledger(stores).reading() as view:
        bodies = [entry.body for entry in view.entries(model=PARAMS.name, kinds=("decision",))]
    assert decision.model_dump(mode="json") in bodies
    if why == "no row is left":
        assert reason.text.startswith(f"0 compared; {after.data.holds('gate').sum()} left out")


def test_a_version_without_its_record_is_not_compared(stores, frame, snapshot):
    """No record, a malformed one and no training run raise, and say how to mend it."""
    here = snapshot(frame)
    candidate = version(stores, 8, here)
    for text in (None, "not json"):
        run_id = tracking.open_run(stores, PARAMS.name, f"bare {text}", title="training")
        if text:
            tracking.log_text(stores, run_id, ROWS_SEEN, text)
        bare = candidate.model_copy(update={"run_id": run_id})
        for pair in ((bare, candidate), (candidate, bare), (candidate.model_copy(update={"run_id": ""}), candidate)):
            with pytest.raises(StoreError, match="holdfast train"):
                hold_out.fn(PARAMS, stores, here, *pair)


@pytest.mark.parametrize("changed", ["the record", "the run", "nothing, and the ledger has no digest"])
def test_a_record_that_is_not_what_was_registered_is_refused(stores, frame, snapshot, changed):
    """Rows taken out of the record, the record of another run and one that nobody vouched for compare nothing."""
    here, number = snapshot(frame), {"the record": 20, "the run": 21}.get(changed, 22)
    candidate, subject = version(stores, number + 10, here), version(stores, number, here)
    assert rows_seen(stores, subject) == here.data.rows_seen()
    seen = here.data.rows_seen()
    fewer = seen.model_copy(update={"ids": seen.ids[1:]})
    if changed == "the record":
        tracking.log_text(stores, subject.run_id, ROWS_SEEN, fewer.model_dump_json())
    elif changed == "the run":
        run_id = tracking.open_run(stores, PARAMS.name, "another", title="training")
        keep_rows_seen(stores, run_id, fewer)
        subject = subject.model_copy(update={"run_id": run_id})
    else:
        subject = recorded(stores, subject.model_copy(update={"version": number + 1}), {})
    for pair in ((subject, candidate), (candidate, subject)):
        with pytest.raises(StoreError, match=r"as registered"):
            hold_out.fn(PARAMS, stores, here, *pair)
    assert ROWS_SEEN in heldout.fault_of_rows_seen(stores, subject)
    assert heldout.fault_of_rows_seen(stores, candidate) == ""


def test_an_outage_is_no_missing_record(stores):
    """A run that tracking does not know raises; it is not read as a run that kept nothing."""
    with pytest.raises(StoreError, match="answers"):
        tracking.read_text(stores, "0" * 32, ROWS_SEEN)


def test_a_record_is_kept_once(stores):
    """What a training learned from is written at its first registration, and not over that."""
    run_id = tracking.open_run(stores, PARAMS.name, "once", title="training")
    for ids in ((1, 2), (3,)):
        keep_rows_seen(stores, run_id, RowsSeen(columns=("a",), ids=ids))
    lineage = {"rows_seen": RowsSeen(columns=("a",), ids=(1, 2)).fingerprint()}
    subject = recorded(stores, ModelVersion(name=PARAMS.name, version=9, digest="", run_id=run_id), lineage)
    assert rows_seen(stores, subject).ids == (1, 2)


def test_lost_ids_are_refused(stores):
    """A reference to rows that are nowhere never means that none are left out."""
    with pytest.raises(StoreError, match="left out"):
        left_out_ids(stores, LeftOut(key="ab" * 32, rows=3))


def test_both_sides_face_the_threat_of_the_data(stores, frame, snapshot):
    """A champion whose own units were a hundred times smaller is attacked in the candidate's units."""
    from holdfast.scenarios.attacks.fgsm import Fgsm  # noqa: PLC0415  torch graphs that only this test needs

    said = {"features": {"a": {"mutable": True, "low": -4.0}, "b": {"mutable": True}}}
    small = frame.assign(a=frame["a"] / 100)
    champion = version(stores, 10, snapshot(small, features={"a": {"mutable": True}}))
    after = snapshot(frame, **said)
    candidate = version(stores, 11, after)
    ours, theirs = (
        evaluation.run_scenario.fn("attacks/fgsm", Fgsm(points=50), PARAMS, stores, after, subject, "gate").finding
        for subject in (candidate, champion)
    )
    assert ours.details["threat"] == theirs.details["threat"] == after.data.space.bounds()
    assert torch.isfinite(torch.tensor(theirs.score.value))
    narrow = snapshot(frame, features={"a": {"mutable": True}})
    other = evaluation.run_scenario.fn(
        "attacks/fgsm", Fgsm(points=50), PARAMS, stores, narrow, candidate, "gate"
    ).finding
    assert other.details["threat"] != ours.details["threat"]


def test_a_finding_names_the_code_of_the_model_it_is_about(stores, frame, snapshot, tmp_path, monkeypatch):
    """A version of another factory than params name now keeps its own code's digest."""
    from holdfast.factory import factory_digest  # noqa: PLC0415  beside the module that it names

    source = "from torch import nn\n\ndef build(shape, classes):\n    return nn.Linear(shape[0], classes)\n"
    (tmp_path / "users_net.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    here = snapshot(frame)
    code = factory_digest("users_net:build")
    spec = ModelSpec(factory="users_net:build", space=here.data.space, classes=here.data.classes, code=code)
    digest = save_model(stores.models / "part", spec.build(seed=0), spec)
    (stores.models / "part").rename(stores.models / digest)
    found = asked(stores, here, ModelVersion(name=PARAMS.name, version=12, digest=digest), role="test")
    assert code
    assert found.provenance.code == code
    assert asked(stores, here, version(stores, 13, here), role="test").provenance.code == ""
