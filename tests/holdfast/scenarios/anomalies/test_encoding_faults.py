"""Encoding faults against text that is really written one way and read another."""

from __future__ import annotations

import math
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from holdfast.scenarios.anomalies.encoding_faults import EncodingFaults, as_parsed
from holdfast.seeding import Noise
from holdfast.space import Feature, Table

N = 2000
IDS = torch.arange(N)
NUMBERS = tuple(Feature(name=f"n{i}", kind="number") for i in range(6))
CITY = Feature(name="city", kind="category", categories=("Köln", "KÃ¶ln", "Bonn", "Zürich"))
ASCII = Feature(name="state", kind="category", categories=("CA", "NY"))


def parse(text):
    """Read as strtod does: the longest initial part that is a number."""
    return float(re.match(r"-?\d+(\.\d+)?", text).group())


@given(st.floats(-(2.0**41), 2.0**41, width=32))
def test_a_number_is_read_up_to_what_a_parser_does_not_know(value):
    """Write it with points between thousands and a decimal comma, and parse that."""
    written = format(value, ",.60f").translate(str.maketrans(",.", ".,"))
    read = float(as_parsed(torch.tensor([value], dtype=torch.float32)))
    assert math.isclose(read, parse(written), rel_tol=1e-6)


def test_what_the_parser_makes_of_amounts():
    """Fractions go, thousands become fractions, small counts come through, missing stays missing."""
    x = torch.tensor([12.5, -0.75, 999.0, 1000.0, 1234.56, -50000.0, 1234567.0, 3e38, torch.nan])
    read = as_parsed(x)
    assert torch.allclose(read[:7], torch.tensor([12.0, 0.0, 999.0, 1.0, 1.234, -50.0, 1.234]))
    assert float(read[7]) == 300.0
    assert read[8].isnan()


def test_names_beyond_ascii_become_strangers_unless_training_knew_them_so():
    """The misspelling of Cologne is a category of its own here; Bonn has nothing to be misread."""
    x = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, torch.nan]).repeat(N // 5)[:N, None]
    after = EncodingFaults().disturb(x, IDS, 1, Noise(2), Table(features=(CITY,)))
    wanted = torch.tensor([1.0, 4.0, 2.0, 4.0, 4.0, -1.0]).repeat(N // 5)[:N, None]
    assert torch.equal(after.nan_to_num(-1.0), wanted)


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_as_many_columns_are_misread_as_the_severity(severity):
    """Numbers and names beyond ASCII have the same chance; a column of ASCII names is never hit."""
    table = Table(features=(ASCII, *NUMBERS[:3], CITY, *NUMBERS[3:]))
    x = torch.full((N, 8), 1.5)
    x[:, [0, 4]] = 0.0
    moved = EncodingFaults().disturb(x, IDS, severity, Noise(2), table) != x
    assert not moved[:, 0].any()
    assert (moved.sum(1) == severity).all()
    assert (moved[:, 1:].float().mean(0) - severity / 7).abs().max() < 0.05
