"""A pack's budget means something: an overrun is said, with what took longest."""

from holdfast.results import Cost, Finding, Provenance
from holdfast.scenarios.packs import overrun


def finding(path, seconds):
    origin = Provenance(subject="m", data="d", role="test", seed=0, library="l", versions={}, device="cpu")
    return Finding(
        path=path, dimension="defence", family="evasion", settings={}, provenance=origin, unscored="not asked",
        cost=Cost(seconds=seconds),
    )  # fmt: skip


def test_a_pack_within_its_budget_is_silent():
    """Exactly the budget is no overrun, and neither is nothing at all."""
    assert overrun([finding("a/x", 4.0), finding("a/y", 6.0)], 10.0) is None
    assert overrun([], 0.1) is None


def test_an_overrun_says_by_how_much_and_what_took_longest():
    """Work is added up, and the three longest scenarios are named, longest first."""
    found = [finding("a/w", 1.0), finding("a/x", 4.0), finding("a/y", 7.5), finding("a/z", 2.0)]
    said = overrun(iter(found), 10.0)
    assert said == "took 14.5 s of work, 4.5 s over its budget of 10 s: a/y 7.5 s, a/x 4.0 s, a/z 2.0 s"
