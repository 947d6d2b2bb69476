"""The crisis as a benchmark: what it counts as a fall, as asked for, and as its table."""

import json

import numpy as np
import pytest

from holdfast.results import Signal


def loop(benchmark, accuracy, harmed=(), served=None):
    return benchmark.Loop(
        accuracy=np.array(accuracy), retrained=(), promoted=0, harmed=tuple(harmed),
        served=tuple(served or [1] * len(accuracy)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("after", "fell"),
    [
        ([0.60] + [0.88] * 6, None),  # by itself it would pull the year's mean below the floor
        ([0.70] + [0.84] * 6, 6),
        ([0.84] * 3, None),  # two windows after it say too little
        ([0.84] * 4, 6),
        ([0.84, 0.94, 0.84, 0.84, 0.84, 0.84, 0.84, 0.84], 8),
        ([0.84, 0.84, 0.90, 0.87] + [0.74] * 6, 10),  # low by chance for two windows, and fallen by what came later
    ],
)
def test_a_fall_is_confirmed_by_the_windows_after_the_one_that_told(benchmark, after, fell):
    """A window that was chosen for being low confirms nothing; the year after it does, or three windows of it.

    Nor does a crash date what came before it: higher windows in between say that nothing had fallen yet.
    """
    found = benchmark.fallen(benchmark.Case(0, 0), loop(benchmark, [0.90] * 6 + after, harmed=[9, 11]))
    assert [place for place, _ in found] == ([] if fell is None else [fell])
    assert [lag for _, lag in found] == ([] if fell is None else [(9 if fell <= 9 else 11) - fell + 1])


def signal(**more):
    return Signal.model_validate(
        {"detector": "harm", "about": "harm", "needs": "labels", "window": "w", "position": 5, "turn": 7, "n": 250,
         "statistic": 30.0, "threshold": 20.0, "alarm": True, "effect": 0.1, "effect_unit": "errors", **more}
    )  # fmt: skip


@pytest.mark.parametrize(
    ("more", "asked"),
    [
        ({}, True),
        ({"turn": 8}, True),
        ({"turn": 9}, False),  # after it
        ({"turn": 6}, False),  # before the harm that it answers
        ({"turn": None}, False),
        ({"alarm": False}, False),
        ({"effect": -0.1}, False),  # answers got better
        ({"about": "shift"}, False),
        ({"needs": "inputs"}, False),
    ],
)
def test_a_retraining_is_asked_for_by_an_alarm_of_harm_in_its_episode(benchmark, more, asked):
    """The cause that was named is no evidence: a retraining is only ever decided for that one."""
    decision = {"position": 8, "episode": 7, "cause": "harmful_drift"}
    assert benchmark.asked_for([decision], [signal(**more)]) == ((8,) if asked else ())
    assert benchmark.asked_for([{**decision, "episode": None}], [signal(**more)]) == ()


def test_a_retraining_that_no_test_asked_for_fails_the_claim(benchmark, monkeypatch):
    """Two in the calm years, of which the record bears one out: it is counted, and the claim does not hold."""
    monkeypatch.setattr(benchmark, "fallen", lambda *_: [(30, 1)])
    flat = np.full((80, 78), 0.9)
    flat[0] = 0.8
    made = loop(benchmark, [0.9] * 78)
    for asked, claimed in (((3, 8), True), ((3,), False)):
        done = benchmark.replace(made, retrained=(3, 8, 40), harmed=(3, 8, 40), asked=asked)
        case = benchmark.compared(benchmark.Case(0, 0), done, made, flat)
        claims = benchmark.judged(0, [case])
        assert [holds for claim, holds in claims.items() if "no test of harm" in claim] == [claimed]
        json.dumps(case)


@pytest.mark.parametrize(
    ("moved", "trained"), [("", {1999}), ("watch", {1999}), ("champion", {1997, 1998, *range(2000, 2004)})]
)
def test_the_onset_is_moved_by_the_watch_or_by_the_champion(benchmark, moved, trained):
    """The years that are judged lie where the stream has them, and the calm ones are those that are watched."""
    for seed in range(9):
        case = benchmark.Case.of(seed, 0, moved=moved)
        assert case.trained in trained
        assert (case.since > case.trained + 1) is (moved == "watch")
        assert any(f"since: {case.since}," in knob for knob in case.knobs)
        assert case.places(2005, 2009) == range(6 * (2005 - case.since), 6 * (2010 - case.since))
        assert len(case.places(case.since, benchmark.CALM)) == 6 * (2004 - case.since)
    assert f"2005 to 2009{benchmark.MOVED[moved]};" in benchmark.heading(0, "c0de", moved=moved)[0]


def test_the_table_outlives_the_run_that_was_stopped(benchmark, monkeypatch, tmp_path, capsys):
    """Cut off in the second case, the first one's row is on disk; the next run plays the second alone, in one table."""
    played = []

    def compared(case, *_):
        if played == [0]:
            played.append(None)
            raise KeyboardInterrupt
        played.append(case.seed)
        return {"line": f"| row of {case.seed} |", "never": 0.7, "loop": 0.8, "every": 0.8, "calendar": 0.75,
                "lags": [1], "retrained": 2, "calm": 0, "unasked": 0, "delay": 0, "seed": case.seed,
                "moved": ""}  # fmt: skip

    monkeypatch.setattr(benchmark, "compared", compared)
    monkeypatch.setattr(benchmark, "code", lambda: "c0de")
    for name in ("played", "untouched", "reference"):
        monkeypatch.setattr(benchmark, name, lambda *_: None)
    monkeypatch.setattr("sys.argv", ["crisis_loop.py", "--folder", str(tmp_path), "--seeds", "0", "1", "--delays", "0"])
    (tmp_path / "c0de").mkdir()
    with pytest.raises(KeyboardInterrupt):
        benchmark.main()
    assert "| row of 0 |" in (tmp_path / "c0de" / "summary.md").read_text()
    assert benchmark.main() == 0
    assert played == [0, None, 1]
    kept = (tmp_path / "c0de" / "summary.md").read_text()
    assert kept.count("| row of") == 2
    assert "holds: 100.0% of the gain" in kept
    assert capsys.readouterr().out.count("| row of 0 |") == 2
