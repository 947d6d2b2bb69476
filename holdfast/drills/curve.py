"""The resilience curve: quality through an incident in three arms, and the scores that are read off it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy import stats

from holdfast.drills.incident import CALM
from holdfast.results import Action, Cause, Measure, PerExample, Score, Value
from holdfast.statistics.intervals import make_score, wilson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.drills.incident import Incident, Right

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
    labels: int = 0
    """Labelled rows beside the pinned ones that it trained with."""
    minutes: float = 0.0
    """Time that it took."""


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
    wrong: tuple[int, ...] | None = None
    """Rows of each window that were answered, and wrongly; None where nobody counted."""
    unanswered: tuple[int, ...] | None = None
    """Rows of each window that had no answer; None where nobody counted."""
    tampered: tuple[int, ...] | None = None
    """Windows that bytes answered which did not verify; None where nobody looked."""
    killed: int | None = None
    """Window at which the worker was killed in training; None where it was not."""
    repeated: float | None = None
    """Share of the rows from onset on that an earlier window brought too: detectors knew them; None untold."""
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
    taught with every label. Forgetting is what rows of the champion's own time lost, clean or robust, the larger; of
    clean answers alone where the gate has no attack, which the method says.
    """
    if len(trios) < _FEWEST:
        return f"{len(trios)} seed: an interval needs {_FEWEST}"
    if any(trio.on.old is None or trio.off.old is None for trio in trios):
        return "nobody served at the end"
    if (about := remembered(trios)) is None:
        return "the attack on the old distribution is scored in some arms alone: forgetting is not known"
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
    return _bounded(value, spread, len(trios), "bootstrap over seeds" + _OF[about])


_OF = {"clean and robust": "", "clean": ", forgetting of clean answers alone"}


def remembered(trios: Sequence[Trio]) -> Literal["clean and robust", "clean"] | None:
    """Tell which answers about the old distribution every arm gave; None where some gave what others did not."""
    asked = [course for trio in trios for course in (trio.on, trio.off)]
    robust = {course.old_robust is not None for course in asked}
    if any(course.old is None for course in asked) or len(robust) > 1:
        return None
    return "clean and robust" if robust == {True} else "clean"


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
    """Say why an incident's right responses were not those that were given; empty where they were.

    A kill that was to happen and did not is a fault too: nothing was rehearsed then.
    """
    taken, forbidden = course.responses, {action for right in incident.right for action in right.never}
    if wrong := [t for t in taken if t.action in forbidden]:
        return f"window {wrong[0].window}: {wrong[0].action} ({wrong[0].cause}), which must not happen"
    acted = [t for t in taken if t.action not in CALM]
    if early := [t for t in acted if t.window < incident.onset]:
        return f"window {early[0].window}: {early[0].action} ({early[0].cause}) before onset at {incident.onset}"
    if incident.quiet and acted:
        return f"window {acted[0].window}: {acted[0].action} where nothing was to be done"
    asked = () if incident.quiet else incident.right
    lacking = next((fault for right in asked if (fault := _lacking(taken, right, incident.onset))), "")
    if not lacking and incident.kill and course.killed is None:
        return "the worker was to be killed in training, and no training of its began: no kill was rehearsed"
    return lacking


def _lacking(taken: Sequence[Taken], right: Right, onset: int) -> str:
    """Say what one right response lacks: it must be given in time about each of its windows, or of any from onset."""
    wanted = f"{right.action} ({right.cause})" if right.cause else right.action
    given = [
        t for t in taken
        if t.action == right.action and right.cause in (None, t.cause) and t.window >= onset
    ]  # fmt: skip
    for window in right.windows:
        if not any(window in t.about and t.at - max(onset, window) < right.within for t in given):
            said = ", ".join(f"{t.action} ({t.cause})" for t in taken if window in t.about) or "nothing"
            return f"window {window}: {said}, not {wanted} within {right.within}"
    if not right.windows and not any(t.at - onset < right.within for t in given):
        said = ", ".join(f"{t.window}: {t.action}" for t in taken if t.window >= onset) or "nothing"
        return f"no {wanted} within {right.within} windows of onset at {onset} ({said})"
    return ""


def measures(trios: Sequence[Trio], incident: Incident) -> tuple[Measure, ...]:
    """Give delays, depth, harm and costs: means over seeds with Student intervals.

    *Never* where any seed never came back; what some seed does not tell is left out.
    """
    on = [relative(trio, "on", incident) for trio in trios]
    recovered = [_back(curve, incident.onset) for curve in on]
    rows = [
        *_quiet(trios, incident),
        *_detected(trios, incident),
        _measure("time_to_recover", recovered, "windows"),
        _measure("depth", [float(1.0 - curve[incident.onset :].min()) for curve in on], "share of quality"),
        *(_measure(f"loss_{arm}", [loss(trio, arm, incident) for trio in trios], "share of quality") for arm in ARMS),
        _measure("poisoned_rows_admitted", [float(trio.on.poisoned) for trio in trios], "rows"),
    ]
    if about := remembered(trios):
        name = "forgetting" if about == "clean and robust" else "forgetting_clean"
        rows.append(_measure(name, [forgetting(trio) for trio in trios], "points / 100"))
    told = {
        "regressions_under_attack": ("share of rows", [regressions(trio) for trio in trios]),
        "attack_success_rate": ("share", [trio.on.asr for trio in trios]),
        "tampered_windows_served": (
            "windows", [None if trio.on.tampered is None else float(len(trio.on.tampered)) for trio in trios],
        ),
        "rows_answered_wrongly": ("rows", [answered_wrongly(trio, incident) for trio in trios]),
        "rows_unanswered": ("rows", [left_unanswered(trio, incident) for trio in trios]),
        "rows_seen_before": ("share of rows", [trio.on.repeated for trio in trios]),
    }  # fmt: skip
    rows += [_measure(name, each, unit) for name, (unit, each) in told.items() if None not in each]
    return (*rows, *_spent(trios, incident))


def _quiet(trios: Sequence[Trio], incident: Incident) -> tuple[Measure, ...]:
    """Give the share of windows that were left alone, where that was right for all of them.

    The interval takes each seed for one trial, since what is done about a window hangs on those before it.
    """
    if not incident.quiet:
        return ()
    alone = [sum(t.action in CALM for t in trio.on.responses) / incident.horizon for trio in trios]
    low, high = wilson(sum(alone), len(alone))
    return (
        Measure(
            name="quiet_windows_left_alone", value=float(np.mean(alone)), unit="share of windows", better="higher",
            n=len(alone), low=low, high=high, method="wilson over seeds",
        ),
    )  # fmt: skip


def _detected(trios: Sequence[Trio], incident: Incident) -> tuple[Measure, ...]:
    """Give the delay of each cause that is to be named: the first under the plain name, others with theirs."""
    asked: dict[Cause, Right] = {}
    for right in incident.right:
        if right.cause is not None:
            asked.setdefault(right.cause, right)
    return tuple(
        _measure(
            f"detection_delay_{cause}" if number else "detection_delay",
            [_first(trio.on, right, incident.onset) for trio in trios], "windows",
        )
        for number, (cause, right) in enumerate(asked.items())
    )  # fmt: skip


def _spent(trios: Sequence[Trio], incident: Incident) -> tuple[Measure, ...]:
    """Give labels and minutes of all retrainings, where the score is of learning or one was asked for.

    Labels are counted as the budget of retrainings counts them: again for each that learned from them.
    """
    if incident.measures != "evolution" and all(right.action != "retrain" for right in incident.right):
        return ()
    retrained = [[t for t in trio.on.responses if t.action == "retrain"] for trio in trios]
    return (
        _measure("labels_spent", [float(sum(t.labels for t in each)) for each in retrained], "labels"),
        _measure("minutes_of_training", [sum(t.minutes for t in each) for each in retrained], "minutes"),
    )


def answered_wrongly(trio: Trio, incident: Incident) -> float | None:
    """Count the rows answered wrongly because of the incident, from onset on; None where nobody counted.

    Wrong answers, less what as many answers would have had wrong anyway: by the oracle's share in the same window where
    what is right changes, else by the share before onset. By chance a few below 0; a row without an answer is none.
    """
    on, known = trio.on, _reference(trio, incident)
    if on.wrong is None or on.unanswered is None or known is None:
        return None
    wrong, unanswered = np.array(on.wrong, dtype=np.float64), np.array(on.unanswered)
    share = known[0] / np.maximum(on.rows - known[1], 1.0)
    return float((wrong - share * (on.rows - unanswered))[incident.onset :].sum())


def left_unanswered(trio: Trio, incident: Incident) -> float | None:
    """Count the rows without an answer from onset on, less those of the reference; None where nobody counted."""
    known = _reference(trio, incident)
    if trio.on.unanswered is None or known is None:
        return None
    return float((np.array(trio.on.unanswered) - known[1])[incident.onset :].sum())


def _reference(trio: Trio, incident: Incident) -> tuple[Array, Array] | None:
    """Give the rows answered wrongly and not at all (windows,) that the incident is not to blame for."""
    known = trio.oracle if incident.drifts else trio.off
    if known.wrong is None or known.unanswered is None:
        return None
    wrong, unanswered = np.array(known.wrong, dtype=np.float64), np.array(known.unanswered, dtype=np.float64)
    if incident.drifts:
        return wrong, unanswered
    before = slice(0, incident.onset)
    return np.full(len(wrong), wrong[before].mean()), np.full(len(wrong), unanswered[before].mean())


def _first(course: Course, right: Right, onset: int) -> float | None:
    """Count windows from onset, or the first that it is about, to the first response with the right cause, if any."""
    since = max(onset, min(right.windows, default=onset))
    found = [
        t.at for t in course.responses
        if t.cause == right.cause and t.window >= since and (not right.windows or set(t.about) & {*right.windows})
    ]  # fmt: skip
    return float(min(found) - since) if found else None


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
    if len(known) < _FEWEST:  # one seed has no interval
        return Measure(name=name, value=known[0], unit=unit, better="lower", n=1)
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


def _bounded(value: float, spread: Array, n: int, method: str = "bootstrap over seeds") -> Score:
    low, high = np.quantile(np.clip(spread, 0.0, 1.0), (0.025, 0.975))
    value = float(np.clip(value, 0.0, 1.0))
    return make_score(value, (min(float(low), value), max(float(high), value)), n, method)
