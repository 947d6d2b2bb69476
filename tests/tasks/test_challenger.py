"""The challenger: whose answers it is held against, what it is allowed, and which rows of a window it was asked."""

import base64
from types import SimpleNamespace

import numpy as np
import pytest

from holdfast.monitoring.challenger import allowed
from holdfast.monitoring.watch import WindowRecord
from holdfast.recovery.inspection import Inspection, looked_at, measure
from holdfast.stores import Stores
from tasks import challenger

RECORD = WindowRecord(position=4, digest="4" * 64, rows=6, state="escrowed", why="", matured=True)
NONE_ALLOWED = challenger.Allowance(allowed=(0.0, 0.0), losses=())


class Shelf:
    """The record of screenings."""

    def __init__(self, told):
        self.told = told

    def screening(self, position):
        return self.told if position == RECORD.position else None


def screened(margins, brier, **others):
    """A screening as it is on record."""
    packed = base64.b64encode(np.array(brier, dtype="<f4").tobytes()).decode()
    return Inspection.of(
        np.array(margins), brier=packed, **{"measure": measure("table", facts=False), **others}
    ).model_dump_json()


def test_a_lead_is_what_the_champion_loses_beyond_its_challenger_less_what_is_allowed():
    """Both right, the challenger alone, the champion alone, neither."""
    known = challenger.Allowance(allowed=(0.5, 0.125), losses=((0.0, 0.0), (0.25, 0.0), (0.5, 1.0), (1.0, 1.0)))
    own = np.array([[0.0, 0.0], [0.75, 1.0], [0.0, 0.0], [1.0, 1.0]])
    assert known.leads(own).tolist() == [[-0.5, -0.125], [0.0, 0.875], [-1.0, -1.125], [-0.5, -0.125]]


def test_only_the_rows_that_were_screened_have_a_lead():
    """Screening looks at some rows of a large window: those, in their places, and no others."""
    brier = [0.25, 0.5, 0.0, 1.0]
    own = np.array([[0.125 * place, place % 2] for place in range(6)])
    told = challenger.leads_on(Shelf(screened([0.0, -0.5, 0.0, -0.9], brier)), RECORD, own, NONE_ALLOWED, "table")
    chosen = looked_at(RECORD.digest, 6, 4)
    assert told[chosen].tolist() == (own[chosen] - np.stack([brier, [0.0, 1.0, 0.0, 1.0]], axis=1)).tolist()
    assert np.isnan(told).all(axis=1).sum() == 2


@pytest.mark.parametrize(
    "told", [None, screened([0.0] * 6, [0.0] * 6, measure="ratio"), screened([0.0] * 6, []),
             Inspection(poison=True, unreadable="no column").model_dump_json()],
)  # fmt: skip
def test_what_was_not_screened_so_says_nothing(told):
    """No screening, one by the judge of an older release or without its scores, and one of an unreadable window."""
    found = challenger.leads_on(Shelf(told), RECORD, np.ones((6, 2)), NONE_ALLOWED, "table")
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
    wrong = draw.random(300) > 0.9
    own = np.stack([np.where(wrong, 0.81, 0.01), wrong], axis=1)
    stores, champion = Stores.local(tmp_path, tmp_path / "state"), SimpleNamespace(digest="c", version=1)
    params = SimpleNamespace(seed=0)
    found = challenger.allowance(params, stores, champion, data, own)
    its = np.array(found.losses)
    assert its[:, 1].mean() < 0.05
    assert found.allowed == pytest.approx(allowed(own - its).tolist())
    assert found.allowed[1] > wrong.mean() - its[:, 1].mean()
    assert challenger.allowance(params, stores, champion, data, own) == found
    assert len(asked) == 1
    perfect = challenger.allowance(params, stores, SimpleNamespace(digest="e", version=2), data, np.zeros((300, 2)))
    assert 0.0 <= perfect.allowed[1] < 0.02
