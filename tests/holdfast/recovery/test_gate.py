"""Every rule of the gate, on findings built by hand: what promotes, what does not, and what is refused."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from holdfast.errors import RoleError, ScenarioError
from holdfast.recovery.gate import Floor, Gates, NonInferiority, decide
from holdfast.results import Check, Decision, Finding, ModelVersion, PerExample, Provenance, Score
from holdfast.statistics import needed_n, paired_power, share, tango

PATH = "attacks/pgd"
CANDIDATE = ModelVersion(name="loans", version=2, digest="c" * 64)
CHAMPION = ModelVersion(name="loans", version=1, digest="a" * 64)
FAILED = Check(
    name="masking", status="failed", reason="the black box broke 40 points that the gradient did not",
    statistic=0.04, threshold=0.01, p_value=1e-5,
)  # fmt: skip
PASSED = Check(name="eval_mode", status="passed", reason="in eval mode")


def finding(version, flags=None, path=PATH, labels=None, scores=None, ids=None, checks=(), **changes):
    """Build a finding about one version; without flags it is unscored."""
    origin = {
        "subject": version.digest, "data": "d", "role": "gate", "seed": 1, "library": "l",
        "versions": {"numpy": "2"}, "device": "cpu",
    }  # fmt: skip
    origin |= {name: changes.pop(name) for name in list(changes) if name in origin or name == "code"}
    points = None
    if flags is not None:
        flags = np.asarray(flags, bool)
        labels = np.arange(len(flags)) % 2 if labels is None else labels
        points = PerExample.pack(np.arange(len(flags)) if ids is None else ids, flags, labels, scores)
    fields = {
        "path": path, "dimension": "defence", "family": "evasion", "settings": {"steps": 20},
        "provenance": Provenance(**origin), "checks": checks, "per_example": points,
        "score": None if flags is None else share(flags), "unscored": None if flags is not None else "it broke",
    }  # fmt: skip
    return Finding(**{**fields, **changes})


def scored(low, path=PATH, version=CANDIDATE, **changes):
    """Build a scorecard finding with a given low end."""
    score = Score(value=0.9, low=low, high=0.95, n=500, method="wilson")
    return finding(version, path=path, role="test", score=score, unscored=None, **changes)


def right(n, share_right):
    """Give n flags of which the first share is true."""
    return np.arange(n) < round(n * share_right)


def compare(ours, theirs, margin=0.05, metric="accuracy", path=PATH, costs=None, **rules):
    gates = Gates(non_inferiority={path: margin}, **rules)
    return decide(gates, CANDIDATE, CHAMPION, [ours], [theirs], metric, costs=costs)


def texts(decision):
    return " | ".join(reason.text for reason in decision.reasons)


# The rules themselves


@pytest.mark.parametrize(
    "bad",
    [
        {"floors": {PATH: 1.1}}, {"floors": {PATH: -0.1}}, {"non_inferiority": {PATH: 0.0}},
        {"non_inferiority": {PATH: 0.51}}, {"power": 1.0}, {"power": 0.0}, {"floor": {}},
    ],
)  # fmt: skip
def test_gates_out_of_range_are_refused(bad):
    """Floors are shares, margins are in (0, 0.5], power is inside (0, 1), and no other setting exists."""
    with pytest.raises(ValidationError):
        Gates(**bad)


def test_gates_list_their_rules_by_scenario():
    """The two tables are read as rules in one order."""
    gates = Gates(floors={"b": 0.2, "a": 0.1}, non_inferiority={"d": 0.2, "c": 0.1})
    assert gates.floor_rules() == (Floor(scenario="a", minimum=0.1), Floor(scenario="b", minimum=0.2))
    assert gates.comparisons() == (NonInferiority(scenario="c", margin=0.1), NonInferiority(scenario="d", margin=0.2))


def test_gates_that_ask_nothing_move_nothing():
    """Without a rule there is no evidence, so the champion stays, and nobody becomes the first."""
    for champion in (CHAMPION, None):
        decision = decide(Gates(), CANDIDATE, champion, [finding(CANDIDATE, right(900, 1.0))], [], "accuracy")
        assert decision.action == "keep"
        assert "nothing was asked" in texts(decision)


# Floors


@pytest.mark.parametrize(("low", "action"), [(0.8, "promote"), (0.7999, "keep")])
def test_a_floor_is_read_at_the_low_end(low, action):
    """The low end decides, and a value of 0.9 above the floor helps nothing."""
    decision = decide(Gates(floors={PATH: 0.8}), CANDIDATE, CHAMPION, [], [], "accuracy", [scored(low)])
    assert decision.action == action
    assert [reason.passed for reason in decision.reasons if reason.about == PATH] == [action == "promote"]
    assert f"low end {low:.4f}" in texts(decision)
    assert "n = 500" in texts(decision)


@pytest.mark.parametrize("scorecard", [None, [], [scored(0.9, path="attacks/fgsm")], [finding(CANDIDATE, role="test")]])
def test_a_floor_without_a_score_blocks(scorecard):
    """No scorecard, no such finding, or an unscored one: never zero, never passed."""
    gate_rows = [finding(CANDIDATE, right(500, 1.0))]  # a score on gate rows is no scorecard
    decision = decide(Gates(floors={PATH: 0.0}), CANDIDATE, CHAMPION, gate_rows, [], "accuracy", scorecard)
    assert decision.action == "block"
    assert "a gate names it" in texts(decision)


def test_floors_refuse_other_rows_and_the_champions_number():
    """Floors read role test, and a finding about the champion is not the candidate's."""
    gates = Gates(floors={PATH: 0.1})
    with pytest.raises(RoleError, match="role test"):
        decide(gates, CANDIDATE, CHAMPION, [], [], "accuracy", [finding(CANDIDATE, right(50, 1.0))])
    with pytest.raises(ScenarioError, match="champion's finding"):
        decide(gates, CANDIDATE, CHAMPION, [], [], "accuracy", [scored(0.9, version=CHAMPION)])


def test_a_recipes_floor_is_read_though_its_subject_is_the_recipe():
    """A subject that is neither version passes: recipes name themselves."""
    decision = decide(
        Gates(floors={PATH: 0.1}), CANDIDATE, CHAMPION, [], [], "accuracy", [scored(0.9, subject="recipe")]
    )
    assert decision.action == "promote"


# No champion


def test_the_first_version_needs_floors_and_validity_alone():
    """Without a champion nothing is compared, the reason says so, and named scenarios must still be scored."""
    gates = Gates(floors={PATH: 0.5}, non_inferiority={PATH: 0.01})
    ours = finding(CANDIDATE, right(20, 0.5))
    decision = decide(gates, CANDIDATE, None, [ours], [], "accuracy", [scored(0.6)])
    assert decision.action == "promote"
    assert "there is no champion: floors and validity alone decide" in texts(decision)
    assert decide(gates, CANDIDATE, None, [ours], [], "accuracy", [scored(0.4)]).action == "keep"
    assert decide(gates, CANDIDATE, None, [], [], "accuracy", [scored(0.6)]).action == "block"
    assert decide(gates, CANDIDATE, None, [finding(CANDIDATE)], [], "accuracy", [scored(0.6)]).action == "block"
    invalid = finding(CANDIDATE, right(20, 0.5), checks=(FAILED,))
    assert decide(gates, CANDIDATE, None, [invalid], [], "accuracy", [scored(0.6)]).action == "block"


# Non-inferiority


def test_an_identical_candidate_promotes_when_powered():
    """Equal flags on 1,000 points and a margin of 2 points: promoted, with the numbers in the reason."""
    flags = right(1000, 0.8)
    decision = compare(finding(CANDIDATE, flags), finding(CHAMPION, flags), margin=0.02)
    assert decision.action == "promote"
    low = tango(0, 0, 1000, 0.9)[0]
    for part in ("+0.0000", f"{low:+.4f}", "margin 0.0200", "n = 1000", "won 0, lost 0"):
        assert part in texts(decision)
    assert (decision.candidate, decision.champion) == (CANDIDATE, CHAMPION)


def test_an_identical_candidate_on_few_points_is_inconclusive():
    """Equal flags on 30 points say little: the decision is the n that it needs, and the champion stays."""
    flags = right(30, 0.8)
    decision = compare(finding(CANDIDATE, flags), finding(CHAMPION, flags), margin=0.02)
    assert decision.action == "inconclusive"
    discordance = 2 * (1 - 0.2 ** (1 / 30))
    assert f"needs n = {needed_n(discordance, 0.02)} for power 0.80" in texts(decision)
    assert paired_power(discordance, 30, 0.02) < 0.8


def test_the_power_asked_for_is_the_gates():
    """The same findings are enough at a power of 0.5 and not at 0.99."""
    flags = right(500, 0.8)
    other = flags.copy()
    other[:15], other[-15:] = False, True
    ours, theirs = finding(CANDIDATE, other), finding(CHAMPION, flags)
    assert compare(ours, theirs, margin=0.05, power=0.5).action == "promote"
    assert compare(ours, theirs, margin=0.05, power=0.99).action == "inconclusive"


def test_the_limit_decides_and_not_the_difference():
    """A loss within the margin, whose limit is below it, keeps the champion; a smaller loss promotes."""
    theirs = right(2000, 0.9)
    for lost, action in ((20, "promote"), (60, "keep")):
        ours = theirs.copy()
        ours[:lost] = False
        low = tango(0, lost, 2000, 0.9)[0]
        decision = compare(finding(CANDIDATE, ours), finding(CHAMPION, theirs), margin=0.035)
        assert decision.action == action
        assert (low > -0.035) == (action == "promote")
        assert lost / 2000 < 0.035


def test_pairing_sees_what_unpaired_numbers_hide():
    """Candidates of one accuracy differ by whom they fail: the discordant one lacks power."""
    theirs = right(800, 0.8)
    same = compare(finding(CANDIDATE, theirs), finding(CHAMPION, theirs), margin=0.03)
    other = compare(finding(CANDIDATE, theirs[::-1]), finding(CHAMPION, theirs), margin=0.03)
    assert (same.action, other.action) == ("promote", "inconclusive")


def test_all_comparisons_must_pass_and_each_is_told():
    """One inferior scenario of two keeps the champion, and both reasons are there."""
    flags, worse = right(2000, 0.9), right(2000, 0.8)
    gates = Gates(non_inferiority={PATH: 0.05, "probes/quality": 0.05})
    decision = decide(
        gates, CANDIDATE, CHAMPION,
        [finding(CANDIDATE, worse), finding(CANDIDATE, flags, path="probes/quality")],
        [finding(CHAMPION, flags), finding(CHAMPION, flags, path="probes/quality")], "accuracy",
    )  # fmt: skip
    told = {reason.about: reason.passed for reason in decision.reasons}
    assert decision.action == "keep"
    assert (told[PATH], told["probes/quality"], told["validity"]) == (False, True, True)


def test_order_of_the_verdicts():
    """Block goes before a failed floor, that and shown inferiority before too little power, that before the limit."""
    n, few = 4000, 20
    gates = Gates(floors={PATH: 0.5}, non_inferiority={"attacks/fgsm": 0.05, "attacks/square": 0.05})

    def action(low=0.6, points=few, champion_flags=None):
        flags, worse = right(n, 0.9), right(n, 0.86)
        ours = [
            finding(CANDIDATE, worse, path="attacks/fgsm"),
            finding(CANDIDATE, right(points, 0.9), path="attacks/square"),
        ]
        theirs = [
            finding(CHAMPION, flags, path="attacks/fgsm"),
            finding(CHAMPION, champion_flags, path="attacks/square"),
        ]
        return decide(gates, CANDIDATE, CHAMPION, ours, theirs, "accuracy", [scored(low)]).action

    assert action(low=0.4, champion_flags=None) == "block"
    assert action(low=0.4, champion_flags=right(few, 0.9)) == "keep"
    assert action(champion_flags=right(few, 0.9)) == "inconclusive"
    assert action(points=n, champion_flags=right(n, 0.9)) == "promote"
    inferior = decide(
        Gates(non_inferiority={PATH: 0.04}), CANDIDATE, CHAMPION,
        [finding(CANDIDATE, right(n, 0.86))], [finding(CHAMPION, right(n, 0.9))], "accuracy",
    )  # fmt: skip
    assert inferior.action == "keep"
    assert "not shown to be non-inferior" in texts(inferior)


def test_a_candidate_that_is_shown_worse_is_kept_out_however_little_power_there_was():
    """Where the upper limit is below minus the margin more points change nothing; within it they might."""
    for n, lost, action in ((500, 100, "keep"), (120, 8, "inconclusive")):
        theirs = right(n, 0.9)
        ours = theirs & (np.cumsum(theirs) > lost)
        decision = compare(finding(CANDIDATE, ours), finding(CHAMPION, theirs), margin=0.05)
        high = tango(0, lost, n, 0.9)[1]
        assert (decision.action, high < -0.05) == (action, action == "keep")
        assert f"inferior: upper 95 % limit {high:+.4f}" in texts(decision) or action == "inconclusive"
    # Another comparison that has no power asks for no more points either: one that fails is enough.
    gates = Gates(non_inferiority={PATH: 0.05, "attacks/square": 0.01})
    few = right(30, 0.9)
    decision = decide(
        gates, CANDIDATE, CHAMPION,
        [finding(CANDIDATE, theirs & False), finding(CANDIDATE, few, path="attacks/square")],
        [finding(CHAMPION, theirs), finding(CHAMPION, few, path="attacks/square")], "accuracy",
    )  # fmt: skip
    assert decision.action == "keep"


def test_a_ranking_that_is_shown_worse_is_kept_out():
    """The upper limit of the bootstrap counts too, and is never nearer than what unseen points allow."""
    theirs, ours = ranked(CHAMPION, 0.0, n=60), ranked(CANDIDATE, 3.0, n=60)
    decision = compare(ours, theirs, 0.02, "auroc", "probes/quality")
    assert (decision.action, "inferior: upper 95 % limit -" in texts(decision)) == ("keep", True)


@pytest.mark.parametrize("side", ["candidate", "champion"])
@pytest.mark.parametrize("what", ["missing", "unscored", "without flags"])
def test_a_named_scenario_without_evidence_blocks(side, what):
    """Missing, unscored or unpaired on either side: blocked, and never read as a number."""
    flags = right(1000, 0.9)
    whole = {"candidate": [finding(CANDIDATE, flags)], "champion": [finding(CHAMPION, flags)]}
    version = CANDIDATE if side == "candidate" else CHAMPION
    whole[side] = {
        "missing": [],
        "unscored": [finding(version)],
        "without flags": [finding(version, score=share(flags), unscored=None)],
    }[what]
    decision = decide(
        Gates(non_inferiority={PATH: 0.1}), CANDIDATE, CHAMPION, whole["candidate"], whole["champion"], "accuracy"
    )
    assert decision.action == "block"
    assert not all(reason.passed for reason in decision.reasons if reason.about == PATH)


def test_an_unscored_scenario_that_no_gate_names_is_no_reason():
    """Only what a gate names must be scored."""
    flags = right(1000, 0.9)
    ours = [finding(CANDIDATE, flags), finding(CANDIDATE, path="attacks/square")]
    decision = decide(
        Gates(non_inferiority={PATH: 0.1}), CANDIDATE, CHAMPION, ours, [finding(CHAMPION, flags)], "accuracy"
    )
    assert decision.action == "promote"


# Validity


def test_a_failed_check_blocks_wherever_it_is():
    """On gate rows, on the scorecard, on a scenario no rule names, or on the champion's compared finding."""
    flags = right(1000, 0.9)
    gates = Gates(non_inferiority={PATH: 0.1})
    good, theirs = finding(CANDIDATE, flags, checks=(PASSED,)), finding(CHAMPION, flags)

    def action(ours=(good,), champion=(theirs,), scorecard=()):
        return decide(gates, CANDIDATE, CHAMPION, ours, champion, "accuracy", scorecard)

    assert action().action == "promote"
    assert "1 checks of 2 findings" in texts(action())
    bad = {"checks": (PASSED, FAILED)}
    other = finding(CANDIDATE, flags, path="attacks/square", **bad)
    for decision in (
        action(ours=[finding(CANDIDATE, flags, **bad)]), action(ours=[good, other]),
        action(scorecard=[scored(0.9, **bad)]), action(champion=[finding(CHAMPION, flags, **bad)]),
    ):  # fmt: skip
        assert decision.action == "block"
        assert "masking failed" in texts(decision)
        assert "did not. Found 0.04, 0.01 is allowed, p = 1e-05." in texts(decision)
    uncompared = finding(CHAMPION, flags, path="attacks/square", **bad)
    assert action(champion=[theirs, uncompared]).action == "promote"


# Unequal data


@pytest.mark.parametrize(
    "change",
    [
        {"data": "e"}, {"seed": 2}, {"library": "m"}, {"versions": {"numpy": "3"}}, {"device": "cuda"},
        {"settings": {"steps": 100}}, {"ids": np.arange(1, 1001)}, {"ids": np.arange(1000)[::-1]},
        {"labels": np.zeros(1000)}, {"flags": right(999, 0.9)}, {"subject": CANDIDATE.digest}, {"subject": "b" * 64},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_unequal_findings_are_never_compared(change):
    """Other data, seed, library, versions, device, settings, points, order, labels or subject: refused, by name."""
    flags = right(1000, 0.9)
    theirs = finding(CHAMPION, **{"flags": flags, **change})
    with pytest.raises(ScenarioError, match=re.escape(PATH)):
        compare(finding(CANDIDATE, flags), theirs)


@pytest.mark.parametrize("other", [{}, {"threat": "narrow"}])
def test_attacks_under_other_threats_are_never_compared(other):
    """A champion that was attacked within other bounds, or nobody knows which, gives no number to compare with."""
    ours = finding(CANDIDATE, right(900, 0.9), details={"threat": "wide"})
    with pytest.raises(ScenarioError, match="threat wide"):
        compare(ours, finding(CHAMPION, right(900, 0.9), details=other))
    equal = finding(CHAMPION, right(900, 0.9), details={"threat": "wide", "forwards": 3})
    assert compare(ours, equal).action == "promote"


@pytest.mark.parametrize("role", ["test", "train", "validation"])
def test_only_gate_rows_are_compared(role):
    """Both sides on the same other role are refused all the same."""
    flags = right(1000, 0.9)
    with pytest.raises(RoleError, match="role gate"):
        compare(finding(CANDIDATE, flags, role=role), finding(CHAMPION, flags, role=role))


def test_a_users_module_may_differ():
    """The candidate's own model code is part of the subject, not of the question."""
    flags = right(1000, 0.9)
    assert compare(finding(CANDIDATE, flags, code="x"), finding(CHAMPION, flags, code="y")).action == "promote"


def test_two_findings_of_one_path_are_refused():
    """Nobody picks the one that suits."""
    one = finding(CANDIDATE, right(100, 0.9))
    with pytest.raises(ScenarioError, match="two findings"):
        decide(Gates(non_inferiority={PATH: 0.1}), CANDIDATE, CHAMPION, [one, one], [], "accuracy")


# The user's metric


def ranked(version, noise, n=1500, seed=0, path="probes/quality", scores=True):
    """Build a quality finding from ranking scores of a given noise."""
    draw = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    values = 2.0 * labels + draw.normal(size=n) + noise * np.random.default_rng(seed + 1).normal(size=n)
    return finding(version, (values > 1.0) == labels, path, labels, values if scores else None)


@pytest.mark.parametrize("metric", ["auroc", "average_precision", "balanced_accuracy", "expected_cost"])
def test_quality_is_compared_by_the_users_metric(metric):
    """A little noise promotes and much noise does not, by a bootstrap of the named metric."""
    costs = ((0.0, 1.0), (2.0, 0.0))
    best = ranked(CHAMPION, 0.0)
    decisions = [compare(ranked(CANDIDATE, noise), best, 0.05, metric, "probes/quality", costs) for noise in (0.1, 1.5)]
    assert [decision.action for decision in decisions] == ["promote", "keep"]
    assert f"{metric}, paired bootstrap" in texts(decisions[0])
    assert decisions[0] == compare(ranked(CANDIDATE, 0.1), best, 0.05, metric, "probes/quality", costs)


def test_other_scenarios_pair_by_flags_whatever_the_metric():
    """The metric is that of quality (and its variants) alone: robustness is a share of points."""
    flags = right(1000, 0.9)
    assert "Tango" in texts(compare(finding(CANDIDATE, flags), finding(CHAMPION, flags), metric="auroc"))
    path = "probes/quality-later"
    ours, theirs = (ranked(version, 0.0, path=path) for version in (CANDIDATE, CHAMPION))
    assert "auroc, paired bootstrap" in texts(compare(ours, theirs, metric="auroc", path=path))
    assert "Tango" in texts(compare(ours, theirs, metric="accuracy", path=path))


def test_a_bootstrap_of_few_points_is_inconclusive_even_when_equal():
    """Two rankings that agree on 40 points have no bootstrap error, and still no power."""
    ours, theirs = (ranked(version, 0.0, n=40) for version in (CANDIDATE, CHAMPION))
    decision = compare(ours, theirs, 0.02, "auroc", "probes/quality")
    assert decision.action == "inconclusive"
    assert int(re.search(r"needs n = (\d+)", texts(decision))[1]) > 40


def test_what_the_metric_cannot_read_is_refused():
    """Unknown metrics, ranking without scores, costs of three classes, costs not given."""
    ours, theirs = (ranked(version, 0.0, scores=False) for version in (CANDIDATE, CHAMPION))
    three = [finding(v, right(90, 0.9), "probes/quality", np.arange(90) % 3) for v in (CANDIDATE, CHAMPION)]
    for pair, metric in (((ours, theirs), "f1"), ((ours, theirs), "auroc"), (three, "expected_cost")):
        with pytest.raises(ScenarioError):
            compare(*pair, 0.05, metric, "probes/quality", ((0.0, 1.0), (1.0, 0.0)))
    with pytest.raises(ScenarioError, match="no costs"):
        compare(ours, theirs, 0.05, "expected_cost", "probes/quality")


# Laws

flag_pairs = st.tuples(st.integers(0, 9999), st.floats(0.5, 1.0), st.floats(0.5, 1.0), st.integers(50, 1500))


@given(pair=flag_pairs, margin=st.floats(0.01, 0.3), mended=st.floats(0.0, 1.0))
@settings(max_examples=150, deadline=None)
def test_a_strictly_better_candidate_never_fares_worse(pair, margin, mended):
    """Mend any of a promoted candidate's mistakes and it is still promoted."""
    seed, quality, agreement, n = pair
    draw = np.random.default_rng(seed)
    theirs = draw.random(n) < quality
    ours = np.where(draw.random(n) < agreement, theirs, draw.random(n) < quality)
    better = ours | (draw.random(n) < mended)
    champion = finding(CHAMPION, theirs)
    first = compare(finding(CANDIDATE, ours), champion, margin).action
    second = compare(finding(CANDIDATE, better), champion, margin).action
    assert not (first == "promote" and second != "promote")


@given(pair=flag_pairs, margin=st.floats(0.01, 0.3), wider=st.floats(1.0, 1.6), floor=st.floats(0.0, 1.0))
@settings(max_examples=80, deadline=None)
def test_a_stricter_gate_never_promotes_more(pair, margin, wider, floor):
    """What passes a narrow margin and a floor passes a wider margin without the floor."""
    seed, quality, agreement, n = pair
    draw = np.random.default_rng(seed)
    theirs = draw.random(n) < quality
    ours = finding(CANDIDATE, np.where(draw.random(n) < agreement, theirs, False))
    strict = Gates(non_inferiority={PATH: margin}, floors={PATH: floor})
    loose = Gates(non_inferiority={PATH: min(margin * wider, 0.5)})
    given_both = (CANDIDATE, CHAMPION, [ours], [finding(CHAMPION, theirs)], "accuracy", [scored(0.5)])
    if decide(strict, *given_both).action == "promote":
        assert decide(loose, *given_both).action == "promote"


def test_a_decision_names_its_evidence_and_survives_json():
    """The evidence is the fingerprints of what was read; the decision comes back from JSON as it was."""
    flags = right(1000, 0.9)
    ours, theirs, unread = finding(CANDIDATE, flags), finding(CHAMPION, flags), finding(CHAMPION, flags, "attacks/fgsm")
    decision = decide(
        Gates(non_inferiority={PATH: 0.1}), CANDIDATE, CHAMPION, [ours], [theirs, unread], "accuracy", [scored(0.5)]
    )
    assert set(decision.evidence) == {each.fingerprint() for each in (ours, theirs, scored(0.5))}
    assert Decision.model_validate_json(decision.model_dump_json()) == decision


def test_the_order_of_findings_changes_nothing():
    """Findings are matched by path."""
    flags = right(1000, 0.9)
    gates = Gates(non_inferiority={PATH: 0.1, "attacks/fgsm": 0.1})
    ours, theirs = ([finding(v, flags), finding(v, flags, "attacks/fgsm")] for v in (CANDIDATE, CHAMPION))
    assert decide(gates, CANDIDATE, CHAMPION, ours, theirs[::-1], "accuracy") == decide(
        gates, CANDIDATE, CHAMPION, ours, theirs, "accuracy"
    )
