"""Recorded predictions: read where they are probabilities, refused where they are not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from holdfast.data.recorded import Recorded
from holdfast.errors import DataError, ModelError
from holdfast.space import Feature, Table

SPACE = Table(features=(Feature(name="age", kind="number", iqr=10.0),))
ANSWERS = Recorded(SPACE, ("no", "yes"))


def rows(**columns):
    return pd.DataFrame({"age": [30.0, 40.0], "no": [0.9, 0.25], "yes": [0.1, 0.75]} | columns)


def test_answers_are_the_columns_in_the_order_of_the_classes():
    """Inputs are the features alone, probabilities sum to 1 exactly, and few digits are no fault."""
    told = ANSWERS.examine(rows(no=["0.9", "0.2502"]))
    assert torch.equal(told.inputs, torch.tensor([[30.0], [40.0]]))
    assert told.probabilities[0] == pytest.approx([0.9, 0.1])
    assert told.probabilities.sum(1) == pytest.approx([1.0, 1.0], abs=1e-15)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"no": [0.9, np.nan]}, "1 of 2 rows without probabilities"),
        ({"no": [0.9, "none"]}, "1 of 2 rows without probabilities"),
        ({"no": [9.0, 0.25]}, "1 of 2 rows without probabilities"),
        ({"no": [1.5, 0.25], "yes": [-0.5, 0.75]}, "1 of 2 rows without probabilities"),
    ],
)
def test_what_is_no_probability_is_refused(columns, words):
    """Gaps, words, sums that are not 1 and negative numbers are no answers."""
    with pytest.raises(DataError, match=words):
        ANSWERS.examine(rows(**columns))


def test_what_is_not_there_is_refused():
    """A column that is gone, images, layers that nobody can read, and answers that nobody can ask for."""
    with pytest.raises(DataError, match="no column yes"):
        ANSWERS.examine(rows().drop(columns="yes"))
    with pytest.raises(DataError, match="images"):
        ANSWERS.examine(np.zeros((2, 1, 4, 4)))
    with pytest.raises(ModelError, match="detectors of rows and answers"):
        ANSWERS.embed(torch.zeros(1, 1))
    with pytest.raises(ModelError, match="a trace of squeezed rows"):
        ANSWERS.squeeze(torch.zeros(1, 1), torch.zeros(1, 1))
