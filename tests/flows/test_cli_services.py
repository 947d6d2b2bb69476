"""A person's word on a version, through the front door: on record in the caller's name, or refused with what to do."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.recovery.promotion import promote, register
from holdfast.results import Decision, ModelVersion
from tasks.recovery import open_ledger

pytestmark = pytest.mark.timeout(900)  # whole commands, on a machine that may have other work
TINY = ("--params", "profiles/tiny.yaml")


class Shelf:
    """An alias in memory."""

    version: int | None = None

    def read(self, model: str) -> int | None:
        return self.version

    def write(self, model: str, version: int | None) -> None:
        self.version = version


def test_a_version_is_judged_bad_and_cleared_by_command(bare: Any) -> None:
    """The next rollback goes further back; the champion and a stranger are refused, and nothing is recorded of them."""
    ledger, shelf = open_ledger(bare.stores()), Shelf()
    for number in (1, 2, 3):
        head, version = ledger.head("tiny"), ModelVersion(name="tiny", version=number, digest=f"{number}" * 64)
        register(ledger, version, who="t", lineage={})
        decision = Decision(action="promote", reasons=(), candidate=version, champion=head and head.reference())
        promote(ledger, shelf, decision, expected=head and head.promotion, who="t", why="w")
    done = bare.holdfast("condemn", "2", "--why", "answers nothing", *TINY, "--json")
    assert done.document == {"condemned_version": 2}
    (entry,) = bare.entries("condemned")
    assert (entry.version, entry.body["why"]) == (2, "answers nothing")
    assert entry.who not in {"t", "holdfast", ""}
    assert ledger.last_good("tiny").version == 1
    assert "`holdfast rollback --why ...`" in bare.holdfast("condemn", "3", "--why", "w", *TINY, expect=7).words
    assert "not on record" in bare.holdfast("condemn", "4", "--why", "w", *TINY, expect=7).words
    assert len(bare.entries("condemned")) == 1
    assert bare.holdfast("clear", "2", "--why", "mended", *TINY).out.startswith("version 2 may become champion again")
    assert ledger.last_good("tiny").version == 2
