"""Tables: reading, describing, encoding and decoding."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.data.params import DataParams, FeatureParams
from holdfast.data.table import PIECES, check_words, decode, encode, fit_table, names_of, read_table
from holdfast.errors import DataError
from holdfast.space import Table

NAMES = ("n", "c", "b")


GOLDEN = "458311665de9a376fc5583e745f683cd9e4d497ba4620da16d8a5ece47c18c8f"
"""Fingerprint of a section `data` by a release that knew no spikes."""


def params(**settings):
    return DataParams(kind="table", path="t.csv", label="y", **settings)


def table():
    return pd.DataFrame(
        {"n": [1.0, 2.0, 3.0, 4.0, np.nan], "c": ["10", "9", "x", None, "x"], "b": [True, False, True, True, False]}
    )


def test_features_are_described_by_the_rows_given():
    """Median, quartiles and deviation skip missing values; categories are in natural order; text and booleans are categories."""
    n, c, b = fit_table(table(), NAMES, params()).features
    assert (n.kind, n.median, n.iqr, n.std) == ("number", 2.5, 1.5, pytest.approx(np.std([1, 2, 3, 4])))
    assert (c.kind, c.categories) == ("category", ("9", "10", "x"))
    assert (b.kind, b.categories) == ("category", ("False", "True"))
    assert n.low is None
    assert not n.mutable


def test_constant_and_empty_columns_have_a_unit():
    """A constant column and one without any value have IQR 0 and deviation 1, so nothing divides by zero."""
    frame = pd.DataFrame({"k": [7, 7, 7], "e": [np.nan] * 3})
    k, e = fit_table(frame, ("k", "e"), params()).features
    assert (k.median, k.iqr, k.std) == (7.0, 0.0, 1.0)
    assert (e.median, e.iqr, e.std) == (0.0, 0.0, 1.0)


def test_codes_for_unknown_are_missing_and_strangers_get_the_last_code():
    """A code of ``missing_values`` becomes NaN by value in any type; a category not seen in training gets code k."""
    said = params(missing_values={"n": (4,), "c": (9,)}, features={"n": FeatureParams(kind="number")})
    space = fit_table(table(), NAMES, said)
    assert space.features[1].categories == ("10", "x")
    x = encode(pd.DataFrame({"b": [True], "c": ["new"], "n": [4]}), space)
    assert x.isnan().tolist() == [[True, False, False]]
    assert x[0, 1:].tolist() == [2.0, 1.0]
    assert x.dtype == torch.float32


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.one_of(st.none(), st.integers(-1000, 1000)), st.one_of(st.none(), st.sampled_from(["u", "v"]))),
        min_size=1,
    )
)
def test_decoding_gives_back_what_was_encoded(rows):
    """For values that float32 holds and categories seen in training, decode undoes encode."""
    frame = pd.DataFrame(rows, columns=["n", "c"]).astype({"n": "float64", "c": "object"})
    space = fit_table(frame, ("n", "c"), params())
    decoded = [decode(row, space) for row in encode(frame, space)]
    assert decoded == [{"n": None if n is None else float(n), "c": c} for n, c in rows]


def test_every_fault_of_the_rows_is_listed():
    """Missing, mistyped, infinite and refused columns come in one message."""
    space = fit_table(
        pd.DataFrame({"a": [1.0, 2], "b": [1.0, 2], "c": ["u", "v"], "d": [0, 1]}), tuple("abcd"), params()
    )
    rows = pd.DataFrame({"a": ["many"], "b": [np.inf], "c": ["u"], "z": [1]})
    with pytest.raises(DataError) as refusal:
        encode(rows, space, extra="refuse")
    for fault in (
        "no column 'd'",
        "'z'",
        "a: text where a number is expected ('many'; in 1 of 1 rows, the first is row 0)",
        "b: infinite",
    ):
        assert fault in str(refusal.value)
    assert encode(pd.DataFrame({"a": [1], "b": [1], "c": ["u"], "d": [1], "z": [1]}), space).shape == (1, 4)


def test_numbers_as_text_are_read_only_where_a_text_code_explains_them():
    """'unknown' among numbers makes a column of text; declared, it is missing, and any other text is refused."""
    frame = pd.DataFrame({"n": ["1", "unknown", "3"]})
    said = params(missing_values={"n": ("unknown",)})
    space = fit_table(frame, ("n",), said)
    assert space.features[0].kind == "number"
    assert encode(frame, space)[:, 0].nan_to_num(-1).tolist() == [1.0, -1.0, 3.0]
    with pytest.raises(DataError, match="text where a number is expected"):
        encode(pd.DataFrame({"n": ["1", "2 or so"]}), space)


def test_a_stray_word_is_named_with_its_row_and_without_the_good_values_beside_it():
    """One word makes text of a whole column of a CSV: the numbers in it are in order, and not what is wrong."""
    space = fit_table(pd.DataFrame({"n": [1.0, 2.0, 3.0]}), ("n",), params())
    with pytest.raises(DataError, match=r"expected \('n/k'; in 1 of 3 rows, the first is row 1\)"):
        encode(pd.DataFrame({"n": ["1.5", "n/k", "3"]}), space)
    with pytest.raises(DataError, match=r"'1.5', '3'; in 2 of 2 rows, the first is row 0"):
        encode(pd.DataFrame({"n": ["1.5", "3"]}), space)


def test_relations_are_read_and_bad_ones_named():
    """A relation over numbers becomes part of the space; one over a category is refused with its text."""
    frame = pd.DataFrame({"a": [1, 2], "b": [2, 3], "c": ["u", "v"]})
    space = fit_table(frame, tuple("abc"), params(relations=("a <= b",)))
    assert space.relations[0].terms == {"a": 1.0, "b": -1.0}
    with pytest.raises(DataError, match="a <= c"):
        fit_table(frame, tuple("abc"), params(relations=("a <= c",)))


def test_a_spike_has_pieces_of_its_own_where_that_is_asked_for():
    """A knot at a shared value and at each neighbour, at both ends, and between them where the other rows lie."""
    source = np.random.default_rng(0)
    months = np.concatenate([np.full(400, 84.0), np.full(300, 60.0), source.integers(1, 120, 300)])
    frame = pd.DataFrame({"n": months})

    def knots(**said):
        (feature,) = fit_table(frame, ("n",), params(features={"n": FeatureParams(kind="number", **said)})).features
        return feature.knots

    asked, plain = {*knots(spikes=True)}, {*knots()}
    assert {83.0, 84.0, 85.0, 59.0, 60.0, 61.0} <= asked
    assert not {83.0, 85.0} & plain
    assert asked >= {months.min(), months.max()}
    others = np.unique(
        np.quantile(months[(months != 84) & (months != 60)], np.linspace(0, 1, PIECES + 1)).astype(np.float32)
    )
    assert asked == {*others.tolist(), months.min(), months.max(), 83.0, 84.0, 85.0, 59.0, 60.0, 61.0}
    assert knots(spikes=True) == tuple(sorted(asked))


def test_spikes_of_a_category_are_refused():
    """They are of numbers; said of text they would be passed over in silence."""
    with pytest.raises(ValueError, match="spikes are of numbers"):
        FeatureParams(kind="category", spikes=True)
    with pytest.raises(DataError, match="n: spikes are of numbers, and this is a category"):
        fit_table(pd.DataFrame({"n": list("abab")}), ("n",), params(features={"n": FeatureParams(spikes=True)}))


def test_what_is_not_asked_for_is_in_no_digest():
    """A champion of a release without a setting knows its data again by the same digest."""
    assert "spikes" not in FeatureParams(low=1.0).model_dump(mode="json")
    assert FeatureParams(spikes=True).model_dump(mode="json")["spikes"] is True
    plain = params(features={"n": FeatureParams(kind="number")})
    assert plain.fingerprint() == GOLDEN
    assert params(features={"n": FeatureParams(kind="number", spikes=True)}).fingerprint() != GOLDEN


def test_identifiers_and_moments_are_no_features():
    """A column of a thousand names and one of moments are refused, each with what to do."""
    frame = pd.DataFrame({"id": [f"r{i}" for i in range(1001)], "at": pd.date_range("2020", periods=1001)})
    with pytest.raises(DataError) as refusal:
        fit_table(frame, ("id", "at"), params())
    assert "id: 1001 different values" in str(refusal.value)
    assert "at: a moment" in str(refusal.value)


def test_a_column_that_names_rows_is_refused_unless_it_is_called_a_category():
    """Values that never come again would make every new row a stranger; what comes again, or is declared, stays."""
    names = [f"r{i}" for i in range(200)]
    frame = pd.DataFrame({"id": names, "plan": ["a", "b"] * 100, "half": ["x"] * 100 + names[100:]})
    with pytest.raises(DataError, match=r"id: 200 of 200 training rows .* data.exclude: \[id\]") as refusal:
        fit_table(frame, ("id", "plan", "half"), params())
    assert "plan" not in str(refusal.value)
    assert "half" not in str(refusal.value)
    assert len(fit_table(frame, ("id",), params(features={"id": {"kind": "category"}})).features[0].categories) == 200


def test_a_stray_word_among_numbers_is_named_and_makes_no_category():
    """One cell of text in a column of numbers is shown with what to do; few codes with a letter are a category."""
    fees = [f"{i / 7:.2f}" for i in range(300)]
    with pytest.raises(DataError, match=r"fee: text in 1 of 300 rows of a column of numbers \('abc', row 299\); mend"):
        check_words(pd.DataFrame({"fee": [*fees[:-1], "abc"]}), ("fee",), params())
    again = [f"{i % 50}" for i in range(299)]  # these come again: it was a category of fifty numbers and a word
    with pytest.raises(DataError, match="text in 1 of 300"):
        check_words(pd.DataFrame({"fee": [*again, "abc"]}), ("fee",), params())
    with pytest.raises(DataError, match="fee: numbers written as text"):
        fit_table(pd.DataFrame({"fee": fees}), ("fee",), params())
    for few in (["7+"] * 3 + [str(i % 7) for i in range(97)], ["U"] + [str(i % 12) for i in range(99)]):
        check_words(pd.DataFrame({"grade": few}), ("grade",), params())  # codes, most of which are digits
    half = ["abc"] * 20 + again[:200]
    check_words(pd.DataFrame({"fee": half}), ("fee",), params())  # words in more than 5 % are no slip
    codes = pd.DataFrame({"code": ["0", "1", "2", "Y"] * 30, "fee": [*again[:119], "abc"]})
    said = params(features={"fee": {"kind": "category"}})
    check_words(codes, ("code", "fee"), said)
    assert [each.kind for each in fit_table(codes, ("code", "fee"), said).features] == ["category", "category"]


def test_parquet_and_csv_hold_the_same_table(tmp_path):
    """The same table reads the same from both formats."""
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": [0.5, np.nan]})
    frame.to_parquet(tmp_path / "t.parquet")
    frame.to_csv(tmp_path / "t.csv", index=False)
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.parquet"), read_table(tmp_path / "t.csv"), check_dtype=False)


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.99])
def test_truncated_parquet_is_refused(tmp_path, kept):
    """A Parquet file cut anywhere is an error that says so, never fewer rows."""
    path = tmp_path / "t.parquet"
    pd.DataFrame({"a": range(1000)}).to_parquet(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(DataError, match=r"t\.parquet: found a file that cannot be read"):
        read_table(path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.csv", b"", "cannot be read"),
        ("t.csv", b"a,b\n", "0 rows"),
        ("t.csv", b"\xff\xfe\x00", "cannot be read"),
        ("t.xlsx", b"PK", "a .xlsx file"),
        ("none.csv", None, "no such file(.|\n)*holdfast data add"),
    ],
)
def test_files_that_are_no_tables_are_refused(tmp_path, name, content, said):
    """An empty file, one without rows, one in no encoding, another format and no file: a clear error each."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said):
        read_table(tmp_path / name)


def test_codes_for_unknown_travel_with_the_space():
    """A space that went through JSON still reads the codes as missing: serving needs no params for it."""
    frame = pd.DataFrame({"n": [1, 2, 99], "c": ["x", "?", "y"]})
    space = fit_table(frame, ("n", "c"), params(missing_values={"n": (99,), "c": ("?",)}))
    again = Table.model_validate_json(space.model_dump_json())
    assert encode(frame, again).isnan().tolist() == [[False, False], [False, True], [True, False]]


COUNTS = [0.0] * 80 + [4.0, 5.0, 7.0, 9.0, 15.0] * 4


@pytest.mark.parametrize(
    ("values", "unit"),
    [
        (COUNTS, 4.0),  # quartiles 5 and 9 of those that are not 0
        ([0.0] * 90 + [1.0] * 10, np.sqrt(0.09)),  # a flag: only one other value, so its standard deviation
        ([3.0] * 100, 0.0),
        ([np.nan] * 5 + [3.0], 0.0),
    ],
)
def test_a_number_with_one_ruling_value_has_the_spread_of_the_others_as_unit(values, unit):
    """An IQR of 0 stays as found, and the unit of distance is the non-modal IQR, else the deviation, else none."""
    (feature,) = fit_table(pd.DataFrame({"k": values}), ("k",), params()).features
    assert feature.iqr == 0.0
    assert feature.unit == pytest.approx(unit)
    assert Table(features=(feature.model_copy(update={"mutable": True}),)).scale(torch.device("cpu")).tolist() == [
        pytest.approx(unit)
    ]


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=60))
def test_every_number_that_varies_has_a_unit(values):
    """Only a constant has no unit of distance; an IQR above 0 is the unit itself."""
    (feature,) = fit_table(pd.DataFrame({"k": values}), ("k",), params()).features
    assert feature.unit == (feature.iqr or feature.spread)
    assert (feature.unit > 0) == (len(set(values)) > 1)
    assert feature.iqr == 0 or feature.spread == 0


def test_true_is_another_category_than_one_whatever_stands_beside_it():
    """A hash table holds True and 1 for one value; a row's code must not depend on its neighbours."""
    column = pd.Series([True, 1, "1", False, None], dtype=object)
    assert names_of(column).tolist()[:4] == ["True", "1", "1", "False"]
    for order in ([0, 1, 2, 3], [1, 0, 3, 2]):
        assert names_of(column.iloc[order]).tolist() == [["True", "1", "1", "False"][k] for k in order]
