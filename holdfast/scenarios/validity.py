"""The validity record: what must hold before an attack's number is believed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from holdfast.perturbation import Threat
from holdfast.results import Check, Finding
from holdfast.scenarios.attacks._batch import Batch, single_step
from holdfast.space import Box
from holdfast.statistics import excess

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from holdfast.data import Samples
    from holdfast.model import Target
    from holdfast.scenarios.attacks.base import Attack
    from holdfast.seeding import Noise

    Flags = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]

THRESHOLD = 0.02
"""A check fails over 2 points of excess, and only where the excess is significant (one-sided 1 %)."""
FEWEST = 7
"""Fewer points than this can never be significant: 2 ** -6 > 1 %."""
SHARES = {"repeat": 0.02, "zero": 0.02, "single": 0.04, "unbounded": 0.06, "converged": 0.16}
"""Each check's part of the attack's forwards: 30 % together."""
_ROUNDS = 8
_SPAN = 0.1
"""Share of the bounds that data of at least one batch should span."""
_REACH = 100.0
"""Units of distance that count as unbounded on a table."""


@dataclass(frozen=True)
class Case:
    """One attack's evidence: one row for each point (n, ...), and what the attack spent."""

    target: Target
    samples: Samples
    logits: torch.Tensor
    """Clean logits (n, classes)."""
    right: torch.Tensor
    robust: torch.Tensor
    flat: torch.Tensor
    wild: torch.Tensor
    rose: torch.Tensor
    steps: torch.Tensor
    free: torch.Tensor
    pinned: torch.Tensor
    """Points at a bound that their first gradient points out of."""
    forwards: int

    def afford(self, part: str, cost: int) -> int:
        """Give how many points one check may look at, when each costs so many forwards."""
        return int(SHARES[part] * self.forwards / cost)


def run_checks(attack: Attack, case: Case, noise: Noise) -> tuple[Check, ...]:
    """Check one attack's run, for at most 30 % of the forwards that it took.

    The harness is checked for every attack; gradients and steps for attacks that use them.
    """
    checks = (
        _eval_mode(case), _logits(case), _output_varies(case), _bounds(case), _deterministic(case),
        _zero_epsilon(attack, case, noise),
    )  # fmt: skip
    if not attack.white_box:
        return checks
    return (
        *checks, _gradients_not_zero(case), _gradients_finite(case), _loss_rises(attack, case),
        _single_step(attack, case), _unbounded(attack, case, noise), _converged(attack, case, noise),
    )  # fmt: skip


def judge(name: str, bad: Flags, reference: Flags, what: str) -> Check:
    """Hold flags (n,) against others of the same points: failed when they are true more often, and by enough."""
    found = excess(bad, reference, threshold=THRESHOLD)
    reason = f"{what}: {int(bad.sum())} against {int(reference.sum())} of {len(bad)} points"
    return Check(
        name=name, status="failed" if found.fails else "passed", reason=reason,
        statistic=found.excess, threshold=THRESHOLD, p_value=found.p_value,
    )  # fmt: skip


def skip(name: str, reason: str) -> Check:
    """Say why a check means nothing here."""
    return Check(name=name, status="not_applicable", reason=reason)


def _never(name: str, bad: torch.Tensor, what: str, *, none: str) -> Check:
    """Judge flags (n,) of something that should not happen at all."""
    flags = bad.cpu().numpy()
    return judge(name, flags, np.zeros_like(flags), what) if len(flags) else skip(name, none)


def _certain(name: str, *, failed: bool, reason: str, statistic: float | None = None, threshold: float | None = None,
             ) -> Check:  # fmt: skip
    """State what needs no test."""
    return Check(
        name=name, status="failed" if failed else "passed", reason=reason, statistic=statistic, threshold=threshold
    )


def _eval_mode(case: Case) -> Check:
    training = [name or "the model" for name, module in case.target.module.named_modules() if module.training]
    reason = f"in training mode: {', '.join(training[:3])}" if training else "every module is in eval mode"
    return _certain("eval_mode", failed=bool(training), reason=reason)


def _logits(case: Case) -> Check:
    z = case.logits.double()
    inside = bool(((z - 0.5).abs() <= 0.5 + 1e-6).all())
    sums = bool(((z.sum(1) - 1).abs() <= 1e-4).all())  # noqa: PLR2004  float32 softmax over many classes
    reason = "outputs are probabilities" if inside and sums else "outputs are logits"
    return _certain("logits_not_probabilities", failed=inside and sums, reason=f"{reason}, where logits are expected")


def _output_varies(case: Case) -> Check:
    if len(case.logits) < FEWEST:
        return skip("output_varies", f"only {len(case.logits)} points")
    spread = float((case.logits.amax(0) - case.logits.amin(0)).nan_to_num(torch.inf).amax())
    size = float(case.logits.abs().nan_to_num(0.0).amax())
    return _certain(
        "output_varies", failed=spread <= 1e-6 * (1.0 + size), statistic=spread, threshold=1e-6 * (1.0 + size),
        reason=f"logits differ by up to {spread:.3g} between points",
    )  # fmt: skip


def _bounds(case: Case) -> Check:
    """Find inputs scaled or standardised twice: they leave the bounds, or hardly span them."""
    space, x = case.target.space, case.samples.x
    if not isinstance(space, Box):
        return skip("data_spans_bounds", "a table's features have units of their own")
    width = space.high - space.low
    low, high = float(x.amin()), float(x.amax())
    outside = low < space.low - 1e-3 * width or high > space.high + 1e-3 * width
    span = (high - low) / width
    return _certain(
        "data_spans_bounds", failed=outside or span < _SPAN, statistic=span, threshold=_SPAN,
        reason=f"values from {low:.4g} to {high:.4g} in bounds {space.low:g} to {space.high:g}",
    )  # fmt: skip


def _deterministic(case: Case) -> Check:
    some = min(case.afford("repeat", 1), len(case.samples))
    if some == 0:
        return skip("deterministic_forward", "the budget allows no second forward")
    with torch.no_grad():
        again = case.target.logits(case.samples.x[:some])
    first = case.logits[:some]
    size = 1.0 + first.abs().nan_to_num(0.0).amax(1)
    differs = ((again - first).abs().amax(1) > 1e-4 * size) & first.isfinite().all(1)
    count = int(differs.sum())
    return _certain(
        "deterministic_forward", failed=count > 0, statistic=count / some, threshold=0.0,
        reason=f"{count} of {some} points get other logits the second time",
    )  # fmt: skip


def _zero_epsilon(attack: Attack, case: Case, noise: Noise) -> Check:
    some = case.samples.take(torch.arange(min(case.afford("zero", 1), len(case.samples)), device=case.samples.x.device))
    still = Threat(norm=attack.norm, epsilon=0.0).start(some.x, some.ids, noise.derive("zero"), case.target.space)
    differs = (case.target.predict(still) == some.y) != case.right[: len(some)]
    return _never("zero_epsilon_is_clean", differs, "epsilon 0 changes the flag", none="the budget allows no point")


def _gradients_not_zero(case: Case) -> Check:
    seen = (case.steps > 0) & case.free
    return _never("gradients_not_zero", case.flat[seen], "the first gradient is zero", none="no point was attacked")


def _gradients_finite(case: Case) -> Check:
    seen = case.steps > 0
    return _never("gradients_finite", case.wild[seen], "a gradient is not finite", none="no point was attacked")


def _loss_rises(attack: Attack, case: Case) -> Check:
    if attack.longer() is None:
        return skip("loss_rises", "a single step has no course")
    walked = (case.steps > 1) & case.free
    seen = walked & ~case.pinned
    apart = int((walked & case.pinned).sum())
    note = f" ({apart} at bounds that their gradient points out of are left out)" if apart else ""
    what, none = f"the loss never rises{note}", f"no point took two steps that could raise it{note}"
    return _never("loss_rises", ~case.rose[seen], what, none=none)


def _single_step(attack: Attack, case: Case) -> Check:
    name = "multi_step_beats_single_step"
    if attack.longer() is None:
        return skip(name, "the attack is a single step itself")
    rows = torch.nonzero(case.right).flatten()[: case.afford("single", 2)]
    if len(rows) < FEWEST:
        return skip(name, f"the budget allows {len(rows)} points, {FEWEST} can be significant")
    some = case.samples.take(rows)
    batch = Batch(case.target, Threat(norm=attack.norm, epsilon=attack.epsilon), some.x, some.y, some.ids)
    single_step(batch)
    held = case.robust[rows].cpu().numpy()
    return judge(name, held, (~batch.broken).cpu().numpy(), "points that hold against all steps, against one step")


def _unbounded(attack: Attack, case: Case, noise: Noise) -> Check:
    name = "unbounded_reaches_zero"
    if attack.longer() is None:
        return skip(name, "a single step need not find what lies far away")
    if reason := _bound(case):
        return skip(name, reason)
    space = case.target.space
    reach = space.high - space.low if isinstance(space, Box) else _REACH
    if attack.norm == "l2":
        reach *= math.sqrt(case.samples.x[0].numel())
    far = attack.lighter().model_copy(update={"epsilon": reach})
    held = _strike_within(far, case, case.right, "unbounded", noise)
    if len(held) < FEWEST:
        return skip(name, f"the budget allows {len(held)} points, {FEWEST} can be significant")
    return _never(name, held, f"points hold at {attack.norm} {reach:g}", none="no point")


def _strike_within(attack: Attack, case: Case, among: torch.Tensor, part: str, noise: Noise) -> torch.Tensor:
    """Attack as many of some points (n,) as a check's budget surely allows, and tell which hold (m,).

    Points that break early leave budget to others.
    """
    rows, cost = torch.nonzero(among).flatten(), attack.point_cost(case.target)
    left, held = case.afford(part, 1), among[:0]
    for _ in range(_ROUNDS):
        if len(held) == len(rows) or left < cost:
            break
        some = case.samples.take(rows[len(held) : len(held) + left // cost])
        started = case.target.forwards
        every = torch.ones_like(some.y, dtype=torch.bool)
        held = torch.cat([held, attack.strike(case.target, some, every, noise.derive(part)).robust])
        left -= case.target.forwards - started
    return held


def _bound(case: Case) -> str | None:
    """Say what keeps an unbounded attacker from reaching every row; None when nothing does."""
    space = case.target.space
    if isinstance(space, Box):
        return None
    if any(not f.mutable or f.kind == "category" or f.unit == 0 for f in space.features):
        return "not every feature may move"
    if space.relations or any(f.low is not None or f.high is not None for f in space.features):
        return "ranges or relations bound the features"
    return "missing values cannot move" if bool(case.samples.x.isnan().any()) else None


def _converged(attack: Attack, case: Case, noise: Noise) -> Check:
    name = "converged"
    longer = attack.longer()
    if longer is None:
        return skip(name, "a single step does not converge")
    held = _strike_within(longer, case, case.robust, "converged", noise)
    if len(held) < FEWEST:
        return skip(name, f"survivors and budget allow {len(held)} points, {FEWEST} can be significant")
    return _never(name, ~held, "survivors that twice the steps break", none="no point")


def with_family_checks(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Give the findings back, in order, each multi-step white-box one with the checks that take several attacks.

    A black box, or one step, that breaks what gradients leave convicts the gradients' numbers, not its own.
    """
    found = tuple(findings)
    checks = {
        finding.path: _family_checks(group) for group in _by_threat(found) for finding in group if _climbs(finding)
    }
    return tuple(f.model_copy(update={"checks": (*f.checks, *checks.get(f.path, ()))}) for f in found)


def family_checks(findings: Iterable[Finding]) -> tuple[Check, ...]:
    """Check what only several attacks on the same points can show, for each threat model.

    Masking: the black box breaks points that every multi-step white-box attack leaves, more than the reverse.
    A single step that beats all multi-step attacks. Names carry the threat model in brackets.
    """
    return tuple(check for group in _by_threat(findings) for check in _family_checks(group))


def _family_checks(group: Sequence[Finding]) -> tuple[Check, ...]:
    norm, epsilon, categories = _threat(group[0])
    threat = f"{norm} {epsilon:g}" + (f" + {categories} categories" if categories else "")
    black = [f for f in group if f.details.get("access") == "black_box"]
    single = [f for f in group if f.details.get("single_step")]
    multi = [f for f in group if _climbs(f)]
    return (
        _against(f"masking[{threat}]", multi, black, "points that hold against gradients, against the black box"),
        _against(f"single_step[{threat}]", multi, single, "points that hold against all steps, against one step"),
        skip(f"transfer[{threat}]", "no surrogate was attacked"),
    )


def _climbs(finding: Finding) -> bool:
    return finding.details.get("access") == "white_box" and not finding.details.get("single_step")


def _against(name: str, multi: Sequence[Finding], other: Sequence[Finding], what: str) -> Check:
    if not multi or not other:
        return skip(name, "it takes findings of both kinds on the same points")
    budgets = ", ".join(f"{f.path}: {f.details['most_forwards_per_point']}" for f in (*multi, *other))
    return judge(name, _all_hold(multi), _all_hold(other), f"{what} (forwards per point at most: {budgets})")


def _by_threat(findings: Iterable[Finding]) -> list[list[Finding]]:
    groups: dict[tuple[object, ...], list[Finding]] = {}
    for finding in findings:
        if finding.family == "evasion" and finding.score is not None and finding.per_example is not None:
            if "epsilon" not in finding.settings:  # a certificate: the lower bracket, no attack
                continue
            origin = finding.provenance
            key = (*_threat(finding), finding.per_example.points, origin.subject, origin.data, origin.role, origin.seed)
            groups.setdefault(key, []).append(finding)
    return list(groups.values())


def _threat(finding: Finding) -> tuple[str, float, int]:
    settings = finding.settings
    return str(settings["norm"]), float(settings["epsilon"]), int(settings["categories"])


def _all_hold(findings: Sequence[Finding]) -> Flags:
    flags = [f.per_example.unpack_flags() for f in findings if f.per_example is not None]
    together: Flags = np.logical_and.reduce(flags)
    return together
