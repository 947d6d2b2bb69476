"""What every privacy attack is: an attacker who holds a model and asks what its training rows were."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from holdfast.results import Check
from holdfast.scenarios.base import OnRecipe
from holdfast.scenarios.validity import explain
from holdfast.statistics import excess

if TYPE_CHECKING:
    import numpy as np


class Privacy(OnRecipe):
    """A question about what a recipe's models give away of their training rows.

    The model attacked is one that the recipe makes from a random half of the training rows, so that the other
    half are non-members of the same distribution; the champion itself is never asked.
    """

    dimension: ClassVar[Literal["defence"]] = "defence"
    family: ClassVar[str] = "privacy"

    epochs: Annotated[int, Field(gt=0)] | None = None
    """Epochs of each training; None takes the recipe's own, which is what leaks in production."""
    points: Annotated[int, Field(gt=0)] = 2000
    """Training rows at most whose membership is guessed."""


def comparable(target: np.ndarray, shadow: np.ndarray, threshold: float = 0.05) -> Check:
    """Check that a shadow, the nearest, has about the target's accuracy, from flags (n,) on the same test points.

    Where the two differ, the attack knows models of another kind, and its failure says nothing. Trainings
    differ by chance, hence the wider threshold.
    """
    worse, better = excess(target, shadow, threshold=threshold), excess(shadow, target, threshold=threshold)
    found = worse if worse.excess >= better.excess else better
    return explain(Check(
        name="shadows_comparable", status="failed" if found.fails else "passed", statistic=found.excess,
        threshold=threshold, p_value=found.p_value, reason="gap of test accuracy between nearest shadow and target",
    ))  # fmt: skip
