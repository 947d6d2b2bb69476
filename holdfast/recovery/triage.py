"""Triage: from what was seen of a window to a cause, with what speaks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.results import Diagnosis, IntegrityFinding, Reason, Share, Signal, Value

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from holdfast.results import Cause


_NAMED = 3
"""Columns that a reason names."""


class Tainted(Value):
    """A window that did not pass its screening."""

    position: int
    reasons: tuple[str, ...]


class Evidence(Value):
    """What was seen when one window came: of its rows, of the labels that matured with it, of the champion."""

    position: int
    rows: int
    quality: tuple[IntegrityFinding, ...] = ()
    """What the declared checks say of the rows themselves."""
    unreadable: str = ""
    """Why the champion cannot read the rows at all; empty where it can."""
    artefact: str = ""
    """What is wrong with the champion's bytes or outputs, or with what was served as such; empty where nothing is."""
    served: int = 0
    """Rows of it that clients were answered by the champion, as far as the prediction log knows."""
    signals: tuple[Signal, ...] = ()
    """Of the new window, and of every window whose labels matured with it."""
    moved: int | None = None
    """Window with which the present run of alarms of moved rows began; None where this one gave none."""
    judged: int | None = None
    """Last window whose labels judged the champion; None where none did."""
    poisoned: tuple[Tainted, ...] = ()
    """Windows that matured and did not pass their screening, and are not set aside yet."""


def shifted_since(signals: Sequence[Signal], position: int) -> int | None:
    """Give the window with which the present run of alarms of moved rows began; None where this window gave none.

    Args:
        signals: all about one champion.
        position: place of the window that came last.
    """
    shifted = {signal.position for signal in signals if signal.alarm and signal.about == "shift"}
    if position not in shifted:
        return None
    return next(place for place in range(position, -1, -1) if place - 1 not in shifted)


def last_judged(signals: Sequence[Signal]) -> int | None:
    """Give the last window whose labels judged a champion, from all signals about it; None where none did."""
    # A challenger that was not asked has judged nothing.
    judged = [signal.position for signal in signals if signal.needs == "labels" and signal.details.get("rows", 1)]
    return max(judged, default=None)


def triage(evidence: Evidence, *, faulty_share: Share) -> Diagnosis:
    """Name the cause; the first that applies, from what damages every answer to what damages none.

    Poison comes before all that labels say of the champion: labels that are not to be believed are no harm. Those of a
    window under attack are the attack's: where a search succeeded, the truth contradicts what is known. A shift is
    benign only where labels of its own windows have judged the champion and show no harm: before that, nobody knows.

    Args:
        evidence: what was seen.
        faulty_share: share of rows at fault by the declared checks from which the feed is broken, and not some rows.
    """
    alarms = [signal for signal in evidence.signals if signal.alarm]
    cause = _cause(evidence, alarms, faulty_share)
    leading = sorted(
        alarms, key=lambda signal: not _speaks_for(signal, cause)
    )  # what the cause is named for comes first
    reasons = (*_about_rows(evidence, faulty_share), *map(_said, leading))
    if not reasons:
        quiet = f"{len(evidence.signals)} signals, none over its threshold"
        reasons = (Reason(about="signals", passed=True, text=quiet),)
    told = [*evidence.signals, *evidence.quality, *evidence.poisoned]
    return Diagnosis(
        cause=cause, reasons=(*_served(evidence), *reasons), windows=_set_aside(evidence, cause, faulty_share),
        evidence=tuple(sorted({each.fingerprint() for each in told})),
        judged=all(_settled(signal, evidence) for signal in alarms),
    )  # fmt: skip


def _set_aside(evidence: Evidence, cause: Cause, faulty_share: float) -> tuple[int, ...]:
    """Name the windows to set aside: this one too where it is at fault itself or under attack beside a graver cause.

    For nobody looks at its rows again.
    """
    if cause not in {"suspected_poisoning", "damaged_artefact"}:
        return ()
    here = {evidence.position} if spoiled(evidence, faulty_share=faulty_share) else set()
    poisoned = {window.position for window in evidence.poisoned} if cause == "suspected_poisoning" else set()
    return tuple(sorted(poisoned | here))


def _settled(alarm: Signal, evidence: Evidence) -> bool:
    """Tell whether labels have spoken of the very rows that an alarm is about."""
    return alarm.needs == "labels" or (evidence.judged is not None and evidence.judged >= alarm.position)


def _cause(evidence: Evidence, alarms: Sequence[Signal], faulty_share: float) -> Cause:
    heard = {signal.about for signal in alarms if _counts(signal)}
    attacked = evidence.position if "attack" in heard else None
    candidates: list[tuple[object, Cause]] = [
        (evidence.artefact, "damaged_artefact"),
        (evidence.unreadable or _faulty(evidence, faulty_share), "quality_fault"),
        ([each for each in evidence.poisoned if each.position != attacked], "suspected_poisoning"),
        (attacked is not None, "suspected_evasion"),
        ("harm" in heard, "harmful_drift"),
        ("shift" in heard and _benign(evidence), "benign_shift"),
        (heard, "unknown"),
    ]
    return next((cause for applies, cause in candidates if applies), "none")


def _counts(alarm: Signal) -> bool:
    """Tell whether an alarm speaks for anything: that answers got better is no harm."""
    return alarm.about != "harm" or alarm.effect > 0


def _speaks_for(alarm: Signal, cause: Cause) -> bool:
    return _counts(alarm) and {"harm": "harmful_drift", "attack": "suspected_evasion"}.get(alarm.about) == cause


def _benign(evidence: Evidence) -> bool:
    """Tell whether labels of rows that moved as these did were seen: harm would have shown."""
    return evidence.moved is not None and evidence.judged is not None and evidence.judged >= evidence.moved


def spoiled(evidence: Evidence, *, faulty_share: Share) -> bool:
    """Tell whether a window is at fault itself, or under attack: its labels then say nothing of the champion.

    Args:
        evidence: what was seen of its rows.
        faulty_share: as for `triage`.
    """
    return _faulty(evidence, faulty_share) or any(s.alarm and s.about == "attack" for s in evidence.signals)


def _faulty(evidence: Evidence, faulty_share: float) -> bool:
    blocked = any(finding.verdict == "block" for finding in evidence.quality)
    return blocked or _faults(evidence) > faulty_share * evidence.rows


def _faults(evidence: Evidence) -> int:
    return len({row for finding in evidence.quality for row in finding.rows})


def _served(evidence: Evidence) -> Iterator[Reason]:
    if evidence.served and not evidence.artefact:  # which says it itself
        text = f"{evidence.served} of {evidence.rows} rows were served, each as the champion's bytes answer it"
        yield Reason(about="prediction log", passed=True, text=text)


def _about_rows(evidence: Evidence, faulty_share: float) -> Iterator[Reason]:
    if evidence.artefact:
        yield Reason(about="champion", passed=False, text=evidence.artefact)
    if evidence.unreadable:
        yield Reason(about="rows", passed=False, text=evidence.unreadable)
    for finding in evidence.quality:
        if finding.verdict != "pass":
            broken = _faulty(evidence, faulty_share)
            yield Reason(about=finding.check, passed=not broken, text=finding.reason)
    for window in evidence.poisoned:
        for text in window.reasons:
            yield Reason(about="screening", passed=False, text=f"window {window.position}: {text}")


def _said(signal: Signal) -> Reason:
    text = (
        f"window {signal.position}: {signal.effect:+.3f} {signal.effect_unit}{_most(signal.details.get('columns', {}))}"
        f" (statistic {signal.statistic:.3g} over {signal.threshold:.3g}, n = {signal.n})"
    )
    return Reason(about=signal.detector, passed=False, text=text)


def _most(columns: dict[str, float]) -> str:
    """Name the columns that moved most, by their p-values; empty where a detector does not look at columns."""
    names = sorted(columns, key=lambda name: (columns[name], name))[:_NAMED]
    return f", most of all {', '.join(names)}" if names else ""
