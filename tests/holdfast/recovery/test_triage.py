"""Triage: what damages every answer comes first, and a shift is benign only where labels say so."""

from __future__ import annotations

import pytest

from holdfast.recovery.triage import Evidence, Tainted, last_judged, shifted_since, spoiled, triage
from holdfast.results import IntegrityFinding, Signal


def signal(about, *, alarm=True, effect=0.1):
    return Signal(
        detector=about, about=about, needs="labels" if about == "harm" else "outputs", window="w", position=3, n=100,
        statistic=2.0 if alarm else 0.5, threshold=1.0, alarm=alarm, effect=effect, effect_unit="share",
    )  # fmt: skip


def finding(rows=0, verdict="quarantine"):
    return IntegrityFinding(
        check="schema", verdict=verdict, reason="term: outside", examined=100, rows=tuple(range(rows))
    )


def cause(share=0.2, **seen):
    return triage(Evidence(position=3, rows=100, **seen), faulty_share=share).cause


def test_a_shift_names_the_columns_that_moved_most():
    """Three of them, by their p-values whatever the order on record; a detector of answers names none."""
    told = signal("shift").model_copy(update={"details": {"columns": {"a": 0.5, "b": 0.01, "c": 0.2, "d": 0.001}}})
    reason = triage(Evidence(position=3, rows=100, signals=(told,)), faulty_share=0.2).reasons[0]
    assert reason.text == "window 3: +0.100 share, most of all d, b, c (statistic 2 over 1, n = 100)"
    plain = triage(Evidence(position=3, rows=100, signals=(signal("harm"),)), faulty_share=0.2).reasons[0]
    assert "most of all" not in plain.text


def test_a_quiet_window_has_no_cause():
    """Signals without an alarm say nothing, and the reason says how many there were."""
    diagnosis = triage(Evidence(position=3, rows=100, signals=(signal("shift", alarm=False),)), faulty_share=0.2)
    assert diagnosis.cause == "none"
    assert "1 signals" in diagnosis.reasons[0].text


@pytest.mark.parametrize(
    ("alarms", "first"),
    [
        ([("shift", 0.1), ("confidence", 0.1), ("harm", 0.1)], "harm"),
        ([("shift", 0.1), ("harm", 0.1), ("attack", 0.1)], "attack"),
        ([("shift", 0.1), ("harm", -0.1)], "shift"),  # answers that got better are no reason for anything
    ],
)
def test_what_the_cause_is_named_for_is_told_first(alarms, first):
    """A retraining is told with the harm that it answers, whichever column moved beside it; the others follow."""
    diagnosis = triage(
        Evidence(position=3, rows=100, signals=tuple(signal(about, effect=effect) for about, effect in alarms)),
        faulty_share=0.2,
    )
    others = [about for about, _ in alarms if about != first]
    assert [reason.about for reason in diagnosis.reasons] == [first, *others]


@pytest.mark.parametrize(
    ("expected", "seen"),
    [
        ("damaged_artefact", {"artefact": "changed bytes", "signals": (signal("harm"),), "quality": (finding(50),)}),
        ("quality_fault", {"quality": (finding(50),), "signals": (signal("harm"), signal("attack"))}),
        ("quality_fault", {"unreadable": "no column term"}),
        ("quality_fault", {"quality": (finding(verdict="block"),)}),
        ("quality_fault", {"unreadable": "no column term", "poisoned": (Tainted(position=1, reasons=("trade b",)),)}),
        (
            "suspected_poisoning",
            {"poisoned": (Tainted(position=1, reasons=("trade b",)),), "signals": (signal("harm"),)},
        ),
        ("suspected_evasion", {"signals": (signal("attack"), signal("harm"), signal("shift"))}),
        ("harmful_drift", {"signals": (signal("harm"), signal("shift")), "moved": 3, "judged": 3}),
        ("benign_shift", {"signals": (signal("shift"),), "moved": 3, "judged": 3}),
        ("benign_shift", {"signals": (signal("shift"),), "moved": 1, "judged": 1}),
        ("unknown", {"signals": (signal("shift"),), "moved": 2, "judged": 1}),
        ("unknown", {"signals": (signal("shift"),), "moved": 3}),
        ("unknown", {"signals": (signal("shift"),), "judged": 3}),
        ("unknown", {"signals": (signal("confidence"),), "judged": 3}),
    ],
)
def test_the_gravest_cause_is_named(expected, seen):
    """Damage before faults, faults before attacks, attacks before drift."""
    assert cause(**seen) == expected


def test_poison_names_the_windows_that_it_is_in():
    """The diagnosis is about the windows that matured, and not about the one that came; their reasons are told."""
    tainted = (Tainted(position=1, reasons=("trade b: 40 of 60",)), Tainted(position=2, reasons=("the label",)))
    diagnosis = triage(Evidence(position=3, rows=100, poisoned=tainted), faulty_share=0.2)
    assert diagnosis.windows == (1, 2)
    assert [r.text for r in diagnosis.reasons] == ["window 1: trade b: 40 of 60", "window 2: the label"]
    assert triage(Evidence(position=3, rows=100, artefact="changed", poisoned=tainted), faulty_share=0.2).windows == ()


@pytest.mark.parametrize(
    ("windows", "seen"),
    [
        ((), {}),
        ((), {"signals": (signal("shift"),), "quality": (finding(20),)}),
        ((3,), {"quality": (finding(verdict="block"),)}),
        ((3,), {"signals": (signal("attack"),)}),
        ((3,), {"quality": (finding(50),), "poisoned": (Tainted(position=1, reasons=("trade b",)),)}),
    ],
)
def test_damage_names_the_window_where_its_rows_are_at_fault_too(windows, seen):
    """What is done about the bytes takes the window with it; those found poisoned wait for their own turn."""
    diagnosis = triage(Evidence(position=3, rows=100, artefact="changed bytes", **seen), faulty_share=0.2)
    assert (diagnosis.cause, diagnosis.windows) == ("damaged_artefact", windows)


def test_what_contradicts_in_a_window_under_attack_is_the_attack():
    """Where a search succeeded the truth contradicts what is known; of other windows that says nothing."""
    here, before = (Tainted(position=place, reasons=("trade b",)) for place in (3, 2))
    attack = signal("attack")
    found = {
        name: triage(Evidence(position=3, rows=100, poisoned=tainted, signals=heard), faulty_share=0.2)
        for name, tainted, heard in (
            ("both", (here,), (attack,)),
            ("poison", (here,), ()),
            ("other", (before,), (attack,)),
        )
    }
    assert (found["both"].cause, found["both"].windows) == ("suspected_evasion", ())
    assert (found["poison"].cause, found["poison"].windows) == ("suspected_poisoning", (3,))
    assert (found["other"].cause, found["other"].windows) == ("suspected_poisoning", (2, 3))


def test_answers_that_got_better_are_no_harm():
    """An alarm of a harm detector with fewer errors than before is no drift that harms."""
    assert cause(signals=(signal("harm", effect=-0.1),)) == "none"


def test_a_few_faulty_rows_are_no_broken_feed():
    """Up to the share that params allow, rows at fault are told and change no cause."""
    diagnosis = triage(Evidence(position=3, rows=100, quality=(finding(20),)), faulty_share=0.2)
    assert diagnosis.cause == "none"
    assert diagnosis.reasons[0].about == "schema"
    assert cause(quality=(finding(21),)) == "quality_fault"


def test_a_window_under_attack_is_set_aside_with_those_that_are_poisoned():
    """Nobody looks at its rows again: where poison is the cause, both are named."""
    for signals, windows in (((signal("attack"),), (1, 3)), ((signal("shift"),), (1,))):
        seen = Evidence(position=3, rows=100, signals=signals, poisoned=(Tainted(position=1, reasons=("r",)),))
        diagnosis = triage(seen, faulty_share=0.2)
        assert (diagnosis.cause, diagnosis.windows) == ("suspected_poisoning", windows)


@pytest.mark.parametrize(
    ("expected", "seen"),
    [
        (True, {"quality": (finding(50),)}),
        (True, {"quality": (finding(verdict="block"),)}),
        (True, {"signals": (signal("attack"),)}),
        (
            False,
            {"quality": (finding(5),), "signals": (signal("attack", alarm=False), signal("harm"), signal("shift"))},
        ),
    ],
)
def test_a_window_at_fault_or_under_attack_is_spoiled(expected, seen):
    """What a quarantine will take, for the rows alone."""
    assert spoiled(Evidence(position=3, rows=100, **seen), faulty_share=0.2) is expected


def test_evidence_is_named_by_what_was_read():
    """Other signals, other digests; the same signals, the same."""
    one = triage(Evidence(position=3, rows=100, signals=(signal("harm"),)), faulty_share=0.2)
    two = triage(Evidence(position=3, rows=100, signals=(signal("harm", effect=0.2),)), faulty_share=0.2)
    assert one.evidence != two.evidence
    assert one == triage(Evidence(position=3, rows=100, signals=(signal("harm"),)), faulty_share=0.2)


def about(position, needs="outputs", *, alarm=False, kind="shift", rows=None):
    """A signal of one window."""
    details = {} if rows is None else {"rows": rows}
    return signal(kind, alarm=alarm).model_copy(update={"position": position, "needs": needs, "details": details})


def test_a_run_of_shifts_begins_after_the_last_window_without_one():
    """A quiet window, or one that nobody watched, ends a run; where this window gave no alarm there is none."""
    told = [about(place, alarm=place in {1, 2, 4, 5}) for place in range(7)]
    assert [shifted_since(told, place) for place in range(7)] == [None, 1, 1, None, 4, 4, None]
    assert shifted_since([each for each in told if each.position != 1], 2) == 2
    assert shifted_since([about(0, alarm=True)], 0) == 0
    assert shifted_since([about(3, alarm=True, kind="confidence")], 3) is None


def test_a_challenger_that_was_not_asked_has_judged_nothing():
    """A window counts as judged by labels where a detector compared rows of it: else a shift would pass for benign."""
    told = [about(1, "labels", rows=9), about(2, "labels"), about(3, "labels", rows=0), about(4)]
    assert last_judged(told) == 2
    assert last_judged(told[2:]) is None


@pytest.mark.parametrize(
    ("judged", "signals", "seen"),
    [
        (True, (about(1, "labels", alarm=True, kind="confidence"),), None),
        (True, (about(3, alarm=True, kind="confidence"),), 3),
        (False, (about(3, alarm=True, kind="confidence"),), 2),
        (False, (about(3, alarm=True), about(1, "labels", alarm=True, kind="confidence")), 2),
    ],
)
def test_what_labels_have_spoken_of_is_told_from_what_they_have_not(judged, signals, seen):
    """An alarm of labels has theirs; one of answers has them once its own window is judged."""
    diagnosis = triage(Evidence(position=3, rows=100, signals=signals, moved=3, judged=seen), faulty_share=0.2)
    assert (diagnosis.cause, diagnosis.judged) == ("unknown", judged)
