"""The resilience curve: closed forms of its scores, and the assertion of the right response."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.drills.curve import (
    Course,
    Taken,
    Trio,
    evolution_score,
    forgetting,
    loss,
    measures,
    recovery_score,
    regressions,
    relative,
    right_response,
)
from holdfast.drills.incident import Incident, Right, World
from holdfast.results import PerExample, Score

ONSET, HORIZON = 2, 8


def incident(*, later: bool = False, right: Right | None = None, **more: Any) -> Incident:
    return Incident(
        name="made", title="Made", about="Made up.", measures="recovery", onset=ONSET, horizon=HORIZON,
        after=World(period="later") if later else None, right=right or Right(action="repair"), **more,
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
        == "the attack on the old distribution is scored in one arm alone: forgetting is not known"
    )
    assert "forgetting" not in {measure.name for measure in measures(trios, incident())}


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
        (Right(action="repair", cause="damaged_artefact"), [(2, "repair")], "no repair within"),
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
