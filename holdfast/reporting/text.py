"""Numbers and verdicts in words: nothing rounds to 0 or 1 that is not, and no missing number has a figure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from holdfast.recovery.gate import now_and_formerly
from holdfast.scorecard import decimal

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from holdfast.recovery.transfer import Change
    from holdfast.results import Decision, Finding, Measure, Score
    from holdfast.scorecard import DimensionScore

QUESTIONS = {
    "robustness": "Does the output stay right when inputs, environment, hardware or training data are disturbed?",
    "defence": "Is hostile action kept from succeeding, by an attacker who knows the defences?",
    "recovery": "How fast and how completely does the system come back after damage?",
    "evolution": "Does the system learn what a changed world asks, and keep what it knew?",
}
VERDICTS = {
    "promote": ("✓", "Promoted", "The candidate passed every gate and becomes champion."),
    "keep": ("=", "Champion stays", "The candidate did not pass every gate."),
    "inconclusive": ("?", "Inconclusive: champion stays", "The evidence cannot tell; more points are needed."),
    "block": ("✗", "Blocked", "What was found forbids going on; nothing is promoted."),
    "rollback": ("↶", "Rolled back", "An earlier good version serves again."),
    "none": ("·", "Champion already", "Nothing new was decided: it was held to its floors and checks again."),
}
"""Action to glyph, verdict and the sentence that explains it."""
GLYPHS = {"measured": "", "upper_bound": "≤", "lower_bound": "≥"}
KINDS = {
    "measured": "measured",
    "upper_bound": "upper bound: a stronger attack may find less",
    "lower_bound": "lower bound: proved by a certificate",
}


KEPT = (
    "The version that the retraining was to replace and the one that it made, on the same rows that neither learned"
    " from: test rows of the pinned data, and held-out rows of windows that came since."
)


def difference(change: Change) -> str:
    """Write a paired difference in points with its 95 % interval."""
    return f"{100 * change.difference:+.1f} points ({100 * change.low:+.1f} to {100 * change.high:+.1f})"


def percent(value: float) -> str:
    """Write a share in [0, 1] in percent; only 0 reads as 0 and only 1 as 100."""
    if 0.0 < value < 0.001:  # noqa: PLR2004  what one decimal of a percent can show
        return "< 0.1 %"
    return f"{100.0 * float(decimal(value)):.1f} %"


def interval(score: Score) -> str:
    """Write the 95 % interval of a score."""
    return f"{percent(score.low).removesuffix(' %')} to {percent(score.high)}"


def value(score: Score) -> str:
    """Write a score with the glyph of its kind."""
    return f"{GLYPHS[score.kind]} {percent(score.value)}".strip()


def state(entry: DimensionScore) -> str:
    """Word a dimension without a score."""
    return f"{entry.status.replace('_', ' ')}: {entry.reason}"


def validity(finding: Finding) -> str:
    """Word the validity record of a finding."""
    if not finding.checks:
        return "no checks"
    failed = [check.name for check in finding.checks if check.status == "failed"]
    if failed:
        return f"✗ invalid: {', '.join(failed)}"
    passed = sum(check.status == "passed" for check in finding.checks)
    if not passed:
        return "no check applies"
    return f"✓ {passed} check{'s' if passed > 1 else ''} passed"


def quantity(measure: Measure) -> str:
    """Write a measure with its unit, interval and n; censored is *never*."""
    if measure.value is None:
        return "never"
    words = f"{number(measure.value)} {measure.unit}".strip()
    if measure.low is not None and measure.high is not None:
        words += f" ({number(measure.low)} to {number(measure.high)})"
    return words if measure.n is None else f"{words}, n = {measure.n:,}"


def number(quantity_: float) -> str:
    """Write a number with four significant digits, and no exponent where it can be read without."""
    return f"{quantity_:,.0f}" if abs(quantity_) >= 1000 else f"{quantity_:.4g}"  # noqa: PLR2004  a thousand


def plain(anything: Any) -> str:  # noqa: ANN401  any JSON value
    """Write a JSON value for people: text as it is, the rest as compact JSON."""
    return anything if isinstance(anything, str) else json.dumps(anything, sort_keys=True, ensure_ascii=False)


def verdict(decision: Decision) -> tuple[str, str, str]:
    """Give glyph, verdict and the sentence that explains it; nobody stays champion where there is none."""
    glyph, words, meaning = VERDICTS[decision.action]
    if decision.champion is None and decision.action in _WITHOUT_CHAMPION:
        return glyph, _WITHOUT_CHAMPION[decision.action], f"{meaning} There is still no champion."
    return glyph, words, meaning


_WITHOUT_CHAMPION = {"keep": "Not promoted", "inconclusive": "Inconclusive: not promoted"}


def verdict_reasons(decision: Decision) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Split the reasons of this decision into those that failed and those that passed: (about, text)."""
    now, _ = now_and_formerly(decision)
    failed = [(reason.about, reason.text) for reason in now if not reason.passed]
    passed = [(reason.about, reason.text) for reason in now if reason.passed]
    return failed, passed


def promoted_because(promoted: datetime | None) -> str:
    """Head the reasons that once made a version champion."""
    when = f" on {promoted:%Y-%m-%d %H:%M} UTC" if promoted else ""
    return f"Promoted{when} because:"


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """Order findings for reading: by dimension, then the scored from weak to strong, then the unscored."""
    rank = {name: place for place, name in enumerate(QUESTIONS)}

    def key(finding: Finding) -> tuple[int, float, str]:
        strength = 2.0 if finding.score is None else finding.score.value
        return (rank[finding.dimension], strength, finding.path)

    return sorted(findings, key=key)
