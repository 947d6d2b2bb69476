"""The policy: each cause has its response, and each brake holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from holdfast.recovery.policy import Budget, History, Policy, Spent, respond
from holdfast.results import Diagnosis, ModelVersion, Reason

CHAMPION = ModelVersion(name="m", version=3, digest="c" * 64)
GOOD = ModelVersion(name="m", version=1, digest="a" * 64)
READY = History(admissible=4)


def diagnosis(cause):
    return Diagnosis(cause=cause, reasons=(Reason(about="x", passed=cause == "none", text="seen"),))


DEFAULT = Policy()


def action(cause, history=READY, policy=DEFAULT, position=50):
    return respond(diagnosis(cause), history, policy, position, CHAMPION).action


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        ("none", "none"),
        ("quality_fault", "quarantine"),
        ("suspected_evasion", "quarantine"),
        ("suspected_poisoning", "quarantine"),
        ("damaged_artefact", "repair"),
        ("benign_shift", "alert"),
        ("unknown", "alert"),
        ("harmful_drift", "retrain"),
    ],
)
def test_each_cause_has_its_response(cause, expected):
    """With nothing in the way, a cause leads to one action, and the reasons of both are kept."""
    decision = respond(diagnosis(cause), READY, Policy(), 50, CHAMPION)
    assert decision.action == expected
    assert decision.cause == cause
    assert decision.position == 50
    assert decision.reasons[0].text == "seen"


def test_a_champion_that_cannot_be_restored_gives_way_to_the_last_good_version():
    """Where no copy verifies the last good version answers; with none there, repair refuses and nothing answers."""
    former = ModelVersion(name="loans", version=1, digest="good")
    decision = respond(
        diagnosis("damaged_artefact"),
        History(restorable=False, good=former, rollbacks=(48, 49)),
        Policy(),
        50,
        CHAMPION,
    )
    assert (decision.action, decision.candidate) == ("fall_back", former)
    assert action("damaged_artefact", History(restorable=False)) == "repair"
    assert action("damaged_artefact", History(good=former)) == "repair"


def test_poison_in_a_lasting_harm_is_set_aside_first():
    """The windows that matured are the ones set aside, not the one that came; the harm goes on after them."""
    found = diagnosis("suspected_poisoning").model_copy(update={"windows": (44, 45)})
    decision = respond(found, History(episode=40, admissible=4), Policy(), 50, CHAMPION)
    assert (decision.action, decision.windows, decision.position, decision.episode) == ("quarantine", (44, 45), 50, 40)


@given(
    cause=st.sampled_from(
        ["benign_shift", "unknown", "none", "quality_fault", "suspected_evasion", "suspected_poisoning"]
    ),
    harmed=st.lists(st.integers(0, 49), max_size=5),
    admissible=st.integers(0, 9),
)
def test_only_harm_retrains(cause, harmed, admissible):
    """Whatever was before, nothing but harm, begun or lasting, leads to a retraining or a rollback."""
    history = History(harmed=tuple(harmed), admissible=admissible, good=GOOD, promoted=48)
    assert action(cause, history) not in {"retrain", "rollback"}


def test_a_shift_is_told_once():
    """The second window of the same shift is no second alert; another cause is."""
    assert action("benign_shift", History(former="benign_shift")) == "none"
    assert action("unknown", History(former="benign_shift")) == "alert"


@pytest.mark.parametrize(("judged", "words"), [(True, "do not show"), (False, "before labels mature")])
def test_an_alert_of_the_unknown_says_whether_labels_have_spoken(judged, words):
    """Confidence that labels found off is no news that labels may still mend; either way a person is told, and no more."""
    decision = respond(
        diagnosis("unknown").model_copy(update={"judged": judged}), History(admissible=9), DEFAULT, 50, CHAMPION
    )
    assert decision.action == "alert"
    assert words in decision.reasons[-1].text


def test_an_episode_ends_only_at_its_lower_exit():
    """After the alarm, harm goes on without alarms until the last four windows are as good as the exit asks."""
    policy = Policy(cooldown=0)
    lasting = History(episode=40, excess=(0.05, 0.04, 0.05, 0.04), admissible=4)
    decision = respond(diagnosis("none"), lasting, policy, 50, CHAMPION)
    assert (decision.action, decision.cause, decision.episode) == ("retrain", "harmful_drift", 40)
    shifted = respond(diagnosis("benign_shift"), lasting, policy, 50, CHAMPION)  # the columns that moved are not why
    assert "the harm of window 40 goes on" in next(reason.text for reason in shifted.reasons if not reason.passed)
    for excess in ((0.01, 0.01, 0.01), (0.05, 0.01, 0.01, 0.05)):  # too few to tell, and not good enough
        history = lasting.model_copy(update={"excess": excess})
        assert respond(diagnosis("none"), history, policy, 50, CHAMPION).episode == 40
    over = respond(diagnosis("none"), lasting.model_copy(update={"excess": (0.3, 0.01, 0.02, 0.01, 0.02)}), policy, 50, CHAMPION)  # fmt: skip
    assert (over.action, over.episode) == ("none", None)
    assert "is over" in " ".join(reason.text for reason in over.reasons)


def test_retraining_goes_on_as_long_as_it_pays():
    """After a retraining of this episode it is over where that put nothing right, or little and answers are good."""
    policy = Policy(cooldown=3)
    answered = History(
        episode=40, promoted=44, retrainings=(Spent(position=44),), excess=(0.2,) * 4, gains=(0.05, 0.04, 0.06, 0.05),
        admissible=4,
    )  # fmt: skip
    assert respond(diagnosis("none"), answered, policy, 48, CHAMPION).action == "retrain"
    little, nothing, good = (0.05, 0.01, 0.0, 0.01, 0.0), (0.05, 0.01, -0.01, 0.0, 0.0), (0.3, 0.02, 0.01, 0.0, 0.02)
    for gains, excess, over in (
        (little, good, True), (little, answered.excess, False), (nothing, answered.excess, True),
        (answered.gains, good, False),
    ):  # fmt: skip
        history = answered.model_copy(update={"gains": gains, "excess": excess})
        decision = respond(diagnosis("none"), history, policy, 48, CHAMPION)
        assert (decision.action, decision.episode) == (("none", None) if over else ("retrain", 40))
    early = answered.model_copy(update={"gains": (0.0, 0.0, 0.0)})
    assert respond(diagnosis("none"), early, policy, 48, CHAMPION).episode == 40


def test_after_a_retraining_that_put_little_right_the_next_waits_until_answers_got_worse_by_what_is_worth_one():
    """Between the exit and that, the harm goes on and is told, and nothing of the budget is spent on it."""
    answered = History(
        episode=40, promoted=44, retrainings=(Spent(position=44),), excess=(0.3, 0.03, 0.04, 0.03, 0.03),
        gains=(0.3, 0.01, 0.02, 0.01, 0.02), admissible=4,
    )  # fmt: skip
    decision = respond(diagnosis("none"), answered, DEFAULT, 48, CHAMPION)
    assert (decision.action, decision.cause, decision.episode) == ("alert", "harmful_drift", 40)
    assert "waits until answers are +0.040 wrong above the past, and they are +0.033" in decision.reasons[-1].text
    assert action("harmful_drift", answered, position=48) == "alert"  # an alarm of its own says nothing else
    for change in (
        {"excess": (0.05,) * 4},  # worse by enough
        {"gains": (0.05,) * 4},  # the last one paid
        {"gains": (0.01, 0.01, None, 0.01)},  # nobody can say what it put right
        {"promoted": 39},  # it answered an earlier harm
        {"excess": (0.03,) * 3, "gains": (0.01,) * 3},  # too few windows to tell
    ):
        assert action("harmful_drift", answered.model_copy(update=change), position=48) == "retrain"


@pytest.mark.parametrize("gains", [(), (None,) * 5, (0.2, 0.2, None, 0.2, 0.2)])
def test_where_nobody_can_say_what_a_retraining_put_right_answers_alone_decide(gains):
    """The version before it cannot be asked: the episode ends as one that nothing was done about, and not never."""
    answered = History(episode=40, promoted=44, gains=gains, admissible=4)
    good = answered.model_copy(update={"excess": (0.3, 0.01, 0.02, 0.01, 0.02)})
    assert respond(diagnosis("none"), good, Policy(), 50, CHAMPION).episode is None
    for excess in ((0.3, 0.2, 0.2, 0.2, 0.2), (0.01, 0.01, 0.01)):
        lasting = answered.model_copy(update={"excess": excess})
        assert respond(diagnosis("none"), lasting, Policy(), 50, CHAMPION).episode == 40


def test_damage_during_an_episode_is_repaired_first():
    """A broken champion is no drift, and the episode is not forgotten over it."""
    history = History(episode=40, excess=(0.1,) * 4, admissible=4)
    decision = respond(diagnosis("damaged_artefact"), history, Policy(), 50, CHAMPION)
    assert (decision.action, decision.episode) == ("repair", 40)


def test_cooldown_counts_windows_since_the_last_response():
    """Three windows must pass after a retraining, and after a rollback too."""
    for past in (READY.model_copy(update={"retrainings": (Spent(position=47),)}), READY.model_copy(update={"rollbacks": (47,)})):  # fmt: skip
        assert action("harmful_drift", past, position=50) == "alert"
        assert action("harmful_drift", past, position=51) == "retrain"


def test_harm_must_be_confirmed_where_that_is_asked():
    """Two of three windows: the first is told, the second acted upon, one long ago counts for nothing."""
    policy = Policy(confirm=2, among=3)
    assert action("harmful_drift", READY, policy) == "alert"
    assert action("harmful_drift", READY.model_copy(update={"harmed": (47,)}), policy) == "alert"
    assert action("harmful_drift", READY.model_copy(update={"harmed": (48,)}), policy) == "retrain"
    with pytest.raises(ValidationError, match="confirm 3 is above among 2"):
        Policy(confirm=3, among=2)


@pytest.mark.parametrize(
    ("budget", "spent"),
    [
        (Budget(runs=2, windows=20), (Spent(position=35), Spent(position=40))),
        (Budget(labels=500, windows=20), (Spent(position=40, labels=500),)),
        (Budget(minutes=3, windows=20), (Spent(position=40, minutes=3.5),)),
    ],
)
def test_a_spent_budget_retrains_no_more(budget, spent):
    """Runs, labels and minutes are counted over the last windows only."""
    history = READY.model_copy(update={"retrainings": spent})
    decision = respond(diagnosis("harmful_drift"), history, Policy(budget=budget), 50, CHAMPION)
    assert decision.action == "alert"
    assert "budget" in decision.reasons[-1].text
    assert action("harmful_drift", history, Policy(budget=budget), position=65) == "retrain"


def test_nothing_is_retrained_without_windows():
    """Labels that did not mature, or windows in quarantine, are nothing to learn from."""
    assert action("harmful_drift", History()) == "alert"


def test_harm_soon_after_a_retraining_rolls_back():
    """Within probation the last good version takes over, if there is one."""
    policy = Policy(cooldown=0, probation=5)
    fresh = READY.model_copy(update={"promoted": 46, "good": GOOD, "gains": (-0.1, 0.05)})
    decision = respond(diagnosis("harmful_drift"), fresh, policy, 50, CHAMPION)
    assert (decision.action, decision.candidate, decision.champion) == ("rollback", GOOD, CHAMPION)
    assert action("harmful_drift", fresh, policy, position=52) == "retrain"
    assert action("harmful_drift", fresh.model_copy(update={"good": None}), policy) == "retrain"
    better = fresh.model_copy(update={"gains": (0.3, 0.2)})  # harm that the version before would do more of
    assert action("harmful_drift", better, policy) == "retrain"
    for unseen in ((), (None, None)):  # no window says which of the two does worse
        assert action("harmful_drift", fresh.model_copy(update={"gains": unseen}), policy) == "alert"
    assert action("harmful_drift", fresh.model_copy(update={"gains": (-0.1, None)}), policy) == "rollback"


def test_two_rollbacks_freeze_until_a_person_clears_them():
    """The breaker counts what was carried out since it was cleared, and not what came to nothing."""
    history = READY.model_copy(update={"rollbacks": (30, 40), "carried_out": (30, 40)})
    assert action("harmful_drift", history) == "freeze"
    assert action("harmful_drift", history.model_copy(update={"carried_out": (40,)})) == "retrain"
    assert action("harmful_drift", history, position=130) == "retrain"  # out of the budget's stretch
