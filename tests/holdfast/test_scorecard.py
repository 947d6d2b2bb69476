"""Tests of the headlines: minima, the AND over attacks, and words where there is no number."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import RoleError, ScenarioError
from holdfast.results import Check, Finding, PerExample, Provenance, Score
from holdfast.scorecard import DIMENSIONS, Scorecard, decimal, scorecard, tags
from holdfast.statistics import share, wilson

FAILED = Check(name="masking", status="failed", reason="planted")


def finding(
    path,
    value=None,
    *,
    dimension="robustness",
    family="faults",
    kind="measured",
    role="test",
    flags=None,
    ids=None,
    **parts,
):
    """One finding: of a share, of flags, or unscored."""
    provenance = Provenance(subject="m", data="d", role=role, seed=1, library="l", versions={}, device="cpu")
    settings = parts.pop("settings", {})
    if flags is not None:
        ids = range(len(flags)) if ids is None else ids
        parts |= {
            "score": share(flags, "upper_bound"),
            "per_example": PerExample.pack(ids, flags, np.zeros(len(flags))),
        }
    elif value is None:
        parts = {"unscored": "planted reason", **parts}
    else:
        parts["score"] = Score(
            value=value, low=max(value - 0.1, 0), high=min(value + 0.1, 1), n=50, method="wilson", kind=kind
        )
    return Finding(path=path, dimension=dimension, family=family, settings=settings, provenance=provenance, **parts)


def attack(name, flags, *, norm="linf", epsilon=0.05, categories=0, **parts):
    settings = {"norm": norm, "epsilon": epsilon, "categories": categories}
    return finding(f"attacks/{name}", dimension="defence", family="evasion", flags=flags, settings=settings, **parts)


def card_of(*findings):
    return scorecard(findings, "standard", "p" * 64)


def evasion(*findings):
    return next(family for family in card_of(*findings).of("defence").families if family.family == "evasion")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1)), min_size=1, max_size=9), st.randoms())
def test_a_dimension_is_the_minimum_over_families_in_any_order(parts, random):
    """The headline is the smallest share, its interval is that scenario's, and order changes nothing."""
    made = [finding(f"{family}/s{k}", value, family=family) for k, (family, value) in enumerate(parts)]
    card = card_of(*made)
    entry = card.of("robustness")
    weakest = min(made, key=lambda each: each.score.value)
    assert entry.score.value == weakest.score.value
    assert (entry.score.low, entry.score.high) == next(
        (m.score.low, m.score.high) for m in made if m.path == entry.weakest
    )
    for family in entry.families:
        values = [each.score.value for each in made if each.family == family.family]
        assert family.weakest.score.value == min(values)
        assert family.mean == pytest.approx(np.mean(values))
    random.shuffle(made)
    assert card_of(*made) == card
    assert Scorecard.model_validate_json(card.model_dump_json()) == card


@given(st.lists(st.lists(st.booleans(), min_size=40, max_size=40), min_size=1, max_size=4))
def test_evasion_counts_points_that_survive_every_attack(rows):
    """The share is the per-example AND with Wilson's interval, an upper bound, never above any attack alone."""
    member = evasion(*(attack(f"a{k}", flags) for k, flags in enumerate(rows))).weakest
    right = sum(map(all, zip(*rows, strict=True)))
    assert (member.score.value, member.score.kind, member.score.n) == (right / 40, "upper_bound", 40)
    assert (member.score.low, member.score.high) == pytest.approx(wilson(right, 40))
    assert member.paths[0] == min((sum(flags), f"attacks/a{k}") for k, flags in enumerate(rows))[1]


@pytest.mark.parametrize("other", [{"norm": "l2"}, {"epsilon": 0.1}, {"categories": 1}, {"ids": range(1, 5)}])
def test_only_one_threat_model_on_the_same_points_is_joined(other):
    """Another norm, radius, budget of categories, or other points stand apart; the weaker of the two is the family."""
    first, second = [True, True, False, False], [False, True, True, True]
    apart = evasion(attack("a", first), attack("b", second, **other))
    assert [member.score.value for member in apart.members] == [0.5, 0.75]
    assert evasion(attack("a", first), attack("b", second)).weakest.score.value == 0.25


def test_an_attack_without_flags_stands_alone():
    """What cannot be joined point by point is not joined."""
    lone = finding("attacks/x", 0.3, dimension="defence", family="evasion", settings={"norm": "linf", "epsilon": 0.05})
    found = evasion(lone, attack("a", [True, False]))
    assert [member.paths for member in found.members] == [("attacks/x",), ("attacks/a",)]


def test_certificates_bracket_evasion_and_never_lower_it():
    """A certificate stands beside the attacks; alone it is no headline."""
    proof = finding(
        "certificates/randomized_smoothing", 0.1, dimension="defence", family="certificates", kind="lower_bound"
    )
    found = evasion(proof, attack("a", [True, True, False, True]))
    assert found.weakest.score.value == 0.75
    assert [member.label for member in found.certificates] == [proof.path]
    alone = card_of(proof).of("defence")
    assert (alone.status, alone.score) == ("unscored", None)


def test_no_number_is_words():
    """Unscored keeps its reason, what is not asked for is not due, drills are named, and none has a score."""
    card = card_of(finding("faults/f"))
    assert [entry.status for entry in card.dimensions] == ["unscored", "not_due", "not_due", "not_due"]
    assert all(entry.score is None for entry in card.dimensions)
    assert card.weakest is None
    assert card.not_scored == card.dimensions
    written = tags(card)
    assert written["holdfast.robustness"] == "unscored: faults/f: planted reason"
    assert written["holdfast.defence"] == "not due: pack standard asks for no scenario of defence"
    assert written["holdfast.recovery"] == written["holdfast.evolution"] == "not due: no drill yet"
    assert written["holdfast.pack_digest"] == "p" * 64


def test_drill_findings_make_recovery_due():
    """A finding of a drill scores its dimension; an unscored one says why."""
    scored = finding("drills/outage", 0.8, dimension="recovery", family="damage", role="drill")
    card = card_of(scored, finding("drills/drift", dimension="evolution", family="change", role="drill"))
    assert card.of("recovery").score.value == 0.8
    assert card.of("evolution").reason == "drills/drift: planted reason"


def test_unscored_beside_scored_is_named_and_not_counted():
    """A gap moves no minimum and no mean, and stays visible."""
    entry = card_of(finding("faults/a", 0.6), finding("faults/b"), finding("shift/c", family="shift")).of("robustness")
    assert (entry.score.value, entry.families[0].mean) == (0.6, 0.6)
    assert [gap.path for gap in entry.unscored] == ["faults/b", "shift/c"]
    assert entry.reason == "minimum over 1 of 2 families"


def test_failed_checks_mark_the_headline_and_stay_in_the_minimum():
    """An invalid attack can only lower the bound, and the headline says that it is not to be trusted."""
    card = card_of(attack("a", [True, False, True, True], checks=(FAILED,)), attack("b", [True, True, False, True]))
    entry = card.of("defence")
    assert (entry.score.value, entry.invalid) == (0.5, ("attacks/a",))
    assert "INVALID: attacks/a" in tags(card)["holdfast.defence"]
    assert card_of(attack("a", [True])).of("defence").invalid == ()


@pytest.mark.parametrize("path", ["probes/quality", "probes/quality-late"])
def test_quality_is_no_headline(path):
    """Quality is what the dimensions protect; it lowers none of them."""
    aside = finding(path, 0.1, family="quality")
    assert card_of(aside, finding("faults/f", 0.7)).of("robustness").score.value == 0.7


def test_the_weakest_of_the_scored_is_named_first():
    """Only scored dimensions compete."""
    card = card_of(finding("faults/f", 0.7), attack("a", [True, False]))
    assert card.weakest.dimension == "defence"
    assert [entry.dimension for entry in card.not_scored] == ["recovery", "evolution"]
    assert tuple(entry.dimension for entry in card.dimensions) == DIMENSIONS


@pytest.mark.parametrize(
    ("role", "dimension"), [("gate", "defence"), ("validation", "robustness"), ("drill", "robustness")]
)
def test_rows_of_another_role_are_refused(role, dimension):
    """The scorecard reads test rows, and drills their own."""
    with pytest.raises(RoleError, match=role):
        card_of(finding("faults/f", 0.5, dimension=dimension, role=role))


def test_a_path_comes_once():
    """Two answers to one question are refused and not averaged."""
    with pytest.raises(ScenarioError, match="two findings"):
        card_of(finding("faults/f", 0.5), finding("faults/f", 0.6))


@given(st.floats(0, 1))
def test_only_zero_and_one_are_written_as_such(value):
    """Rounding never makes a share perfect or hopeless."""
    assert (decimal(value) == "0.000") == (value == 0)
    assert (decimal(value) == "1.000") == (value == 1)
    assert abs(float(decimal(value)) - value) <= 0.001
