"""Windows: labels are a window's own, a stream keeps its places, and what was not watched or is at fault trains nothing."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import create_engine

from holdfast.data.escrow import Escrow
from holdfast.data.params import DataParams
from holdfast.data.streams.parquet_folder import ParquetFolder
from holdfast.data.streams.sql_table import SqlTable
from holdfast.digests import digest_json
from holdfast.errors import DataError, StoreError
from holdfast.integrity.base import Faults
from holdfast.integrity.schema import Column, Schema
from holdfast.model import ModelSpec, Target
from holdfast.monitoring.harm import Harm
from holdfast.monitoring.mmd import Mmd
from holdfast.monitoring.panels import Panel
from holdfast.predictor import Predictor
from holdfast.results import Decision, ModelVersion, Signal
from holdfast.space import Feature, Table
from holdfast.stores import Stores
from tasks import monitoring, readable, windows
from tasks.monitoring import class_indices, open_watch
from tasks.responses import release_window

N = 20


def rows(place):
    return pd.DataFrame({"x": np.arange(N) + 100.0 * place, "kind": ["a", "b"] * (N // 2)})


def labels(turned=False):
    return pd.DataFrame({"label": ["yes", "no"] * (N // 2) if turned else ["no", "yes"] * (N // 2)})


@pytest.fixture
def stores(tmp_path):
    made = Stores.local(
        tmp_path / "project", tmp_path / "state", actor="alice", stream=f"sqlite:///{tmp_path / 'f.db'}"
    )
    made.root.mkdir()
    (made.project / "feed" / "labels").mkdir(parents=True)
    return made


@pytest.fixture(autouse=True)
def champion(monkeypatch):
    """A champion of the feed's rows, which counts in small units."""
    features = (
        Feature(name="x", kind="number", iqr=0.05, knots=(0.0, 100.0, 200.0)),
        Feature(name="kind", kind="category", categories=("a", "b")),
    )
    spec = ModelSpec(
        factory="holdfast.networks:mlp", settings={"width": 8, "depth": 1}, space=Table(features=features),
        classes=("no", "yes"),
    )  # fmt: skip
    made = Predictor(
        Target(spec.build(seed=1), spec, "c" * 64), ModelVersion(name="w", version=1, digest="c" * 64), log=None
    )
    for module in (windows, readable):
        monkeypatch.setattr(module, "open_champion", lambda *_: made)
    return made


def world(stream=None, *, detectors=None, name="w", checks=(), most=None):
    """Params of a watch, as far as windows ask them."""
    panel = Panel(detectors={"harm": Harm()} if detectors is None else detectors)
    retraining = SimpleNamespace(windows=most, recent=2, base_share=1.0, importance=False)
    return SimpleNamespace(
        name=name, seed=0, recorded=(), stream=lambda: stream or ParquetFolder(path="feed"), panel=lambda: panel,
        checks=lambda: checks, recovery=SimpleNamespace(retraining=retraining),
        data=DataParams(kind="table", path="t.csv", label="label", classes=("no", "yes")),
    )  # fmt: skip


def lay(stores, place, table, told=None, name=None):
    """Lay a window into the feed, with its labels where they are known."""
    file = name or f"{place:02}.parquet"
    table.to_parquet(stores.project / "feed" / file)
    if told is not None:
        told.to_parquet(stores.project / "feed" / "labels" / file)


def take(params, stores, *places):
    """Receive windows, and what labels have matured with them."""
    for place in places:
        assert windows.receive.fn(params, stores, None, place) is not None
        windows.mature.fn(params, stores, None, place)
    return open_watch(params, stores).windows()


def cleared(params, stores, *places):
    """Take windows whose labels pass their screening."""
    found = take(params, stores, *places)
    for place in places:
        open_watch(params, stores).screened(place, "clean", "{}")
    return found


def test_a_window_that_repeats_another_with_other_labels_leaves_it_its_own(stores):
    """The first keeps the labels that matured with it, for training and for whoever reads them later."""
    params = world()
    for place, table, told in ((0, rows(0), labels()), (1, rows(1), labels()), (2, rows(0), labels(turned=True))):
        lay(stores, place, table, told)
    first, _, last = take(params, stores, 0, 1, 2)
    assert first.digest == last.digest
    assert class_indices(params, stores, first).tolist() == [0, 1] * (N // 2)
    assert class_indices(params, stores, last).tolist() == [1, 0] * (N // 2)


def test_two_models_on_one_feed_have_labels_of_their_own(stores):
    """What counts as yes is another matter to each; rows lie in escrow once."""
    lay(stores, 0, rows(0), labels())
    one, other = world(), world(name="other")
    (mine,) = take(one, stores, 0)
    lay(stores, 0, rows(0), labels(turned=True))
    (theirs,) = take(other, stores, 0)
    assert class_indices(one, stores, mine).tolist() == [0, 1] * (N // 2)
    assert class_indices(other, stores, theirs).tolist() == [1, 0] * (N // 2)
    assert len(list(stores.escrow.glob("*.parquet"))) == 1


def test_labels_that_come_again_after_a_kill_before_their_record_count(stores, monkeypatch):
    """What was on disk and not on record is nobody's; what is on record stays, whatever the source says later."""
    params = world()
    lay(stores, 0, rows(0), labels())
    with monkeypatch.context() as patch:
        patch.setattr("holdfast.monitoring.watch.Watch.mature", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            take(params, stores, 0)
    lay(stores, 0, rows(0), labels(turned=True))
    (record,) = take(params, stores, 0)
    assert class_indices(params, stores, record).tolist() == [1, 0] * (N // 2)
    lay(stores, 0, rows(0), labels())
    assert take(params, stores, 0) == (record,)


def table(stores, drop=0, label=True):
    """Write the feed's table of three windows, without the oldest rows where retention took them."""
    every = pd.concat([rows(place).assign(label=labels()["label"]) for place in range(3)], ignore_index=True)
    every.loc[every.index >= (3 * N if label else N), "label"] = None
    engine = create_engine(stores.stream.get_secret_value())
    every.assign(key=range(3 * N))[drop:].to_sql("rows", engine, index=False, if_exists="replace")
    engine.dispose()


def test_labels_of_rows_that_moved_are_refused(stores):
    """Where retention took the oldest rows of a table, a window does not get the labels of the next."""
    params = world(SqlTable(table="rows", key="key", rows=N))
    table(stores, label=False)
    assert [w.matured for w in take(params, stores, 0, 1)] == [True, False]
    table(stores, drop=N)
    with pytest.raises(DataError, match=r"stream, window 1: found rows .*as they came\. A stream keeps"):
        windows.mature.fn(params, stores, None, 1)
    assert [w.matured for w in open_watch(params, stores).windows()] == [True, False]
    table(stores)
    assert [w.matured for w in take(params, stores, 1)] == [True, True]


@pytest.mark.parametrize("more", [True, False], ids=["more came", "nothing came"])
def test_no_window_follows_one_that_moved(stores, more):
    """Where a folder is rotated a file would never be watched, or the watch would wait for good: both are told."""
    params = world()
    for place in range(2):
        lay(stores, place, rows(place))
    take(params, stores, 0, 1)
    (stores.project / "feed" / "00.parquet").unlink()
    for place in (2, 3) if more else ():
        lay(stores, place, rows(place))
    found = "found rows .*" if more else "found no rows"
    with pytest.raises(DataError, match=f"stream, window 1: {found}; expected rows"):
        windows.receive.fn(params, stores, None, 2)
    assert len(open_watch(params, stores).windows()) == 2
    lay(stores, 0, rows(0)[:1])  # an old file may be emptied: it keeps its place
    assert (windows.receive.fn(params, stores, None, 2) is not None) == more


def signal(place, detector="mmd", needs="inputs"):
    return Signal(
        detector=detector, about="shift", needs=needs, window="0" * 64, position=place, n=N, statistic=0.0,
        threshold=1.0, alarm=False, effect=0.0, effect_unit="share",
    )  # fmt: skip


def test_a_window_that_nobody_watched_trains_nothing(stores):
    """Where the champion was damaged when it came its labels may pass, but nobody looked at its rows."""
    params = world(detectors={"harm": Harm(), "mmd": Mmd()})
    for place in range(4):
        lay(stores, place, rows(place), labels())
    cleared(params, stores, 0, 1, 2, 3)
    watch = open_watch(params, stores)
    watch.keep("c", [signal(place, "harm", "labels") for place in range(4)], {})
    watch.keep("c", [signal(0)], {})
    watch.keep("d", [signal(3)], {})
    assert [w.position for w in windows.admissible(params, stores, 3)] == [0, 3]
    watch.move(1, "quarantined", "quality_fault")
    release_window(params, stores, 1, "looked at it")
    assert [w.position for w in windows.admissible(params, stores, 3)] == [0, 1, 3]  # a person did
    assert len(windows.admissible(world(), stores, 3)) == 4  # this panel looks at no rows
    watch.move(2, "admitted", "manifest m")
    assert len(windows.admissible(params, stores, 3)) == 4  # by a panel that looked at none


def test_a_person_may_stand_in_for_the_look_that_a_clean_window_lacks(stores):
    """It is released though it was never held, on record; one that was looked at, or is not clean yet, is not."""
    params = world(detectors={"harm": Harm(), "mmd": Mmd()})
    for place in range(3):
        lay(stores, place, rows(place), labels() if place < 2 else None)
    take(params, stores, 0, 1, 2)
    watch = open_watch(params, stores)
    for place in (0, 1):
        watch.screened(place, "clean", "{}")
    watch.keep("c", [signal(0)], {})
    assert [w.position for w in windows.admissible(params, stores, 2)] == [0]
    release_window(params, stores, 1, "looked at it")
    assert [w.position for w in windows.admissible(params, stores, 2)] == [0, 1]
    assert watch.verdicts() == {0: "clean", 1: "clean"}  # its screening passed it: nobody's word takes its place
    for params_, place in ((params, 0), (params, 1), (params, 2), (world(), 1)):
        with pytest.raises(StoreError, match="no detector looked at"):
            release_window(params_, stores, place, "again")


@pytest.mark.parametrize("fault", ["labels", "rows"])
def test_a_window_that_nobody_can_read_is_not_released_and_trains_nothing(stores, fault):
    """The refusal says why; what an earlier release let out trains nothing either, and holds up no other."""
    params = world()
    for place in range(2):
        odd = fault == "rows" and place == 0
        told = (
            labels().assign(label=["maybe", *labels()["label"][1:]]) if fault == "labels" and place == 0 else labels()
        )
        lay(stores, place, rows(place).assign(x=np.inf) if odd else rows(place), told)
    take(params, stores, 0, 1)
    watch = open_watch(params, stores)
    for place, verdict in enumerate(("suspected", "clean")):
        watch.screened(place, verdict, "{}")
    watch.move(0, "quarantined", "suspected_poisoning")
    found = "maybe" if fault == "labels" else "infinite values"
    with pytest.raises(DataError, match=rf"window 0: found it cannot be read \(.*{found}"):
        release_window(params, stores, 0, "surely right")
    assert watch.windows()[0].state == "quarantined"
    watch.release(0, "surely right")  # as it was once
    assert [w.position for w in windows.admissible(params, stores, 1)] == [1]


def test_a_readable_window_is_released_as_it_was(stores):
    """Its rows and labels are read before, and a champion that does not open keeps no person from it."""
    params = world()
    lay(stores, 0, rows(0), labels())
    take(params, stores, 0)
    watch = open_watch(params, stores)
    watch.screened(0, "suspected", "{}")
    release_window(params, stores, 0, "looked at it")
    assert watch.verdicts() == {0: "released"}
    assert [w.position for w in windows.admissible(params, stores, 0)] == [0]


def test_rows_that_a_champion_cannot_answer_train_nothing(stores, monkeypatch):
    """Nor those so far out that the next one could not; whatever is finite and near does, as ever."""
    made = []
    monkeypatch.setattr(windows.objects, "keep", lambda _, body: digest_json(str(body)))
    monkeypatch.setattr(
        windows, "admitted_snapshot", lambda *parts: made.append(parts[-1]) or SimpleNamespace(manifest="m", rows=N)
    )
    strange = rows(1)
    strange.loc[[3, 5, 7, 9], "x"] = [3e38, -3e38, 1e35, np.nan]
    for place, each in enumerate((rows(0), strange)):
        lay(stores, place, each, labels())
    params = world()
    cleared(params, stores, 0, 1)
    base = SimpleNamespace(md5="m.dir", content="c", quarantined="")
    windows.admit_windows.fn(params, stores, base, Decision(action="retrain", reasons=(), position=1))
    assert [w.faulty for w in made[0].windows] == [(), (3, 5, 7)]


def test_rows_that_come_twice_train_once(stores):
    """As they came first, among those that may train: what repeats a window brings nothing new."""
    params = world(most=2)
    for place, content in enumerate((0, 1, 0, 2)):
        lay(stores, place, rows(content), labels(turned=place == 2))
    cleared(params, stores, 0, 1, 2, 3)
    assert [w.position for w in windows.admissible(params, stores, 2)] == [0, 1]
    assert [w.position for w in windows.admissible(params, stores, 3)] == [1, 3]
    open_watch(params, stores).move(0, "quarantined", "suspected_poisoning")
    assert [w.position for w in windows.admissible(params, stores, 2)] == [1, 2]


def test_the_manifest_names_the_rows_that_break_what_was_declared(stores, monkeypatch):
    """As pinned rows in quarantine they train nothing; what was asked of a window once is not asked again."""
    asked = []

    def look(self, material):
        asked.append(tuple(self.columns))
        allowed = material.frame["kind"].isin(self.columns["kind"].in_set)
        return Faults(rows=dict.fromkeys(np.flatnonzero(~allowed).tolist(), "kind: not one of a, b"))

    monkeypatch.setattr(Schema, "look", look)
    made, said = [], []
    monkeypatch.setattr(windows.objects, "keep", lambda _, body: digest_json(str(body)))
    grown = SimpleNamespace(manifest="m", rows=2 * N)
    monkeypatch.setattr(windows, "admitted_snapshot", lambda *parts: made.append(parts[-1]) or grown)
    monkeypatch.setattr(windows, "tell", lambda _, line: said.append(line))
    declared = Schema(columns={"kind": Column(in_set=("a", "b")), "label": Column(in_set=("no", "yes"))})
    params = world(checks=(declared,))
    strange = rows(1).assign(kind=["a", "T", "b", "T"] * (N // 4))
    for place, each in enumerate((rows(0), strange)):
        lay(stores, place, each, labels())
    cleared(params, stores, 0, 1)
    base = SimpleNamespace(md5="m.dir", content="c", quarantined="")
    for _ in range(2):
        windows.admit_windows.fn(params, stores, base, Decision(action="retrain", reasons=(), position=1))
    assert [w.faulty for w in made[0].windows] == [(), tuple(range(1, N, 2))]
    assert made[0] == made[1]
    assert asked == [("kind",), ("kind",)]  # labels are no part of rows
    assert (
        said
        == [f"2 windows admitted but for {N // 2} faulty rows ({N // 2} of window 1): {2 * N} rows, manifest m"] * 2
    )


def test_a_window_that_was_changed_in_escrow_keeps_no_retraining_from_the_others(stores, monkeypatch):
    """It is set aside and named; before, its retraining was due for good and failed with every watch."""
    made, told, params = [], [], world()
    monkeypatch.setattr(windows.objects, "keep", lambda _, body: digest_json(str(body)))
    monkeypatch.setattr(
        windows, "admitted_snapshot", lambda *parts: made.append(parts[-1]) or SimpleNamespace(manifest="m", rows=N)
    )
    monkeypatch.setattr(monitoring, "tell", lambda _, words: told.append(words))
    for place in range(2):
        lay(stores, place, rows(place), labels())
    changed, _ = cleared(params, stores, 0, 1)
    Escrow(stores.escrow).files(changed.digest)[0].write_bytes(b"[]")
    base = SimpleNamespace(md5="m.dir", content="c", quarantined="")
    windows.admit_windows.fn(params, stores, base, Decision(action="retrain", reasons=(), position=1))
    assert [w.position for w in made[0].windows] == [1]
    assert [w.state for w in open_watch(params, stores).windows()] == ["quarantined", "admitted"]
    assert told[0].startswith("window 0  in quarantine; it cannot be read, judges nobody and trains nobody: ")


def test_admitted_labels_are_those_that_were_screened(stores, monkeypatch):
    """Changed in escrow after their screening, they are refused, and nothing is admitted."""
    params = world()
    lay(stores, 0, rows(0), labels())
    (record,) = cleared(params, stores, 0)
    (path,) = stores.escrow.glob("*.labels.json")
    path.write_text(json.dumps(labels(turned=True)["label"].tolist()))
    monkeypatch.setattr(windows.objects, "keep", lambda *_: "m")
    with pytest.raises(DataError, match="labels with digest"):
        windows.admit_windows.fn(
            params, stores, SimpleNamespace(md5="", content="", quarantined=""),
            Decision(action="retrain", reasons=(), position=0),
        )  # fmt: skip
    assert open_watch(params, stores).windows() == (record,)
