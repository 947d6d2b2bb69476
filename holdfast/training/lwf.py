"""Learning without forgetting: on fresh rows, the champion's own answers are kept beside the labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, final

import torch
from pydantic import Field
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from holdfast.training.continual import ContinualRecipe

if TYPE_CHECKING:
    from torch import Tensor, nn


@final
class Lwf(ContinualRecipe):
    """Descend the cross-entropy of fresh rows plus ``strength`` times the divergence from the champion's answers.

    No old row is read: what the champion says of fresh rows stands for what it knew. Both answers are softened by
    the temperature. The divergence is the paper's cross-entropy less a constant, so that agreement costs nothing.
    Where classes are balanced, a row's divergence weighs as its cross-entropy does.
    """

    reference: ClassVar[str] = "Li and Hoiem 2016, arXiv:1606.09282, eq. 1 to 3; Hinton et al. 2015, arXiv:1503.02531"
    reads_old: ClassVar[bool] = False

    strength: Annotated[float, Field(ge=0)] = 1.0
    """The paper's lambda."""
    temperature: Annotated[float, Field(gt=0)] = 2.0

    def loss_beside(self, former: nn.Module, network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Give cross-entropy + strength * KL(champion || network), softened (n,), in nats."""
        logits = network(x)
        with torch.no_grad():
            before = former(x)
        own = cross_entropy(logits, y, reduction="none", label_smoothing=self.label_smoothing)
        return own + self.strength * distilled(before, logits, self.temperature)


def distilled(before: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """Give KL(former || network) (n,) of answers (n, classes) whose logits are divided by the temperature."""
    aim, told = log_softmax(before / temperature, dim=1), log_softmax(logits / temperature, dim=1)
    return kl_div(told, aim, reduction="none", log_target=True).sum(1)
