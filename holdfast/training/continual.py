"""What every continual recipe is: a former model's training gone on with, on rows that it has not learned from."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch.nn.functional import cross_entropy

from holdfast.errors import DataError, ModelError
from holdfast.training.base import Recipe, whole_parts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from holdfast.data import Samples
    from holdfast.model import Target
    from holdfast.seeding import Noise
    from holdfast.space import Box, Table
    from holdfast.training.warm_start import Former


class ContinualRecipe(Recipe):
    """Begin from the champion's weights and descend the cross-entropy of fresh rows; the subclass keeps the old.

    Fresh are the training rows that the champion did not learn from. A subclass says which rows make a batch, what
    each parameter matters, or what else a batch costs. Rows are trained on as they are: a champion that was trained
    to withstand attacks is not kept so, which the gate sees.
    """

    reads_old: ClassVar[bool] = True
    """Whether it needs rows that the champion learned from."""

    def require(self, rows: Samples, former: Former | None) -> None:
        """Refuse a training that this recipe means nothing in.

        Raises:
            ModelError: there is no former model.
            DataError: no fresh rows, or none that it learned from where the recipe reads such.
        """
        if former is None:
            raise ModelError(
                f"training {self.name()}", found="no champion to go on from",
                expected="one whose weights it begins from",
                remedy="Name it under recovery.retraining.recipe; training.recipe takes one that begins afresh.",
            )  # fmt: skip
        known = former.knows(rows.ids)
        if bool(known.all()) or (self.reads_old and not bool(known.any())):
            told = "fresh rows" if bool(known.all()) else "rows that the champion learned from"
            raise DataError(
                f"training {self.name()}", found=f"no {told} among {len(rows)}", expected="some of both kinds",
                remedy="Admit windows, raise recovery.retraining.base_share, or retrain by another recipe.",
            )  # fmt: skip

    def batches(self, rows: Samples, learned: Tensor, noise: Noise, epoch: int) -> tuple[Tensor, ...]:
        """Cut the fresh rows into batches, in an order of the epoch's own."""
        del rows
        return whole_parts(torch.nonzero(~learned).flatten(), self.batch_size, noise.derive(epoch))

    def seen(self, rows: Samples, learned: Tensor, noise: Noise) -> Tensor:
        """Say that an epoch sees each fresh row once, and no other."""
        del rows, noise
        return (~learned).double()

    def importance(self, former: Target, known: Samples, noise: Noise) -> dict[str, Tensor]:
        """Say what each parameter matters to what was learned, by name and of its shape; nothing says none does.

        Args:
            former: the champion.
            known: training rows that it learned from.
            noise: to draw from, by row id.
        """
        del former, known, noise
        return {}

    def loss(self, network: nn.Module, x: Tensor, perturbed: Tensor, y: Tensor) -> Tensor:
        """Give the cross-entropy (n,) in nats."""
        del x
        return cross_entropy(network(perturbed), y, reduction="none", label_smoothing=self.label_smoothing)

    def loss_beside(self, former: nn.Module, network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Give the loss (n,) of each row of a batch beside the former model, which is frozen and in eval mode."""
        del former
        return self.loss(network, x, x, y)

    @torch.no_grad()
    def validation_flags(
        self, network: nn.Module, x: Tensor, y: Tensor, ids: Tensor, noise: Noise, space: Box | Table
    ) -> Tensor:
        """Tell which rows (n,) are right, of the old world and of the windows."""
        del ids, noise, space
        flags: Tensor = network(x).argmax(1) == y
        return flags


def weighted_distance(parameters: Mapping[str, Tensor], anchor: Mapping[str, tuple[Tensor, Tensor]]) -> Tensor:
    """Give half the weighted squared distance of parameters from an anchor: sum of importance / 2 (w - w*)^2.

    Args:
        parameters: by name.
        anchor: importance and former value of each parameter that has any, by name.

    Source: Kirkpatrick et al. 2017, arXiv:1612.00796, eq. 3.
    """
    parts = [(weight * (parameters[name] - former).square()).sum() for name, (weight, former) in anchor.items()]
    return 0.5 * torch.stack(parts).sum()
