"""What a recipe scenario may train with: the user's recipe, model description and rows, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdfast.digests import digest_json
from holdfast.registry import code_of
from holdfast.training.loop import fit

if TYPE_CHECKING:
    import torch

    from holdfast.data import Samples
    from holdfast.model import ModelSpec, Target
    from holdfast.training.base import Recipe


@dataclass(frozen=True)
class Workshop:
    """A place to train copies of the user's model through the one loop, on other rows or another seed."""

    recipe: Recipe
    spec: ModelSpec
    train: Samples
    validation: Samples
    test: Samples
    device: torch.device

    @property
    def digest(self) -> str:
        """Name the recipe and the model description: what findings about recipes belong to."""
        return recipe_digest(self.recipe, self.spec)

    def fit(self, train: Samples, *, seed: int, epochs: int | None = None) -> Target:
        """Train one copy on these rows, as the pipeline would, for ``epochs`` where given; no checkpoints."""
        recipe = self.recipe if epochs is None else self.recipe.model_copy(update={"epochs": epochs})
        return fit(recipe, self.spec, train, self.validation, seed=seed, device=self.device).target


def recipe_digest(recipe: Recipe, spec: ModelSpec, former: str = "") -> str:
    """Name a recipe with the model description that it trains: settings, third-party code, network, space, classes.

    Args:
        recipe: settings and loss.
        spec: what it trains.
        former: digest of the model whose weights it begins from; empty for fresh ones.
    """
    own = [recipe.name(), recipe.model_dump(mode="json"), code_of(type(recipe))]
    return digest_json([*own, spec.model_dump(mode="json"), *([former] if former else [])])
