"""What every scenario is: frozen settings, a question about a model or a recipe, a finding that knows its origin."""

from __future__ import annotations

import time
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, final

import torch
from pydantic import Field

from holdfast.digests import digest_json, library_digest, library_versions
from holdfast.registry import code_of
from holdfast.results import (
    Check,
    Cost,
    Curve,
    Dimension,
    Finding,
    Measure,
    PerExample,
    Provenance,
    Role,
    Score,
    Value,
)
from holdfast.seeding import Noise

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from holdfast.data import Samples
    from holdfast.model import Target
    from holdfast.training.workshop import Workshop


@dataclass(frozen=True)
class Outcome:
    """What a family's measurement gives; ``run`` adds where it came from."""

    score: Score | None
    unscored: str | None = None
    measures: tuple[Measure, ...] = ()
    curves: tuple[Curve, ...] = ()
    slices: dict[str, Score] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()
    per_example: PerExample | None = None
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Context:
    """What a finding must say of its origin and the scenario cannot know."""

    seed: int
    code: str = ""
    """Digest of the user's model module; empty for Holdfast's own."""
    revision: str = "none"
    """Git revision of the working copy."""
    metric: str = "accuracy"
    """The user's metric, for quality; robust accuracy is by definition a share of points."""
    costs: tuple[tuple[float, ...], ...] | None = None
    """Cost matrix, where the metric is expected cost."""
    workshop: Workshop | None = None
    """Where a scenario about a model can train others; None for those that train nothing."""
    successes: Callable[[Samples, Tensor], None] | None = None
    """Hears what an attack broke: the points, and the inputs (n, *shape) that the model is wrong about."""
    under_way: Path | None = None
    """Folder of this very question, where an attack keeps the shards that are done; None: a kill costs all of them."""

    def origin(self, subject: str, data: str, role: Role, device: str) -> Provenance:
        """Say where a finding about this subject, on these data, comes from."""
        metric = self.metric if self.costs is None else f"{self.metric} {digest_json(self.costs)}"
        return Provenance(
            subject=subject, data=data, role=role, seed=self.seed, metric=metric, library=library_digest(),
            code=self.code, revision=self.revision, versions=library_versions(), device=device,
        )  # fmt: skip


class Scenario(Value):
    """Settings with defaults and ranges; abstract or final, nothing between."""

    dimension: ClassVar[Dimension]
    family: ClassVar[str]
    reference: ClassVar[str]
    """The paper, with its equation or section, that defines it."""
    kinds: ClassVar[frozenset[str]] = frozenset({"box", "table"})
    """Kinds of input space where it means something."""
    headline: ClassVar[bool] = True
    """Whether its score counts in its dimension."""
    trains: ClassVar[bool] = False
    """Whether it trains models: the gate retrains nothing, so such a scenario compares no versions."""

    @classmethod
    def name(cls) -> str:
        """Give the path that names this scenario everywhere, for example ``attacks/pgd``."""
        family, stem = cls.__module__.split(".")[-2:]
        return f"{family}/{stem}"

    @property
    def settings(self) -> dict[str, Any]:
        """All settings, defaults included: what the finding states and its key depends on."""
        return self.model_dump(mode="json")

    def code(self) -> str:
        """Name the code beside Holdfast's own that its result depends on; empty where there is none."""
        return code_of(type(self))

    @final
    def origin(self, context: Context, subject: str, data: str, role: Role, device: str) -> Provenance:
        """Say where a finding of this scenario comes from: the context, a third party's code, what it trains with."""
        found = context.origin(subject, data, role, device)
        if self.trains and context.workshop is not None:
            found = found.model_copy(update={"recipe": context.workshop.digest})
        own = self.code()
        return found.model_copy(update={"code": digest_json([found.code, own])}) if own else found

    def _finding(self, path: str, outcome: Outcome, provenance: Provenance, cost: Cost) -> Finding:
        return Finding(
            path=path, dimension=self.dimension, family=self.family, settings=self.settings, provenance=provenance,
            score=outcome.score, unscored=outcome.unscored, measures=outcome.measures, curves=outcome.curves,
            slices=outcome.slices, checks=outcome.checks, per_example=outcome.per_example,
            details=outcome.details, cost=cost,
        )  # fmt: skip


class OnModel(Scenario):
    """A question about one model and data it has not seen."""

    period: ClassVar[Literal["training", "later"]] = "training"
    """Which test rows it reads: those of the training period, or those from after it."""
    points: Annotated[int, Field(gt=0)] = 1000
    """Test points at most: a seeded choice, the same for every scenario and batch size."""

    @abstractmethod
    def measure(self, target: Target, samples: Samples, noise: Noise, context: Context) -> Outcome:
        """Measure on the chosen points; draw only from ``noise``; leave model and samples untouched."""

    @final
    def run(self, target: Target, samples: Samples, context: Context, path: str | None = None) -> Finding:
        """Answer for one model on rows of one role.

        Args:
            target: the model; its weights, mode and buffers come back untouched.
            samples: rows of role ``test`` (scorecard) or ``gate`` (comparison).
            context: seed and origin, and a workshop where the scenario trains.
            path: the name in params, where it carries a ``-variant``.

        Raises:
            RoleError: the rows hold another role.
            ScenarioError: the scenario broke its own contract.
        """
        path = path or self.name()
        samples = choose(samples.require("test", "gate"), self.points, context.seed).to(target.device)
        provenance = self.origin(context, target.digest, samples.snapshot, samples.role, target.device.type)
        reason = self.inapplicable(target, samples)
        if reason is None and self.trains and context.workshop is None:
            reason = "no rows and no recipe were given to train with"
        if reason:
            return self._finding(path, Outcome(score=None, unscored=reason), provenance, Cost())
        started, forwards, backwards = time.perf_counter(), target.forwards, target.backwards
        outcome = self.measure(target, samples, Noise(context.seed, (self.name(),)), context)
        cost = Cost(
            seconds=time.perf_counter() - started,
            forwards=target.forwards - forwards,
            backwards=target.backwards - backwards,
        )
        return self._finding(path, outcome, provenance, cost)

    def inapplicable(self, target: Target, samples: Samples) -> str | None:
        """Say why this scenario means nothing here; None when it applies."""
        if target.space.kind not in self.kinds:
            return f"not defined on a {target.space.kind} space"
        if len(samples) == 0:
            return f"no {samples.role} rows of the {self.period} period"
        return None


class OnRecipe(Scenario):
    """A question about a training recipe and its data: it trains, and belongs to (recipe, data, code)."""

    trains: ClassVar[bool] = True

    @abstractmethod
    def measure_recipe(self, workshop: Workshop, noise: Noise, context: Context) -> Outcome:
        """Train through the workshop and measure; draw only from ``noise``."""

    @final
    def run(self, workshop: Workshop, context: Context, path: str | None = None) -> Finding:
        """Answer for one recipe on one snapshot.

        Raises:
            ScenarioError: the scenario broke its own contract.
        """
        path = path or self.name()
        provenance = self.origin(context, workshop.digest, workshop.train.snapshot, "test", workshop.device.type)
        if workshop.spec.space.kind not in self.kinds:
            reason = f"not defined on a {workshop.spec.space.kind} space"
            return self._finding(path, Outcome(score=None, unscored=reason), provenance, Cost())
        started = time.perf_counter()
        outcome = self.measure_recipe(workshop, Noise(context.seed, (self.name(),)), context)
        return self._finding(path, outcome, provenance, Cost(seconds=time.perf_counter() - started))


def choose(samples: Samples, points: int, seed: int) -> Samples:
    """Choose at most ``points`` rows by a seeded order of their ids: the same rows whatever order they come in."""
    rank = Noise(seed, ("points",)).uniform(samples.ids)
    # Ties, and rows that repeat, are broken by id; their order among themselves cannot matter.
    order = torch.argsort(samples.ids, stable=True)
    order = order[torch.argsort(rank[order], stable=True)]
    return samples.take(order[:points])
