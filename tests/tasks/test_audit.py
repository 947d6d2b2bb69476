"""The audit of one version: what it learned from is shown, and a record that was changed is a problem."""

from types import SimpleNamespace

import pytest

from holdfast.data.source import RowsSeen
from holdfast.model import ModelSpec, save_model
from holdfast.recovery.promotion import register as record_version
from holdfast.space import Feature, Table
from holdfast.stores import Stores
from tasks import tracking
from tasks.audit import answer
from tasks.heldout import ROWS_SEEN, keep_rows_seen
from tasks.recovery import open_ledger

PARAMS = SimpleNamespace(name="people")
SEEN = RowsSeen(columns=("age",), ids=(1, 2, 3))
SPEC = ModelSpec(
    factory="holdfast.networks:mlp", settings={"width": 4}, classes=("no", "yes"),
    space=Table(features=(Feature(name="age", kind="number", median=40, iqr=10),)),
)  # fmt: skip


@pytest.fixture
def stores(tmp_path):
    made = Stores.local(tmp_path, tmp_path / "root", actor="alice")
    parent = tracking.open_run(made, "people", "l", title="lifecycle") if tracking.prepare(made, "people") else ""
    run_id = tracking.open_run(made, "people", "t", title="training", parent=parent)
    digest = save_model(tmp_path / "m", SPEC.build(seed=0), SPEC)
    keep_rows_seen(made, run_id, SEEN)
    version = tracking.register(made, "people", tmp_path / "m", SPEC, run_id, "key", digest)
    record_version(open_ledger(made), version, who="t", lineage={"rows_seen": SEEN.fingerprint()})
    return made


def test_the_record_of_rows_seen_is_shown_and_verified(stores):
    """As registered its digest is shown; with one row taken out the audit names the version and fails."""
    audit = answer(PARAMS, stores, version=1)
    assert audit.origin.lineage["rows_seen"] == SEEN.fingerprint()
    assert (audit.origin.rows_seen, audit.problems) == ("as registered", ())
    changed = SEEN.model_copy(update={"ids": (1, 2)})
    tracking.log_text(stores, audit.origin.run_id, ROWS_SEEN, changed.model_dump_json())
    audit = answer(PARAMS, stores, version=1)
    assert audit.origin.rows_seen.startswith(f"{ROWS_SEEN} with digest {changed.fingerprint()[:16]}")
    (problem,) = audit.problems
    assert problem.startswith("version 1: ")
    assert audit.exit_code != 0
