"""The schema check: every fault planted and seen, clean data passed."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from holdfast.errors import IntegrityError
from holdfast.integrity.expectations import Rule, ask
from holdfast.integrity.schema import Schema

LOANS = Path(__file__).parents[3] / "embedded" / "sba_loans_small.parquet"

SCHEMA = Schema(
    columns={
        "number": {"type": "integer", "unique": True, "not_null": True},
        "amount": {"type": "number", "min": 0, "max": 100, "max_null_share": 0.1, "mean_between": [20, 80]},
        "limit": {"type": "number"},
        "grade": {"type": "text", "in_set": ["A", "B", "C"], "pattern": "^[A-Z]$"},
        "paid": {"type": "number", "at_most": "amount"},
        "day": {"type": "date", "min": "2020-01-01"},
        "kept": {"type": "boolean"},
        "default": {"type": "integer", "in_set": [0, 1]},
    },
    exact_columns=True,
    row_count={"min": 100, "max": 1000},
    monotone=["day"],
    label_distribution={0: [0.7, 0.9], 1: [0.1, 0.3]},
)  # fmt: skip


def clean(n=200):
    """A table without a fault."""
    amount = np.tile([10.0, 90.0, 50.0, 30.0], n // 4)
    return pd.DataFrame(
        {
            "number": np.arange(n), "amount": amount, "limit": amount, "paid": amount / 2,
            "grade": np.tile(["A", "B", "C", None], n // 4), "day": pd.date_range("2020-01-01", periods=n),
            "kept": np.arange(n) % 2 == 0, "default": (np.arange(n) % 5 == 0).astype(np.int8),
        }
    )  # fmt: skip


def planted(column, value, row=7):
    frame = clean()
    frame.loc[row, column] = value
    return frame


def test_clean_data_passes(build):
    """A table without a fault passes every expectation."""
    finding = SCHEMA.examine(build(clean(), label="default"))
    assert (finding.verdict, finding.rows, finding.examined) == ("pass", (), 200), finding.reason


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("amount", 101.0, "amount: outside 0.0 to 100.0 (found 101)"),
        ("amount", -0.5, "amount: outside 0.0 to 100.0 (found -0.5)"),
        ("limit", np.inf, "limit: infinite (found inf)"),
        ("grade", "D", "grade: not one of A, B, C (found 'D')"),
        ("grade", "a", "grade: does not match ^[A-Z]$ (found 'a')"),
        ("paid", 95.0, "paid: more than amount (found 95 against 30)"),
        ("day", pd.Timestamp("2020-01-02"), "day: decreases from the row before (found 2020-01-02 00:00:00)"),
        ("default", 2, "default: not one of 0, 1 (found 2)"),
    ],
)
def test_a_row_at_fault_is_quarantined_with_its_reason(build, column, value, reason):
    """One planted value is found in its own row, and the reason says what was there."""
    material = build(planted(column, value), label="default")
    finding = SCHEMA.examine(material)
    assert finding.verdict == "quarantine"
    assert finding.rows == (int(material.ids[7]),)
    assert reason in finding.reasons[str(material.ids[7])].split("; ")


def test_a_missing_value_where_none_may_be_is_quarantined(build):
    """A null is a fault of its row where the declaration says so."""
    schema = Schema(columns={"limit": {"not_null": True}})
    finding = schema.examine(build(planted("limit", np.nan)))
    assert list(finding.reasons.values()) == ["limit: no value (found nan)"]


def test_whole_numbers_with_gaps_are_integers(build):
    """Pandas keeps them as floats, also in a part without a gap: no fault of the data; a fraction among them is one."""
    schema = Schema(columns={"number": {"type": "integer"}})
    gaps = clean().assign(number=clean()["number"].astype(float).where(lambda n: n % 9 > 0))
    assert schema.examine(build(gaps)).verdict == "pass"
    assert schema.examine(build(gaps[gaps["number"].notna()].reset_index(drop=True))).verdict == "pass"
    assert (
        schema.examine(build(gaps.assign(number=np.nan))).verdict == "pass"
    )  # how many are missing is asked elsewhere
    assert schema.examine(build(gaps.assign(number=gaps["number"] + 0.5))).verdict == "block"


def test_a_duplicate_id_is_a_fault_of_every_row_that_holds_it(build):
    """None of the rows that share a number can be told to be the right one."""
    material = build(planted("number", 6), label="default")
    assert SCHEMA.examine(material).rows == (int(material.ids[6]), int(material.ids[7]))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda f: f.iloc[:80].reset_index(drop=True), "row count: outside 100 to 1000 (found 80)"),
        (lambda f: f.drop(columns="grade"), "grade: no such column"),
        (lambda f: f.rename(columns={"grade": "grades"}), "grade: no such column (did you mean 'grades'?)"),
        (lambda f: f.assign(extra=1), "columns: not those declared"),
        (lambda f: f.assign(amount=f["amount"].astype(str)), "amount: not of type number (found str)"),
        (lambda f: f.assign(grade=1), "grade: not of type text (found int64)"),
        (lambda f: f.assign(number=f["number"].astype(object).where(f.index != 3, "x")), "number: not of type integer"),
        (lambda f: f.assign(day=f["day"].astype(str)), "day: not of type date (found str)"),
        (lambda f: f.assign(amount=f["amount"].where(f.index % 8 > 0)), "share without a value above 0.1"),
        (lambda f: f.assign(amount=f["amount"] / 10, paid=0.0), "amount: mean outside 20.0 to 80.0 (found 4.5)"),
        (lambda f: f.assign(default=np.int8(0)), "label 0: share outside 0.7 to 0.9, too many"),
        (lambda f: f.assign(default=np.int8(0)), "label 1: share outside 0.1 to 0.3, too few"),
    ],
)
def test_a_fault_of_the_table_blocks(build, spoil, reason):
    """What no choice of rows would mend blocks, and the reason names it."""
    finding = SCHEMA.examine(build(spoil(clean()), label="default"))
    assert finding.verdict == "block"
    assert reason in finding.reason


def test_more_faulty_rows_than_the_policy_allows_block(build):
    """A fault in six of a hundred rows is not a fault of rows."""
    frame = clean()
    frame.loc[::10, "grade"] = "Q"
    finding = SCHEMA.examine(build(frame, label="default"))
    assert (finding.verdict, len(finding.rows)) == ("block", 20)
    assert "more than the 5.00%" in finding.reason
    assert "(integrity.schema.max_quarantined)" in finding.reason


def test_every_faulty_row_is_named_beyond_two_hundred(build):
    """Great Expectations lists two hundred values at most; rows and reasons must not stop there."""
    schema = Schema(columns={"grade": {"in_set": ["A", "B"]}}, max_quarantined=1.0)
    finding = schema.examine(build(clean(2000)))
    assert len(finding.rows) == len(finding.reasons) == 500
    assert set(finding.reasons.values()) == {"grade: not one of A, B (found 'C')"}


def test_policy_block_blocks_for_one_row(build):
    """With on_fault block, one faulty row is enough."""
    strict = SCHEMA.model_copy(update={"on_fault": "block"})
    assert strict.examine(build(planted("grade", "Q"), label="default")).verdict == "block"


def test_a_warning_is_counted_and_changes_no_verdict(build):
    """A column of severity warning leaves a measure behind and nothing else."""
    schema = Schema(columns={"grade": {"in_set": ["A", "B"], "severity": "warning"}})
    finding = schema.examine(build(clean()))
    assert (finding.verdict, finding.rows) == ("pass", ())
    assert {m.name: m.value for m in finding.measures}["warning: grade: not one of A, B"] == 50


def test_class_indices_stand_in_for_a_frame_without_labels(build):
    """The statistics of images hold no label column, so their label shares are read from the class indices."""
    schema = Schema(label_distribution={"0": [0.5, 1.0]})
    labels = np.repeat([0, 1], [40, 60])
    assert schema.examine(build(clean(100)[["amount"]], labels=labels)).verdict == "block"
    assert schema.examine(build(clean(100)[["amount"]], labels=1 - labels)).verdict == "pass"


def test_categorical_columns_are_judged_by_their_values(build):
    """A dictionary-encoded column is text like any other."""
    frame = planted("grade", "Q").astype({"grade": "category"})
    assert len(SCHEMA.examine(build(frame, label="default")).rows) == 1


def test_an_expectation_that_cannot_be_evaluated_is_an_error():
    """A metric that raises has no list of bad rows; it must never read as a pass."""
    frame = pd.DataFrame({"mixed": pd.Series([1, "x"], dtype=object)})
    rule = Rule("ExpectColumnValuesToBeBetween", {"column": "mixed", "min_value": 0}, "mixed: below 0", of_rows=True)
    with pytest.raises(IntegrityError, match="nothing has passed"):
        ask([rule], frame)


def test_great_expectations_is_on_the_path(build, monkeypatch):
    """Without Great Expectations the schema check refuses to answer."""
    for name in [name for name in sys.modules if name.split(".")[0] == "great_expectations"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "great_expectations", None)
    with pytest.raises(ImportError):
        SCHEMA.examine(build(clean(), label="default"))


def test_data_docs_are_written_apart(build, tmp_path):
    """The pages hold the suite's expectations and say which failed."""
    page = SCHEMA.write_data_docs(build(planted("grade", "Q"), label="default"), tmp_path / "docs")
    assert page == tmp_path / "docs" / "index.html"
    validations = [p.read_text() for p in (tmp_path / "docs" / "validations").rglob("*.html")]
    assert any("grade" in text and "Failed" in text for text in validations)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"columns": {"a": {"min": 2, "max": 1}}}, "min must not exceed max"),
        ({"columns": {"a": {"min": 2, "max": "2020-01-01"}}}, "both numbers or both dates"),
        ({"columns": {"a": {"pattern": "("}}}, "no regular expression"),
        ({"columns": {"a": {"mean_between": [2, 1]}}}, "low must not exceed high"),
        ({"columns": {"a": {"mx": 1}}}, "Extra inputs"),
        ({"label_distribution": {"0": [0.9, 0.1]}}, "low must not exceed high"),
    ],
)
def test_declarations_that_mean_nothing_are_refused(settings, message):
    """A contradiction in params is a validation error, before any data is read."""
    with pytest.raises(ValidationError, match=message):
        Schema(**settings)


def test_json_round_trip():
    """The declaration survives JSON, dates and class names included."""
    assert Schema.model_validate_json(SCHEMA.model_dump_json()) == SCHEMA
