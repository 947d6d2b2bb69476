"""TRADES: accuracy on the rows, and agreement with itself around them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, final

import torch
from pydantic import Field
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from holdfast.perturbation import Threat
from holdfast.training.ascent import Ascent, climb, stride_of, survivors
from holdfast.training.base import Recipe

if TYPE_CHECKING:
    from torch import Tensor, nn

    from holdfast.seeding import Noise
    from holdfast.space import Box, Table


@final
class Trades(Recipe):
    """Descend the cross-entropy of the rows plus ``beta`` times the divergence of attacked from clean answers.

    The attack climbs that divergence from a random start in the ball, in eval mode. Clean and attacked rows go
    through the network as one batch, so they share batch statistics; the authors' code passes them apart.
    """

    robust: ClassVar[bool] = True
    reference: ClassVar[str] = "Zhang et al. 2019, arXiv:1901.08573, eq. 5 and algorithm 1"

    epsilon: Annotated[float, Field(ge=0)] = 0.05
    """Radius in the space's units."""
    norm: Literal["linf", "l2"] = "linf"
    beta: Annotated[float, Field(ge=0)] = 6.0
    """Weight of agreement; the paper's 1 / lambda."""
    steps: Annotated[int, Field(gt=0)] = 10

    @property
    def threat(self) -> Threat:
        """The ball that training defends."""
        return Threat(norm=self.norm, epsilon=self.epsilon)

    def perturb(
        self, network: nn.Module, x: Tensor, y: Tensor, ids: Tensor, noise: Noise, space: Box | Table
    ) -> Tensor:
        """Attack each row (n, *shape) by the divergence of its answer from the clean one; labels play no part."""
        del y
        with torch.no_grad():
            clean = log_softmax(network(x), dim=1)
        ascent = Ascent(x, ids, noise, self.threat, space)
        return climb(
            network, ascent, self.steps, stride_of(self.epsilon, self.steps), lambda logits: divergence(clean, logits)
        )

    def loss(self, network: nn.Module, x: Tensor, perturbed: Tensor, y: Tensor) -> Tensor:
        """Give cross-entropy + beta * KL(clean || attacked) (n,) in nats."""
        clean, attacked = network(torch.cat([x, perturbed])).chunk(2)
        natural = cross_entropy(clean, y, reduction="none", label_smoothing=self.label_smoothing)
        return natural + self.beta * divergence(log_softmax(clean, dim=1), attacked)

    def validation_flags(
        self, network: nn.Module, x: Tensor, y: Tensor, ids: Tensor, noise: Noise, space: Box | Table
    ) -> Tensor:
        """Tell which rows (n,) survive ten-step PGD."""
        return survivors(network, x, y, ids, noise, space, self.threat)


def divergence(clean: Tensor, logits: Tensor) -> Tensor:
    """Give KL(clean || answer) (n,) in nats, from clean log-probabilities (n, classes) and the answer's logits."""
    return kl_div(log_softmax(logits, dim=1), clean, reduction="none", log_target=True).sum(1)
