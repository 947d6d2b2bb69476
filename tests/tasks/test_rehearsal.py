"""The oracle of a drill: it answers what whoever serves would answer, and no more."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from holdfast.data.params import DataParams
from holdfast.data.table import fit_table
from holdfast.drills.events.base import Batch
from tasks import rehearsal


@pytest.mark.parametrize(("unseen", "below", "right"), [("abstain", 0.0, 8), ("answer", 0.0, 10), ("answer", 0.9, 5)])
def test_the_oracle_refuses_what_whoever_serves_refuses(monkeypatch, unseen, below, right):
    """Else it would be ahead by rows that nobody may answer, and damage that did nothing would count as not mended."""
    known = pd.DataFrame({"number": np.arange(40.0), "kind": ["a", "b"] * 20})
    space = fit_table(known, ["number", "kind"], DataParams(kind="table", path="t", label="y"))
    asked = pd.DataFrame({"number": np.arange(10.0), "kind": ["a"] * 8 + ["new"] * 2})
    sure = torch.where(torch.arange(10) < 5, 5.0, 1.0)
    model = SimpleNamespace(
        space=space, device="cpu", logits=lambda x: torch.stack([sure[: len(x)], torch.zeros(len(x))], 1)
    )
    batch = Batch(rows=asked, truth=np.zeros(10, dtype=np.int64), told=np.zeros(10, dtype=np.int64),
                  touched=np.zeros(10, dtype=bool))  # fmt: skip
    monkeypatch.setattr(rehearsal, "_metric", lambda _, truth, predicted, __: int((truth == predicted).sum()))
    params = SimpleNamespace(prediction=SimpleNamespace(unseen_categories=unseen, abstain_below=below))
    assert rehearsal._asked(params, [model], batch) == right
