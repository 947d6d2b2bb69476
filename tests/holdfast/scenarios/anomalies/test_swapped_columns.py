"""Swapped columns against what a file with two exchanged headers would be read as."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from holdfast.data.table import encode
from holdfast.scenarios.anomalies.swapped_columns import SwappedColumns
from holdfast.seeding import Noise
from holdfast.space import Feature, Table

NUMBERS = tuple(Feature(name=f"n{i}", kind="number") for i in range(5))
STATE = Feature(name="state", kind="category", categories=("CA", "NY", "TX"))
BANK = Feature(name="bank", kind="category", categories=("NC", "NY", "SD", "TX", "VA"))
N = 2000
IDS = torch.arange(N)


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_as_many_pairs_of_numbers_change_places_as_the_severity(severity):
    """Each row keeps its values; those that moved did so in pairs, and every column gets its turn."""
    x = torch.arange(5.0).repeat(N, 1)
    after = SwappedColumns().disturb(x, IDS, severity, Noise(2), Table(features=NUMBERS))
    assert torch.equal(after.sort(dim=1).values, x)
    moved = after != x
    assert (moved.sum(1) == 2 * min(severity, 2)).all()
    assert torch.equal(after.gather(1, after.long()), x)  # what took my place has mine
    assert (moved.float().mean(0) - 2 * min(severity, 2) / 5).abs().max() < 0.06


def test_a_swapped_category_is_read_by_its_name():
    """As the file with exchanged columns is read: known names by their new column's codes, others unseen."""
    names = [(a, b) for a in ("CA", "NY", "TX", "ZZ", None) for b in ("NC", "NY", "SD", "TX", "VA", "ZZ", None)]
    frame = pd.DataFrame(names, columns=["state", "bank"], dtype=object)
    table = Table(features=(STATE, BANK))
    after = SwappedColumns().disturb(encode(frame, table), torch.arange(len(frame)), 1, Noise(2), table)
    read = encode(frame.rename(columns={"state": "bank", "bank": "state"}), table)
    # A name that both columns never saw is one code; one that its own column never saw is not known by name.
    assert torch.equal(after.nan_to_num(-1.0), read.nan_to_num(-1.0))


def test_numbers_and_categories_never_change_places():
    """A lone category has nobody to change places with, and the severity counts pairs of both kinds."""
    assert SwappedColumns().columns(Table(features=(NUMBERS[0], STATE))) == []
    table = Table(features=(NUMBERS[0], STATE, NUMBERS[1], BANK))
    x = torch.tensor([[10.0, 1.0, 20.0, 0.0]]).repeat(N, 1)
    after = SwappedColumns().disturb(x, IDS, 1, Noise(2), table)
    numbers, categories = after[:, 0] == 20.0, after[:, 3] == 1.0  # NY is 1 in both
    assert torch.equal(numbers, ~categories)
    assert 0.4 < float(numbers.float().mean()) < 0.6
    assert (after[categories, 1] == 3.0).all()  # NC is no state
    assert torch.equal(after[numbers], torch.tensor([[20.0, 1.0, 10.0, 0.0]]).expand(int(numbers.sum()), 4))
