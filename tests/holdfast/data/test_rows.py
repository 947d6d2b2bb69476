"""Row ids and digests: by value, not by type, place or order."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.data.rows import digest_rows, frame_bytes, row_ids, words
from holdfast.errors import DataError


def by_content(ids, table):
    return {key: set(ids[group.index]) for key, group in table.groupby(["n", "s"])}


def ids_of(frame):
    return row_ids(digest_rows(frame_bytes(frame, "t"), "row"))


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(-3, 3), st.sampled_from(["a", "b"])), min_size=1, max_size=40),
    st.randoms(use_true_random=False),
)
def test_ids_are_unique_and_follow_their_rows(rows, order):
    """Ids are unique even among equal rows, and a permuted table has the same set of ids for the same content."""
    frame = pd.DataFrame(rows, columns=["n", "s"])
    shuffled = frame.iloc[order.sample(range(len(frame)), len(frame))].reset_index(drop=True)
    before, after = ids_of(frame), ids_of(shuffled)
    assert len(set(before)) == len(frame)
    assert by_content(before, frame) == by_content(after, shuffled)


def test_types_and_column_order_do_not_matter():
    """The same values as int8, float64, with a missing cell elsewhere, in other columns' order, have the same ids."""
    plain = pd.DataFrame({"a": np.array([1, 2, 3], dtype=np.int8), "b": ["x", "y", "z"]})
    other = pd.DataFrame({"b": ["x", "y", "z", None], "a": [1.0, 2.0, 3.0, np.nan]})
    assert (ids_of(other)[:3] == ids_of(plain)).all()
    assert (ids_of(plain.astype({"b": "category"})) == ids_of(plain)).all()


def test_every_value_counts():
    """Each cell's value changes the digest: 1 and 1.5, -0.0 as 0, a missing cell, text that looks like a number."""
    cells = [1, 1.5, 0.0, np.nan, 2**60 + 1.0, -1]
    numbers = words(digest_rows(frame_bytes(pd.DataFrame({"a": cells}), "t"), "content"))
    text = words(digest_rows(frame_bytes(pd.DataFrame({"a": ["1", "-1"]}), "t"), "content"))
    assert len({*numbers, *text}) == len(cells) + 2
    zeros = words(digest_rows(frame_bytes(pd.DataFrame({"a": [0.0, -0.0]}), "t"), "content"))
    assert zeros[0] == zeros[1]


def test_large_integers_are_exact():
    """Neighbouring 64-bit integers, which floats confuse, have different digests."""
    frame = pd.DataFrame({"a": np.array([2**62, 2**62 + 1], dtype=np.int64)})
    assert len(set(words(digest_rows(frame_bytes(frame, "t"), "content")))) == 2


def test_columns_of_anything_else_are_refused():
    """A column of lists is named and refused."""
    with pytest.raises(DataError, match="column a: found list"):
        frame_bytes(pd.DataFrame({"a": [[1], [2]]}), "t")
