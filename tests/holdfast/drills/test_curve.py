"""The resilience curve: closed forms of its scores, and the assertion of the right response."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.drills.curve import (
    Course,
    Taken,
    Trio,
    answered_wrongly,
    evolution_score,
    forgetting,
    left_unanswered,
    loss,
    measures,
    recovery_score,
    regressions,
    relative,
    right_response,
)
from holdfast.drills.incident import Incident, Right, World, read_incident
from holdfast.results import PerExample, Score

ONSET, HORIZON = 2, 8


def incident(*, later: bool = False, right: Right | None = None, **more: Any) -> Incident:
    return Incident(
        name="made", title="Made", about="Made up.", measures="recovery", onset=ONSET, horizon=HORIZON,
        after=World(period="later") if later else None, right=(right or Right(action="repair"),), **more,
    )  # fmt: skip


def course(arm: str, quality: list[float], seed: int = 0, **more: Any) -> Course:
    return Course.model_validate(
        {"incident": "made", "arm": arm, "seed": seed, "quality": quality, "rows": 1000, "old": 0.9, **more}
    )


def trio(on: list[float], off: list[float], oracle: list[float], seed: int = 0, **of_on: Any) -> Trio:
    return Trio(on=course("on", on, seed, **of_on), off=course("off", off, seed), oracle=course("oracle", oracle, seed))


FLAT = [0.8] * HORIZON
DOWN = [0.8, 0.8] + [0.0] * 6
"""Nobody answers from onset on."""


def back(after: int) -> list[float]:
    """Quality that is lost for some windows and then whole again."""
    return [0.8, 0.8] + [0.0] * after + [0.8] * (6 - after)


@pytest.mark.parametrize("lacking", ["on", "off"])
def test_a_robust_number_that_is_missing_in_one_arm_is_no_forgetting_of_none(lacking: str) -> None:
    """Whether robustness was lost is not known then: the score says so, and no measure is given."""
    robust = {"on": 0.05, "off": 0.6} | {lacking: None}
    low, mid, high = ([value] * HORIZON for value in (0.5, 0.7, 0.8))
    trios = [
        Trio(
            on=course("on", mid, seed, old_robust=robust["on"]), off=course("off", low, seed, old_robust=robust["off"]),
            oracle=course("oracle", high, seed),
        )
        for seed in range(3)
    ]  # fmt: skip
    assert (
        evolution_score(trios)
        == "the attack on the old distribution is scored in some arms alone: forgetting is not known"
    )
    assert not {"forgetting", "forgetting_clean"} & {measure.name for measure in measures(trios, incident())}


@pytest.mark.parametrize(("robust", "name"), [(0.5, "forgetting"), (None, "forgetting_clean")])
def test_forgetting_says_what_it_is_of(robust: float | None, name: str) -> None:
    """Without an attack it is of clean answers alone: the measure's name and the score's method say so, alike."""
    low, mid, high = ([value] * HORIZON for value in (0.5, 0.7, 0.8))
    trios = [
        Trio(
            on=course("on", mid, seed, old=0.8, old_robust=robust), off=course("off", low, seed, old_robust=robust),
            oracle=course("oracle", high, seed),
        )
        for seed in range(3)
    ]  # fmt: skip
    score, found = evolution_score(trios), {m.name: m.value for m in measures(trios, incident())}
    assert isinstance(score, Score)
    assert ("clean answers alone" in score.method) == (robust is None)
    assert [each for each in found if "forgetting" in each] == [name]
    assert found[name] == pytest.approx(0.1)
    mixed = [*trios, trio(mid, low, high, 3, old_robust=None if robust else 0.5)]
    assert "not known" in str(evolution_score(mixed))


@pytest.mark.parametrize("after", range(7))
def test_the_recovery_score_is_the_share_of_the_loss_that_was_avoided(after: int) -> None:
    """Down for k of the six windows after onset, of a loss that would have lasted, scores 1 - k / 6."""
    trios = [trio(back(after), DOWN, FLAT, seed) for seed in range(3)]
    assert loss(trios[0], "on", incident()) == pytest.approx(after / 6)
    score = recovery_score(trios, incident())
    assert isinstance(score, Score)
    assert score.value == pytest.approx(1 - after / 6)
    assert (score.low, score.high) == (pytest.approx(score.value), pytest.approx(score.value))


def test_quality_is_read_against_the_past_or_against_the_oracle_where_the_world_changes() -> None:
    """The same answers are a loss against the level before onset, and none where the right model does no better."""
    harder = [0.8, 0.8] + [0.6] * 6
    same = trio(harder, harder, harder)
    assert relative(same, "on", incident())[-1] == pytest.approx(0.75)
    assert loss(same, "on", incident(later=True)) == 0.0
    assert recovery_score([same, same], incident(later=True)) == "no avoidable loss"


def test_without_avoidable_loss_or_seeds_there_is_no_score() -> None:
    """An incident that costs nothing without responses scores nothing, and one seed has no interval."""
    assert recovery_score([trio(FLAT, FLAT, FLAT, s) for s in range(3)], incident()) == "no avoidable loss"
    assert "needs 2" in str(recovery_score([trio(FLAT, DOWN, FLAT)], incident()))
    noisy = [trio(FLAT, [0.8, 0.8] + [0.8 + d] * 6, FLAT, s) for s, d in enumerate((-0.02, 0.03, -0.01))]
    assert recovery_score(noisy, incident()) == "no avoidable loss"


@pytest.mark.parametrize(
    ("after", "kept", "expected"), [(0.9, 0.9, 1.0), (0.7, 0.9, 0.5), (0.9, 0.8, 0.9), (0.4, 0.9, 0.0)]
)
def test_the_evolution_score_is_adaptation_less_what_was_forgotten(after: float, kept: float, expected: float) -> None:
    """From 0.5 towards a reference at 0.9, times what the old world kept of its 0.9."""
    trios = [
        trio([0.8, 0.8] + [after] * 6, [0.8, 0.8] + [0.5] * 6, [0.8, 0.8] + [0.9] * 6, seed, old=kept)
        for seed in range(3)
    ]  # fmt: skip
    assert forgetting(trios[0]) == pytest.approx(0.9 - kept)
    score = evolution_score(trios)
    assert isinstance(score, Score)
    assert score.value == pytest.approx(expected, abs=1e-9)


def test_what_was_forgotten_is_the_larger_of_clean_and_robust() -> None:
    """A retraining that keeps clean accuracy and loses robustness forgot."""
    on = course("on", FLAT, old_robust=0.3)
    off = course("off", FLAT, old_robust=0.5)
    assert forgetting(Trio(on=on, off=off, oracle=course("oracle", FLAT))) == pytest.approx(0.2)


def test_regressions_are_rows_that_withstood_and_do_not_now() -> None:
    """Of ten rows five withstood: two of these fall now, and a third that fell withstands; untold, there is no number."""
    before, now = [True] * 5 + [False] * 5, [True] * 3 + [False] * 2 + [True] + [False] * 4
    held = [PerExample.pack(range(10), flags, [0] * 10) for flags in (before, now)]
    one, other = course("off", FLAT, withstood=held[0]), course("on", FLAT, withstood=held[1])
    made = Trio(on=other, off=one, oracle=course("oracle", FLAT))
    assert regressions(made) == pytest.approx(0.2)
    found = {m.name: m for m in measures([made, made], incident())}
    assert found["regressions_under_attack"].value == pytest.approx(0.2)
    moved = course("on", FLAT, withstood=PerExample.pack(range(1, 11), now, [0] * 10))
    assert regressions(Trio(on=moved, off=one, oracle=course("oracle", FLAT))) is None
    plain = {m.name for m in measures([trio(FLAT, FLAT, FLAT, seed) for seed in range(2)], incident())}
    assert "regressions_under_attack" not in plain


def test_never_is_a_value_of_delay_and_recovery() -> None:
    """A cause that is never named and a quality that never comes back are censored, and neither 0 nor missing."""
    asked = incident(right=Right(action="repair", cause="damaged_artefact"))
    found = {m.name: m for m in measures([trio(DOWN, DOWN, FLAT, s) for s in range(2)], asked)}
    assert found["detection_delay"].censored
    assert found["time_to_recover"].censored
    assert found["depth"].value == 1.0
    named = (Taken(window=3, about=(3,), at=3, cause="damaged_artefact", action="repair"),)
    again = {m.name: m for m in measures([trio(back(2), DOWN, FLAT, s, responses=named) for s in range(2)], asked)}
    assert again["detection_delay"].value == 1.0
    assert again["time_to_recover"].value == 2.0


def taken(*acts: tuple[int, str]) -> Course:
    """A course in which windows were answered so."""
    given = tuple(
        Taken.model_validate({"window": w, "about": (w,), "at": w, "cause": "unknown", "action": a}) for w, a in acts
    )
    return course("on", FLAT, responses=given)


@pytest.mark.parametrize(
    ("right", "acts", "fault"),
    [
        (Right(action="repair", within=2), [(2, "repair")], ""),
        (Right(action="repair", within=2), [(3, "repair")], ""),
        (Right(action="repair", within=2), [(4, "repair")], "no repair within 2"),
        (Right(action="repair"), [(1, "retrain"), (2, "repair")], "before onset"),
        (Right(action="repair", never=("rollback",)), [(2, "repair"), (5, "rollback")], "must not happen"),
        (Right(action="repair", cause="damaged_artefact"), [(2, "repair")], "no repair (damaged_artefact) within"),
        (Right(action="quarantine", windows=(2, 4)), [(2, "quarantine"), (4, "alert")], "window 4: alert"),
        (Right(action="none"), [(2, "alert"), (3, "none")], ""),
        (Right(action="none"), [(3, "retrain")], "nothing was to be done"),
    ],
)
def test_the_right_response_is_asserted(right: Right, acts: list[tuple[int, str]], fault: str) -> None:
    """What was done, when and about which window is held against what the incident asks for."""
    said = right_response(taken(*acts), incident(right=right))
    assert fault in said
    assert bool(said) == bool(fault)


def acts(*given: tuple[int, str, str], at: dict[int, int] | None = None, **more: Any) -> Course:
    """A course in which windows were answered so, with a cause; some of them later than they came."""
    responses = [
        {"window": w, "about": (w,), "at": (at or {}).get(w, w), "cause": cause, "action": action}
        for w, action, cause in given
    ]
    return course("on", FLAT, responses=responses, **more)


RETRAINED, FLIPPED = (3, "retrain", "harmful_drift"), (8, "quarantine", "suspected_poisoning")


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ([RETRAINED, FLIPPED], ""),
        ([RETRAINED], "window 8: nothing, not quarantine (suspected_poisoning)"),
        ([FLIPPED], "no retrain (harmful_drift)"),
        ([RETRAINED, (8, "quarantine", "suspected_evasion")], "window 8: quarantine (suspected_evasion), not"),
        ([RETRAINED, (9, "quarantine", "suspected_poisoning")], "window 8: nothing"),
        ([RETRAINED, FLIPPED, (9, "freeze", "harmful_drift")], "must not happen"),
    ],
)
def test_drift_and_poison_together_ask_for_both_answers(given: list[tuple[int, str, str]], fault: str) -> None:
    """The compound incident is not passed by retraining alone: its poisoned window must be set aside, as poisoned."""
    said = right_response(acts(*given), read_incident("compound"))
    assert fault in said
    assert bool(said) == bool(fault)


@pytest.mark.parametrize("cause", ["suspected_evasion", "quality_fault", "suspected_poisoning"])
def test_a_poisoned_batch_is_set_aside_for_its_poison(cause: str) -> None:
    """Another cause for either of the windows is a wrong answer."""
    found = acts((3, "quarantine", "suspected_poisoning"), (5, "quarantine", cause))
    assert bool(right_response(found, read_incident("poisoned_batch"))) == (cause != "suspected_poisoning")


def test_each_window_has_its_own_time_to_be_answered() -> None:
    """A quick answer about one window does not excuse a late one about another."""
    both = (3, "repair", "damaged_artefact"), (6, "repair", "damaged_artefact")
    asked = read_incident("weight_bitflips")
    assert right_response(acts(*both), asked) == ""
    assert "window 6" in right_response(acts(*both, at={6: 7}), asked)


def test_a_kill_that_did_not_happen_is_no_pass() -> None:
    """Where no training was killed nothing was rehearsed, however right the answer was."""
    asked = read_incident("worker_killed")
    assert right_response(acts(RETRAINED, killed=3), asked) == ""
    assert "no kill was rehearsed" in right_response(acts(RETRAINED), asked)


def test_quiet_windows_left_alone_are_counted_where_nothing_was_to_be_done() -> None:
    """Two of eight windows were acted on in one of two seeds; five sure seeds are no certainty."""
    left = [(w, "none") for w in range(HORIZON)]
    hasty = taken(*left[:3], (3, "quarantine"), (4, "alert"), (5, "retrain"), *left[6:])
    calm = taken(*left)
    asked, other = incident(right=Right(action="none")), trio(FLAT, FLAT, FLAT)

    def share(*courses: Course) -> Any:
        trios = [other.model_copy(update={"on": each}) for each in courses]
        assert "quiet_windows_left_alone" not in {m.name for m in measures(trios, incident())}
        return next(m for m in measures(trios, asked) if m.name == "quiet_windows_left_alone")

    assert share(calm, hasty).value == pytest.approx((1 + 6 / 8) / 2)
    sure = share(*[calm] * 5)
    assert (sure.value, sure.n, sure.better) == (1.0, 5, "higher")
    assert 0.5 < sure.low < 0.6
    assert "detection_delay" not in {m.name for m in measures([other], asked)}, "there is nothing to detect"


def test_labels_and_minutes_are_those_of_retrainings() -> None:
    """They stand beside what was learned; a quarantine takes none, and who is not asked to learn has none to tell."""
    spent = [
        {"window": w, "about": (w,), "at": w, "cause": "harmful_drift", "action": action, "labels": 100 * w, "minutes": 0.5}
        for w, action in ((2, "retrain"), (3, "quarantine"), (5, "retrain"))
    ]  # fmt: skip
    trios = [trio(FLAT, FLAT, FLAT, seed, responses=spent) for seed in range(2)]
    learning = incident(right=Right(action="retrain"))
    found = {m.name: m for m in measures(trios, learning)}
    assert (found["labels_spent"].value, found["labels_spent"].unit) == (700.0, "labels")
    assert found["minutes_of_training"].value == pytest.approx(1.0)
    assert "labels_spent" not in {m.name for m in measures(trios, incident())}


def counted(wrong: list[int], unanswered: list[int]) -> dict[str, Any]:
    return {"wrong": wrong, "unanswered": unanswered}


def test_rows_answered_wrongly_are_those_beyond_what_was_wrong_before() -> None:
    """A tenth was wrong before: of windows answered in full, by half and not at all, so much is the incident's."""
    on = course("on", FLAT, **counted([100, 100, 300, 150, 0, 100, 100, 100], [0, 0, 0, 500, 1000, 0, 0, 0]))
    off = course("off", FLAT, **counted([90, 110] + [900] * 6, [0] * 8))
    made = Trio(on=on, off=off, oracle=course("oracle", FLAT, **counted([0] * 8, [0] * 8)))
    assert answered_wrongly(made, incident()) == pytest.approx(200 + 100)
    assert left_unanswered(made, incident()) == pytest.approx(1500)
    found = {m.name: m for m in measures([made, made], incident())}
    assert found["rows_answered_wrongly"].value == pytest.approx(300)
    assert found["rows_unanswered"].value == pytest.approx(1500)


def test_rows_answered_wrongly_are_held_against_the_oracle_where_the_world_changes() -> None:
    """What even the right model has wrong is not the response's to answer for; uncounted, there is no number."""
    on = course("on", FLAT, **counted([0, 0] + [300] * 6, [0] * 8))
    oracle = course("oracle", FLAT, **counted([0, 0] + [250] * 6, [0] * 8))
    made = Trio(on=on, off=course("off", FLAT), oracle=oracle)
    assert answered_wrongly(made, incident(later=True)) == pytest.approx(300)
    assert answered_wrongly(made, incident()) is None
    names = {m.name for m in measures([made, made], incident())}
    assert not names & {"rows_answered_wrongly", "rows_unanswered", "tampered_windows_served", "rows_seen_before"}


def test_windows_that_spoilt_bytes_answered_are_counted() -> None:
    """None is a number, and no look is none."""
    served = [trio(FLAT, FLAT, FLAT, seed, tampered=windows) for seed, windows in enumerate(((), (3, 4)))]
    found = {m.name: m for m in measures(served, incident())}
    assert (found["tampered_windows_served"].value, found["tampered_windows_served"].n) == (1.0, 2)


def test_one_seed_has_no_interval() -> None:
    """A mean of one says nothing of how seeds differ."""
    (alone,) = (m for m in measures([trio(FLAT, FLAT, FLAT)], incident()) if m.name == "depth")
    assert (alone.value, alone.low, alone.high, alone.n) == (0.0, None, None, 1)
