"""Adversarial training: cross-entropy at inputs that an attacker chose, by fast FGSM or PGD."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, final

from pydantic import Field
from torch.nn.functional import cross_entropy

from holdfast.perturbation import Threat
from holdfast.training.ascent import Ascent, climb, stride_of, survivors
from holdfast.training.base import Recipe

if TYPE_CHECKING:
    from torch import Tensor, nn

    from holdfast.seeding import Noise
    from holdfast.space import Box, Table

FAST_STRIDE = 1.25


@final
class Adversarial(Recipe):
    """Descend the cross-entropy at the worst input that a short attack finds around each row.

    Images move in pixel units, tables in interquartile ranges of their mutable numbers, and every input trained
    on can exist. The attack sees the network in eval mode, so that a row's attack does not depend on its batch.
    Fast FGSM can overfit its single step (Wong et al., section 5.4): validation is by ten-step PGD, so such
    epochs score near 0, are never kept, and end the training where ``patience`` is set.
    """

    robust: ClassVar[bool] = True
    reference: ClassVar[str] = (
        "Madry et al. 2018, arXiv:1706.06083, eq. 2.1; Wong et al. 2020, arXiv:2001.03994, alg. 3"
    )

    epsilon: Annotated[float, Field(ge=0)] = 0.05
    """Radius in the space's units."""
    norm: Literal["linf", "l2"] = "linf"
    method: Literal["fgsm", "pgd"] = "fgsm"
    """``fgsm``: one step of 1.25 epsilon from a random start. ``pgd``: ``steps`` steps of 2.5 epsilon / steps."""
    steps: Annotated[int, Field(gt=0)] = 7
    """Steps of ``pgd``; ``fgsm`` takes one."""

    @property
    def threat(self) -> Threat:
        """The ball that training defends."""
        return Threat(norm=self.norm, epsilon=self.epsilon)

    def perturb(
        self, network: nn.Module, x: Tensor, y: Tensor, ids: Tensor, noise: Noise, space: Box | Table
    ) -> Tensor:
        """Attack each row (n, *shape) by its cross-entropy."""
        fast = self.method == "fgsm"
        steps = 1 if fast else self.steps
        stride = FAST_STRIDE * self.epsilon if fast else stride_of(self.epsilon, steps)
        ascent = Ascent(x, ids, noise, self.threat, space)
        return climb(network, ascent, steps, stride, lambda logits: cross_entropy(logits, y, reduction="none"))

    def loss(self, network: nn.Module, x: Tensor, perturbed: Tensor, y: Tensor) -> Tensor:
        """Give the cross-entropy (n,) in nats at the attacked inputs."""
        del x
        return cross_entropy(network(perturbed), y, reduction="none", label_smoothing=self.label_smoothing)

    def validation_flags(
        self, network: nn.Module, x: Tensor, y: Tensor, ids: Tensor, noise: Noise, space: Box | Table
    ) -> Tensor:
        """Tell which rows (n,) survive ten-step PGD."""
        return survivors(network, x, y, ids, noise, space, self.threat)
