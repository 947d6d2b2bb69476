"""What is declared of single rows, asked of a window's: faults named by place, the label and the whole left aside."""

import numpy as np
import pandas as pd
import pytest
import torch

from holdfast.integrity.duplicates import Duplicates
from holdfast.integrity.rows import REACH, declared_of_rows, examine_rows, out_of_reach, unanswered
from holdfast.integrity.schema import Schema
from holdfast.space import Box, Feature, Table

SCHEMA = Schema(
    columns={"grade": {"type": "text", "in_set": ["A", "B"]}, "default": {"type": "integer", "in_set": [0, 1]}},
    row_count={"min": 100}, label_distribution={0: [0.7, 0.9]},
)  # fmt: skip


@pytest.mark.parametrize(("grades", "faulty"), [("ABAB", ()), ("ABTB", (2,)), ("TBAT", (0, 3))])
def test_faulty_rows_are_named_by_their_places(grades, faulty):
    """Four rows without labels are too few for the set and say nothing of the label: neither is their fault."""
    asked = declared_of_rows([Duplicates(), SCHEMA], "default")
    assert examine_rows(asked, pd.DataFrame({"grade": list(grades)}), seed=0).rows == faulty


def test_where_nothing_is_declared_of_rows_nothing_is_asked():
    """No schema, no question."""
    assert declared_of_rows([Duplicates()], "default") is None


def test_rows_without_an_answer_are_named_by_their_places():
    """All of them count, and the first are told."""
    found = unanswered(np.array([2, 3, 5, 7, 11, 13]), 40)
    assert (found.verdict, found.rows, found.examined) == ("quarantine", (2, 3, 5, 7, 11, 13), 40)
    assert found.reason.startswith("6 of 40 rows have no finite answer (rows 2, 3, 5, 7, 11, ...)")


def test_numbers_are_out_of_reach_by_their_own_unit():
    """What is missing is not far, a category has no distance, and pixels have their range."""
    space = Table(
        features=(
            Feature(name="wide", kind="number", median=5.0, iqr=100.0),
            Feature(name="narrow", kind="number", iqr=0.01),
            Feature(name="kind", kind="category", categories=("a",)),
        )
    )
    wide, narrow = [0.9 * REACH, 110 * REACH, float("nan"), 0.0], [0.0, 0.0, float("nan"), -0.02 * REACH]
    x = torch.tensor([wide, narrow, [1.0] * 4]).T
    assert out_of_reach(x, space).tolist() == [False, True, False, True]
    assert not out_of_reach(
        torch.zeros(2, 1, 3, 3), Box(shape=(1, 3, 3), low=0.0, high=1.0, mean=(0.0,), std=(1.0,))
    ).any()
