"""Category typos against slips of the finger that are made one by one, and read as a file is."""

from __future__ import annotations

import math
from collections import Counter

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.data.table import encode
from holdfast.scenarios.anomalies.category_typos import CategoryTypos, typos
from holdfast.seeding import Noise
from holdfast.space import Feature, Table

N = 20_000
IDS = torch.arange(N)
PLACE = Feature(name="place", kind="category", categories=("CA", "GA", "C", "AC", "11"), missing=("1",))
TABLE = Table(features=(PLACE,))


def distance(a, b):
    """Optimal string alignment: insertions, deletions, substitutions and transpositions of neighbours."""
    grid = {(i, 0): i for i in range(len(a) + 1)} | {(0, j): j for j in range(len(b) + 1)}
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            grid[i, j] = min(grid[i - 1, j] + 1, grid[i, j - 1] + 1, grid[i - 1, j - 1] + (a[i - 1] != b[j - 1]))
            if i > 1 and j > 1 and a[i - 2 : i] == b[j - 2 : j][::-1]:
                grid[i, j] = min(grid[i, j], grid[i - 2, j - 2] + 1)
    return grid[len(a), len(b)]


@settings(max_examples=30)
@given(st.text("ABab01 é", min_size=1, max_size=6))
def test_a_typo_is_one_slip(name):
    """Each is at a distance of one from the name, by Damerau's measure, and none is empty."""
    found = [typo for each in typos(name) for typo in each]
    assert found
    assert all(typo and distance(name, typo) == 1 for typo in found)


@pytest.mark.parametrize("code", range(5))
def test_typos_are_read_as_a_file_is(code):
    """Names that typos make of one name are encoded as a file's; each outcome comes as often as its slips are likely."""
    x = torch.full((N, 1), float(code))
    after = CategoryTypos().disturb(x, IDS, 5, Noise(2), TABLE)
    expected = Counter()
    kinds = [each for each in typos(PLACE.categories[code]) if each]
    for kind in kinds:
        read = encode(pd.DataFrame({"place": kind}), TABLE).nan_to_num(-1.0).flatten().tolist()
        for outcome in read:
            expected[outcome] += 1 / len(kinds) / len(read)
    found = Counter(after.nan_to_num(-1.0).flatten().tolist())
    stayed = 0.5
    assert set(found) <= {*expected, float(code)}
    for outcome, chance in expected.items():
        share = chance * stayed
        assert abs(found[outcome] / N - share) < 4 * math.sqrt(share * (1 - share) / N)


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_the_stated_share_is_mistyped(severity):
    """Of known names; those that training never saw, and missing ones, stay."""
    x = torch.zeros((N, 1))
    share = CategoryTypos.shares[severity - 1]
    moved = CategoryTypos().disturb(x, IDS, severity, Noise(2), TABLE) != 0
    assert abs(float(moved.float().mean()) - share) < 4 * math.sqrt(share * (1 - share) / N)
    for same in (5.0, torch.nan):
        stays = torch.full((N, 1), same)
        after = CategoryTypos().disturb(stays, IDS, severity, Noise(2), TABLE)
        assert torch.equal(after.nan_to_num(-1.0), stays.nan_to_num(-1.0))
