"""The record of the watch: every step may be taken twice, and a new process knows what the old one did."""

from __future__ import annotations

import sqlite3

import pytest

from holdfast.errors import StoreError
from holdfast.monitoring.watch import Watch
from holdfast.recovery.ledger import Ledger
from holdfast.results import Signal
from holdfast.stores import WallClock


@pytest.fixture
def url(tmp_path):
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    Ledger.create(url, WallClock())
    return url


@pytest.fixture
def watch(url):
    return Watch(url, "m", WallClock())


def signal(position, detector="harm", champion="c"):
    return Signal(
        detector=detector, about="harm", needs="labels", window=f"w{position}", position=position, n=10, statistic=0.0,
        threshold=1.0, alarm=False, effect=0.1 * position, effect_unit="share",
    )  # fmt: skip


def test_windows_come_one_after_another(watch, url):
    """A window that came twice is recorded once; a gap, or other rows at its place, are refused."""
    first = watch.arrive(0, "a", 5)
    assert watch.arrive(0, "a", 5) == first
    with pytest.raises(StoreError, match="window 2 after 1"):
        watch.arrive(2, "c", 5)
    with pytest.raises(StoreError, match="as it came first"):
        watch.arrive(0, "b", 5)
    watch.arrive(1, "b", 7)
    assert [(w.digest, w.rows, w.state) for w in Watch(url, "m", WallClock()).windows()] == [
        ("a", 5, "escrowed"), ("b", 7, "escrowed"),
    ]  # fmt: skip
    assert watch.count() == 2
    assert Watch(url, "other", WallClock()).count() == 0


def test_quarantine_holds_until_a_person_releases(watch):
    """What was set aside is not admitted by the loop, and what was admitted is not set aside behind a manifest."""
    watch.arrive(0, "a", 5)
    watch.move(0, "quarantined", "faulty")
    watch.move(0, "admitted", "manifest")
    assert watch.windows()[0].state == "quarantined"
    watch.release(0, "looked at")
    assert watch.windows()[0].state == "escrowed"
    watch.move(0, "admitted", "manifest")
    watch.move(0, "quarantined", "late")
    assert watch.windows()[0].state == "admitted"
    with pytest.raises(StoreError, match="one in quarantine"):
        watch.release(0, "again")
    with pytest.raises(StoreError, match="no window 4"):
        watch.move(4, "admitted", "")


def test_labels_mature_once_and_for_all(watch):
    """A matured window stays so, and its labels are those that matured first."""
    watch.arrive(0, "a", 5)
    assert (watch.windows()[0].matured, watch.windows()[0].labels) == (False, "")
    watch.mature(0, "l")
    watch.mature(0, "l")
    for place in (0, 1):
        with pytest.raises(StoreError, match=f"labels other for window {place}"):
            watch.mature(place, "other")
    assert (watch.windows()[0].matured, watch.windows()[0].labels) == (True, "l")


def test_a_database_of_another_development_state_is_said_to_be_one(url, watch):
    """A table without the digests of labels is no database that is down."""
    with sqlite3.connect(url.removeprefix("sqlite:///")) as database:
        database.execute("ALTER TABLE holdfast_windows DROP COLUMN labels")
    with pytest.raises(StoreError, match="Another development state"):
        watch.windows()


def test_a_window_was_looked_at_where_a_detector_told_of_its_rows(watch, url):
    """Under any champion; what its labels were told of says nothing of its rows, and another model's are not its."""
    rows = signal(1, "mmd").model_copy(update={"needs": "inputs"})
    watch.keep("c", [signal(0), rows], {})
    watch.keep("d", [rows.model_copy(update={"position": 2, "needs": "inputs"})], {})
    Watch(url, "other", WallClock()).keep("c", [rows.model_copy(update={"position": 3})], {})
    assert watch.looked_at() == {1, 2}


def test_signals_and_memories_are_kept_together_by_champion(watch, url):
    """The last memory of each detector is the one that counts, and another champion starts with none."""
    watch.keep("c", [signal(0)], {"harm": {"wealth": 1}})
    watch.keep("c", [signal(1)], {"harm": {"wealth": 2}})
    watch.keep("c", [signal(1)], {"harm": {"wealth": 99}})  # a second time changes nothing
    again = Watch(url, "m", WallClock())
    assert again.memories("c") == {"harm": {"wealth": 2}}
    assert again.memories("d") == {}
    assert [s.position for s in again.signals("c")] == [0, 1]
    assert again.signals("c", 1) == (signal(1),)
    assert again.signals("d") == ()


def test_a_lost_database_is_an_outage(tmp_path):
    """No file is no empty record."""
    with pytest.raises(StoreError):
        Watch(f"sqlite:///{tmp_path / 'none.db'}", "m", WallClock())


def test_a_verdict_is_given_once_and_only_a_person_changes_it(watch, url):
    """What the screening said stays through a second screening; a release takes the place of a suspicion."""
    for position, digest in enumerate("ab"):
        watch.arrive(position, digest, 5)
    watch.screened(0, "suspected", "first")
    watch.screened(0, "clean", "second")
    watch.screened(1, "clean", "other")
    assert Watch(url, "m", WallClock()).verdicts() == {0: "suspected", 1: "clean"}
    assert (watch.screening(0), watch.screening(7)) == ("first", None)
    assert Watch(url, "another", WallClock()).verdicts() == {}
    watch.move(0, "quarantined", "suspected_poisoning")
    watch.release(0, "looked at it")
    assert watch.verdicts() == {0: "released", 1: "clean"}
    assert watch.screening(0) == "first"


def test_what_is_suspected_can_be_released_before_it_is_set_aside(watch):
    """A person's word on a window in escrow stands where its screening suspects it, and nowhere else."""
    for position, digest in enumerate("abc"):
        watch.arrive(position, digest, 5)
    watch.screened(0, "suspected", "first")
    watch.screened(1, "clean", "second")
    assert [watch.suspects(position) for position in range(4)] == [True, False, False, False]
    watch.require_held(0)
    watch.release(0, "looked at it")
    assert (watch.verdicts()[0], watch.windows()[0].state, watch.suspects(0)) == ("released", "escrowed", False)
    for position in (0, 1, 2, 3):
        for refusing in (lambda: watch.release(position, "w"), lambda: watch.require_held(position)):  # noqa: B023
            with pytest.raises(StoreError, match="in escrow and suspected"):
                refusing()


def test_a_pruned_window_keeps_its_place_and_loses_its_rows(watch, url):
    """Only what matured or was set aside can go; its place is taken for ever, and another model's rows are not its."""
    watch.arrive(0, "a", 5)
    watch.arrive(1, "b", 5)
    Watch(url, "other", WallClock()).arrive(0, "c", 5)
    with pytest.raises(StoreError, match="not matured"):
        watch.prune(0, "old")
    watch.mature(0, "l")
    watch.mature(1, "k")
    assert watch.held() == {"a", "l", "b", "k", "c"}
    watch.prune(0, "old")
    watch.move(1, "quarantined", "odd")
    watch.prune(1, "old")
    assert [(w.position, w.state, w.why) for w in watch.windows()] == [(0, "pruned", "old"), (1, "pruned", "old")]
    assert watch.held() == {"c"}
    watch.move(0, "admitted", "manifest m")
    assert watch.windows()[0].state == "pruned"
    with pytest.raises(StoreError, match="one in quarantine"):
        watch.release(1, "too late")
    with pytest.raises(StoreError, match="as it came first"):
        watch.arrive(0, "z", 5)


def test_a_detector_remembers_what_it_looked_at_last(watch):
    """A window that was released late is looked at after later ones: what it added is what the next one adds to."""
    watch.keep("c", [signal(5).model_copy(update={"turn": 5})], {"harm": {"rows": 50}})
    watch.keep("c", [signal(6).model_copy(update={"turn": 6})], {"harm": {"rows": 60}})
    watch.keep("c", [signal(2).model_copy(update={"turn": 9})], {"harm": {"rows": 70}})
    assert watch.memories("c") == {"harm": {"rows": 70}}
    watch.keep("c", [signal(7).model_copy(update={"turn": 9})], {"harm": {"rows": 80}})
    watch.keep("c", [signal(place, "mmd") for place in (8, 9)], {"mmd": {"seen": 2}})
    assert watch.memories("c") == {"harm": {"rows": 80}, "mmd": {"seen": 2}}
