"""The rule of pruning: what is needed stays, and what is not stays until it is old."""

import pytest

from holdfast.pruning import hold


@pytest.mark.parametrize(
    ("days", "needed", "goes", "why"),
    [
        (29.9, "", False, "of nobody, but not 30 days old"),
        (30.0, "", True, "of nobody"),
        (9999.0, "a version names it", False, "a version names it"),
    ],
)
def test_need_comes_before_age(days, needed, goes, why):
    """Age alone takes nothing that is needed, and need alone keeps it; each says why."""
    held = hold("model", "abc", 7, days, least=30, needed=needed, spare="of nobody")
    assert (held.goes, held.why, held.bytes) == (goes, why, 7)
