"""The quarantine store: once in, out only on a person's word, and never half written."""

from datetime import UTC, datetime

import pandas as pd
import pytest

from holdfast.errors import DataError, StoreError
from holdfast.integrity.quarantine import Quarantine, _rule
from holdfast.results import IntegrityFinding
from holdfast.stores import write_atomically

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def finding(check="schema", rows=(4, 11), verdict="quarantine", reason="odd"):
    return IntegrityFinding(
        check=check, verdict=verdict, reason=reason, examined=5, rows=rows, reasons={str(r): f"row {r}" for r in rows}
    )


@pytest.fixture
def material(build):
    """Five rows with ids -3, 4, 11, 18, 25."""
    return build(pd.DataFrame({"a": range(5), "mixed": pd.Series([1, "x", None, 2.5, "y"], dtype=object)}))


@pytest.fixture
def store(tmp_path):
    """An empty store."""
    return Quarantine(tmp_path / "quarantine")


def test_rows_go_in_with_values_and_reasons(store, material):
    """What was set aside can be read back: which row, by which check, why, and what it held."""
    assert store.add([finding()], material, "m1") == 2
    assert store.excluded("m1") == {4, 11}
    assert [(h.row, h.check, h.reason, h.snapshot) for h in store.list()] == [
        (4, "schema", "row 4", "m1"), (11, "schema", "row 11", "m1")
    ]  # fmt: skip
    rows = store.rows("m1")
    assert rows[["_row", "_reason", "a"]].to_numpy().tolist() == [[4, "row 4", 1], [11, "row 11", 2]]


def test_adding_twice_adds_once(store, material):
    """A retried task changes nothing."""
    store.add([finding()], material, "m1")
    before = {p: p.read_bytes() for p in store.folder.rglob("*") if p.is_file()}
    assert store.add([finding()], material, "m1") == 0
    assert {p: p.read_bytes() for p in store.folder.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("verdict", ["pass", "block"])
def test_only_quarantine_sets_aside(store, material, verdict):
    """A passing or blocking finding leaves the store as it was."""
    assert store.add([finding(verdict=verdict)], material, "m1") == 0
    assert store.excluded() == set()


def test_a_release_is_recorded_and_holds_in_later_snapshots(store, material):
    """A released row is used again, the record says who and why, and the same check does not hold it again."""
    store.add([finding()], material, "m1")
    assert store.release([4], "Ada", "checked against paper", NOW) == 1
    store.add([finding()], material, "m2")
    assert store.excluded("m1") == store.excluded("m2") == store.excluded() == {11}
    released = next(h.released for h in store.list("m2") if h.row == 4)
    assert (released.who, released.why, released.at) == ("Ada", "checked against paper", NOW)
    assert store.release([4], "Ada", "checked against paper", NOW) == 0


def test_another_check_can_hold_a_released_row(store, material):
    """A person's word on one fault says nothing of another."""
    store.add([finding()], material, "m1")
    store.release([4, 11], "Ada", "fine", NOW)
    store.add([finding(check="duplicates", rows=(4,))], material, "m1")
    assert store.excluded() == {4}


def test_a_rule_that_was_declared_later_holds_a_released_row(store, material):
    """A release is about what the check said of the row, its numbers aside; what it says now is another matter."""
    told = {"4": "term: outside 1.0 to 360.0", "11": "twice: of row 7"}
    found = finding().model_copy(update={"reasons": told})
    store.add([found], material, "m1")
    store.release([4, 11], "Ada", "fine", NOW)
    store.add([found], material, "m1")
    assert store.holding([found]) == store.excluded() == set()
    moved = finding().model_copy(
        update={"reasons": told | {"4": "term: outside 1.0 to 300.5", "11": "twice: of row -8"}}
    )
    assert store.holding([moved]) == set()
    namesake = finding().model_copy(update={"reasons": told | {"4": "term2: outside 1.0 to 360.0"}})
    assert store.holding([namesake]) == {4}
    other = finding().model_copy(update={"reasons": told | {"4": "gr_appv: below 1.0"}})
    store.add([other], material, "m1")
    assert store.holding([other]) == store.excluded() == {4}
    assert {(h.row, h.reason): h.released is None for h in store.list()} == {
        (4, "term: outside 1.0 to 360.0"): False, (4, "gr_appv: below 1.0"): True, (11, "twice: of row 7"): False
    }  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("V1: outside 0 to 5 (found 9)", "V1: outside 0 to 5 (found 7.5e3)", True),
        ("V1: outside 0 to 5 (found 9)", "V2: outside 0 to 5 (found 9)", False),
        ("2020: missing", "2021: missing", False),
        ("a: missing; V1: below 1 (found -2)", "a: missing; V2: below 1 (found -2)", False),
    ],
)
def test_numbers_in_the_names_of_columns_are_no_findings(one, other, same):
    """Two columns have two rules, also where their names differ in a digit alone."""
    assert (_rule(one) == _rule(other)) is same


@pytest.mark.parametrize(("rows", "who", "why"), [([4], "", "x"), ([4], "Ada", " "), ([4, 18], "Ada", "fine")])
def test_a_release_without_name_reason_or_row_is_refused(store, material, rows, who, why):
    """Nobody, nothing or a row never held: an error, and nothing is released."""
    store.add([finding()], material, "m1")
    with pytest.raises(DataError):
        store.release(rows, who, why, NOW)
    assert store.excluded() == {4, 11}


def test_findings_of_other_material_are_refused(store, material):
    """A finding that names unknown rows was made on something else."""
    with pytest.raises(DataError, match="not in the snapshot"):
        store.add([finding(rows=(4, 99))], material, "m1")
    assert store.list() == ()


@pytest.mark.parametrize("text", ["{", "{}", '{"rows": [], "checks": []}'])
def test_a_changed_record_is_an_error(store, material, text):
    """A store that was edited does not quietly hold fewer rows."""
    store.add([finding()], material, "m1")
    next(store.folder.rglob("*.json")).write_text(text)
    with pytest.raises(StoreError):
        store.excluded()


def test_an_edited_reason_is_an_error(store, material):
    """A record is named by its content, so that a well-formed edit shows too."""
    store.add([finding()], material, "m1")
    path = next(store.folder.rglob("*.json"))
    path.write_text(path.read_text().replace("[4, 11]", "[4, 18]"))
    with pytest.raises(StoreError):
        store.list()


def test_a_kill_between_values_and_record_leaves_nothing_half_done(store, material, monkeypatch):
    """Rows count as set aside once their record is there; the next try completes it."""

    def killed(path, body, **named):
        if path.suffix == ".json":
            raise KeyboardInterrupt
        write_atomically(path, body, **named)

    monkeypatch.setattr("holdfast.integrity.quarantine.write_atomically", killed)
    with pytest.raises(KeyboardInterrupt):
        store.add([finding()], material, "m1")
    monkeypatch.undo()
    assert [path.suffix for path in store.folder.rglob("*.*")] == [".parquet"]
    assert store.list() == ()
    assert store.add([finding()], material, "m1") == 2


def test_a_store_that_cannot_be_written_is_an_error(tmp_path, material):
    """A file in the folder's place is a StoreError, not a quiet loss."""
    (tmp_path / "quarantine").write_text("")
    with pytest.raises(StoreError, match="nothing was set aside"):
        Quarantine(tmp_path / "quarantine").add([finding()], material, "m1")


def test_nothing_but_json_and_parquet_is_written(store, material):
    """No other format, and no part of a file, is left behind."""
    store.add([finding()], material, "m1")
    store.release([4], "Ada", "fine", NOW)
    assert {p.suffix for p in store.folder.rglob("*") if p.is_file()} == {".json", ".parquet"}


def test_a_batch_is_redundant_only_where_what_is_excluded_stays_so(store, material):
    """Held again, or released, a row needs the older batch no more; a snapshot in use keeps its batches."""
    store.add([finding()], material, "m1")
    store.add([finding(rows=(4,))], material, "m2")
    assert store.redundant({"m2"}) == ()  # row 11 is held by the first alone
    store.add([finding(rows=(4, 11, 18))], material, "m3")
    spare = store.redundant(frozenset())
    assert len(spare) == 2
    assert len(store.redundant({"m1"})) == 1
    for name in spare:
        store.discard(name)
    assert store.excluded() == {4, 11, 18}
    assert len(store.batches()) == 1
    store.release([4, 11, 18], "Ada", "fine", NOW)
    assert len(store.redundant(frozenset())) == 1
