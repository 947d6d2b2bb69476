"""What one window's labels are told of: each detector once, a challenger by what screened it, replays kept."""

import base64
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from holdfast.data import Samples
from holdfast.data.recorded import Recorded
from holdfast.data.stream import Window
from holdfast.errors import ArtefactError, ModelError
from holdfast.model import ModelSpec, Target
from holdfast.monitoring.calibration_drift import CalibrationDrift
from holdfast.monitoring.challenger import Challenger
from holdfast.monitoring.classification_quality import ClassificationQuality
from holdfast.monitoring.harm import Harm
from holdfast.monitoring.page_hinkley import PageHinkley
from holdfast.monitoring.panels import Calibration, Panel, Stretch, Threshold
from holdfast.monitoring.suspicion import Suspicion
from holdfast.predictor import Predictor
from holdfast.recovery.inspection import Inspection, measure
from holdfast.recovery.ledger import Ledger
from holdfast.recovery.policy import Policy
from holdfast.recovery.screening import Screening
from holdfast.recovery.triage import Evidence
from holdfast.results import DataSnapshot, IntegrityFinding, ModelVersion, Signal
from holdfast.space import Feature, Table
from holdfast.statistics import share
from holdfast.stores import Stores, WallClock
from tasks import calibration, monitoring
from tasks.challenger import Allowance

CHAMPION = ModelVersion(name="w", version=1, digest="c" * 64)
NOBODY = np.zeros(0, dtype=np.int64)
THRESHOLDS = {"harm": 8.2, "classification_quality": 0.1, "challenger": 8.2}


def window(position, *, wrong=0.1, n=250):
    """Rows of two classes, of which a champion gets a share wrong."""
    rng = np.random.default_rng(position + 1)
    y = rng.integers(0, 2, n)
    p = np.where((rng.random(n) < wrong) ^ (y == 1), 0.9, 0.1)
    return Window(
        position, rng.choice(2**40, n, replace=False), SimpleNamespaceTensor(n), np.stack([1 - p, p], 1), Table(features=()), y
    )  # fmt: skip


class SimpleNamespaceTensor:
    """Inputs that no detector of labels reads."""

    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """Take windows through `_watched` with a panel; whatever needs a champion or an escrow is given."""
    (tmp_path / "s").mkdir()
    stores, windows = Stores.local(tmp_path, tmp_path / "s"), {}
    Ledger.create(stores.ledger.get_secret_value(), WallClock())
    monkeypatch.setattr(monitoring, "Escrow", lambda *_: SimpleNamespace(rows=lambda _, place: windows[place]))
    monkeypatch.setattr(monitoring, "_answered", lambda _, arrival, __: (arrival.without_labels(), NOBODY))
    monkeypatch.setattr(monitoring, "class_indices", lambda _, __, record: windows[record.position].labels)
    monkeypatch.setattr(monitoring, "_with_gain", lambda *parts: parts[-1])
    monkeypatch.setattr(monitoring, "registered", lambda *_: {})
    monkeypatch.setattr(monitoring, "judged_from", lambda *_: 0)
    monkeypatch.setattr(monitoring, "_draw_evidently", lambda *_: None)
    known = {name: Threshold(value=value, source="t") for name, value in THRESHOLDS.items()}
    monkeypatch.setattr(monitoring, "calibrated", lambda *_: SimpleNamespace(thresholds=known))
    past = window(-1, n=3000)

    def watch(detectors, place, *, wrong=0.1, expected=1.0, quality=()):
        panel = Panel(detectors=detectors)
        recovery = SimpleNamespace(screening=Screening(), policy=Policy())
        params = SimpleNamespace(name="w", seed=0, panel=lambda: panel, recovery=recovery)
        kept = monitoring.open_watch(params, stores)
        if place not in windows:
            windows[place] = window(place, wrong=wrong)
            kept.arrive(place, f"{place:064d}", 250)
            kept.mature(place, f"labels {place}")
            right = np.random.default_rng(place).random(250) < expected
            brier = base64.b64encode(np.where(right, 0.01, 0.81).astype("<f4").tobytes()).decode()
            told = Inspection.of(np.where(right, 0.0, -0.9), measure=measure("table", facts=False), brier=brier)
            kept.screened(place, "clean", told.model_dump_json())
        told = monitoring._watched(
            params, stores, CHAMPION, None, past, Allowance(allowed=(0.0, 0.0), losses=()), windows[place].without_labels(),
            kept.windows(), Evidence(position=place, rows=250, quality=quality),
        )  # fmt: skip
        return told, kept

    return watch


def test_a_detector_that_joins_late_makes_no_news_of_what_others_were_told_of(watched, monkeypatch):
    """Former alarms are not told again, former windows are not added up twice, and the new one catches up."""
    read, own = [], Harm.read

    def reading(self, window, past, memory):
        read.append(window.position)
        return own(self, window, past, memory)

    monkeypatch.setattr(Harm, "read", reading)
    old = {"harm": Harm(), "classification_quality": ClassificationQuality()}
    told = [watched(old, place, wrong=0.45 if place == 2 else 0.05)[0] for place in range(8)]
    assert {s.position for each in told for s in each if s.alarm and s.detector == "classification_quality"} == {2}
    _, kept = watched(old, 7)
    before = {(s.position, s.detector): s.statistic for s in kept.signals(CHAMPION.digest)}
    memory = kept.memories(CHAMPION.digest)["harm"]
    joined, kept = watched({**old, "challenger": Challenger()}, 7)
    assert {(s.position, s.detector) for s in joined} == {(7, name) for name in old}  # its turn is not over
    after = {(s.position, s.detector): s.statistic for s in kept.signals(CHAMPION.digest)}
    assert kept.memories(CHAMPION.digest)["harm"] == memory
    assert {key: after[key] for key in before} == before
    assert {place for place, name in after if name == "challenger"} == set(range(8))
    again, _ = watched({**old, "challenger": Challenger()}, 7)
    assert {(s.position, s.detector) for s in again} == {(7, name) for name in old}
    fresh, _ = watched({**old, "challenger": Challenger()}, 8)
    assert read == list(range(9))  # a test that adds windows up must not look again
    assert {(s.position, s.detector) for s in fresh} == {(8, name) for name in (*old, "challenger")}


def test_what_a_kill_cut_off_before_the_decision_is_told_again(watched):
    """Signals of labels are on record before anyone decides: their turn says that nobody was told of them yet."""
    panel = {"classification_quality": ClassificationQuality()}
    told = [watched(panel, place, wrong=0.45 if place == 2 else 0.05)[0] for place in (0, 1, 2, 2)]
    assert [[s.alarm for s in each] for each in told] == [[False], [False], [True], [True]]
    assert told[2] == told[3]
    assert not any(s.position == 2 for s in watched(panel, 3)[0])
    other, _ = watched({"harm": Harm()}, 3)
    assert {s.detector for s in other} <= {"harm"}  # one that left the panel decides nothing


def test_a_challenger_that_gets_ahead_is_harm(watched):
    """What screened a window had expected its labels, and the champion got a fifth of them wrong, as it always did."""
    panel = {"harm": Harm(), "challenger": Challenger()}
    told = [watched(panel, place, wrong=0.2, expected=0.8 if place < 5 else 1.0)[0] for place in range(12)]
    alarms = [(s.position, s.detector) for each in told for s in each if s.alarm]
    assert {name for _, name in alarms} >= {"challenger"}
    assert min(place for place, name in alarms if name == "challenger") >= 5
    assert all(s.effect > 0.1 for each in told for s in each if s.alarm and s.detector == "challenger")


def test_a_replayed_stream_is_kept_for_the_start_after_an_interruption(tmp_path, monkeypatch):
    """By the calibration's own name and the stream's; numbers that JSON does not have are played again."""
    stores, played = Stores.local(tmp_path, tmp_path / "s"), []

    def play(value=1.5):
        played.append(value)
        return Stretch(statistics={"harm": (value,)})

    first = calibration._kept(stores, "k", "calibrate-0", play)
    assert calibration._kept(stores, "k", "calibrate-0", play) == first
    calibration._kept(stores, "k", "calibrate-50", play)
    calibration._kept(stores, "other", "calibrate-0", play)
    assert len(played) == 3
    for _ in range(2):
        calibration._kept(stores, "k", "endless", partial(play, float("inf")))
    assert len(played) == 5

    asked = []

    class Spy(Panel):
        def calibrate(self, *parts):
            asked.append(parts)
            for _ in range(2):
                parts[-1]("a-0", play)
            return Calibration(budget=0.1, rows=parts[1], thresholds={}, replays=200, achieved=share([True]), seed=0)

    params = SimpleNamespace(
        seed=0, panel=lambda: Spy(detectors={"harm": Harm()}), monitoring=SimpleNamespace(replays=200)
    )
    assert calibration.last_calibration(stores, CHAMPION) is None
    for _ in range(2):
        calibration.calibrated(params, stores, CHAMPION, window(-1, n=3000), 250)
    assert len(asked) == 1
    assert calibration.last_calibration(stores, CHAMPION).achieved == share([True])
    assert len(played) == 6


@pytest.mark.parametrize("fault", ["feed", "attack"])
def test_labels_of_a_window_at_fault_or_under_attack_say_nothing_of_the_champion(watched, fault):
    """Labels may come with their rows, before anyone sets the window aside: what they add up would not be taken back."""
    panel = {"harm": Harm(), "classification_quality": ClassificationQuality()}
    _, kept = [watched(panel, place) for place in range(3)][-1]
    before = kept.memories(CHAMPION.digest)
    broken = IntegrityFinding(check="schema", verdict="block", reason="a unit slipped", examined=250)
    searched = Signal(
        detector="suspicion", about="attack", needs="inputs", window="0" * 64, position=3, n=250, statistic=9.0,
        threshold=1.0, effect=0.3, effect_unit="share", alarm=True,
    )  # fmt: skip
    if fault == "attack":
        kept.keep(CHAMPION.digest, (searched,), {})
    told, _ = watched(panel, 3, wrong=0.6, quality=(broken,) if fault == "feed" else ())
    assert not any(s.needs == "labels" for s in told)
    assert {name: kept.memories(CHAMPION.digest)[name] for name in before} == before
    kept.move(3, "quarantined", "set aside")
    told, _ = watched(panel, 4)
    assert {s.position for s in told} == {4}
    assert not any(s.alarm for s in told)


def reference(n):
    """Rows of the champion's own time, to draw windows from."""
    return replace(window(-1, n=n), x=torch.zeros(n, 1))


def test_the_achieved_rate_of_false_alarms_is_told_when_thresholds_are_found(tmp_path, monkeypatch):
    """Once, with its count, interval and budget: nobody should have to look it up in a cache."""
    stores, told = Stores.local(tmp_path, tmp_path / "s"), []
    monkeypatch.setattr(calibration, "tell", lambda _, text, **__: told.append(text))
    params = SimpleNamespace(
        seed=0, panel=lambda: Panel(detectors={"harm": Harm()}), monitoring=SimpleNamespace(replays=200)
    )
    for _ in range(2):
        calibration.calibrated(params, stores, CHAMPION, reference(3000), 250)
    (line,) = [text for text in told if "alarmed" in text]
    rate = "0 of 200 other clean windows of 224 rows alarmed: 0.00 % (0.00 to 1.88 %), the budget is 0.1 %"
    assert line == f"thresholds of version 1: {rate}"


def test_a_sum_over_a_window_is_held_to_a_threshold_for_all_its_rows(tmp_path):
    """After a short past, windows of a quarter of its rows are replayed; Page-Hinkley has all of its own to rise in."""
    stores, past = Stores.local(tmp_path, tmp_path / "s"), reference(400)
    panel = Panel(detectors={"page_hinkley": PageHinkley(), "calibration_drift": CalibrationDrift()})
    params = SimpleNamespace(seed=0, panel=lambda: panel, monitoring=SimpleNamespace(replays=200))
    found = {rows: calibration.calibrated(params, stores, CHAMPION, past, rows).thresholds for rows in (120, 1000)}
    level = panel.levels()["page_hinkley"]
    for rows in found:
        assert found[rows]["page_hinkley"].value == PageHinkley().threshold(level, past, rows)
    assert found[1000]["page_hinkley"].value > found[120]["page_hinkley"].value
    assert found[1000]["calibration_drift"] == found[120]["calibration_drift"]


def held_out(monkeypatch, target, x):
    """Have a champion whose held-out rows are these."""
    n = len(x)
    held = Samples(x=x, y=torch.zeros(n, dtype=torch.int64), ids=torch.arange(n), role="calibration", snapshot="s")
    snapshot = DataSnapshot(name="w", path="p", md5="m", file_md5="f", revision="none", rows=n, period=None)
    monkeypatch.setattr(monitoring, "registered", lambda *_: {"data": snapshot.model_dump(mode="json")})
    monkeypatch.setattr(monitoring, "load_data", lambda *_: SimpleNamespace(samples=lambda *_, **__: held, window=None))
    monkeypatch.setattr(monitoring, "load_model", lambda *_: target)
    monkeypatch.setattr(monitoring.tracking, "fetch_model", lambda *_: None)


def test_a_champion_that_does_not_answer_its_own_past_is_damaged(monkeypatch):
    """Whoever asks it of a window is told so, and by how many rows of the past."""
    space = Table(features=(Feature(name="age", kind="number", iqr=0.1),))
    spec = ModelSpec(
        factory="holdfast.networks:mlp", settings={"width": 8, "depth": 1}, space=space, classes=("no", "yes")
    )
    target, n = Target(spec.build(seed=1), spec, "c" * 64), 300
    x = torch.linspace(0.0, 100.0, n)[:, None]
    x[:2] = 3e38
    held_out(monkeypatch, target, x)
    params = SimpleNamespace(device="cpu", panel=lambda: Panel(detectors={"harm": Harm()}))
    with pytest.raises(ArtefactError, match="no finite output for 2 of 300 rows"):
        monitoring._reference(params, None, CHAMPION)


@pytest.mark.parametrize("traces", [("probing",), ("probing", "inconsistent")], ids=["free", "squeezed"])
def test_the_past_and_the_window_are_squeezed_alike_and_only_where_a_trace_asks(monkeypatch, traces):
    """By the past's own slices, and by the champion that is watched; who does not name the trace has no part of it."""
    space = Table(features=(Feature(name="age", kind="number", iqr=10.0, knots=(0.0, 50.0, 100.0)),))
    spec = ModelSpec(
        factory="holdfast.networks:mlp", settings={"width": 8, "depth": 1}, space=space, classes=("no", "yes")
    )
    target, n = Target(spec.build(seed=1), spec, "c" * 64), 300
    x = torch.linspace(0.0, 100.0, n)[:, None]
    held_out(monkeypatch, target, x)
    panel = Panel(detectors={"suspicion": Suspicion(traces=traces)})
    params = SimpleNamespace(device="cpu", panel=lambda: panel, recovery=SimpleNamespace(screening=Screening()))
    reference, _ = monitoring._reference(params, None, CHAMPION)
    fresh = replace(reference.take(np.arange(7, 150), 3).without_labels(), squeezed=None)
    predictor = Predictor(target, CHAMPION, log=None)
    asked = monitoring._asked_more(predictor, panel, fresh, reference)
    if traces == ("probing",):
        assert (reference.squeezed, asked.squeezed) == (None, None)
        assert asked is fresh
        return
    assert reference.squeezed.max() > 0.0
    assert asked.squeezed.tolist() == reference.squeezed[7:150].tolist()
    with pytest.raises(ModelError, match="a trace of squeezed rows"):
        monitoring._asked_more(Recorded(space, ("no", "yes")), panel, fresh, reference)
