"""The resilience curve: quality through an incident in three arms, and the scores that are read off it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy import stats

from holdfast.results import Action, Cause, Measure, PerExample, Score, Value
from holdfast.statistics.intervals import make_score

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.drills.incident import Incident

Arm = Literal["on", "off", "oracle"]
ARMS: tuple[Arm, ...] = ("on", "off", "oracle")
"""Responses on; responses off; the right response at onset."""
Array = np.ndarray[Any, np.dtype[np.float64]]
RECOVERED = 0.95
"""Quality from which a system counts as recovered."""
RUNNING = 3
"""Windows for which it must hold; and last windows over which *after* is read."""
_DRAWS = 2000
_FEWEST = 2
"""Seeds without which nothing has an interval."""


class Taken(Value):
    """One response, as the loop gave it."""

    window: int
    """Window at which it was decided."""
    about: tuple[int, ...]
    """Windows that it is about: that one, or earlier ones whose labels came with it."""
    at: int
    """Window with which it was given: the same, or later after an outage."""
    cause: Cause
    action: Action
    outcome: str = ""


class Course(Value):
    """What one arm of one drill came to."""

    incident: str
    arm: Arm
    seed: int
    quality: tuple[float, ...]
    """The user's metric on every row of each window as it was answered; a row without an answer is wrong."""
    rows: int
    responses: tuple[Taken, ...] = ()
    champions: tuple[int, ...] = ()
    """Version that answered each window."""
    seconds: float = 0.0
    old: float | None = None
    """The metric of who serves at the end, on rows of the champion's own time that nobody learned from."""
    old_robust: float | None = None
    """Robust accuracy at the end on such rows, under the gate's attack; None where the gate has none."""
    withstood: PerExample | None = None
    """Which of these rows withstood that attack; None where the gate has none."""
    poisoned: int = 0
    """Rows with a poisoned label that were admitted to a training."""
    asr: float | None = None
    """Share of the backdoor's calls that who serves at the end answers as the attacker wants."""
    notes: tuple[str, ...] = ()


class Trio(Value):
    """The three arms of one incident and seed, on the same rows."""

    on: Course
    off: Course
    oracle: Course


def relative(trio: Trio, arm: Arm, incident: Incident) -> Array:
    """Give quality (windows,) relative to the level before onset, or to the oracle's where what is right changes.

    Source: Bruneau et al. 2003, Earthquake Spectra 19 (quality of service over time).
    """
    own = np.array(getattr(trio, arm).quality)
    if incident.drifts:
        level = np.array(trio.oracle.quality)
    else:
        level = np.full(len(own), float(np.mean(trio.off.quality[: incident.onset])))
    return np.asarray(own / np.maximum(level, 1e-12), dtype=np.float64)


def loss(trio: Trio, arm: Arm, incident: Incident) -> float:
    """Give the mean quality that was missing from onset to horizon: the resilience triangle over its length."""
    return float(np.mean(np.maximum(0.0, 1.0 - relative(trio, arm, incident)[incident.onset :])))


def recovery_score(trios: Sequence[Trio], incident: Incident) -> Score | str:
    """Score the loss that responses avoided, of what could be avoided; or say why there is no score.

    1 - (loss on - loss oracle) / (loss off - loss oracle), summed over seeds, clipped to [0, 1]; bootstrap over seeds.
    """
    if len(trios) < _FEWEST:
        return f"{len(trios)} seed: an interval needs {_FEWEST}"
    on, off, oracle = (np.array([loss(trio, arm, incident) for trio in trios]) for arm in ARMS)
    if _low(off - oracle) <= 0.0:
        return "no avoidable loss"
    ratio = _resampled(on - oracle, off - oracle)
    value = 1.0 - float((on - oracle).sum() / (off - oracle).sum())
    return _bounded(value, 1.0 - ratio, len(trios))


def evolution_score(trios: Sequence[Trio]) -> Score | str:
    """Score what was adapted and kept: clip(adaptation, 0, 1) x (1 - max(0, forgetting)); or say why there is none.

    Adaptation is (after - before) / (reference - before) over the last windows: before without responses, the reference
    taught with every label. Forgetting is what rows of the champion's own time lost, clean or robust, the larger.
    """
    if len(trios) < _FEWEST:
        return f"{len(trios)} seed: an interval needs {_FEWEST}"
    if any(trio.on.old is None or trio.off.old is None for trio in trios):
        return "nobody served at the end"
    if not all(_remembers(trio) for trio in trios):
        return "the attack on the old distribution is scored in one arm alone: forgetting is not known"
    after, before, taught = (
        np.array([np.mean(getattr(trio, arm).quality[-RUNNING:]) for trio in trios]) for arm in ARMS
    )
    if _low(taught - before) <= 0.0:
        return "the reference taught with every label gains nothing"
    lost = np.array([max(0.0, forgetting(trio)) for trio in trios])
    draws = _draws(len(trios))
    gained = (after - before)[draws].sum(1) / np.maximum((taught - before)[draws].sum(1), 1e-12)
    spread = np.clip(gained, 0.0, 1.0) * (1.0 - lost[draws].mean(1))
    value = float(np.clip((after - before).sum() / (taught - before).sum(), 0.0, 1.0) * (1.0 - lost.mean()))
    return _bounded(value, spread, len(trios))


def _remembers(trio: Trio) -> bool:
    """Tell whether the old distribution was asked about alike in both arms: what is missing in one is no number."""
    clean = trio.on.old is not None and trio.off.old is not None
    return clean and (trio.on.old_robust is None) == (trio.off.old_robust is None)


def forgetting(trio: Trio) -> float:
    """Say how much worse the old distribution is answered at the end than without responses, clean or robust."""
    parts = [(trio.off.old, trio.on.old), (trio.off.old_robust, trio.on.old_robust)]
    return max((was - now for was, now in parts if was is not None and now is not None), default=0.0)


def regressions(trio: Trio) -> float | None:
    """Tell which share of rows withstands the gate's attack without responses and not with them; None untold."""
    was, now = trio.off.withstood, trio.on.withstood
    if was is None or now is None or was.points != now.points:
        return None
    return float((was.unpack_flags() & ~now.unpack_flags()).mean())


def right_response(course: Course, incident: Incident) -> str:
    """Say why an incident's right response was not the one that was given; empty where it was."""
    right, taken = incident.right, course.responses
    if wrong := [t for t in taken if t.action in right.never]:
        return f"window {wrong[0].window}: {wrong[0].action} ({wrong[0].cause}), which must not happen"
    early = [t for t in taken if t.window < incident.onset and t.action not in {"none", "alert"}]
    if early:
        return f"window {early[0].window}: {early[0].action} ({early[0].cause}) before onset at {incident.onset}"
    if right.action == "none":
        acted = [t for t in taken if t.action not in {"none", "alert"}]
        return f"window {acted[0].window}: {acted[0].action} where nothing was to be done" if acted else ""
    found = [
        t for t in taken
        if t.action == right.action and right.cause in (None, t.cause) and t.window >= incident.onset
    ]  # fmt: skip
    if lacking := [w for w in right.windows if w not in {about for t in found for about in t.about}]:
        said = ", ".join(f"{t.action} ({t.cause})" for t in taken if lacking[0] in t.about) or "nothing"
        return f"window {lacking[0]}: {said}, not {right.action}"
    if not any(t.at - incident.onset < right.within for t in found):
        said = ", ".join(f"{t.window}: {t.action}" for t in taken if t.window >= incident.onset) or "nothing"
        return f"no {right.action} within {right.within} windows of onset at {incident.onset} ({said})"
    return ""


def measures(trios: Sequence[Trio], incident: Incident) -> tuple[Measure, ...]:
    """Give delays, depth and harm: means over seeds with Student intervals, *never* where any seed never came back."""
    on = [relative(trio, "on", incident) for trio in trios]
    detected = [_first(trio.on, incident) for trio in trios]
    recovered = [_back(curve, incident.onset) for curve in on]
    rows = [
        _measure("detection_delay", detected, "windows"),
        _measure("time_to_recover", recovered, "windows"),
        _measure("depth", [float(1.0 - curve[incident.onset :].min()) for curve in on], "share of quality"),
        *(_measure(f"loss_{arm}", [loss(trio, arm, incident) for trio in trios], "share of quality") for arm in ARMS),
        _measure("poisoned_rows_admitted", [float(trio.on.poisoned) for trio in trios], "rows"),
    ]
    if all(_remembers(trio) for trio in trios):
        rows.append(_measure("forgetting", [forgetting(trio) for trio in trios], "points / 100"))
    if all(regressions(trio) is not None for trio in trios):
        rows.append(_measure("regressions_under_attack", [regressions(trio) for trio in trios], "share of rows"))
    if all(trio.on.asr is not None for trio in trios):
        rows.append(_measure("attack_success_rate", [trio.on.asr for trio in trios], "share"))
    return tuple(rows)


def _first(course: Course, incident: Incident) -> float | None:
    """Count windows from onset to the first response with the right cause; None where none came."""
    cause = incident.right.cause
    if cause is None:
        return None
    found = [t.at for t in course.responses if t.cause == cause and t.window >= incident.onset]
    return float(min(found) - incident.onset) if found else None


def _back(curve: Array, onset: int) -> float | None:
    """Count windows from onset until quality holds; None where it never does within the horizon."""
    good = curve[onset:] >= RECOVERED
    for place in range(len(good) - RUNNING + 1):
        if good[place : place + RUNNING].all():
            return float(place)
    return None


def _measure(name: str, values: Sequence[float | None], unit: str) -> Measure:
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return Measure(name=name, value=None, unit=unit, better="lower", n=len(values), censored=True)
    mean, half = float(np.mean(known)), _half(np.array(known))
    return Measure(
        name=name, value=mean, unit=unit, better="lower", n=len(known), method="student t over seeds",
        low=mean - half, high=mean + half,
    )  # fmt: skip


def _half(values: Array) -> float:
    if len(values) < _FEWEST:
        return 0.0
    return float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))


def _low(values: Array) -> float:
    """Give the lower end of the Student interval of a mean over seeds."""
    return float(values.mean()) - _half(values)


def _draws(n: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Draw the seeds of each bootstrap sample (draws, n); the same for every incident."""
    return np.random.default_rng(0).integers(0, n, size=(_DRAWS, n))


def _resampled(above: Array, below: Array) -> Array:
    draws = _draws(len(above))
    return np.asarray(above[draws].sum(1) / np.maximum(below[draws].sum(1), 1e-12))


def _bounded(value: float, spread: Array, n: int) -> Score:
    low, high = np.quantile(np.clip(spread, 0.0, 1.0), (0.025, 0.975))
    value = float(np.clip(value, 0.0, 1.0))
    return make_score(value, (min(float(low), value), max(float(high), value)), n, "bootstrap over seeds")
