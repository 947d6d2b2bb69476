"""What every attack is: the base measures, the subclass proposes."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self, final

import torch
from pydantic import Field

from holdfast.errors import ScenarioError
from holdfast.perturbation import Threat
from holdfast.results import Curve, CurvePoint, Dimension, Measure, PerExample, Score, Share
from holdfast.scenarios.attacks._batch import BOOKS, Batch
from holdfast.scenarios.attacks._exhibits import against_queries, confusion, pairs
from holdfast.scenarios.attacks._reach import immovable
from holdfast.scenarios.attacks._shards import POINTS, Kept, Shard, Strike, joined, passes
from holdfast.scenarios.attacks._surrogate import testify
from holdfast.scenarios.attacks._swaps import candidates, changed, greedy_swaps
from holdfast.scenarios.base import Context, OnModel, Outcome
from holdfast.scenarios.validity import Case, run_checks
from holdfast.space import Box, Table
from holdfast.statistics import decided, sequential_share, share

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.data import Samples
    from holdfast.model import Target
    from holdfast.seeding import Noise

_SHARD = 1 << 26
"""Elements of input attacked at a time: bounds memory, and by the laws changes no result."""


_CURVE_SHARE = 5
"""A curve looks at one point in five at most."""


class Attack(OnModel):
    """Robust accuracy under one attack: the share of all points right when clean and right under attack.

    Points wrong when clean are not attacked and count as not robust. Proposals are projected into the threat and
    the space and verified there; what the model then predicts decides. The score is an upper bound.
    """

    dimension: ClassVar[Dimension] = "defence"
    family: ClassVar[str] = "evasion"
    white_box: ClassVar[bool] = True
    """Whether it follows the model's own gradients."""
    counts_queries: ClassVar[bool] = False
    """Whether it is bought with answers alone, so that its finding says what each number of them breaks."""
    curve_points: ClassVar[int] = 0
    """Points of the curve over epsilon; 0 where that would cost too much."""

    norm: Literal["linf", "l2"] = "linf"
    epsilon: Annotated[float, Field(ge=0.0)] = 0.05
    """Radius in the space's units: pixel values for images, for tables each feature's unit: its training IQR."""
    categories: Annotated[int, Field(ge=0)] = 0
    """Tables: how many mutable categorical features may change beside the numbers."""
    until: Share | None = None
    """A floor: once the points that were drawn decide it for all of them, the others are not attacked."""
    error: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.01
    """Chance at most that what was decided so is not what all points would say."""

    @property
    @abstractmethod
    def most_forwards(self) -> int:
        """Forwards of one point at most; the validity record is cut to a share of it."""

    @abstractmethod
    def perturb(self, batch: Batch, noise: Noise) -> Tensor:
        """Propose one row for each point (n, *shape); draw only from ``noise``, by example id.

        What ``batch.gradient`` and ``batch.query`` see is booked; points that they broke have left.
        """

    def longer(self) -> Self | None:
        """Give the same attack with more steps, for the convergence check; None where steps mean nothing."""
        return None

    def lighter(self) -> Self:
        """Give the cheapest form of this attack that must still succeed where no radius binds it."""
        return self

    def bring(self, target: Target, noise: Noise, context: Context) -> Target | None:  # noqa: ARG002  for those that do
        """Make the surrogate that the attacker brings along; None for attacks that know only the target."""
        return None

    @property
    def access(self) -> str:
        """What it knows of the target, where it brings no surrogate: attacks that know less may convict others."""
        return "white_box" if self.white_box else "black_box"

    @final
    def point_cost(self, target: Target) -> int:
        """Forwards of one point at most, swaps of categories and the final look included."""
        return self.most_forwards + self._swaps(target) + 1

    def _swaps(self, target: Target) -> int:
        """Count the forwards of one point at most that a search of its categories takes."""
        space = target.space
        return len(candidates(space)) * self.categories + 1 if isinstance(space, Table) and self.categories else 0

    def inapplicable(self, target: Target, samples: Samples) -> str | None:
        """Say why this attack means nothing here: no feature that an attacker can move."""
        if (reason := super().inapplicable(target, samples)) or isinstance(target.space, Box):
            return reason
        if _moves_numbers(target) or (self.categories and target.space.columns("category", mutable=True)):
            return None
        return "no feature of the table is mutable: params name none that this attack can move"

    @final
    def measure(self, target: Target, samples: Samples, noise: Noise, context: Context) -> Outcome:
        """Attack every point that is right when clean, and say what held."""
        population, started = len(samples), target.forwards
        surrogate = self.bring(target, noise.derive("surrogate"), context)
        logits, right, strike = joined(self._shards(target, samples, noise, surrogate, Kept(context.under_way)))
        samples = samples.take(torch.arange(len(right), device=samples.x.device))
        clean, spent = _predicted(logits), target.forwards - started
        if context.successes is not None and bool((broke := right & ~strike.robust).any()):
            context.successes(samples.take(broke), strike.adversarial[broke])
        case = Case(
            target=target, samples=samples, logits=logits, right=right, robust=strike.robust, flat=strike.flat,
            wild=strike.wild, rose=strike.rose, steps=strike.steps, free=strike.free, first=strike.first,
            forwards=spent,
        )  # fmt: skip
        checks = run_checks(self, case, noise.derive("validity"))
        checked = target.forwards - started - spent
        brought = None if surrogate is None else testify(surrogate, samples, right, strike.adversarial)
        curves = self._curves(target, samples, right, strike.robust, noise)
        if self.counts_queries:
            curves += (against_queries(strike, self.point_cost(target) - 1),)
        flags = strike.robust.cpu().numpy()
        predicted = torch.where(right, strike.predicted, clean)
        return Outcome(
            score=sequential_share(flags, population, self.error, kind="upper_bound"),
            measures=(*_measures(right, strike.robust), *(brought.measures if brought else ())),
            curves=curves,
            slices=_by_class(target.classes, samples.y, strike.robust),
            checks=(*checks, *(brought.checks if brought else ())),
            per_example=PerExample.pack(samples.ids.cpu().numpy(), flags, samples.y.cpu().numpy()),
            details={
                "access": "transfer" if brought else self.access,
                "single_step": self.white_box and self.longer() is None,
                "classes": list(target.classes),
                "confusion": confusion(samples.y, clean, predicted, len(target.classes)),
                "examples": pairs(target, samples, strike.adversarial, predicted, right & ~strike.robust),
                "attacked": int(right.sum()),
                "immovable": immovable(
                    target.space, Threat(norm=self.norm, epsilon=self.epsilon), samples.x, self.categories
                ),
                "forwards": {
                    "attack": spent, "checks": checked, "curve": target.forwards - started - spent - checked,
                },
                "most_forwards_per_point": self.most_forwards,
                **({"drawn_of": population} if self.until is not None else {}),
                **({"surrogate": brought.details} if brought else {}),
            },
        )  # fmt: skip

    def _shards(
        self, target: Target, samples: Samples, noise: Noise, surrogate: Target | None, kept: Kept
    ) -> list[Shard]:
        """Attack shard by shard, in the order of the rows, which is a seeded draw; stop where the floor is decided."""
        models = [target] if surrogate is None else [target, surrogate]
        done: list[Shard] = []
        held = drawn = 0
        for part in map(samples.take, torch.split(torch.arange(len(samples), device=samples.x.device), POINTS)):
            if (shard := kept.get(part)) is None:
                shard = self._shard(models, part, noise)
                kept.put(part, shard)
            else:
                for model, (forwards, backwards) in zip(models, shard.passes, strict=True):
                    model.forwards, model.backwards = model.forwards + forwards, model.backwards + backwards
            done.append(shard)
            held, drawn = held + int(shard.strike.robust.sum()), drawn + len(part)
            if self.until is not None and decided(held, drawn, len(samples), self.until, self.error) is not None:
                break
        return done

    def _shard(self, models: list[Target], samples: Samples, noise: Noise) -> Shard:
        target, before = models[0], passes(models)
        with torch.no_grad():
            logits = target.logits(samples.x)
        right = _predicted(logits) == samples.y
        strike = self.strike(target, samples, right, noise, *models[1:])
        spent = ((f - g, b - c) for (f, b), (g, c) in zip(passes(models), before, strict=True))
        return Shard(logits=logits, right=right, strike=strike, passes=tuple(spent))

    def strike(
        self, target: Target, samples: Samples, attacked: Tensor, noise: Noise, surrogate: Target | None = None
    ) -> Strike:
        """Attack the points of one mask (n,) and verify what was proposed.

        Raises:
            ScenarioError: a proposal is not finite, has another shape, or cannot be brought into the threat.
        """
        x, n = samples.x, len(samples)
        adversarial, first, predicted = x.clone(), x.clone(), torch.full_like(samples.y, -1)
        flags = {name: torch.zeros(n, dtype=torch.bool, device=x.device) for name in ("free", *BOOKS)}
        steps, asked = torch.zeros_like(samples.y), torch.zeros_like(samples.y)
        size = max(_SHARD // max(x[0].numel(), 1), 1) if n else 1
        live = torch.nonzero(attacked).flatten()
        for start in range(0, len(live), size):
            rows = live[start : start + size]
            batch = self._attack(target, samples.take(rows), noise, surrogate)
            adversarial[rows], first[rows] = batch.adversarial, batch.first
            predicted[rows] = target.predict(batch.adversarial)
            steps[rows], asked[rows] = batch.steps, batch.asked
            flags["free"][rows] = batch.free()
            for name in BOOKS:
                flags[name][rows] = getattr(batch, name)
        robust = attacked & (predicted == samples.y)
        return Strike(
            adversarial=adversarial, first=first, predicted=predicted, robust=robust, steps=steps, asked=asked, **flags
        )

    def _attack(self, target: Target, samples: Samples, noise: Noise, surrogate: Target | None) -> Batch:
        """Swap categories, then propose; the batch comes back with verified rows in ``adversarial``."""
        threat = Threat(norm=self.norm, epsilon=self.epsilon)
        origin, broken = samples.x, torch.zeros_like(samples.y, dtype=torch.bool)
        if isinstance(target.space, Table) and self.categories:
            own = surrogate is None
            origin, broken = greedy_swaps(
                surrogate or target, target.space, samples.x, samples.y, self.categories, eager=own
            )
            broken &= own  # what breaks a surrogate is yet to be tried
        everything = Batch(target, threat, samples.x, samples.y, samples.ids, origin=origin, categories=self.categories)
        everything.broken |= broken
        live = torch.nonzero(~broken).flatten()
        if len(live) and (_moves_numbers(target) or not self.white_box):
            part = Batch(
                target, threat, samples.x[live], samples.y[live], samples.ids[live],
                origin=origin[live], categories=self.categories, surrogate=surrogate,
            )  # fmt: skip
            everything.adversarial[live] = self._verified(part, self.perturb(part, noise))
            for name in (*BOOKS, "steps", "asked", "first"):
                getattr(everything, name)[live] = getattr(part, name)
        everything.asked += self._swaps(target)  # in full, though a swap that breaks a point ends its search
        return everything

    def _verified(self, batch: Batch, proposed: Tensor) -> Tensor:
        """Bring proposals into the threat and the space, and prove that they are there."""
        missing = batch.x.isnan()
        if proposed.shape != batch.x.shape or bool((~proposed.isfinite() & ~missing).any()):
            raise ScenarioError(
                self.name(),
                found=f"a proposal of shape {tuple(proposed.shape)} with values that are not finite"
                if proposed.shape == batch.x.shape
                else f"a proposal of shape {tuple(proposed.shape)}",
                expected=f"finite rows of shape {tuple(batch.x.shape)}",
                remedy="Mend the attack: it must propose inputs.",
            )
        proposed = batch.bring_in(proposed.detach())
        outside = ~batch.threat.holds(proposed, batch.x, batch.space)
        if isinstance(batch.space, Table):
            outside |= changed(proposed, batch.x, batch.space).sum(1) > self.categories
        if bool(outside.any()):
            raise ScenarioError(
                self.name(),
                found=f"{int(outside.sum())} rows outside the threat after projection",
                expected=f"every row within {self.norm} {self.epsilon:g} of its origin, and possible",
                remedy="Mend the space's projection: it must be feasible whatever is proposed.",
            )
        return proposed

    def _curves(
        self, target: Target, samples: Samples, right: Tensor, robust: Tensor, noise: Noise
    ) -> tuple[Curve, ...]:
        """Measure at 0, a quarter and a half of epsilon on some points; what a smaller ball breaks stays broken."""
        some = min(self.curve_points, len(samples) // _CURVE_SHARE)
        if some == 0 or self.epsilon == 0:
            return ()
        few = samples.take(torch.arange(some, device=samples.x.device))
        held, points = right[:some], [(0.0, right[:some])]
        for part in (0.25, 0.5):
            weaker = self.model_copy(update={"epsilon": part * self.epsilon})
            held = weaker.strike(target, few, held, noise.derive("curve", part)).robust
            points.append((part * self.epsilon, held))
        points.append((self.epsilon, held & robust[:some]))
        scores = tuple(CurvePoint(at=at, score=_score(flags)) for at, flags in points)
        return (Curve(name="robust accuracy", axis=f"epsilon ({self.norm})", points=scores),)


def _predicted(logits: Tensor) -> Tensor:
    """Give the class indices (n,) of logits; -1, which is never right, where one is not finite."""
    return torch.where(logits.isfinite().all(1), logits.argmax(1), -1)


def _moves_numbers(target: Target) -> bool:
    return bool((target.space.scale(target.device) > 0).any())


def _score(flags: Tensor) -> Score:
    return share(flags.cpu().numpy(), kind="upper_bound")


def _measures(right: Tensor, robust: Tensor) -> tuple[Measure, ...]:
    clean = share(right.cpu().numpy())
    found = [
        Measure(
            name="clean_accuracy", value=clean.value, unit="share", better="higher",
            low=clean.low, high=clean.high, n=clean.n, method=clean.method,
        )
    ]  # fmt: skip
    if bool(right.any()):
        broken = share((~robust)[right].cpu().numpy())
        found.append(
            Measure(
                name="attack_success_rate", value=broken.value, unit="share", better="lower",
                low=broken.low, high=broken.high, n=broken.n, method=broken.method,
            )
        )  # fmt: skip
    return tuple(found)


def _by_class(classes: tuple[str, ...], y: Tensor, robust: Tensor) -> dict[str, Score]:
    return {f"class={name}": _score(robust[y == code]) for code, name in enumerate(classes) if bool((y == code).any())}
