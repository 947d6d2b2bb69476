"""What a training refuses before it begins: rows, recipes and models that do not belong together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from holdfast.errors import DataError, ModelError
from holdfast.model import check_network
from holdfast.training.continual import ContinualRecipe

if TYPE_CHECKING:
    from holdfast.data import Samples
    from holdfast.model import ModelSpec
    from holdfast.training.base import Recipe
    from holdfast.training.warm_start import Former


_ASKED = 3
"""Rows that a fresh network is asked about: batch normalisation needs two, and no size in use is three."""


def check(recipe: Recipe, spec: ModelSpec, train: Samples, validation: Samples, former: Former | None) -> None:
    """Hold recipe, model, rows and the former model against each other.

    Raises:
        DataError: no rows, labels outside the classes, or no rows of the kind that the recipe lives on.
        ModelError: the recipe does not fit the input space or needs a former model, that is another network, or the
            network gives no logits of these classes.
    """
    _check_rows(recipe, spec, train, validation)
    check_network(spec, train.x[torch.arange(_ASKED) % len(train)].cpu())
    if isinstance(recipe, ContinualRecipe):
        recipe.require(train, former)
    if former is not None and former.target.spec != spec:
        raise ModelError(
            "training", found="a former model of another description", expected="one that the training's own fits",
            remedy="Give the former model through warm_start.inherit, and train its description.",
        )  # fmt: skip


def _check_rows(recipe: Recipe, spec: ModelSpec, train: Samples, validation: Samples) -> None:
    if spec.space.kind not in recipe.kinds or (recipe.augment and spec.space.kind != "box"):
        wish = f"recipe {recipe.name()}" + (" with augment" if recipe.augment else "")
        raise ModelError(
            "training", found=f"{wish} on a {spec.space.kind} space", expected="a recipe that is defined there",
            remedy="Set augment to false for tables, or choose another recipe.",
        )  # fmt: skip
    for samples in (train, validation):
        if len(samples) == 0:
            raise DataError(
                f"snapshot {samples.snapshot[:16]}", found=f"no {samples.role} rows", expected="one at least",
                remedy="Give the role a share of the data.",
            )  # fmt: skip
        if samples.y.min() < 0 or samples.y.max() >= len(spec.classes):
            raise DataError(
                f"snapshot {samples.snapshot[:16]}",
                found=f"{samples.role} labels from {int(samples.y.min())} to {int(samples.y.max())}",
                expected=f"0 to {len(spec.classes) - 1}",
                remedy="Name every class of the data in the model description.",
            )
