"""What every recipe is: settings of the loop, the inputs it trains on, and the loss that it descends."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from pydantic import Field

from holdfast.results import Value

if TYPE_CHECKING:
    from torch import Tensor, nn

    from holdfast.data import Samples
    from holdfast.seeding import Noise
    from holdfast.space import Box, Table


class Recipe(Value):
    """Settings that every recipe has; the subclass adds its own and proposes the loss of one batch."""

    reference: ClassVar[str]
    kinds: ClassVar[frozenset[str]] = frozenset({"box", "table"})
    robust: ClassVar[bool] = False
    """Whether validation rows are read under attack."""

    epochs: Annotated[int, Field(gt=0)] = 15
    batch_size: Annotated[int, Field(gt=0)] = 128
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Peak of the one-cycle schedule."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of each label spread evenly over the classes."""
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of the exponential moving average of the weights, which is then the model; 0 keeps the weights."""
    balance_classes: bool = False
    """Weight each class by the inverse of its share of the rows that an epoch sees; validate by balanced accuracy."""
    augment: bool = False
    """Images: random shifts by up to two pixels and mirroring."""
    patience: Annotated[int, Field(gt=0)] | None = None
    """Stop after this many epochs without a better validation value; None trains them all and keeps the best."""
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    """Lightning Fabric's name of the arithmetic: ``bf16-mixed`` where the device is fast at it."""

    @classmethod
    def name(cls) -> str:
        """Give the name in params: the file's."""
        return cls.__module__.rsplit(".", 1)[-1]

    @property
    def measure(self) -> str:
        """Say what the validation value of an epoch is."""
        share = "balanced accuracy" if self.balance_classes else "accuracy"
        return f"{share} under attack" if self.robust else share

    def batches(self, rows: Samples, learned: Tensor, noise: Noise, epoch: int) -> tuple[Tensor, ...]:
        """Cut one epoch's rows into batches of row numbers: all rows, in an order of the epoch's own.

        Args:
            rows: the training rows.
            learned: rows (n,) bool that a former model learned from; where there is none, no row.
            noise: to draw from; it is the same in every epoch.
            epoch: from 1; every epoch has equally many batches.
        """
        del learned
        return whole_parts(torch.arange(len(rows)), self.batch_size, noise.derive(epoch))

    def seen(self, rows: Samples, learned: Tensor, noise: Noise) -> Tensor:
        """Say how often an epoch sees each row (n,) float64, in the mean over all epochs: by these classes are weighed.

        Args:
            rows: the training rows.
            learned: rows (n,) bool that a former model learned from.
            noise: as `batches` gets it.
        """
        del learned, noise
        return torch.ones(len(rows), dtype=torch.float64)

    def perturb(
        self, network: nn.Module, x: Tensor, y: Tensor, ids: Tensor, noise: Noise, space: Box | Table
    ) -> Tensor:
        """Give the inputs (n, *shape) to train on beside ``x``: ``x`` itself, unless the recipe is robust.

        The loop calls it with the network in eval mode and its weights frozen, so an attack costs no weight
        gradients and moves no batch statistics; draw only from ``noise``.
        """
        del network, y, ids, noise, space
        return x

    @abstractmethod
    def loss(self, network: nn.Module, x: Tensor, perturbed: Tensor, y: Tensor) -> Tensor:
        """Give the loss (n,) of each row of one batch; the network is in training mode."""

    @abstractmethod
    def validation_flags(
        self, network: nn.Module, x: Tensor, y: Tensor, ids: Tensor, noise: Noise, space: Box | Table
    ) -> Tensor:
        """Give bool (n,): which validation rows count as right; for robust recipes, right under a fixed attack.

        The network is in eval mode and frozen; draw only from ``noise``.
        """


def whole_parts(index: Tensor, size: int, noise: Noise) -> tuple[Tensor, ...]:
    """Cut row numbers (n,), in a random order, into batches of nearly one size: the nearest to ``size`` that fits.

    A small tail would have noisy gradients and batch statistics.
    """
    order = index[torch.randperm(len(index), generator=noise.generator())]
    return torch.tensor_split(order, max(1, round(len(index) / size)))
