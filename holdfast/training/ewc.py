"""Elastic weight consolidation: parameters that the old rows hang on are held where the champion had them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, cast, final

import torch
from pydantic import Field
from torch.nn.functional import log_softmax

from holdfast.training.continual import ContinualRecipe

if TYPE_CHECKING:
    from torch import Tensor, nn

    from holdfast.data import Samples
    from holdfast.model import Target
    from holdfast.seeding import Noise

Labels = Literal["expected", "sampled"]


@final
class Ewc(ContinualRecipe):
    """Descend the cross-entropy of fresh rows plus ``strength`` / 2 times F (w - w*)^2, summed over parameters.

    w* are the champion's weights and F is the diagonal of its Fisher information on rows that it learned from: the
    mean over rows of the squared gradient of *one row's* log-likelihood under labels that the champion itself gives,
    and neither the square of the mean gradient nor the true labels' (the empirical Fisher, Kunstner et al. 2019,
    arXiv:1905.12558). F sees the parameters alone: what batch statistics move to is not held.
    """

    reference: ClassVar[str] = "Kirkpatrick et al. 2017, arXiv:1612.00796, eq. 3"

    strength: Annotated[float, Field(ge=0)] = 100.0
    """The paper's lambda, on losses that are means over rows. Old rows divided by fresh ones would be Laplace's
    approximation of training on both; a network needs more than that."""
    points: Annotated[int, Field(gt=0)] = 1000
    """Old rows at most that F is a mean over."""
    labels: Labels = "expected"
    """``expected``: every class, weighted by its probability: exact. ``sampled``: one drawn for each row: unbiased,
    and cheaper by as many times as there are classes."""

    def importance(self, former: Target, known: Samples, noise: Noise) -> dict[str, Tensor]:
        """Give ``strength`` times the Fisher information, by parameter."""
        rank = noise.derive("points").uniform(known.ids.cpu())
        chosen = known.take(torch.argsort(rank, stable=True)[: self.points].to(known.ids.device))
        drawn = None if self.labels == "expected" else noise.derive("labels").uniform(chosen.ids.cpu())
        # As ModelSpec.build lays them: the encoder has no weights, and is asked once for all rows.
        encoder, network = cast("nn.Sequential", former.module)
        with torch.no_grad():
            encoded = encoder(chosen.x.to(former.device))
        return {f"1.{name}": self.strength * value for name, value in fisher(network, encoded, drawn).items()}


def fisher(module: nn.Module, x: Tensor, drawn: Tensor | None = None) -> dict[str, Tensor]:
    """Give the diagonal of the Fisher information of each parameter, by name, as a mean over rows.

    Gradients are taken row by row: a batch's gradient is a sum, and its square is no sum of squares.

    Args:
        module: in eval mode; its parameters need not ask for gradients, and come back as they were.
        x: inputs (n, *shape).
        drawn: uniform numbers (n,) in [0, 1) that draw one label for each row from the model's own probabilities;
            None takes the expectation over all labels.
    """
    parameters = {name: p.detach().clone().requires_grad_() for name, p in module.named_parameters()}
    total = {name: torch.zeros_like(p, requires_grad=False) for name, p in parameters.items()}
    for row in range(len(x)):
        logits = torch.func.functional_call(module, parameters, (x[row : row + 1],))
        told = log_softmax(logits, dim=1)[0]
        shares = told.detach().exp()
        if drawn is None:
            asked = [(label, float(share)) for label, share in enumerate(shares)]
        else:
            below = int((shares.cpu().double().cumsum(0) <= float(drawn[row])).sum())
            asked = [(min(below, len(shares) - 1), 1.0)]
        for label, share in asked:
            gradients = torch.autograd.grad(
                told[label], list(parameters.values()), retain_graph=label != asked[-1][0], allow_unused=True
            )
            for name, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    total[name] += share * gradient.square()
    return {name: value / max(len(x), 1) for name, value in total.items()}
