"""Quantisation: the model as it answers with its weights, and where asked its activations, in few bits."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, final

import numpy as np
import torch
from pydantic import Field

from holdfast.model import Target
from holdfast.results import Curve, CurvePoint, Dimension, Measure, PerExample
from holdfast.scenarios.base import OnModel, Outcome
from holdfast.scenarios.disturbance import retained
from holdfast.scenarios.faults._integers import coded, matrices, unfit
from holdfast.scenarios.faults._taps import Tapped
from holdfast.statistics import clustered_share, share

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    from holdfast.data import Samples
    from holdfast.scenarios.base import Context
    from holdfast.scenarios.faults._taps import Strike
    from holdfast.seeding import Noise

    Flags = npt.NDArray[np.bool_]

BITS = (8, 6, 4)


@final
class Quantisation(OnModel):
    """Accuracy with weights rounded to integers of 8, 6 and 4 bits after training, with no calibration.

    Weights of two dimensions or more are rounded symmetrically with one step for each tensor and computed with as
    floating numbers; biases, scales and buffers stay as they are. ``activations: dynamic`` rounds as well what every
    layer but the last hands on, by a step of its own for each row, since what a row gets must not depend on the rows
    beside it. The score is the mean accuracy over the three widths, clustered by example; a point counts as right in a
    paired comparison when it is right at two of them. ``flipped_8`` and its like are the share of answers that changed.

    Source: Jacob et al. 2018, CVPR, arXiv:1712.05877, section 2; Nagel et al. 2021, arXiv:2106.08295, section 2.
    """

    dimension: ClassVar[Dimension] = "robustness"
    family: ClassVar[str] = "faults"
    reference: ClassVar[str] = "Jacob et al. 2018, CVPR, arXiv:1712.05877; Nagel et al. 2021, arXiv:2106.08295"

    points: Annotated[int, Field(gt=0)] = 300
    """Test points at most."""
    activations: Literal["floating", "dynamic"] = "floating"
    """Whether what layers hand on is rounded too."""

    def inapplicable(self, target: Target, samples: Samples) -> str | None:
        """Say why it means nothing here; also without weights to round."""
        return super().inapplicable(target, samples) or unfit(target.module)

    def measure(self, target: Target, samples: Samples, noise: Noise, context: Context) -> Outcome:
        """Answer as the model is, then at each width."""
        del noise, context
        clean = target.predict(samples.x)
        told = {bits: self._answers(target, samples, bits) for bits in BITS}
        right, *rounded = ((answers == samples.y).cpu().numpy() for answers in (clean, *told.values()))
        changed = {bits: (answers != clean).cpu().numpy() for bits, answers in told.items()}
        flags = np.stack(rounded, axis=1)
        points = tuple(CurvePoint(at=float(bits), score=share(each)) for bits, each in zip(BITS, rounded, strict=True))
        return Outcome(
            score=clustered_share(flags),
            measures=(*retained(flags.mean(axis=1), right.astype(np.float64)), *map(_flipped, BITS, changed.values())),
            curves=(Curve(name="accuracy", axis="bits", points=points),),
            per_example=PerExample.pack(
                samples.ids.cpu().numpy(), flags.mean(axis=1) > 1 / 2, samples.y.cpu().numpy()
            ),
            details={"clean_accuracy": float(right.mean()), "tensors": len(matrices(target.module))},
        )  # fmt: skip

    @torch.no_grad()
    def _answers(self, target: Target, samples: Samples, bits: int) -> Tensor:
        """Predict (n,) with everything rounded to one width."""
        module = copy.deepcopy(target.module)
        for weight in matrices(module).values():
            codes, step = coded(weight, bits)
            weight.copy_(codes.double() * step)
        whole = Target(module, target.spec, target.digest, target.device)
        if self.activations == "dynamic":
            tapped = Tapped(whole, samples)
            last = len(tapped.sites) - 1
            answers = tapped.predict(samples.x, samples.ids, lambda _: _rounding(bits, last))
            whole = tapped.target
        else:
            answers = whole.predict(samples.x)
        target.forwards += whole.forwards
        return answers


def _rounding(bits: int, last: int) -> Strike:
    """Round each row of what a layer hands on, all but the last layer's."""
    most = (1 << (bits - 1)) - 1

    def strike(i: int, output: Tensor) -> Tensor:
        if i == last:
            return output
        rows = output.flatten(1) if output.dim() > 1 else output[:, None]
        step = (rows.double().abs().amax(1, keepdim=True) / most).clamp(min=torch.finfo(torch.float64).tiny)
        return ((rows.double() / step).round() * step).to(output.dtype).reshape(output.shape)

    return strike


def _flipped(bits: int, changed: Flags) -> Measure:
    part = share(changed)
    return Measure(
        name=f"flipped_{bits}", value=part.value, unit="share of answers", better="lower", low=part.low,
        high=part.high, n=part.n, method=part.method,
    )  # fmt: skip
