"""What is told of a drill: beside the score, and what its numbers are of."""

from types import SimpleNamespace

import pytest

from holdfast.drills.curve import Course, Trio
from holdfast.drills.incident import read_incident
from holdfast.recovery.ledger import Ledger
from holdfast.results import Decision, Reason
from holdfast.stores import Stores, WallClock
from tasks import drills
from tasks.on_record import answered_so_far


def trio(robust, seed=0):
    courses = {
        arm: Course(incident="natural_drift", arm=arm, seed=seed, quality=(0.8,) * 11, rows=10, old=0.9,
                    old_robust=robust)
        for arm in ("on", "off", "oracle")
    }  # fmt: skip
    return Trio(**courses)


@pytest.mark.parametrize(("robust", "said"), [(None, True), (0.5, False)])
def test_forgetting_of_clean_answers_alone_is_said_so(robust, said):
    """The page's checks say that nobody asked how attacks are withstood: no silence that reads as nothing lost."""
    checks = drills._kept([trio(robust)], read_incident("natural_drift"))
    assert [check.status for check in checks] == ["not_applicable"] * said
    assert all("the gate has no attack" in check.reason for check in checks)


def test_the_story_says_which_rows_were_known():
    """A number with the story: what was found among rows that came before was easier to find."""
    plain, incident = trio(None).on, read_incident("natural_drift")
    assert not [line for line in drills.story(plain, incident) if "earlier window" in line]
    again = drills.story(plain.model_copy(update={"repeated": 0.25}), incident)
    assert again[-1].strip() == "25.0 % of the rows from onset on came in an earlier window too"


def test_all_right_responses_are_named_where_they_were_given():
    """Two were asked for, and each is said."""
    on = Course.model_validate(
        {
            "incident": "compound", "arm": "on", "seed": 0, "quality": [0.8] * 11, "rows": 10,
            "responses": [
                {"window": w, "about": [w], "at": w, "cause": c, "action": a}
                for w, c, a in ((3, "harmful_drift", "retrain"), (8, "suspected_poisoning", "quarantine"))
            ],
        }
    )  # fmt: skip
    made = trio(None).model_copy(update={"on": on})
    assert drills._right([made], read_incident("compound")).reason == "retrain and quarantine in 1 of 1 seeds"


def test_what_a_response_took_is_read_with_it(tmp_path):
    """Labels and minutes are those of the record; a response under way has none yet."""
    stores, params = Stores.local(tmp_path, tmp_path), SimpleNamespace(name="loans")
    ledger = Ledger.create(stores.ledger.get_secret_value(), WallClock())
    for place in (4, 5):
        reason = Reason(about="policy", passed=True, text="harm")
        made = Decision(action="retrain", cause="harmful_drift", position=place, reasons=(reason,))
        ledger.append("decision", who="me", model=params.name, body=made.model_dump(mode="json"), key=f"d{place}")
    body = {"about": "response", "position": 4, "action": "retrain", "outcome": "version 2: promote", "labels": 700,
            "minutes": 0.25}  # fmt: skip
    ledger.append("run", who="me", model=params.name, body=body, key=f"responded:{params.name}:4")
    done, under_way = answered_so_far(params, stores, 6)
    assert (done.outcome, done.labels, done.minutes) == ("version 2: promote", 700, 0.25)
    assert (under_way.outcome, under_way.labels, under_way.minutes) == ("", 0, 0.0)
