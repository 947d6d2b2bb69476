"""The policy: what to do about a cause, given what was done before; a pure function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from holdfast.results import Cause, Decision, Diagnosis, ModelVersion, Reason, Share, Value

if TYPE_CHECKING:
    from collections.abc import Sequence

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(gt=0)]


class Budget(Value):
    """What retraining may cost within a stretch of the stream."""

    runs: Count = 6
    labels: Count | None = None
    """Labels of admitted windows that retrainings may learn from, each counted once for each run; None for any."""
    minutes: Annotated[float, Field(gt=0)] | None = None
    """Minutes of training; None for any."""
    windows: Positive = 80
    """Length of the stretch, up to now."""


class Policy(Value):
    """When the loop acts by itself, and when it waits for a person. All lengths are windows of the stream."""

    confirm: Positive = 1
    """Windows with harm, among the last ``among``, before anything is done about it."""
    among: Positive = 2
    exit: Annotated[float, Field(ge=0, lt=1)] = 0.02
    """Share of rows wrong above the past's at which an episode of harm is over: lower than what began it."""
    paid: Annotated[float, Field(ge=0, lt=1)] = 0.02
    """Share of rows that a retraining must have put right for another to follow where answers are as it promised. After
    one that put less right the next waits until answers are worse than ``exit`` by as much."""
    calm: Positive = 4
    """Last matured windows over which both are read, all of them answered by the present champion."""
    cooldown: Count = 3
    """Windows after a retraining or rollback in which no other begins, whether it came to anything or not."""
    probation: Count = 0
    """Windows after a retraining in which harm means rollback and not another retraining."""
    least_windows: Positive = 2
    """Admissible windows without which no retraining begins."""
    budget: Budget = Budget()
    breaker: Positive = 2
    """Rollbacks carried out within the budget's stretch after which the loop freezes until a person clears it."""
    approve: tuple[Literal["quarantine", "retrain", "repair", "rollback", "fall_back"], ...] = ()
    """Actions that wait until a person approves or refuses them; at night nothing waits, and none of them is taken."""
    faulty_share: Share = 0.2
    """Share of a window's rows at fault from which its feed is taken for broken."""

    @model_validator(mode="after")
    def _possible(self) -> Policy:
        if self.confirm > self.among:
            msg = f"confirm {self.confirm} is above among {self.among}"
            raise ValueError(msg)
        return self


class Spent(Value):
    """One retraining that was begun, and what it took."""

    position: int
    labels: int = 0
    minutes: float = 0.0


class History(Value):
    """What the databases remember: the same after a restart as before it."""

    harmed: tuple[int, ...] = ()
    """Places at which harm was diagnosed under the present champion."""
    former: Cause | None = None
    """Cause that was named for the window before."""
    episode: int | None = None
    """Place at which the harm began that is not over yet."""
    excess: tuple[float, ...] = ()
    """Share of rows wrong above the past's, for each matured window that the present champion is judged by."""
    gains: tuple[float | None, ...] = ()
    """Share of rows that the champion before it would have had wrong besides, for the same windows; None where that
    one could not be asked."""
    retrainings: tuple[Spent, ...] = ()
    rollbacks: tuple[int, ...] = ()
    """Places of the rollbacks that were decided on, refused and hindered ones too."""
    carried_out: tuple[int, ...] = ()
    """Places of the rollbacks that the loop carried out since a person last cleared the breaker."""
    promoted: int | None = None
    """Place of the retraining that made the present champion; None where no retraining of the loop did."""
    admissible: int = 0
    """Windows that a retraining may learn from now."""
    good: ModelVersion | None = None
    """Where a rollback would go."""
    restorable: bool = True
    """Whether some copy of the champion's bytes verifies; it is asked where the one that serves does not."""


def respond(
    diagnosis: Diagnosis, history: History, policy: Policy, position: int, champion: ModelVersion | None
) -> Decision:
    """Decide what to do about a window.

    Args:
        diagnosis: what is happening.
        history: what was done before.
        policy: what may be done.
        position: the window's place.
        champion: who serves.
    """
    cause, episode, lasting = _lasting(diagnosis, history, policy, position)
    action, why = _choose(cause, history, policy, position, judged=diagnosis.judged)
    # What lasts is why, and is told first; what this window alone shows may be columns that moved, and no harm.
    first, then = (lasting, why) if cause != diagnosis.cause else ([], [*lasting, *why])
    return Decision(
        action=action, cause=cause, position=position, episode=episode, champion=champion, evidence=diagnosis.evidence,
        candidate=history.good if action in {"rollback", "fall_back"} else None, windows=diagnosis.windows,
        reasons=(*_reasons(first), *diagnosis.reasons, *_reasons(then)),
    )  # fmt: skip


def _reasons(why: _Why) -> tuple[Reason, ...]:
    return tuple(Reason(about="policy", passed=passed, text=text) for passed, text in why)


_Action = Literal["none", "alert", "quarantine", "retrain", "repair", "rollback", "fall_back", "freeze"]
_Why = list[tuple[bool, str]]
_Choice = tuple[_Action, _Why]


def _lasting(diagnosis: Diagnosis, history: History, policy: Policy, position: int) -> tuple[Cause, int | None, _Why]:
    """Tell whether harm goes on: it begins with an alarm, and needs more than the next quiet window to end.

    Else a champion that was retrained in the middle of a drift would count as healed until the evidence against it
    had grown anew.
    """
    if diagnosis.cause == "harmful_drift":
        return diagnosis.cause, position if history.episode is None else history.episode, []
    if history.episode is None:
        return diagnosis.cause, None, []
    over, told = _over(history, policy)
    if over:
        return diagnosis.cause, None, [(True, f"the harm of window {history.episode} is over: {told}")]
    if diagnosis.cause not in {"none", "benign_shift", "unknown"}:
        return diagnosis.cause, history.episode, []  # damage first
    return "harmful_drift", history.episode, [(False, f"the harm of window {history.episode} goes on: {told}")]


def _over(history: History, policy: Policy) -> tuple[bool, str]:
    """Tell whether an episode of harm has ended, by the champion's windows since.

    One that nothing was done about ends when answers are nearly as good as before. One that was answered by retraining
    ends when the last retraining hardly paid, and answers are as good as it promised: where they get worse again the
    drift goes on, however little the first windows gained by it. A retraining that put nothing right ends it at once:
    the world is harder then, and not the champion stale. Where nobody can say what it put right, answers alone decide.
    """
    level = _level(history, policy)
    if level is None:
        return False, f"{len(history.excess)} of {policy.calm} windows have matured since"
    good, told = level <= policy.exit, f"{level:+.3f} wrong above the past, the exit is {policy.exit:+.3f}"
    if not _answered(history):
        return good, told
    gained = _gained(history, policy)
    if gained is None:
        return good, f"nobody can say what the last retraining put right; {told}"
    told = f"the last retraining put {gained:+.3f} of rows right, {policy.paid:.3f} is worth another; {told}"
    return gained <= policy.paid and (good or gained <= 0), told


def _answered(history: History) -> bool:
    """Whether a retraining of this episode made the champion."""
    return history.promoted is not None and history.episode is not None and history.promoted >= history.episode


def _level(history: History, policy: Policy) -> float | None:
    """Share of rows wrong above the past's over the last windows; None where too few have matured."""
    excess = history.excess[-policy.calm :]
    return sum(excess) / policy.calm if len(excess) == policy.calm else None


def _gained(history: History, policy: Policy) -> float | None:
    """Share of rows that the last retraining put right over the same windows; None where nobody can say."""
    gains = _known(history.gains[-policy.calm :])
    return sum(gains) / policy.calm if len(gains) == policy.calm else None


def _too_early(history: History, policy: Policy) -> str:
    """Say why another retraining would come too early, if so.

    One that put little right was told too little of the new world. The next learns from hardly more until answers got
    worse again by what is worth a retraining: to begin it at once spends the budget before the drift has gone its way.
    """
    level, gained = _level(history, policy), _gained(history, policy)
    if not _answered(history) or level is None or gained is None or gained > policy.paid:
        return ""
    if level >= policy.exit + policy.paid:
        return ""
    return (
        f"the last retraining put {gained:+.3f} of rows right: the next one waits until answers are"
        f" {policy.exit + policy.paid:+.3f} wrong above the past, and they are {level:+.3f}"
    )


def _known(gains: Sequence[float | None]) -> list[float]:
    return [gain for gain in gains if gain is not None]


_TOLD = (True, "as the window before, which was told")
_SHIFTED = {
    "benign_shift": (True, "rows moved and answers did not get worse: retraining would be wrong"),
    "unknown": (True, "whether this does harm is not known before labels mature"),
}
_UNSURE = (True, "confidence is off, and labels that matured do not show that answers got worse")


def _choose(cause: Cause, history: History, policy: Policy, position: int, *, judged: bool) -> _Choice:
    match cause:
        case "none":
            return "none", []
        case "quality_fault" | "suspected_evasion" | "suspected_poisoning":
            return "quarantine", [(True, "such rows train nothing until a person releases them")]
        case "damaged_artefact":
            return _against_damage(history)
        case "benign_shift" | "unknown":
            why = _UNSURE if cause == "unknown" and judged else _SHIFTED[cause]
            return ("none", [_TOLD]) if history.former == cause else ("alert", [why])
        case "harmful_drift":
            return _against_harm(history, policy, position)


def _against_damage(history: History) -> _Choice:
    if history.restorable or history.good is None:
        return "repair", [(True, "the champion's bytes are restored before it answers again")]
    told = (
        f"no copy of the champion's bytes verifies: version {history.good.version} answers until a better one is made"
    )
    return "fall_back", [(False, told)]


def _against_harm(history: History, policy: Policy, position: int) -> _Choice:
    return _waiting(history, policy, position) or _acting(history, policy, position)


def _waiting(history: History, policy: Policy, position: int) -> _Choice | None:
    """Say why nothing is done yet, if so."""
    if stop := tripped(history.carried_out, policy, position):
        return "freeze", [(False, stop)]
    recent = len({place for place in (*history.harmed, position) if place > position - policy.among})
    if recent < policy.confirm and history.episode is None:
        told = f"harm in {recent} of the last {policy.among} windows, {policy.confirm} confirm it"
        return "alert", [(True, told)]
    acted = [*(spent.position for spent in history.retrainings), *history.rollbacks]
    if (last := max(acted, default=None)) is not None and position - last <= policy.cooldown:
        return "alert", [(False, f"cooldown: the last response was at window {last}, {policy.cooldown} must pass")]
    return None


def tripped(carried_out: Sequence[int], policy: Policy, position: int) -> str:
    """Say that the breaker holds the loop; empty where it does not.

    Args:
        carried_out: places of the rollbacks that the loop carried out since a person last cleared the breaker.
        policy: how many it may be.
        position: the place up to which they are counted.
    """
    count = sum(place > position - policy.budget.windows for place in carried_out)
    return f"{count} rollbacks: nothing is done until a person has looked" if count >= policy.breaker else ""


def _acting(history: History, policy: Policy, position: int) -> _Choice:
    probation = history.promoted is not None and position - history.promoted <= policy.probation
    gains = _known(history.gains)
    if probation and history.good and not gains:
        return "alert", [
            (False, f"no window says yet whether the version before the one of {history.promoted} did worse")
        ]
    if probation and history.good and sum(gains) <= 0:  # one that does worse is nothing to go back to
        return "rollback", [(True, f"harm within {policy.probation} windows of the retraining at {history.promoted}")]
    if history.admissible < policy.least_windows:
        return "alert", [(False, f"{history.admissible} windows may train, {policy.least_windows} are needed")]
    if early := _too_early(history, policy):
        return "alert", [(False, early)]
    if over := _over_budget(history, policy, position - policy.budget.windows):
        return "alert", [(False, over)]
    return "retrain", [(True, f"harm is confirmed, {history.admissible} windows may train")]


def _over_budget(history: History, policy: Policy, start: int) -> str:
    spent, budget = [each for each in history.retrainings if each.position > start], policy.budget
    if len(spent) >= budget.runs:
        return f"budget: {len(spent)} retrainings in {budget.windows} windows, {budget.runs} are allowed"
    labels, minutes = sum(each.labels for each in spent), sum(each.minutes for each in spent)
    if budget.labels is not None and labels >= budget.labels:
        return f"budget: {labels} labels in {budget.windows} windows, {budget.labels} are allowed"
    if budget.minutes is not None and minutes >= budget.minutes:
        return f"budget: {minutes:.1f} minutes in {budget.windows} windows, {budget.minutes:g} are allowed"
    return ""
