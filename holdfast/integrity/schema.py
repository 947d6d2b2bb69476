"""Schema: a table, or the statistics of images, against what params.yaml declares, put to Great Expectations."""

from __future__ import annotations

import re
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, cast, final

import pandas as pd
from pydantic import BeforeValidator, Field, NonNegativeInt, model_validator

from holdfast.data.table import nearest
from holdfast.errors import IntegrityError
from holdfast.integrity.base import Faults, IntegrityCheck, Material, measure
from holdfast.integrity.expectations import Answer, Rule, Severity, ask, write_docs
from holdfast.results import Share, Value

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
_TYPES: dict[str, list[str]] = {
    "integer": [*_INTEGERS, *(f"{sign}Int{bits}Dtype" for sign in ("", "U") for bits in (8, 16, 32, 64))],
    "date": ["datetime64[ns]", "datetime64[us]", "datetime64[ms]", "datetime64[s]"],
    "boolean": ["bool", "BooleanDtype"],
}
_TYPES["number"] = [*_TYPES["integer"], "float16", "float32", "float64", "Float32Dtype", "Float64Dtype"]
_Question = tuple[str, str, bool, dict[str, Any]]
"""Expectation, fault in words, whether it is of rows, arguments."""
_LABEL = "label"
"""Name under which class indices are put beside a frame that holds no label column."""


def _ordered(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] > ends[1]:
        msg = f"low must not exceed high, got {list(ends)}"
        raise ValueError(msg)
    return ends


def _named(shares: object) -> object:
    return {str(name): ends for name, ends in shares.items()} if isinstance(shares, dict) else shares


Interval = Annotated[tuple[float, float], Field(description="low and high, both allowed")]


class Column(Value):
    """What one column must be. What is left out is not asked."""

    type: Literal["integer", "number", "text", "date", "boolean"] | None = None
    """A column of another type blocks: the other questions would have no meaning."""
    min: float | datetime | None = None
    max: float | datetime | None = None
    in_set: tuple[bool | int | float | str, ...] | None = None
    not_null: bool = False
    """Whether a row without a value is faulty."""
    max_null_share: Share | None = None
    """Largest share of rows without a value; more blocks."""
    unique: bool = False
    """Whether all rows that share a value are faulty, since none can be told to be the right one."""
    pattern: str | None = None
    """Regular expression that a value must hold; anchor it with ^ and $."""
    mean_between: Interval | None = None
    """Low and high end of the column's mean; outside blocks."""
    at_most: str | None = None
    """Column that this one may not exceed, row by row."""
    severity: Severity = "critical"
    """A ``warning`` is counted in the measures and changes no verdict."""

    @model_validator(mode="after")
    def _sound(self) -> Self:
        low, high = self.min, self.max
        if low is not None and high is not None:
            if isinstance(low, datetime) != isinstance(high, datetime):
                msg = "min and max are both numbers or both dates"
                raise ValueError(msg)
            if cast("Any", low) > cast("Any", high):
                msg = f"min must not exceed max, got {low} and {high}"
                raise ValueError(msg)
        if self.mean_between is not None:
            _ordered(self.mean_between)
        if self.pattern is not None:
            try:
                re.compile(self.pattern)
            except re.error as error:
                msg = f"pattern is no regular expression: {error}"
                raise ValueError(msg) from error
        return self


class RowCount(Value):
    """How many rows a snapshot must have."""

    min: NonNegativeInt = 1
    max: NonNegativeInt | None = None


@final
class Schema(IntegrityCheck):
    """Types, ranges, sets, gaps, uniqueness, order, row counts and label shares, by Great Expectations.

    Single rows at fault are quarantined, each with its reasons; a fault of the table (a column that is missing or
    of another type, too few rows, a shifted label) blocks. An expectation that cannot be evaluated is an error.
    """

    columns: dict[str, Column] = {}
    exact_columns: bool = False
    """Whether the table may hold no other columns."""
    row_count: RowCount = RowCount()
    monotone: tuple[str, ...] = ()
    """Columns, such as dates of arrival, that never decrease from row to row."""
    label_distribution: Annotated[dict[str, tuple[Share, Share]], BeforeValidator(_named)] = {}
    """Class to the lowest and highest share of rows that may hold it."""

    @model_validator(mode="after")
    def _shares(self) -> Self:
        for ends in self.label_distribution.values():
            _ordered(ends)
        return self

    def of_rows(self, exclude: tuple[str, ...] = ()) -> Schema:
        """Give what is declared of single rows: counts, shares, order and means of a set are not asked of a part of it.

        Args:
            exclude: columns that such rows do not have, the label before it matures.
        """
        alone = {"max_null_share": None, "mean_between": None, "unique": False}
        columns = {name: each.model_copy(update=alone) for name, each in self.columns.items() if name not in exclude}
        whole = {"exact_columns": False, "row_count": RowCount(), "monotone": (), "label_distribution": {}}
        return self.model_copy(update={"columns": columns, "max_quarantined": 1.0, **whole})

    def look(self, material: Material) -> Faults:
        """Ask for the structure first: values of a column of the wrong type have no meaning."""
        frame, label = _plain(material)
        structure = ask(self.structure_rules(frame), frame)
        answers = structure
        if all(answer.met for answer in structure):
            answers = structure + ask(self.value_rules(frame, label), frame)
        grave = [answer for answer in answers if not answer.met and answer.rule.severity == "critical"]
        warned = [answer for answer in answers if not answer.met and answer.rule.severity != "critical"]
        return Faults(
            rows=_by_row(grave),
            whole=tuple(f"{a.rule.about} (found {a.observed})" for a in grave if not a.rule.of_rows),
            measures=(
                measure("expectations", len(answers), "expectations", "neither"),
                measure("expectations_failed", len(grave) + len(warned), "expectations", "lower"),
                *(measure(f"warning: {a.rule.about}", len(a.rows) or 1, "rows", "lower") for a in warned),
            ),
            note=f"{len(answers)} expectations met" if not warned else f"{len(warned)} warnings, no critical fault",
        )

    def write_data_docs(self, material: Material, folder: Path) -> Path:
        """Write Great Expectations' Data Docs for this snapshot; slow, so never on the path to training.

        Returns:
            The index page.
        """
        frame, label = _plain(material)
        rules = self.structure_rules(frame)
        if all(answer.met for answer in ask(rules, frame)):
            rules = [*rules, *self.value_rules(frame, label)]
        return write_docs(rules, frame, folder)

    def structure_rules(self, frame: pd.DataFrame) -> list[Rule]:
        """Compile the questions that the others rest on: rows, columns, types."""
        few, many = self.row_count.min, self.row_count.max
        count = {"min_value": few, "max_value": many}
        about = f"row count: outside {_range(few, many)}"
        rules = [Rule("ExpectTableRowCountToBeBetween", count, about, of_rows=False)]
        if self.exact_columns:
            every = {"column_set": list(self.columns), "exact_match": True}
            rules.append(Rule("ExpectTableColumnsToMatchSet", every, "columns: not those declared", of_rows=False))
        named = {*self.columns, *self.monotone, *(c.at_most for c in self.columns.values() if c.at_most)}
        for name in sorted(named):
            about = f"{name}: no such column{'' if name in frame.columns else nearest(name, frame.columns)}"
            rules.append(Rule("ExpectColumnToExist", {"column": name}, about, of_rows=False))
            type_ = self.columns[name].type if name in self.columns else None
            if type_ is not None and name in frame.columns:
                rules.append(_type_rule(name, type_, frame[name]))
        return rules

    def value_rules(self, frame: pd.DataFrame, label: str) -> list[Rule]:
        """Compile the questions about values."""
        rules = [rule for name, column in self.columns.items() for rule in _column_rules(name, column, frame)]
        for name in self.monotone:
            never = f"{name}: decreases from the row before"
            rules.append(Rule("ExpectColumnValuesToBeIncreasing", {"column": name}, never, of_rows=True))
        for name, (low, high) in self.label_distribution.items():
            said = f"label {name}: share outside {_range(low, high)}"
            value = _as_in(frame[label], name)
            few = {"column": label, "value_set": [value], "mostly": low}
            many = {"column": label, "value_set": [value], "mostly": 1.0 - high}
            rules += [
                Rule("ExpectColumnValuesToBeInSet", few, f"{said}, too few", of_rows=False),
                Rule("ExpectColumnValuesToNotBeInSet", many, f"{said}, too many", of_rows=False),
            ]
        return rules


def _type_rule(name: str, type_: str, column: pd.Series[Any]) -> Rule:
    """Ask for a type; text by name, since lists of types never match pandas' own text columns.

    Whole numbers are integers also where pandas keeps them as floats, as it does in any column with a gap: gaps are
    another question, and a window of such a column may have none.
    """
    about = f"{name}: not of type {type_}"
    if type_ == "text":
        return Rule("ExpectColumnValuesToBeOfType", {"column": name, "type_": "str"}, about, of_rows=False)
    floats = type_ == "integer" and pd.api.types.is_float_dtype(column.dtype)
    whole = floats and bool((column.dropna() % 1 == 0).all())
    arguments = {"column": name, "type_list": _TYPES["number" if whole else type_]}
    return Rule("ExpectColumnValuesToBeInTypeList", arguments, about, of_rows=False)


def _column_rules(name: str, column: Column, frame: pd.DataFrame) -> Iterator[Rule]:
    """Compile one column's questions; a value that is missing answers none of them but those about gaps."""
    rules = [*_row_rules(column, pd.api.types.is_float_dtype(frame[name].dtype)), *_table_rules(column)]
    for expectation, about, of_rows, arguments in rules:
        yield Rule(expectation, {"column": name, **arguments}, f"{name}: {about}", of_rows, column.severity)
    if column.at_most is not None:
        pair = {"column_A": column.at_most, "column_B": name, "or_equal": True}
        pair |= {"ignore_row_if": "either_value_is_missing"}
        about = f"{name}: more than {column.at_most}"
        kind = "ExpectColumnPairValuesAToBeGreaterThanB"
        yield Rule(kind, pair, about, of_rows=True, severity=column.severity)


def _row_rules(column: Column, is_float: bool) -> Iterator[_Question]:  # noqa: FBT001  a fact of the column
    low, high = column.min, column.max
    if column.not_null:
        yield "ExpectColumnValuesToNotBeNull", "no value", True, {}
    if low is not None or high is not None or is_float:
        largest = sys.float_info.max if is_float else None  # so that infinity is never inside
        ends = {"min_value": low if low is not None or largest is None else -largest}
        ends |= {"max_value": high if high is not None else largest}
        about = "infinite" if low is None and high is None else f"outside {_range(low, high)}"
        yield "ExpectColumnValuesToBeBetween", about, True, ends
    if column.in_set is not None:
        said = ", ".join(map(str, column.in_set[:8])) + (", ..." if len(column.in_set) > 8 else "")  # noqa: PLR2004  fits a line
        yield "ExpectColumnValuesToBeInSet", f"not one of {said}", True, {"value_set": list(column.in_set)}
    if column.unique:
        yield "ExpectColumnValuesToBeUnique", "not unique", True, {}
    if column.pattern is not None:
        about = f"does not match {column.pattern}"
        yield "ExpectColumnValuesToMatchRegex", about, True, {"regex": column.pattern}


def _table_rules(column: Column) -> Iterator[_Question]:
    if column.max_null_share is not None:
        about = f"share without a value above {column.max_null_share:g}"
        yield "ExpectColumnValuesToNotBeNull", about, False, {"mostly": 1.0 - column.max_null_share}
    if column.mean_between is not None:
        low, high = column.mean_between
        about = f"mean outside {_range(low, high)}"
        yield "ExpectColumnMeanToBeBetween", about, False, {"min_value": low, "max_value": high}


def _plain(material: Material) -> tuple[pd.DataFrame, str]:
    """Give the frame without categorical types, which Great Expectations cannot judge, and its label's column."""
    frame = material.frame
    categorical = [name for name in frame.columns if isinstance(frame[name].dtype, pd.CategoricalDtype)]
    plain = frame.astype({name: frame[name].cat.categories.dtype for name in categorical}) if categorical else frame
    if material.label is not None and material.label in plain.columns:
        return plain, material.label
    if _LABEL in plain.columns:
        raise IntegrityError(
            "schema check",
            found=f"a column named {_LABEL} that is not the label",
            expected="the label's column named in the data section",
            remedy="Name the label's column, or rename this one.",
        )
    return plain.assign(**{_LABEL: material.labels}), _LABEL


def _by_row(answers: list[Answer]) -> dict[int, str]:
    """Gather each row's reasons, with the value found."""
    reasons: dict[int, list[str]] = {}
    for answer in answers:
        for position, value in answer.rows.items():
            reasons.setdefault(position, []).append(f"{answer.rule.about} (found {_shown(value)})")
    return {position: "; ".join(texts) for position, texts in reasons.items()}


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return " against ".join(_shown(part) for part in reversed(value))
    if isinstance(value, float):
        return f"{value:g}"
    item = getattr(value, "item", None)
    return _shown(item()) if callable(item) else repr(value) if isinstance(value, str) else str(value)


def _range(low: object, high: object) -> str:
    return f"{'...' if low is None else low} to {'...' if high is None else high}"


def _as_in(column: pd.Series[Any], name: str) -> object:
    """Read a class name as the label's column writes it."""
    if not pd.api.types.is_numeric_dtype(column.dtype):
        return name
    try:
        return float(name)
    except ValueError:
        raise IntegrityError(
            "schema check, label_distribution",
            found=f"class {name!r}",
            expected=f"a number, as in the label's column ({column.dtype})",
            remedy="Name the classes as the data does.",
        ) from None
