"""What is declared of single rows, asked of a window's: faults named by place, the label and the whole left aside."""

import pandas as pd
import pytest

from holdfast.integrity.duplicates import Duplicates
from holdfast.integrity.rows import declared_of_rows, examine_rows
from holdfast.integrity.schema import Schema

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
