"""The gate's two parts: pinned rows and rows of windows, told apart with an interval each."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from holdfast.data.params import DataParams
from holdfast.data.source import load
from holdfast.errors import ScenarioError
from holdfast.results import PerExample
from holdfast.scenarios.base import choose
from holdfast.scenarios.probes.quality import Quality
from holdfast.stores import Stores
from tasks import parts
from tasks.heldout import keep_left_out

POINTS = 200
SCENARIO = Quality(points=POINTS)
PARAMS = SimpleNamespace(
    seed=3,
    scenarios=lambda _: {"probes/quality": SCENARIO},
    evaluation=SimpleNamespace(uses=SimpleNamespace(gate="gate")),
)


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Rows of which every third came with a window."""
    draw = np.random.default_rng(0)
    table = pd.DataFrame(draw.normal(size=(1500, 2)).round(6), columns=["a", "b"])
    table.assign(label=np.where(table["a"] > 0, "yes", "no")).to_csv(tmp_path / "people.csv", index=False)
    roles = {"train": 0.6, "validation": 0.1, "gate": 0.3}
    plain = load(tmp_path, DataParams(kind="table", path="people.csv", label="label", roles=roles))
    made = replace(plain, window=np.where(np.arange(len(plain)) % 3 == 0, 7, -1))
    monkeypatch.setattr(parts, "load_data", lambda *_: made)
    return made


def report(ids, flags):
    """A stage's report of one finding: flags of the points that were asked."""
    found = PerExample.pack(ids, flags, np.zeros(len(ids)))
    return SimpleNamespace(findings=(SimpleNamespace(path="probes/quality", per_example=found),))


def asked(data, without=()):
    """The points that the scenario chooses, and which came with windows."""
    ids = choose(data.samples("gate", without=without), POINTS, PARAMS.seed).ids.numpy()
    return ids, np.isin(ids, data.ids[data.window >= 0])


def test_a_loss_on_old_rows_that_new_rows_make_up_for_is_told(data, tmp_path):
    """The sum hides what the parts show: worse on every pinned row, better on every row of a window."""
    stores = Stores.local(tmp_path, tmp_path)
    left_out = keep_left_out(stores, data, data.holds("gate") & (np.arange(len(data)) % 5 == 0))
    ids, new = asked(data, tuple(data.ids[data.holds("gate") & (np.arange(len(data)) % 5 == 0)].tolist()))
    pinned, windows = parts.told_apart.fn(PARAMS, stores, None, left_out, report(ids, new), report(ids, ~new))
    assert (pinned.about, windows.about) == ("probes/quality, pinned rows", "probes/quality, rows of windows")
    assert pinned.text.startswith("right 0.0000, the champion 1.0000: -1.0000 [-1.0000, ")
    assert windows.text.startswith("right 1.0000, the champion 0.0000: +1.0000 [+")
    assert f"n = {int((~new).sum())})" in pinned.text
    assert f"n = {int(new.sum())})" in windows.text


def test_where_no_window_is_in_the_gate_nothing_is_told(data, tmp_path, monkeypatch):
    """One part alone is what the gate says anyway."""
    ids, new = asked(data)
    monkeypatch.setattr(parts, "load_data", lambda *_: replace(data, window=None))
    stores = Stores.local(tmp_path, tmp_path)
    assert parts.told_apart.fn(PARAMS, stores, None, None, report(ids, new), report(ids, new)) == ()


def test_points_that_the_scenario_does_not_choose_are_refused(data, tmp_path):
    """Flags of other rows would be laid to the wrong part."""
    ids, new = asked(data)
    stores = Stores.local(tmp_path, tmp_path)
    with pytest.raises(ScenarioError, match="which its settings choose"):
        parts.told_apart.fn(PARAMS, stores, None, None, report(ids[::-1], new), report(ids[::-1], new))
