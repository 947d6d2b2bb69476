"""Sequential verdicts: right at every look at once, and cheap where the case is clear."""

from __future__ import annotations

import numpy as np
import pytest

from holdfast.errors import ScenarioError
from holdfast.statistics import count_ever, decided, sequential_share, share, wilson


def ever_excluded(count, population, error):
    """Exact chance that the true count is ever outside, over all orders: a walk over (drawn, successes)."""
    alive, lost = {0: 1.0}, 0.0
    for drawn in range(1, population + 1):
        reached = {}
        for k, chance in alive.items():
            p = (count - k) / (population - drawn + 1)
            for step, part in ((1, p), (0, 1 - p)):
                if part > 0:
                    reached[k + step] = reached.get(k + step, 0.0) + chance * part
        alive = {}
        for k, chance in reached.items():
            least, most = count_ever(k, drawn, population, error)
            if least <= count <= most:
                alive[k] = chance
            else:
                lost += chance
    return lost


@pytest.mark.parametrize("error", [0.3, 0.05])
def test_the_true_count_is_never_lost_more_often_than_allowed(error):
    """Exactly, for every count of 30 points: looking at every draw, it is ruled out with chance ``error`` at most."""
    worst = max(ever_excluded(count, 30, error) for count in range(31))
    assert 0.0 < worst <= error


def test_all_points_drawn_leave_the_count_itself():
    """The last draw leaves nothing open, and the interval is then Wilson's."""
    assert count_ever(7, 20, 20, 0.01) == (7, 7)
    flags = np.arange(20) < 7
    assert sequential_share(flags, 20, 0.01) == share(flags)


def test_no_draw_rules_nothing_out():
    """Before the first draw every count is possible."""
    assert count_ever(0, 0, 50, 0.01) == (0, 50)


def test_the_interval_holds_that_of_the_full_run():
    """Whatever was drawn, its ends lie outside of those that all points give, as often as promised."""
    rng, missed = np.random.default_rng(3), 0
    for _ in range(200):
        flags = rng.permutation(np.arange(400) < rng.integers(0, 401))
        full, part = share(flags), sequential_share(flags[:80], 400, 0.05)
        missed += not part.low <= full.low <= full.high <= part.high
        assert (part.n, part.method) == (80, "sequential_of_400")
    assert missed <= 0.05 * 200


def test_the_verdict_is_the_full_runs_and_costs_a_fifth_at_most_in_the_median():
    """Of 100 seeded cases at N = 10,000, true value within 15 points of the floor, at least 99 agree."""
    rng, drawn, agree, population = np.random.default_rng(0), [], 0, 10_000
    for _ in range(100):
        floor = rng.uniform(0.2, 0.8)
        count = round(population * (floor + rng.uniform(-0.15, 0.15)))
        held = np.cumsum(rng.permutation(np.arange(population) < count))
        looks = range(250, population + 1, 250)
        n = next(n for n in looks if decided(int(held[n - 1]), n, population, floor, 0.01) is not None)
        verdict = decided(int(held[n - 1]), n, population, floor, 0.01)
        agree += verdict == (wilson(count, population)[0] >= floor)
        drawn.append(n)
    assert agree >= 99
    assert np.median(drawn) <= population / 5


def test_a_floor_at_the_value_itself_is_decided_by_no_few_points():
    """Where the safe end of the whole lies at the floor, a tenth of the points leaves it open."""
    floor = wilson(500, 1000)[0]
    assert decided(50, 100, 1000, floor, 0.01) is None


@pytest.mark.parametrize(("given", "found"), [((3, 2, 10, 0.1), "3 of 2"), ((1, 11, 10, 0.1), "of 10"),
                                              ((0, 0, 0, 0.1), "of 0"), ((1, 2, 10, 1.0), "error 1.0")])  # fmt: skip
def test_counts_that_cannot_be_are_refused(given, found):
    """More successes than draws, more draws than points, no points, or no error at all."""
    with pytest.raises(ScenarioError, match=found):
        count_ever(*given)


def test_no_flags_have_no_share():
    """Nothing drawn is no share."""
    with pytest.raises(ScenarioError, match="flags"):
        sequential_share([], 10, 0.05)
