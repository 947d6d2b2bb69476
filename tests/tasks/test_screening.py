"""Screening in the loop: what a window is held against."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from holdfast.data.escrow import Escrow
from holdfast.data.source import quick_features
from holdfast.data.streams.base import Arrival
from holdfast.errors import DataError, StoreError
from holdfast.recovery.ablation import Labelled
from holdfast.recovery.inspection import Inspection, Names, measure, pinned
from holdfast.recovery.ledger import Ledger
from holdfast.recovery.screening import Screening
from holdfast.space import Feature, Table
from holdfast.stores import Stores, WallClock
from tasks import monitoring, screening


def test_windows_that_were_judged_by_another_measure_are_judged_again(monkeypatch):
    """After an upgrade, or where labels became facts, earlier margins mean something else; the windows still count."""
    rng = np.random.default_rng(0)
    now, facts_now = (measure("table", facts=facts) for facts in (False, True))
    measures = ("difference", now, facts_now, now, "ratio")
    watch = SimpleNamespace(
        verdicts=lambda: dict.fromkeys(range(5), "clean"),
        windows=lambda: [SimpleNamespace(position=i, state="escrowed", digest=str(i)) for i in range(5)],
        screening=lambda i: Inspection.of(np.full(60, -(i + 1) / 6), measure=measures[i]).model_dump_json(),
    )
    x = rng.normal(size=(60, 2)).astype(np.float32)
    rows, parts = Labelled(x, (x[:, 0] > 0).astype(np.int64)), {"c": np.zeros(60, np.int64)}
    monkeypatch.setattr(screening, "open_watch", lambda *_: watch)
    monkeypatch.setattr(screening, "_window", lambda *_: (rows, parts))
    data = SimpleNamespace(frame=rows, classes=("no", "yes"))
    for facts, kept in ((False, (1, 3)), (True, (2,))):
        params = SimpleNamespace(recovery=SimpleNamespace(screening=Screening(facts=facts)), seed=0)
        base = pinned(rows, parts, "table", 2, 0, facts=facts)
        found = screening._clean(params, None, data, None, base, SimpleNamespace(position=9))
        assert len(found) == 5
        for i, each in enumerate(found):
            as_it_was = bool(np.allclose(each.judged.margins, -(i + 1) / 6))
            assert as_it_was == (i in kept)
            assert as_it_was or each.judged.margins.mean() > -0.2  # labels that the rows explain


def test_windows_that_were_set_aside_judge_no_other(monkeypatch):
    """One whose labels passed and whose rows were an attack or a broken feed is not known to be good."""
    states = ("escrowed", "quarantined", "pruned", "escrowed")
    measured = measure("table", facts=False)
    watch = SimpleNamespace(
        verdicts=lambda: dict.fromkeys(range(4), "clean"),
        windows=lambda: [SimpleNamespace(position=i, state=s, digest=str(i)) for i, s in enumerate(states)],
        screening=lambda i: Inspection.of(np.full(60, -(i + 1) / 6), measure=measured).model_dump_json(),
    )
    rows, parts = Labelled(np.zeros((60, 2), np.float32), np.zeros(60, np.int64)), {"c": np.zeros(60, np.int64)}
    monkeypatch.setattr(screening, "open_watch", lambda *_: watch)
    monkeypatch.setattr(screening, "_window", lambda *_: (rows, parts))
    params = SimpleNamespace(recovery=SimpleNamespace(screening=Screening()), seed=0)
    data = SimpleNamespace(frame=rows, classes=("no", "yes"))
    found = screening._clean(params, None, data, None, None, SimpleNamespace(position=9))
    assert [round(-6 * each.judged.margins.mean()) - 1 for each in found] == [0, 3]


def test_a_clean_window_that_cannot_be_read_any_more_judges_no_other(monkeypatch):
    """Changed in escrow after its verdict, it is set aside and told of, and the screening goes on without it."""
    measured, moved, told = measure("table", facts=False), [], []
    watch = SimpleNamespace(
        verdicts=lambda: dict.fromkeys(range(3), "clean"),
        windows=lambda: [SimpleNamespace(position=i, state="escrowed", digest=str(i)) for i in range(3)],
        screening=lambda i: Inspection.of(np.full(60, -(i + 1) / 6), measure=measured).model_dump_json(),
        move=lambda position, state, why: moved.append((position, state, why)),
    )
    rows, parts = Labelled(np.zeros((60, 2), np.float32), np.zeros(60, np.int64)), {"c": np.zeros(60, np.int64)}

    def read(*given):
        if given[4].position == 1:
            raise DataError("window 1", found="bytes with digest b", expected="bytes with digest a", remedy="-")
        return rows, parts

    monkeypatch.setattr(screening, "open_watch", lambda *_: watch)
    monkeypatch.setattr(screening, "_window", read)
    monkeypatch.setattr(monitoring, "tell", lambda _, words: told.append(words))
    params = SimpleNamespace(recovery=SimpleNamespace(screening=Screening()), seed=0)
    data = SimpleNamespace(frame=rows, classes=("no", "yes"))
    found = screening._clean(params, None, data, None, None, SimpleNamespace(position=9))
    assert [round(-6 * each.judged.margins.mean()) - 1 for each in found] == [0, 2]
    ((position, state, why),) = moved
    assert (position, state) == (1, "quarantined")
    assert why.startswith("it cannot be read: ")
    assert told == [f"window 1  in quarantine; it cannot be read, judges nobody and trains nobody: {why[19:]}"]


@pytest.mark.parametrize("lost", ["rows", "labels", "folder"])
def test_an_outage_of_escrow_is_no_verdict(tmp_path, monkeypatch, lost):
    """What cannot be had stops the watch with nothing decided; what is there and was changed is not to be believed."""
    stores = Stores.local(tmp_path, tmp_path / "s")
    stores.root.mkdir()
    Ledger.create(stores.ledger.get_secret_value(), WallClock())
    data = SimpleNamespace(frame=pd.DataFrame(), classes=("no", "yes"), space=None)
    params = SimpleNamespace(
        name="w", seed=0, data=SimpleNamespace(classes=data.classes), recovery=SimpleNamespace(screening=Screening())
    )
    monkeypatch.setattr(screening, "load_data", lambda *_: data)
    monkeypatch.setattr(screening, "_names", lambda *_: None)
    said: list[str] = []
    monkeypatch.setattr(screening, "tell", lambda _, words: said.append(words))
    watch, escrow = screening.open_watch(params, stores), Escrow(stores.escrow)
    digest = escrow.keep(Arrival(0, pd.DataFrame({"x": [1.0, 2.0]})))
    watch.arrive(0, digest, 2)
    watch.mature(0, escrow.keep_labels(np.array(["no", "yes"])))
    (record,) = watch.windows()
    path = {"rows": escrow.files(digest)[0], "labels": escrow.files(record.labels)[0], "folder": escrow.folder}[lost]
    path.rename(tmp_path / "away")
    with pytest.raises(StoreError, match="nothing is decided"):
        screening.screen.fn(params, stores, None, (record,))
    assert watch.verdicts() == {}
    (tmp_path / "away").rename(path)
    (path if path.is_file() else escrow.files(digest)[0]).write_text("[]")
    screening.screen.fn(params, stores, None, (record,))
    assert watch.verdicts() == {0: "suspected"}
    assert said[0].startswith("window 0  screening  cannot be read: ")  # which is no word about its labels


def test_a_wild_row_is_screened_as_a_far_one():
    """What is fitted on a window's rows takes no infinities; rows that have none are read as they were."""
    space = Table(features=(Feature(name="x", kind="number", iqr=0.05),))
    data, names = SimpleNamespace(space=space), Names(space, ("no", "yes"), {"x": np.array([0.0])})
    params = SimpleNamespace(recovery=SimpleNamespace(screening=Screening()))
    labels, wild = np.zeros(4, dtype=np.int64), torch.tensor([[0.1], [3e38], [-3e38], [1e30]])
    rows, _ = screening._labelled(params, data, names, wild, labels)
    assert np.isfinite(rows.features).all()
    assert rows.features[[0, 3]].tolist() == quick_features(wild, space)[[0, 3]].tolist()
    assert rows.features[2, 0] < -rows.features[3, 0] < 0.0 < rows.features[3, 0] < rows.features[1, 0]
