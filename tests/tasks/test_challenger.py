"""The challenger: whose answers it is held against, what it is allowed, and which rows of a window it was asked."""

from types import SimpleNamespace

import numpy as np
import pytest

from holdfast.monitoring.watch import WindowRecord
from holdfast.recovery.inspection import Inspection, looked_at
from holdfast.statistics import tango
from holdfast.stores import Stores
from tasks import challenger

RECORD = WindowRecord(position=4, digest="4" * 64, rows=6, state="escrowed", why="", matured=True)
NONE_ALLOWED = challenger.Allowance(allowed=0.0, right=())


class Shelf:
    """The record of screenings."""

    def __init__(self, told):
        self.told = told

    def screening(self, position):
        return self.told if position == RECORD.position else None


def test_a_lead_counts_rows_that_one_alone_gets_right_less_what_is_allowed():
    """Both right, the challenger alone, the champion alone, neither."""
    its, right = np.array([True, True, False, False]), np.array([True, False, True, False])
    assert challenger.lead(its, right, 0.125).tolist() == [-0.125, 0.875, -1.125, -0.125]


def test_only_the_rows_that_were_screened_have_a_lead():
    """Screening looks at some rows of a large window: those, in their places, and no others."""
    margins = np.array([0.0, -0.5, 0.0, -0.9])
    found = Inspection.of(margins, measure="ratio").model_dump_json()
    right = np.array([True, False, True, False, True, False])
    told = challenger.lead_on(Shelf(found), RECORD, right, NONE_ALLOWED)
    chosen = looked_at(RECORD.digest, 6, 4)
    assert told[chosen].tolist() == (np.array([1.0, 0.0, 1.0, 0.0]) - right[chosen]).tolist()
    assert np.isnan(told).sum() == 2


@pytest.mark.parametrize(
    "told", [None, Inspection.of(np.zeros(6), measure="difference").model_dump_json(),
             Inspection(poison=True, unreadable="no column").model_dump_json()],
)  # fmt: skip
def test_what_was_not_screened_so_says_nothing(told):
    """No screening, one by the measure of an older release, and a window that could not be read."""
    found = challenger.lead_on(Shelf(told), RECORD, np.ones(6, dtype=bool), NONE_ALLOWED)
    assert np.isnan(found).all()


def test_what_a_challenger_is_allowed_is_the_limit_of_its_lead_when_the_champion_was_new(tmp_path, monkeypatch):
    """It learns the champion's training rows, and both are asked on rows that neither learned from; once."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(900, 2)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)

    asked = []
    monkeypatch.setattr(challenger, "quick_features", lambda rows, _: rows)
    real = challenger.classify
    monkeypatch.setattr(challenger, "classify", lambda *parts: asked.append(parts) or real(*parts))

    class Train:
        def __init__(self, rows):
            self.x, self.y = x[rows], SimpleNamespace(numpy=lambda: y[rows])

        def __len__(self):
            return len(self.x)

    data = SimpleNamespace(
        digest="d", frame=object(), space=None, classes=("a", "b"),
        samples=lambda role: Train(slice(0, 600) if role == "train" else slice(600, 900)),
    )  # fmt: skip
    right = draw.random(300) < 0.9
    stores, champion = Stores.local(tmp_path, tmp_path / "state"), SimpleNamespace(digest="c", version=1)
    params = SimpleNamespace(seed=0)
    found = challenger.allowance(params, stores, champion, data, right)
    its = np.array(found.right)
    assert its.mean() > 0.95
    assert found.allowed == pytest.approx(tango(int((its & ~right).sum()), int((right & ~its).sum()), 300, 0.98)[1])
    assert challenger.allowance(params, stores, champion, data, right) == found
    assert len(asked) == 1
    perfect = challenger.allowance(
        params, stores, SimpleNamespace(digest="e", version=2), data, np.ones(300, dtype=bool)
    )
    assert 0.0 <= perfect.allowed < 0.02
