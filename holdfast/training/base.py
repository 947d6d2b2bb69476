"""What every recipe is: settings of the loop, and the loss that it descends."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from holdfast.results import Value

if TYPE_CHECKING:
    from torch import Tensor, nn

    from holdfast.seeding import Noise
    from holdfast.space import Box, Table


class Recipe(Value):
    """Settings that every recipe has; the subclass adds its own and proposes the loss of one batch."""

    reference: ClassVar[str]
    kinds: ClassVar[frozenset[str]] = frozenset({"box", "table"})

    epochs: Annotated[int, Field(gt=0)] = 15
    batch_size: Annotated[int, Field(gt=0)] = 128
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    balance_classes: bool = False
    """Weight each class by the inverse of its share of the training rows."""
    augment: bool = False
    """Images: random shifts by up to two pixels and mirroring."""
    patience: Annotated[int, Field(gt=0)] | None = None
    """Stop after this many epochs without a better validation value; None trains them all and keeps the best."""
    precision: str = "32-true"
    """Lightning Fabric's name of the arithmetic: ``32-true``, or ``bf16-mixed`` where the device is fast at it."""

    @classmethod
    def name(cls) -> str:
        """Give the name in params: the file's."""
        return cls.__module__.rsplit(".", 1)[-1]

    @abstractmethod
    def loss(self, network: nn.Module, x: Tensor, y: Tensor, ids: Tensor, noise: Noise, space: Box | Table) -> Tensor:
        """Give the loss (n,) of each row of one batch; draw only from ``noise``."""

    @abstractmethod
    def validation_flags(
        self, network: nn.Module, x: Tensor, y: Tensor, ids: Tensor, noise: Noise, space: Box | Table
    ) -> Tensor:
        """Give bool (n,): which validation rows count as right; for robust recipes, right under a fixed attack."""
