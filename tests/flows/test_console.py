"""The console: a decision is said so that nobody takes the former reasons for the current ones."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from flows.console import decision_lines
from holdfast.recovery.ledger import Ledger
from holdfast.results import Decision, ModelVersion, Reason
from holdfast.stores import Stores, WallClock
from tasks.publishing import promoted_at

ONE, TWO = (ModelVersion(name="loans", version=number, digest=f"{number}" * 64) for number in (1, 2))
NOW = Reason(about="champion", passed=True, text="the candidate is the champion already")
ONCE = Reason(about="champion", passed=True, text="there is no champion: floors and validity alone decide")
FAILED = Reason(about="attacks/pgd", passed=False, text="floor 0.3000: below it")


def test_the_current_reason_comes_first_and_the_former_ones_are_told_as_former() -> None:
    """After a run that changed nothing, the promotion's reasons stand below a line with its date."""
    decision = Decision(action="none", candidate=ONE, champion=ONE, reasons=(NOW, ONCE))
    assert decision_lines(decision, datetime(2026, 11, 21, 11, 4, tzinfo=UTC)) == [
        "none: loans version 1 (digest 1111111111111111); version 1 stays champion",
        "  ok   champion: the candidate is the champion already",
        "promoted on 2026-11-21 11:04 UTC because:",
        "  ok   champion: there is no champion: floors and validity alone decide",
    ]
    assert decision_lines(decision, None)[2] == "promoted because:"
    assert len(decision_lines(decision.model_copy(update={"reasons": (NOW,)}), None)) == 2


@pytest.mark.parametrize("action", ["keep", "inconclusive", "block"])
@pytest.mark.parametrize(
    ("champion", "standing"), [(None, "there is still no champion"), (ONE, "version 1 stays champion")]
)
def test_a_decision_that_moves_nothing_says_who_serves(action: Any, champion: Any, standing: str) -> None:
    """Where there is no champion, none is said to stay."""
    decision = Decision(action=action, candidate=TWO, champion=champion, reasons=(FAILED,))
    first, *reasons = decision_lines(decision, None)
    assert first == f"{action}: loans version 2 (digest 2222222222222222); {standing}"
    assert reasons == ["  FAIL attacks/pgd: floor 0.3000: below it"]


def test_a_promotion_says_no_more_than_its_reasons() -> None:
    """A promoted candidate replaces its champion, which stays nothing."""
    decision = Decision(action="promote", candidate=TWO, champion=ONE, reasons=(NOW,))
    assert decision_lines(decision, None)[0] == "promote: loans version 2 (digest 2222222222222222)"


def test_the_promotions_date_is_the_ledgers(tmp_path: Any) -> None:
    """The last decision that promoted the version counts; decisions that kept it out, or speak of others, do not."""
    stores = Stores.local(tmp_path, tmp_path)
    ledger = Ledger.create(stores.ledger.get_secret_value(), WallClock())
    assert promoted_at(stores, ONE) is None
    for action, version in (("promote", ONE), ("keep", ONE), ("promote", TWO)):
        body = Decision(action=action, candidate=version, reasons=(NOW,)).model_dump(mode="json")  # type: ignore[arg-type]  of the cases above
        ledger.append("decision", who="me", model="loans", version=version.version, body=body)
    with ledger.reading() as view:
        first, _, last = view.entries(kinds=("decision",))
    assert (promoted_at(stores, ONE), promoted_at(stores, TWO)) == (first.at, last.at)
