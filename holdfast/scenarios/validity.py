"""The validity record: what must hold before an attack's number is believed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from holdfast.perturbation import Threat
from holdfast.results import Check
from holdfast.scenarios.attacks._batch import Batch, cross_entropy, single_step
from holdfast.space import Box, Table
from holdfast.statistics import excess

if TYPE_CHECKING:
    from holdfast.data import Samples
    from holdfast.model import Target
    from holdfast.scenarios.attacks.base import Attack
    from holdfast.seeding import Noise

    Flags = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]

THRESHOLD = 0.02
"""A check fails over 2 points of excess, and only where the excess is significant (one-sided 1 %)."""
FEWEST = 7
"""Fewer points than this can never be significant: 2 ** -6 > 1 %."""
SHARES = {"repeat": 0.02, "zero": 0.02, "single": 0.03, "guess": 0.03, "unbounded": 0.06, "converged": 0.14}
"""Each check's part of the attack's forwards: 30 % together."""
_ROUNDS = 8
_SPAN = 0.1
"""Share of the bounds that data of at least one batch should span."""
_REACH = 100.0
"""Units of distance that count as unbounded on a table."""
_MARKS = 9
"""Values of one feature that an enumeration looks at, at most."""

REMEDIES = {
    "eval_mode": "Dropout or batch statistics are at work: the factory must give a module that eval() reaches.",
    "logits_not_probabilities": "Attacks lose their gradient behind a softmax: let the model give logits.",
    "output_varies": "A model that answers everything alike is not robust: look at its training.",
    "data_spans_bounds": "Inputs are scaled twice, or not at all: give raw inputs, and scale inside the model.",
    "deterministic_forward": "The same input gets other logits: take randomness out of the model's forward.",
    "zero_epsilon_is_clean": "An attack without reach changes answers: the model reads its input in two ways.",
    "gradients_not_zero": "Attacks cannot see through this model: look for rounding, arg-max, detach or huge logits.",
    "gradients_finite": "Gradients overflow or divide by zero: look for roots, logarithms and divisions at 0.",
    "loss_rises": "Gradients do not lead uphill: they are wrong, or steps are too coarse for this model. Take more "
    "steps, and look for detach or custom backward passes.",
    "multi_step_beats_single_step": "Later gradients mislead, or steps are too few: take more steps or "
    "restarts, or look for masking.",
    "unbounded_reaches_zero": "An attack without bounds should break everything: gradients are masked.",
    "enumerated_optimum": "A search of the whole ball breaks what the attack leaves: take more steps or restarts.",
    "converged": "More steps still break points: the score is too high; take more steps or restarts.",
    "masking": "An attack without gradients breaks what gradients leave: gradients are masked.",
    "transfer": "What breaks another training of the recipe breaks what this model's gradients leave: these are "
    "masked, or the attacks that follow them too short.",
    "surrogate_comparable": "What a worse model teaches says little of this one: let transfer train as many epochs as "
    "the recipe (epochs: null).",
    "shadows_comparable": "Trainings on as many rows differ by more than chance: take more epochs or smaller batches, "
    "so that each of them ends, or leave the scenario out of the pack.",
    "clean_accuracy_kept": "A backdoor that costs accuracy hides nothing: take more epochs or smaller batches, a "
    "smaller share, or leave the scenario out of the pack.",
    "bracket": "Proof and attack contradict each other: believe neither, and report both.",
    "single_step": "One step breaks what many leave: gradients mislead.",
}
"""What a failed check means, and what to do about it."""


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
    first: torch.Tensor
    """The inputs at which the first gradients were taken."""
    forwards: int

    def afford(self, part: str, cost: int) -> int:
        """Give how many points one check may look at, when each costs so many forwards."""
        return int(SHARES[part] * self.forwards / cost)


def run_checks(attack: Attack, case: Case, noise: Noise) -> tuple[Check, ...]:
    """Check one attack's run, for at most 30 % of the forwards that it took.

    The harness is checked for every attack; gradients and steps for attacks that use them.
    """
    checks = [
        _eval_mode(case), _logits(case), _output_varies(case), _bounds(case), _deterministic(case),
        _zero_epsilon(attack, case, noise),
    ]  # fmt: skip
    if attack.white_box:
        checks += [_gradients_not_zero(case), _gradients_finite(case), _loss_rises(attack, case, noise)]
        checks += [_single_step(attack, case), _unbounded(attack, case, noise), _converged(attack, case, noise)]
        checks += [_enumerated(attack, case)] if _bound(case) else []  # in place of no bounds, and on its budget
    return tuple(explain(check) for check in checks)


def explain(check: Check) -> Check:
    """Add to a failed check what it means and what to do."""
    if check.status != "failed":
        return check
    return check.model_copy(update={"reason": f"{check.reason}. {REMEDIES[check.name.split('[')[0]]}"})


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
    same = (again - first).abs().amax(1) <= 1e-4 * size  # and not its opposite: what is no number is not the same
    differs = ~same & first.isfinite().all(1)
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


def _loss_rises(attack: Attack, case: Case, noise: Noise) -> Check:
    name = "loss_rises"
    if attack.longer() is None:
        return skip(name, "a single step has no course")
    walked = (case.steps > 1) & case.free
    if isinstance(case.target.space, Table):
        return _beats_guessing(name, attack, case, torch.nonzero(walked).flatten(), noise)
    return _never(name, ~case.rose[walked], "the loss never rises", none="no point took two steps that could raise it")


def _beats_guessing(name: str, attack: Attack, case: Case, walked: torch.Tensor, noise: Noise) -> Check:
    """Hold the steps against one blind guess in the ball, for each point.

    Where few features of a row can move, a start may be the highest point of all, or a kink whose gradient leads
    nowhere: that the loss never rose is then no fault. A guess rises from such a start no more often.
    """
    rows = walked[: case.afford("guess", 2)]
    if len(rows) < FEWEST:
        return skip(name, f"steps or budget allow {len(rows)} points, {FEWEST} can be significant")
    space, first, y = case.target.space, case.first[rows], case.samples.y[rows]
    home = case.samples.x[rows]
    categories = space.columns("category") if isinstance(space, Table) else []
    home[:, categories] = first[:, categories]
    guess = Threat(norm=attack.norm, epsilon=attack.epsilon).start(
        home, case.samples.ids[rows], noise.derive("guess"), space
    )
    with torch.no_grad():
        before, after = (cross_entropy(y)(case.target.logits(x), torch.arange(len(y))) for x in (first, guess))
    luck, rose = (after > before).cpu().numpy(), case.rose[rows].cpu().numpy()
    return judge(name, luck & ~rose, rose & ~luck, "a blind guess raises the loss and the steps never, the reverse")


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


def _enumerated(attack: Attack, case: Case) -> Check:
    """Look at every combination of values in the ball: what one of them breaks, the attack should have broken."""
    name, space = "enumerated_optimum", case.target.space
    if isinstance(space, Box):
        return skip(name, "a ball of pixels cannot be enumerated")
    if attack.longer() is None:
        return skip(name, "a single step need not find the best of the ball")
    threat = Threat(norm=attack.norm, epsilon=attack.epsilon)
    axes = _axes(space, attack.epsilon)
    count = math.prod(len(axis) for axis in axes)
    if count == 1:
        return skip(name, "no number moves within epsilon")
    rows = torch.nonzero(case.right).flatten()[: case.afford("unbounded", count)]
    if len(rows) < FEWEST:
        return skip(name, f"{count} combinations a point: the budget allows {len(rows)}, {FEWEST} can be significant")
    x = case.samples.x[rows].repeat_interleave(count, 0)
    z = threat.project(x + torch.cartesian_prod(*axes).reshape(count, -1).to(x).repeat(len(rows), 1), x, space)
    breaks = case.target.predict(z) != case.samples.y[rows].repeat_interleave(count)
    missed = case.robust[rows] & (breaks & threat.holds(z, x, space)).reshape(len(rows), count).any(1)
    return _never(name, missed, f"one of {count} combinations breaks what the attack leaves", none="no point")


def _axes(space: Table, epsilon: float) -> list[torch.Tensor]:
    """Give for each feature up to nine moves (m,) within epsilon, 0 among them; only 0 for what cannot move."""
    axes = []
    for unit, feature in zip(space.scale(torch.device("cpu")).tolist(), space.features, strict=True):
        step = feature.step or epsilon * unit * 2 / (_MARKS - 1)
        reach = int(epsilon * unit / step + 1e-6) if step else 0
        marks = {round(mark) for mark in torch.linspace(-reach, reach, min(2 * reach + 1, _MARKS)).tolist()}
        axes.append(torch.tensor(sorted(marks)) * step)
    return axes


def _unbounded(attack: Attack, case: Case, noise: Noise) -> Check:
    name, space = "unbounded_reaches_zero", case.target.space
    if attack.longer() is None:
        return skip(name, "a single step need not find what lies far away")
    if reason := _bound(case):
        return skip(name, reason)
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
