"""Labels and times: the two columns that are not features, read in one way for every source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from holdfast.data.rows import moments
from holdfast.data.table import names_of, natural_order
from holdfast.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

Array = np.ndarray[Any, np.dtype[Any]]
MOST_CLASSES = 1000


def read_labels(column: pd.Series[Any], classes: Sequence[str], place: str) -> tuple[Array, tuple[str, ...]]:
    """Turn label values into class indices.

    Args:
        column: label values (n,): text, booleans or whole numbers.
        classes: names in order. Values are matched by name; whole numbers from 0 that are no names count the names.
            Empty: the values themselves, in order.
        place: where the labels come from, for the message.

    Returns:
        Class indices (n,) int64, and the names of the classes.

    Raises:
        DataError: labels are missing, fractional, of one class only, of too many, or not among the names.
    """
    if absent := int(column.isna().sum()):
        raise _refused(place, f"{absent} rows without a label", "a label in each row", "Label those rows or drop them.")
    if pd.api.types.is_float_dtype(column.dtype) and (column != column.round()).any():
        raise _refused(
            place, "fractional labels", "classes", "Regression is not supported yet: name a column that holds classes."
        )
    names = names_of(column)
    present = sorted(set(names), key=natural_order)
    if len(present) > MOST_CLASSES:
        raise _refused(place, f"{len(present)} different labels", f"at most {MOST_CLASSES}", "Is this the label?")
    known = tuple(classes) or tuple(present)
    if len(known) < 2:  # noqa: PLR2004  a choice needs two
        raise _refused(place, f"one class, {known[0]!r}", "at least two", "Add rows of another class.")
    if not set(present) <= set(known) and (pd.api.types.is_numeric_dtype(column.dtype)):
        counted = column.to_numpy(dtype=np.float64)
        if counted.min() >= 0 and counted.max() < len(known):
            return counted.astype(np.int64), known
    if strangers := [name for name in present if name not in known]:
        raise _refused(
            place, f"labels {', '.join(strangers[:5])}", f"labels among {', '.join(known)}, or 0 to {len(known) - 1}",
            "Correct data.classes in params.yaml, or the labels.",
        )  # fmt: skip
    return names.map({name: i for i, name in enumerate(known)}).to_numpy(dtype=np.int64), known


def read_times(column: pd.Series[Any], place: str) -> tuple[Array, tuple[str, str]]:
    """Turn times into numbers: a number stays what it is, a date or moment becomes a year with its fraction.

    Args:
        column: numbers, moments, or ISO 8601 text (n,).
        place: where the times come from, for the message.

    Returns:
        Times (n,) float64, and the first and last as text.

    Raises:
        DataError: times are missing, infinite, or cannot be read.
    """
    if absent := int(column.isna().sum()):
        raise _refused(place, f"{absent} rows without a time", "a time in each row", "Date those rows or drop them.")
    if pd.api.types.is_numeric_dtype(column.dtype):
        time = column.to_numpy(dtype=np.float64)
        if not np.isfinite(time).all():
            raise _refused(place, "infinite times", "finite numbers", "Mend those rows.")
        return time, (_number(time.min()), _number(time.max()))
    if not pd.api.types.is_datetime64_any_dtype(column.dtype):
        try:
            column = pd.to_datetime(column, format="ISO8601", utc=True)
        except (ValueError, TypeError) as error:
            found = str(error).partition("\n")[0][:100]
            raise _refused(place, found, "numbers, or dates as in 2007-11-30", "Convert the column.") from error
    moment = moments(column).view("datetime64[us]")
    year = moment.astype("datetime64[Y]")
    start, end = year.astype("datetime64[us]"), (year + 1).astype("datetime64[us]")
    fraction = (moment - start).astype(np.float64) / (end - start).astype(np.float64)
    days = moment.astype("datetime64[D]")
    return year.astype(np.int64) + 1970.0 + fraction, (str(days.min()), str(days.max()))


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _refused(place: str, found: str, expected: str, remedy: str) -> DataError:
    return DataError(place, found=found, expected=expected, remedy=remedy)
