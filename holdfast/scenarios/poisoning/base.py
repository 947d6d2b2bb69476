"""What every poisoning is: an attacker who changes a share of the training rows, and the harm that comes of it."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, final

import numpy as np
import torch
from pydantic import Field

from holdfast.results import Check, Measure
from holdfast.scenarios.base import OnRecipe, Outcome, choose
from holdfast.scenarios.validity import explain
from holdfast.statistics import excess, seeds_share, share

if TYPE_CHECKING:
    from holdfast.data import Samples
    from holdfast.model import Target
    from holdfast.results import Score
    from holdfast.scenarios.base import Context
    from holdfast.seeding import Noise
    from holdfast.training.workshop import Workshop

COLLAPSE = 0.10
"""Clean accuracy lost to a backdoor above which it is damage in the open."""


@dataclass(frozen=True)
class Pair:
    """One repeat: the model of the clean rows and that of the poisoned ones, trained alike."""

    clean: Target
    poisoned: Target


class Poisoning(OnRecipe):
    """Train with and without the poison, from the same seed, and read both on the same test points.

    Validation rows stay clean: the attacker reaches training rows only. Nothing is tuned on the test trigger.
    With one seed the interval is Wilson's over test points and does not cover another training; with more it
    is Student's over seeds.
    """

    dimension: ClassVar[Literal["defence"]] = "defence"
    family: ClassVar[str] = "poisoning"
    quiet: ClassVar[bool]
    """Whether the poison should leave clean accuracy alone."""

    share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the training rows that the attacker changes."""
    epochs: Annotated[int, Field(gt=0)] = 8
    """Epochs of each training, instead of the recipe's own."""
    seeds: Annotated[int, Field(gt=0)] = 1
    """Trainings with other seeds and other poisoned rows."""
    points: Annotated[int, Field(gt=0)] = 1000
    """Test points at most."""

    @abstractmethod
    def poison(self, workshop: Workshop, noise: Noise) -> Samples:
        """Give the training rows as the attacker leaves them; ids stay."""

    @abstractmethod
    def survivors(self, model: Target, test: Samples, workshop: Workshop) -> tuple[torch.Tensor, torch.Tensor]:
        """Give flags bool (n,), whether each test row is answered without harm, and bool (n,), which rows count."""

    def hindrance(self, workshop: Workshop) -> str | None:
        """Say why this attacker can do nothing here; None when it can."""
        del workshop
        return None

    def harm(self, safe: np.ndarray, baseline: np.ndarray) -> tuple[Measure, ...]:
        """Give measures of the harm, from the flags of both models in all repeats."""
        del safe, baseline
        return ()

    @final
    def measure_recipe(self, workshop: Workshop, noise: Noise, context: Context) -> Outcome:
        """Train pairs of models, and read harm and clean accuracy."""
        test = choose(workshop.test.require("test"), self.points, context.seed).to(workshop.device)
        if reason := ("no test rows" if len(test) == 0 else self.hindrance(workshop)):
            return Outcome(score=None, unscored=reason)
        safe, unharmed, right, baseline = [], [], [], []
        for repeat in range(self.seeds):
            pair = self._train(workshop, noise.derive("repeat", repeat))
            flags, counted = self.survivors(pair.poisoned, test, workshop)
            if not counted.any():
                return Outcome(score=None, unscored="no test row that the attack is about")
            safe.append(flags[counted].cpu().numpy())
            unharmed.append(self.survivors(pair.clean, test, workshop)[0][counted].cpu().numpy())
            right.append((pair.poisoned.predict(test.x) == test.y).cpu().numpy())
            baseline.append((pair.clean.predict(test.x) == test.y).cpu().numpy())
        accuracy, clean = np.stack(right), np.stack(baseline)
        drop = float(clean.mean() - accuracy.mean())
        return Outcome(
            score=_score(np.stack(safe)),
            measures=(
                _measure("accuracy_poisoned", accuracy, "higher"),
                _measure("accuracy_clean_training", clean, "higher"),
                Measure(name="accuracy_drop", value=drop, unit="share", better="lower"),
                *self.harm(np.stack(safe), np.stack(unharmed)),
            ),
            checks=(self._learnt(workshop, test, clean[0]), self._hidden(accuracy[0], clean[0])),
            details={"poisoned_rows": round(self.share * len(workshop.train)), "seeds": self.seeds},
        )

    def _train(self, workshop: Workshop, noise: Noise) -> Pair:
        seed = noise.derive("training").generator().initial_seed()
        poisoned = workshop.fit(self.poison(workshop, noise), seed=seed, epochs=self.epochs)
        return Pair(workshop.fit(workshop.train, seed=seed, epochs=self.epochs), poisoned)

    def _learnt(self, workshop: Workshop, test: Samples, clean: np.ndarray) -> Check:
        """Harm to a model that learnt nothing is no harm: the clean training must not lose to a constant answer."""
        name = "clean_training_learnt"
        if workshop.recipe.balance_classes:
            return Check(name=name, status="not_applicable", reason="balanced classes trade accuracy for recall")
        most = int(torch.bincount(workshop.train.y).argmax())
        found = excess((test.y == most).cpu().numpy(), clean)
        return Check(
            name=name, status="failed" if found.fails else "passed", statistic=found.excess, threshold=0.02,
            p_value=found.p_value, reason="accuracy of the most frequent class above that of the clean training",
        )  # fmt: skip

    def _hidden(self, poisoned: np.ndarray, clean: np.ndarray) -> Check:
        name = "clean_accuracy_kept"
        if not self.quiet:
            return Check(name=name, status="not_applicable", reason="losing accuracy is the harm that is scored")
        found = excess(clean, poisoned, threshold=COLLAPSE)
        return explain(Check(
            name=name, status="failed" if found.fails else "passed", statistic=found.excess, threshold=COLLAPSE,
            p_value=found.p_value, reason="accuracy on clean points that the poisoned training lost",
        ))  # fmt: skip


def chosen(ids: torch.Tensor, eligible: torch.Tensor, count: int, noise: Noise) -> torch.Tensor:
    """Choose ``count`` of the eligible rows (n,), or all if fewer: bool (n,), by id and not by order."""
    rank = torch.where(eligible, noise.uniform(ids), 2.0)
    picked = torch.zeros_like(eligible)
    picked[torch.argsort(rank, stable=True)[:count]] = True
    return picked & eligible


def _score(flags: np.ndarray) -> Score:
    """Score flags (seeds, points); what one training alone says is called so: other seeds may differ by more."""
    if len(flags) > 1:
        return seeds_share(flags.mean(axis=1))
    return share(flags[0]).model_copy(update={"method": "wilson_one_training"})


def _measure(name: str, flags: np.ndarray, better: Literal["higher", "lower"]) -> Measure:
    score = _score(flags)
    return Measure(
        name=name, value=score.value, unit="share", better=better, low=score.low, high=score.high, n=score.n,
        method=score.method,
    )  # fmt: skip


def rate(name: str, flags: np.ndarray) -> Measure:
    """Measure the share of true flags (seeds, points), lower being safer."""
    return _measure(name, flags, "lower")
