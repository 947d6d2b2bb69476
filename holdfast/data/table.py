"""Tables: read from Parquet or CSV, described by their training rows, turned into tensors and back."""

from __future__ import annotations

import difflib
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch

from holdfast.data.params import DataParams, FeatureParams
from holdfast.errors import DataError
from holdfast.space import Feature, Table, parse_relation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from holdfast.space import Box

Array = np.ndarray[Any, np.dtype[Any]]
Codes = tuple[str | int | float, ...]
Kind = Literal["number", "category"]
MOST_CATEGORIES = 1000
"""A column of text with more values than this is a name or a number of things, not a category."""
PIECES = 48
"""Pieces of the piecewise linear encoding of a number between its spikes, at most: ties leave fewer."""
_SHOWN = 5
_ENOUGH_ROWS = 20
"""Rows from which values that do not come again say something about a column."""
_FEW_WORDS, _MANY_NUMBERS = 0.05, 12
"""Share of words up to which a column with more different numbers than this is one of numbers: grades and months, with
a letter here and there, are codes."""


def read_table(path: Path) -> pd.DataFrame:
    """Read a Parquet or CSV file whole; rows are numbered from 0 in the order of the file.

    Raises:
        DataError: the file is missing, truncated, of another kind, empty, or names a column twice.
    """
    kind = path.suffix.lower()
    try:
        if kind in {".parquet", ".pq"}:
            frame = pd.read_parquet(path, engine="pyarrow").reset_index(drop=True)
        elif kind in {".csv", ".tsv"}:
            frame = _read_text(path, "," if kind == ".csv" else "\t")
        else:
            found = "a folder" if path.is_dir() else f"a {kind or 'nameless'} file"
            raise _refused(path.name, found, "a table in .parquet, .csv or .tsv")
    except FileNotFoundError as error:
        raise DataError(
            path.name, found="no such file", expected="a table below data/",
            remedy="`holdfast data add PATH` brings one of yours there and pins it; or name another in data.path.",
        ) from error  # fmt: skip
    except (OSError, ValueError, NotImplementedError) as error:  # pyarrow's errors are among these
        raise _refused(
            path.name, f"a file that cannot be read ({_first_line(error)})", f"a whole {kind} file"
        ) from error
    if len(frame) == 0 or len(frame.columns) == 0:
        raise _refused(path.name, f"{len(frame)} rows of {len(frame.columns)} columns", "rows")
    frame.columns = [str(name) for name in frame.columns]
    if twice := sorted(frame.columns[frame.columns.duplicated()]):
        raise _refused(path.name, f"columns named twice: {', '.join(twice)}", "a name for each column")
    return frame


def check_columns(frame: pd.DataFrame, params: DataParams) -> None:
    """Check every column that params name, all at once.

    Raises:
        DataError: params name columns that the table lacks.
    """
    named = [("data.label", params.label), *([("data.time", params.time)] if params.time else [])]
    named += [("data.exclude", name) for name in params.exclude]
    named += [("data.features", name) for name in params.features]
    named += [("data.missing_values", name) for name in params.missing_values]
    lacking = [f"{place} names {name!r}{nearest(name, frame.columns)}" for place, name in named if name not in frame]
    if lacking:
        raise DataError(
            params.path, found="; ".join(lacking), expected=f"columns of the table: {', '.join(frame.columns)}",
            remedy="Correct the names in params (a file, or --set), or the table.",
        )  # fmt: skip


def check_words(frame: pd.DataFrame, names: Sequence[str], params: DataParams) -> None:
    """Hold that no column which nobody called a category is one of numbers with some stray words.

    All rows are asked: a word in any of them makes text of the whole column, whatever role its row has. Those that a
    window brought are not: they are held against what the pinned ones were.

    Args:
        frame: all rows.
        names: the features.
        params: what the user says of them.

    Raises:
        DataError: columns of which nearly all rows are numbers, and of many values; all are listed.
    """
    undecided = [name for name in names if (said := params.features.get(name)) is None or said.kind is None]
    found = [_stray(name, frame[name], params.missing_values.get(name, ())) for name in undecided]
    if problems := [text for text in found if text]:
        raise DataError(
            params.path, found="; ".join(problems), expected="numbers or categories", remedy="Mend the rows, or params."
        )


def _stray(name: str, column: pd.Series[Any], codes: Codes) -> str:
    try:
        if _infer_kind(column, codes) == "number":
            return ""
    except ValueError:  # a moment: it is refused where it is described
        return ""
    values = _without(names_of(column), codes).dropna()
    number = pd.to_numeric(values, errors="coerce")
    strange = values[number.isna()]
    if not (0 < len(strange) <= _FEW_WORDS * len(values) and number.nunique() > _MANY_NUMBERS):
        return ""
    return (
        f"{name}: text in {len(strange)} of {len(values)} rows of a column of numbers ({_examples(strange)}, row"
        f" {int(strange.index[0])}); mend them, name them in data.missing_values: {{{name}: [...]}} where they mean"
        f" unknown, or set data.features: {{{name}: {{kind: category}}}}"
    )


def feature_names(frame: pd.DataFrame, params: DataParams) -> tuple[str, ...]:
    """Name the columns that a model may see, in the order of the file.

    The label, excluded columns, and the time unless ``features`` names it, are not among them: a model that reads
    the calendar learns nothing about the years to come.
    """
    hidden = {params.label, *params.exclude, *({params.time} - set(params.features))}
    return tuple(name for name in frame.columns if name not in hidden)


def fit_table(frame: pd.DataFrame, names: Sequence[str], params: DataParams) -> Table:
    """Describe the features by their training rows.

    Numbers get median, interquartile range, standard deviation and quantiles over the values that are not missing, and
    where one value holds so many rows that the interquartile range is 0, the spread of the others as unit of distance;
    columns of text and booleans are categories, unless params say otherwise. Ranges and steps come from params only.

    Args:
        frame: the training rows, and no others.
        names: the features, in order.
        params: what the user says of them.

    Raises:
        DataError: a column is neither number nor category, or a relation cannot be read; all are listed.
    """
    features, problems = [], []
    for name in names:
        try:
            codes = params.missing_values.get(name, ())
            features.append(_fit_feature(name, frame[name], params.features.get(name), codes))
        except ValueError as error:
            problems.append(f"{name}: {error}")
    numbers = [feature.name for feature in features if feature.kind == "number"]
    relations = []
    for text in params.relations if not problems else ():
        try:
            relations.append(parse_relation(text, numbers))
        except ValueError as error:
            problems.append(f"data.relations {text!r}: {error}")
    if problems:
        raise DataError(
            params.path, found="; ".join(problems), expected="numbers and categories", remedy="Correct data in params."
        )
    return Table(features=tuple(features), relations=tuple(relations))


def kinds_of(space: Table | Box) -> dict[str, Kind]:
    """Say what each column of a table is."""
    return {each.name: each.kind for each in space.features} if isinstance(space, Table) else {}


def kinds_in(frame: pd.DataFrame, names: Sequence[str], params: DataParams) -> dict[str, Kind]:
    """Say what each column is by rows of any role: fewer may train now than when it was described, and of other values.

    Moments are left out, which are refused where they are described.
    """
    found: dict[str, Kind] = {}
    for name in names:
        with suppress(ValueError):
            found[name] = _infer_kind(frame[name], params.missing_values.get(name, ()))
    return found


def as_described(params: DataParams, kinds: Mapping[str, Kind]) -> DataParams:
    """Let each column that nobody calls anything be what it was: some odd rows of a window make no name of a number."""
    said = {name: params.features.get(name, FeatureParams()) for name in kinds}
    known = {name: each.model_copy(update={"kind": each.kind or kinds[name]}) for name, each in said.items()}
    return params.model_copy(update={"features": {**params.features, **known}})


def encode(
    frame: pd.DataFrame,
    space: Table,
    *,
    place: str = "rows",
    extra: Literal["ignore", "refuse"] = "ignore",
) -> Tensor:
    """Turn rows into a tensor (n, features) float32 in raw units: categories by code, missing values as NaN.

    Args:
        frame: rows with a column for each feature, in any order.
        space: the features, fitted on training rows; a category not seen there gets the code after the last.
        place: what the rows are, for the message.
        extra: what to do about columns that are no features; the label of a file, for example.

    Raises:
        DataError: columns are missing, of another type, infinite, or refused; all are listed.
    """
    problems = [f"no column {name!r}{_near(name, frame, space)}" for name in space.names if name not in frame]
    if extra == "refuse":
        problems += [f"a column {name!r} that is no feature" for name in frame.columns if name not in space.names]
    columns = []
    for feature in space.features:
        if feature.name not in frame:
            continue
        column = frame[feature.name]
        if isinstance(column, pd.DataFrame):
            problems.append(f"{feature.name!r} twice")
            continue
        try:
            category = feature.kind == "category"
            columns.append(_codes(column, feature) if category else _numbers(column, feature.missing))
        except ValueError as error:
            problems.append(f"{feature.name}: {error}")
    if problems:
        raise DataError(
            place, found="; ".join(problems), expected=f"the columns {', '.join(space.names)}",
            remedy="Give rows with the columns and units that the model was trained on.",
        )  # fmt: skip
    stacked = np.stack(columns, axis=1) if columns else np.zeros((len(frame), 0))
    return torch.from_numpy(stacked.astype(np.float32))


def _near(name: str, frame: pd.DataFrame, space: Table) -> str:
    """Name the column that may be meant, among those that are no features."""
    others = [str(each) for each in frame.columns if each not in space.names]
    close = difflib.get_close_matches(name, others, n=1, cutoff=0.5)
    return f" (there is {close[0]!r})" if close else ""


def decode(row: Tensor, space: Table) -> dict[str, str | float | None]:
    """Turn one row (features,) back into values by name: numbers, names of categories, None where missing."""
    out: dict[str, str | float | None] = {}
    for feature, value in zip(space.features, row.tolist(), strict=True):
        if np.isnan(value):
            out[feature.name] = None
        elif feature.kind == "number":
            out[feature.name] = value
        else:
            code = round(value)
            out[feature.name] = feature.categories[code] if 0 <= code < len(feature.categories) else "(other)"
    return out


def names_of(column: pd.Series[Any]) -> pd.Series[Any]:
    """Name each value as a category is named, missing ones as NA: 1, 1.0 and "1" are one category, True is another."""
    places, values = pd.factorize(_told_apart(column))
    named = np.array([*map(_name, values), np.nan], dtype=object)  # the last for places of -1: no value
    return pd.Series(named[places], index=column.index, name=column.name)


def _told_apart(column: pd.Series[Any]) -> pd.Series[Any]:
    """Name truth values among others: to a hash table True and 1 are one value."""
    if column.dtype != object:
        return column
    return column.map(lambda value: str(bool(value)) if isinstance(value, bool | np.bool_) else value)


def _name(value: object) -> str:
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _fit_feature(name: str, column: pd.Series[Any], said: FeatureParams | None, codes: Codes) -> Feature:
    kind = (said.kind if said else None) or _infer_kind(column, codes)
    limits: dict[str, Any] = {"missing": codes}
    if said:
        limits |= {"low": said.low, "high": said.high, "step": said.step, "mutable": said.mutable}
    if kind == "category":
        if said is not None and said.spikes:
            msg = "spikes are of numbers, and this is a category"
            raise ValueError(msg)
        named = _without(names_of(column), codes)
        values = set(named.dropna())
        if len(values) > MOST_CATEGORIES:
            msg = f"{len(values)} different values; set data.exclude: [{name}] if it names things"
            raise ValueError(msg)
        if said is None or said.kind is None:
            _require_kinds(name, named)
        return Feature(name=name, kind="category", categories=tuple(sorted(values, key=natural_order)), **limits)
    number = _numbers(column, codes)
    known = number[~np.isnan(number)]
    if len(known) == 0:
        return Feature(name=name, kind="number", **limits)
    low, median, high = np.quantile(known, (0.25, 0.5, 0.75))
    return Feature(
        name=name, kind="number", median=float(median), iqr=float(high - low), std=float(known.std()) or 1.0,
        spread=0.0 if high > low else _spread(known),
        knots=_knots(known, spikes=said is not None and said.spikes), **limits,
    )  # fmt: skip


def _knots(known: Array, *, spikes: bool) -> tuple[float, ...]:
    """Place the knots of the encoder among values (n,): at their quantiles, or a piece to each side of every spike.

    A spike is a value that holds as many rows as a whole piece would. Terms of loans are whole years but for those
    that ended otherwise: a value beside a spike can mean the opposite, and a piece that goes on from the one to the
    other cannot tell them apart.
    """
    if not spikes:
        return tuple(np.unique(np.quantile(known, np.linspace(0.0, 1.0, PIECES + 1)).astype(np.float32)).tolist())
    values, counts = np.unique(known, return_counts=True)
    common = np.flatnonzero(counts >= len(known) / PIECES)
    beside = [values[np.clip(common + step, 0, len(values) - 1)] for step in (-1, 0, 1)]
    rest = known[~np.isin(known, values[common])]
    between = np.quantile(rest, np.linspace(0.0, 1.0, PIECES + 1)) if len(rest) else rest
    knots = np.concatenate([values[[0, -1]], *beside, between])
    return tuple(np.unique(knots.astype(np.float32)).tolist())


def _require_kinds(name: str, values: pd.Series[Any]) -> None:
    """Hold that a column which nobody called a category has values that come again: else every new row is a stranger.

    Raises:
        ValueError: most rows have a value of their own.
    """
    counts = values.value_counts()
    single, rows = int((counts == 1).sum()), int(counts.sum())
    if rows >= _ENOUGH_ROWS and single > rows / 2:
        numeric = pd.to_numeric(values.dropna(), errors="coerce").notna().all()
        said = "numbers written as text (in a CSV, one word in any row makes them so); " if numeric else ""
        msg = (
            f"{said}{single} of {rows} training rows have a value of their own, so it names rows, and new ones would"
            f" all be strangers; set data.exclude: [{name}], or data.features: {{{name}: {{kind: category}}}} to keep"
            " it"
        )
        raise ValueError(msg)


def _spread(known: Array) -> float:
    """Give the unit of distance of values (n,) whose interquartile range is 0: see ``Feature.spread``."""
    values, counts = np.unique(known, return_counts=True)
    others = known[known != values[counts.argmax()]]
    if len(others) == 0:
        return 0.0
    low, high = np.quantile(others, (0.25, 0.75))
    return float(high - low) or float(known.std())


def _infer_kind(column: pd.Series[Any], codes: Codes) -> Literal["number", "category"]:
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        msg = "a moment; name it as data.time, or exclude it"
        raise ValueError(msg)
    if pd.api.types.is_bool_dtype(column.dtype):
        return "category"
    if pd.api.types.is_numeric_dtype(column.dtype):
        return "number"
    if any(isinstance(code, str) for code in codes):
        try:
            _numbers(column, codes)
        except ValueError:
            return "category"
        return "number"
    return "category"


def _codes(column: pd.Series[Any], feature: Feature) -> Array:
    """Encode a category (n,) float64: its code, the code after the last where unknown, NaN where missing."""
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        msg = "a moment where a category is expected"
        raise ValueError(msg)
    places, values = pd.factorize(_told_apart(column))  # each value is looked up once, however many rows have it
    table: dict[str, float] = {name: float(code) for code, name in enumerate(feature.categories)}
    table |= {_name(code): np.nan for code in feature.missing}
    found = [table.get(_name(value), float(len(feature.categories))) for value in values]
    return np.array([*found, np.nan])[places]


def _numbers(column: pd.Series[Any], codes: Codes) -> Array:
    """Read a number (n,) float64, NaN where missing; text is read only where a code for *unknown* is text."""
    if not (pd.api.types.is_numeric_dtype(column.dtype) or pd.api.types.is_bool_dtype(column.dtype)):
        if pd.api.types.is_datetime64_any_dtype(column.dtype):
            msg = "a moment where a number is expected"
            raise ValueError(msg)
        held = column.dropna()
        textual = held.map(lambda value: isinstance(value, str)).astype(bool)
        if textual.any() and not any(isinstance(code, str) for code in codes):
            words = held[textual]
            strays = words[pd.to_numeric(words, errors="coerce").isna()]
            raise ValueError(_no_number(strays if len(strays) else words, column))
        column = _without_text(column, codes)
        number = pd.to_numeric(column, errors="coerce")
        if len(strange := column[column.notna() & number.isna()]):
            raise ValueError(_no_number(strange, column))
        column = number
    value = column.to_numpy(dtype=np.float64, na_value=np.nan).copy()
    numeric = [float(code) for code in codes if not isinstance(code, str)]
    value[np.isin(value, numeric)] = np.nan
    if np.isinf(value).any() or (np.abs(value[~np.isnan(value)]) > np.finfo(np.float32).max).any():
        msg = "infinite values, or beyond float32"
        raise ValueError(msg)
    return value


def _no_number(words: pd.Series[Any], column: pd.Series[Any]) -> str:
    """Say which values are no numbers: in a CSV one of them makes text of all the others too, which are in order."""
    where = f"in {len(words)} of {len(column)} rows, the first is row {words.index[0]}"
    return f"text where a number is expected ({_examples(words)}; {where})"


def _without(names: pd.Series[Any], codes: Codes) -> pd.Series[Any]:
    """Drop the names that mean *unknown*."""
    return names.mask(names.isin([_name(code) for code in codes])) if codes else names


def _without_text(column: pd.Series[Any], codes: Codes) -> pd.Series[Any]:
    return column.mask(column.isin([code for code in codes if isinstance(code, str)]))


def natural_order(name: str) -> tuple[int, float, str]:
    """Order 2 before 10, and numbers before names."""
    try:
        return (0, float(name), name)
    except ValueError:
        return (1, 0.0, name)


def _examples(values: pd.Series[Any]) -> str:
    return ", ".join(repr(value)[:30] for value in values.unique()[:_SHOWN])


def nearest(name: str, names: Sequence[str] | pd.Index[Any]) -> str:
    """Say in brackets which name may be meant; empty where none is near."""
    close = difflib.get_close_matches(name, [str(each) for each in names], n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _read_text(path: Path, separator: str) -> pd.DataFrame:
    return pd.read_csv(path, sep=separator, low_memory=False, encoding="utf-8")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]


def _refused(place: str, found: str, expected: str) -> DataError:
    return DataError(place, found=found, expected=expected, remedy="Mend the file, or name another in data.path.")
