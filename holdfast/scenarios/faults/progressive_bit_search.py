"""Progressive bit search: an adversary turns over the few bits of 8-bit weights that hurt most, one after another."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple, final

import numpy as np
import torch
from pydantic import Field
from torch.nn import functional as F

from holdfast.model import Target
from holdfast.results import Curve, CurvePoint, Dimension, Measure
from holdfast.scenarios.answers import answer
from holdfast.scenarios.base import OnModel, Outcome
from holdfast.scenarios.faults._integers import coded, matrices, unfit
from holdfast.statistics import share

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.data import Samples
    from holdfast.scenarios.base import Context
    from holdfast.seeding import Noise

_BITS = 8
_FEWEST = 2
_SHARE = 3
"""One of so many points is searched with, at most."""


class Flip(NamedTuple):
    """One bit of one 8-bit weight, by place in the flattened tensor; bit 7 is the sign in two's complement."""

    parameter: str
    place: int
    bit: int


@final
class ProgressiveBitSearch(OnModel):
    """Share of held-out points right as the model is, and still right after ``flips`` bits that an adversary chose.

    The search is defined on integers. The model's weights of two dimensions or more, of whatever floating type, are
    therefore first stored as 8-bit integers on a copy (symmetric, one step for each tensor, two's complement), as they
    would be deployed; biases, scales and buffers stay as they are. What single bits of the floating weights themselves
    do, exponents foremost, is asked by ``weight_bitflip``.

    Each flip: in every tensor the bit is taken that the gradient says raises the loss most, of those not yet flipped;
    each is tried alone, and the one with the highest loss stays. The search ends early where no bit raises the loss.
    It is greedy and follows gradients: the score is an upper bound.

    A third of the points, ``search`` at most, is what the adversary knows; all that is reported is of the other points.
    ``flips_to_chance`` counts the flips until their accuracy is at most 1 over the number of classes.

    Source: Rakin, He and Fan 2019, ICCV, arXiv:1903.12269 (in-layer and cross-layer search).
    """

    dimension: ClassVar[Dimension] = "robustness"
    family: ClassVar[str] = "faults"
    reference: ClassVar[str] = "Rakin, He and Fan 2019, ICCV, arXiv:1903.12269 (progressive bit search)"

    points: Annotated[int, Field(gt=0)] = 300
    """Test points at most, those that are searched with among them."""
    flips: Annotated[int, Field(gt=0)] = 10
    """Bits that the adversary may turn over."""
    search: Annotated[int, Field(gt=0)] = 64
    """Points that the search computes gradients and losses on, at most."""

    def inapplicable(self, target: Target, samples: Samples) -> str | None:
        """Say why it means nothing here; also without weights to store as integers, or rows to hold out."""
        if reason := super().inapplicable(target, samples) or unfit(target.module):
            return reason
        return None if len(samples) >= _FEWEST else "one point, and some are searched with while others are held out"

    def measure(self, target: Target, samples: Samples, noise: Noise, context: Context) -> Outcome:
        """Search on some points, flip, and ask the others."""
        del noise, context
        known = min(max(len(samples) // _SHARE, 1), self.search)
        chosen = torch.arange(len(samples), device=samples.x.device)
        hunted, held = samples.take(chosen[:known]), samples.take(chosen[known:])
        victim = Victim(target)
        clean = answer(target, held).right
        rights = [answer(victim.copy, held).right]
        flips: list[tuple[Flip, float]] = []
        while len(flips) < self.flips and (found := victim.worst(hunted)):
            victim.flip(found[0])
            flips.append(found)
            rights.append(answer(victim.copy, held).right)
        target.forwards += victim.copy.forwards
        target.backwards += victim.copy.backwards
        if not flips:
            return Outcome(score=None, unscored="by the gradients of the weights no bit raises the loss")
        points = tuple(CurvePoint(at=float(k), score=share(right)) for k, right in enumerate(rights))
        return Outcome(
            score=share(clean & rights[-1], "upper_bound"),
            measures=(_to_chance([float(right.mean()) for right in rights], len(target.classes), len(held)),),
            curves=(Curve(name="accuracy", axis="flips", points=points),),
            details={
                "flips": [victim.described(flip, loss) for flip, loss in flips],
                "clean_accuracy": float(clean.mean()),
                "quantised_accuracy": float(rights[0].mean()),
                "searched_with": known,
            },
        )


def _to_chance(accuracies: list[float], classes: int, n: int) -> Measure:
    """Count the flips until accuracy is at most that of drawing a class; never, where it stayed above."""
    at = next((k for k, accuracy in enumerate(accuracies) if accuracy <= 1.0 / classes), None)
    return Measure(
        name="flips_to_chance", value=None if at is None else float(at), unit="flips", better="higher", n=n,
        censored=at is None,
    )  # fmt: skip


class Victim:
    """A copy of a model whose weights are stored as 8-bit integers, bits of which can be turned over."""

    def __init__(self, target: Target) -> None:
        self.copy = Target(copy.deepcopy(target.module), target.spec, target.digest, target.device)
        self._weights = matrices(self.copy.module)
        stored = {name: coded(weight, _BITS) for name, weight in self._weights.items()}
        self.codes = {name: codes.flatten() for name, (codes, _) in stored.items()}
        self._steps = {name: step for name, (_, step) in stored.items()}
        self._taken: set[Flip] = set()
        for name in self._weights:
            self._write(name)

    def worst(self, samples: Samples) -> tuple[Flip, float] | None:
        """Find the flip that raises the loss most, and the loss after it; None where none raises it."""
        before, slopes = self._slopes(samples)
        candidates = [flip for name, slope in slopes.items() if (flip := self._steepest(name, slope))]
        losses = [self._loss_after(flip, samples) for flip in candidates]
        best = int(np.argmax(losses)) if losses else 0
        return (candidates[best], losses[best]) if losses and losses[best] > before else None

    def flip(self, flip: Flip) -> None:
        """Turn one bit over for good."""
        self._turn(flip)
        self._taken.add(flip)

    def described(self, flip: Flip, loss: float) -> dict[str, Any]:
        """Say where a flip was and what the loss was after it."""
        index = [int(i) for i in np.unravel_index(flip.place, self._weights[flip.parameter].shape)]
        told = loss if np.isfinite(loss) else None
        return {"parameter": flip.parameter, "index": index, "bit": flip.bit, "loss": told}

    def _slopes(self, samples: Samples) -> tuple[float, dict[str, Tensor]]:
        """Give the loss and its gradient in the integers of each tensor; tensors that get none are left out."""
        names = [name for name, step in self._steps.items() if step > 0.0]
        weights = [self._weights[name].requires_grad_() for name in names]
        try:
            with torch.enable_grad():
                loss = self._loss(samples)
                asked = loss.requires_grad and bool(loss.isfinite())
                found = torch.autograd.grad(loss, weights, allow_unused=True) if asked else (None,) * len(names)
        finally:
            for weight in weights:
                weight.requires_grad = False
        self.copy.backwards += len(samples) if asked else 0
        slopes = {
            name: torch.nan_to_num(slope.to_dense().detach().flatten().float() * self._steps[name])
            for name, slope in zip(names, found, strict=True)
            if slope is not None
        }
        return float(loss.detach()), slopes

    def _loss(self, samples: Samples) -> Tensor:
        # In float64, for what float32 rounds to a loss of nothing has no slope.
        return F.cross_entropy(self.copy.logits(samples.x).double(), samples.y)

    @torch.no_grad()
    def _loss_after(self, flip: Flip, samples: Samples) -> float:
        """Try one flip and take it back; a loss that is not finite is the worst there is."""
        self._turn(flip)
        try:
            loss = float(self._loss(samples))
        finally:
            self._turn(flip)
        return loss if np.isfinite(loss) else float("inf")

    def _steepest(self, name: str, slope: Tensor) -> Flip | None:
        """Choose the bit of a tensor whose flip raises the loss most by its gradient; None where none does."""
        codes, best, found = self.codes[name], 0.0, None
        for bit in range(_BITS):
            gain = slope * _move(codes, bit)
            gain[[taken.place for taken in self._taken if (taken.parameter, taken.bit) == (name, bit)]] = 0.0
            place = int(gain.argmax())
            if float(gain[place]) > best:
                best, found = float(gain[place]), Flip(name, place, bit)
        return found

    def _turn(self, flip: Flip) -> None:
        codes = self.codes[flip.parameter]
        codes[flip.place] += _move(codes[flip.place], flip.bit)
        self._write(flip.parameter, flip.place)

    @torch.no_grad()
    def _write(self, name: str, place: int | None = None) -> None:
        """Set a weight, or one number of it, to what its integers stand for."""
        weight, codes, step = self._weights[name], self.codes[name], self._steps[name]
        if place is None:
            weight.copy_((codes.double() * step).reshape(weight.shape))
        else:
            weight[tuple(np.unravel_index(place, weight.shape))] = float(codes[place]) * step


def _move(codes: Tensor, bit: int) -> Tensor:
    """Say by how much each integer changes when this bit of its two's complement turns over."""
    worth = -(1 << bit) if bit == _BITS - 1 else 1 << bit
    return worth * (1 - 2 * ((codes >> bit) & 1))
