"""Dropped tensors: a part of the weights that was never loaded."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, final

import numpy as np
import torch
from pydantic import Field

from holdfast.errors import ModelError
from holdfast.model import Target
from holdfast.results import Dimension, Measure, PerExample
from holdfast.scenarios.base import OnModel, Outcome
from holdfast.statistics import clustered_share

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor, nn

    from holdfast.data import Samples
    from holdfast.model import ModelSpec
    from holdfast.scenarios.base import Context
    from holdfast.seeding import Noise

    Flags = npt.NDArray[np.bool_]

Way = Literal["zero", "initial"]
WAYS: tuple[Way, ...] = ("zero", "initial")
_SEEDS = (1 << 63) - 1


@final
class DroppedTensors(OnModel):
    """Accuracy where one stored tensor is all zeros, or has the value that a fresh network would begin with.

    Each floating tensor of the saved state (weights, biases, scales, running statistics) is dropped alone, on a copy,
    in both ways, and put back; where there are more than ``tensors``, so many are drawn. Initial values come from the
    model's own factory, with a seed of this scenario. The score is the mean accuracy over drops, its interval clustered
    by tensor and by example; a point counts as right in a paired comparison when it is right without a drop and under
    more than half of the drops. ``worst_cost`` is what the worst drop costs. Holdfast itself refuses to load such
    files; elsewhere a load that is not strict lets them pass.

    Source: Ma et al. 2018, DeepMutation, ISSRE, arXiv:1805.05206 (parts of a trained model deactivated).
    """

    dimension: ClassVar[Dimension] = "robustness"
    family: ClassVar[str] = "faults"
    reference: ClassVar[str] = "Ma et al. 2018, DeepMutation, ISSRE, arXiv:1805.05206"

    points: Annotated[int, Field(gt=0)] = 300
    """Test points at most."""
    tensors: Annotated[int, Field(gt=0)] = 12
    """Tensors that are dropped, at most."""

    def inapplicable(self, target: Target, samples: Samples) -> str | None:
        """Say why it means nothing here; also without stored tensors, or a factory that builds them afresh."""
        if reason := super().inapplicable(target, samples):
            return reason
        stored = _stored(target.module)
        if not stored:
            return "no floating tensor is stored with it"
        try:
            fresh = _stored(target.spec.build(seed=0))
        except ModelError as error:
            return f"no initial values: {error}"
        same = {name: each.shape for name, each in fresh.items()} == {name: each.shape for name, each in stored.items()}
        return None if same else "no initial values: its factory builds other tensors than it has"

    def measure(self, target: Target, samples: Samples, noise: Noise, context: Context) -> Outcome:
        """Drop, answer, put back."""
        del context
        clean = (target.predict(samples.x) == samples.y).cpu().numpy()
        bench = _Bench(target, samples, noise.derive("initial"))
        names = sorted(bench.stored)
        if len(names) > self.tensors:
            names = sorted(noise.derive("tensors").numpy().choice(names, self.tensors, replace=False).tolist())
        right = {(name, way): bench.right(name, way) for name in names for way in WAYS}
        target.forwards += bench.whole.forwards
        flags = np.stack(list(right.values()), axis=1)
        worst = min(right, key=lambda drop: float(right[drop].mean()))
        return Outcome(
            score=clustered_share(flags, two_way=True),
            measures=(
                Measure(
                    name="worst_cost", value=100.0 * float(clean.mean() - right[worst].mean()),
                    unit="points of accuracy", better="lower", n=len(clean),
                ),
            ),
            slices={
                f"dropped={way}": clustered_share(np.stack([right[name, way] for name in names], axis=1), two_way=True)
                for way in WAYS
            },
            per_example=PerExample.pack(
                samples.ids.cpu().numpy(), clean & (flags.mean(axis=1) > 1 / 2), samples.y.cpu().numpy()
            ),
            details={
                "clean_accuracy": float(clean.mean()),
                "worst": {"tensor": worst[0], "dropped": worst[1]},
                "accuracy": {f"{name}={way}": float(each.mean()) for (name, way), each in right.items()},
                "tensors": len(bench.stored),
            },
        )  # fmt: skip


class _Bench:
    """A copy of the model, and what its tensors would be afresh."""

    def __init__(self, target: Target, samples: Samples, noise: Noise) -> None:
        self.whole = Target(copy.deepcopy(target.module), target.spec, target.digest, target.device)
        self.stored = _stored(self.whole.module)
        self._samples, self._fresh = samples, _stored(_built(target.spec, noise))

    @torch.no_grad()
    def right(self, name: str, way: Way) -> Flags:
        """Tell which points are answered rightly without one tensor."""
        tensor = self.stored[name]
        kept = tensor.clone()
        tensor.copy_(torch.zeros_like(tensor) if way == "zero" else self._fresh[name])
        try:
            flags: Flags = (self.whole.predict(self._samples.x) == self._samples.y).cpu().numpy()
        finally:
            tensor.copy_(kept)
        return flags


def _built(spec: ModelSpec, noise: Noise) -> nn.Module:
    return spec.build(seed=noise.key & _SEEDS)


def _stored(module: nn.Module) -> dict[str, Tensor]:
    """Give the floating tensors that are saved with a module; tied ones once each name."""
    return {name: each for name, each in module.state_dict().items() if each.is_floating_point() and each.numel()}
