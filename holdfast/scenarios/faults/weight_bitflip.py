"""Weight bit flips: single bits of the stored weights turn over, as from cosmic rays or failing memory."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple, final

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from holdfast.model import Target
from holdfast.results import Dimension, Measure, PerExample, Score
from holdfast.scenarios.base import OnModel, Outcome
from holdfast.scenarios.faults._bits import CLASSES, LAYOUTS, mask, spans
from holdfast.statistics import share

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from holdfast.data import Samples
    from holdfast.scenarios.base import Context
    from holdfast.seeding import Noise

    Flags = npt.NDArray[np.bool_]

_CACHE = 1 << 27  # numbers kept between layers, so that a flip is felt only from its own layer on
_NORMAL = 1.959964
_DRAWS = 500
_ROBUST_SHARE = 0.95


class Flip(NamedTuple):
    """One bit of one weight."""

    kind: str
    parameter: str
    place: tuple[int, ...]
    bit: int
    """0 is the last of the mantissa."""


@final
class WeightBitflip(OnModel):
    """Share of random single-bit flips of weights that cost less than ``tolerance`` of accuracy.

    Flips are stratified by bit class (sign, exponent, mantissa), as many of each; the share is weighted by how
    many bits a class has, which makes it that of a bit drawn at random. Each flip is tried alone, on a copy, and
    taken back. Answers that are not finite are wrong. The interval covers both choices: Wilson by flip in each
    class, combined by MOVER, and the bootstrap by example of the cost. For paired comparison a point counts as
    right when it is right without a flip and under 95 % of the flips, weighted alike.

    Source: Li et al. 2017, SC'17 (bit classes, silent data corruption); Hong et al. 2019, USENIX Security,
    arXiv:1906.01017 (accuracy drop of single bit flips).
    """

    dimension: ClassVar[Dimension] = "robustness"
    family: ClassVar[str] = "faults"
    reference: ClassVar[str] = "Li et al. 2017, SC'17; Hong et al. 2019, arXiv:1906.01017, section 4"

    points: Annotated[int, Field(gt=0)] = 300
    """Test points that each flip is judged by, at most."""
    flips: Annotated[int, Field(gt=0)] = 64
    """Flips tried of each of the three bit classes."""
    tolerance: Annotated[float, Field(gt=0.0, le=1.0)] = 0.05
    """Loss of accuracy from which a flip counts as harmful."""

    def inapplicable(self, target: Target, samples: Samples) -> str | None:
        """Say why it means nothing here; also without weights of one known type."""
        if reason := super().inapplicable(target, samples):
            return reason
        types = {parameter.dtype for parameter in target.module.parameters()}
        if len(types) == 1 and types <= set(LAYOUTS):
            return None
        return f"weights of type {', '.join(sorted(map(str, types))) or 'none'}; one floating type is needed"

    def measure(self, target: Target, samples: Samples, noise: Noise, context: Context) -> Outcome:
        """Flip, answer, take back; then weigh."""
        del context
        bench = _Bench.build(target, samples)
        drawn = [flip for kind in CLASSES for flip in self._draw(bench, kind, noise.derive(kind))]
        labels = samples.y
        right = np.stack([(bench.answer(flip) == labels).cpu().numpy() for flip in drawn])
        clean = (bench.whole.predict(samples.x) == labels).cpu().numpy()
        target.forwards += bench.forwards
        cost = clean.mean() - right.mean(axis=1)
        worst = int(np.argmax(cost))
        safe = self._harmless(clean.sum() - right.sum(axis=1), len(clean)).reshape(len(CLASSES), self.flips)
        shares = {kind: share(flags) for kind, flags in zip(CLASSES, safe, strict=True)}
        weights = bench.weights()
        survived = weights @ right.reshape(len(CLASSES), self.flips, -1).mean(axis=1)
        return Outcome(
            score=_weighted(shares, weights, self._example_error(clean, right, weights, noise.derive("bootstrap"))),
            measures=(
                Measure(
                    name="worst_cost", value=100.0 * float(cost[worst]), unit="points of accuracy", better="lower",
                    n=len(clean),
                ),
            ),
            slices={f"bits={kind}": score for kind, score in shares.items()},
            per_example=PerExample.pack(
                samples.ids.cpu().numpy(), clean & (survived >= _ROBUST_SHARE), labels.cpu().numpy()
            ),
            details={
                "worst": {**_described(drawn[worst]), "accuracy": float(right[worst].mean())},
                "clean_accuracy": float(clean.mean()),
                "flips": len(drawn),
                "class_weights": dict(zip(CLASSES, weights.tolist(), strict=True)),
            },
        )  # fmt: skip

    def _draw(self, bench: _Bench, kind: str, noise: Noise) -> Iterator[Flip]:
        """Draw weights uniformly, and a bit of one class in each."""
        first, width = bench.bits()[kind]
        ids = torch.arange(self.flips)
        places = noise.derive("weight").integers(ids, bench.size).tolist()
        bits = noise.derive("bit").integers(ids, width).tolist()
        for place, bit in zip(places, bits, strict=True):
            yield Flip(kind, *bench.locate(place), first + bit)

    def _harmless(self, lost: npt.NDArray[Any], n: int) -> Flags:
        """Tell which flips are harmless, from points lost of n: a cost of exactly the tolerance is not."""
        flags: Flags = lost < self.tolerance * n - 1e-6 * n
        return flags

    def _example_error(self, clean: Flags, right: Flags, weights: npt.NDArray[np.float64], noise: Noise) -> float:
        """Standard error of the score from the choice of examples, flips kept."""
        n = len(clean)
        times = noise.numpy().multinomial(n, np.full(n, 1.0 / n), size=_DRAWS).astype(np.float32)
        lost = times @ (clean[None].astype(np.float32) - right).T  # (draws, flips), whole numbers
        safe = self._harmless(lost, n).reshape(_DRAWS, len(CLASSES), self.flips).mean(axis=2)
        return float((safe @ weights).std(ddof=1))


def _weighted(shares: dict[str, Score], weights: npt.NDArray[np.float64], example_error: float) -> Score:
    """Combine the classes' shares, and add the error of the examples to that of the flips."""
    values = list(zip(shares.values(), weights.tolist(), strict=True))
    value = sum(weight * score.value for score, weight in values)
    extra = (_NORMAL * example_error) ** 2
    down = math.sqrt(sum((weight * (score.value - score.low)) ** 2 for score, weight in values) + extra)
    up = math.sqrt(sum((weight * (score.high - score.value)) ** 2 for score, weight in values) + extra)
    return Score(
        value=min(value, 1.0), low=max(value - down, 0.0), high=min(value + up, 1.0),
        n=sum(score.n for score, _ in values), method="mover_wilson_by_flip_and_example",
    )  # fmt: skip


def _described(flip: Flip) -> dict[str, Any]:
    return {"class": flip.kind, "parameter": flip.parameter, "index": list(flip.place), "bit": flip.bit}


@dataclass
class _Bench:
    """A copy of the model, cut into the stages of its sequence, with what enters each of them."""

    whole: Target
    parameters: dict[str, Tensor]
    tails: list[tuple[Target, Tensor]]
    """From each stage to the end, and what enters there; where it is not kept, from an earlier stage."""
    stage_of: dict[str, int]

    @classmethod
    @torch.no_grad()
    def build(cls, target: Target, samples: Samples) -> _Bench:
        """Copy the model and run it once."""

        def part(modules: list[nn.Module]) -> Target:
            return Target(nn.Sequential(*modules), target.spec, target.digest, target.device)

        module = copy.deepcopy(target.module)
        stages = _stages(module)
        whole = part([module])
        tails: list[tuple[Target, Tensor]] = []
        entering, kept = samples.x, 0
        for i, stage in enumerate(stages):
            worth = i == 0 or (any(True for _ in stage.parameters()) and kept + entering.numel() <= _CACHE)
            tails.append((part(stages[i:]), entering) if worth else tails[-1])
            kept += entering.numel() if worth else 0
            entering = part([stage]).logits(entering)
        stage_of: dict[str, int] = {}
        first = {id(p): i for i, stage in reversed(list(enumerate(stages))) for p in stage.parameters()}
        parameters = dict(module.named_parameters())
        for name, parameter in parameters.items():
            stage_of[name] = first[id(parameter)]
        return cls(whole, {name: p.detach() for name, p in parameters.items()}, tails, stage_of)

    @property
    def size(self) -> int:
        """Number of weights."""
        return sum(parameter.numel() for parameter in self.parameters.values())

    @property
    def forwards(self) -> int:
        """Examples passed forward; from a later stage on they count whole."""
        tails = {id(tail): tail.forwards for tail, _ in self.tails}
        return self.whole.forwards + sum(tails.values()) + len(self.tails[0][1])

    def bits(self) -> dict[str, tuple[int, int]]:
        """First bit and number of bits of each class."""
        return spans(next(iter(self.parameters.values())).dtype)

    def weights(self) -> npt.NDArray[np.float64]:
        """Share of all bits that each class has."""
        widths = np.array([self.bits()[kind][1] for kind in CLASSES], dtype=np.float64)
        return np.asarray(widths / widths.sum(), dtype=np.float64)

    def locate(self, place: int) -> tuple[str, tuple[int, ...]]:
        """Find the weight with this number: its parameter, and the index in it."""
        for name, parameter in self.parameters.items():
            if place < parameter.numel():
                return name, tuple(int(i) for i in np.unravel_index(place, parameter.shape))
            place -= parameter.numel()
        raise IndexError(place)

    def answer(self, flip: Flip) -> Tensor:
        """Predict (n,) with one bit turned over, and turn it back."""
        parameter = self.parameters[flip.parameter]
        integers = parameter.view(LAYOUTS[parameter.dtype][0])
        before = integers[flip.place].clone()
        tail, entering = self.tails[self.stage_of[flip.parameter]]
        integers[flip.place] = before ^ mask(flip.bit, integers)
        try:
            return tail.predict(entering)
        finally:
            integers[flip.place] = before


def _stages(module: nn.Module) -> list[nn.Module]:
    """Cut nested sequences into what they run one after another; any other module is one stage."""
    plain = type(module) is nn.Sequential and not module._forward_hooks and not module._forward_pre_hooks  # noqa: SLF001  torch has no public way to ask
    if not plain:
        return [module]
    return [stage for child in module.children() for stage in _stages(child)]
