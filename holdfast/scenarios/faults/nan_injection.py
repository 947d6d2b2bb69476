"""NaN injection: a number that is none, or infinite, in an input or between two layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, final

import numpy as np
import torch
from pydantic import Field

from holdfast.results import Dimension, Measure, PerExample
from holdfast.scenarios.base import OnModel, Outcome
from holdfast.scenarios.disturbance import retained
from holdfast.scenarios.faults._taps import Tapped
from holdfast.statistics import clustered_share

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    from holdfast.data import Samples
    from holdfast.model import Target
    from holdfast.results import Score
    from holdfast.scenarios.base import Context
    from holdfast.scenarios.faults._taps import Strike
    from holdfast.seeding import Noise

    Flags = npt.NDArray[np.bool_]

VALUES = {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}
PLACES = ("input", "activation")
_WORD = 1 << 40  # its remainder by the numbers of a layer is uniform to one part in thousands of millions


@final
class NanInjection(OnModel):
    """Accuracy where one number of a row is NaN, infinite or minus infinite.

    The number is a cell of the input, or one that a layer drawn evenly hands on; both are drawn by the row's id, and
    each point meets all six cases. An answer that is not finite is wrong, as everywhere, but it is flagged: whoever
    serves abstains. So ``flagged`` tells its share, ``silent_wrong`` the share of finite answers that are wrong and
    were right without the fault, and ``silent_confidence`` the mean confidence of those. A model that takes NaN in an
    input for missing answers it, and may be right. The interval is clustered by example; a point counts as right in a
    paired comparison when it is right in more than half of the cases.

    Source: Li et al. 2017, SC'17 (corruption that is silent, and that is detected).
    """

    dimension: ClassVar[Dimension] = "robustness"
    family: ClassVar[str] = "faults"
    reference: ClassVar[str] = "Li et al. 2017, SC'17 (silent and detected corruption)"

    points: Annotated[int, Field(gt=0)] = 300
    """Test points at most."""

    def inapplicable(self, target: Target, samples: Samples) -> str | None:
        """Say why it means nothing here; also without a layer that hands on numbers for each row."""
        if reason := super().inapplicable(target, samples):
            return reason
        return None if Tapped(target, samples).sites else "no layer that hands on floating numbers for each row"

    def measure(self, target: Target, samples: Samples, noise: Noise, context: Context) -> Outcome:
        """Answer without a fault, then with each."""
        del context
        tapped = Tapped(target, samples)
        clean = (tapped.predict(samples.x, samples.ids, None) == samples.y).cpu().numpy()
        cases = [(place, name) for place in PLACES for name in VALUES]
        logits = [self._logits(tapped, samples, *case, noise.derive(*case)) for case in cases]
        target.forwards += tapped.target.forwards
        finite = np.stack([each.isfinite().all(1).cpu().numpy() for each in logits], axis=1)
        right = np.stack([(each.argmax(1) == samples.y).cpu().numpy() for each in logits], axis=1) & finite
        sure = np.stack([torch.nan_to_num(each).double().softmax(1).amax(1).cpu().numpy() for each in logits], axis=1)
        silent = clean[:, None] & finite & ~right
        return Outcome(
            score=clustered_share(right),
            measures=(
                *retained(right.mean(axis=1), clean.astype(np.float64)),
                _measured("flagged", clustered_share(~finite), "neither"),
                _measured("silent_wrong", clustered_share(silent), "lower"),
                *_confidence(sure[silent]),
            ),
            slices={
                f"place={place},value={name}": clustered_share(right[:, [i]]) for i, (place, name) in enumerate(cases)
            },
            per_example=PerExample.pack(
                samples.ids.cpu().numpy(), right.mean(axis=1) > 1 / 2, samples.y.cpu().numpy()
            ),
            details={"clean_accuracy": float(clean.mean()), "layers": len(tapped.sites)},
        )  # fmt: skip

    def _logits(self, tapped: Tapped, samples: Samples, place: str, name: str, noise: Noise) -> Tensor:
        """Compute logits (n, classes) with one number of each row set to a value."""
        value = VALUES[name]
        if place == "activation":
            return tapped.logits(samples.x, samples.ids, lambda ids: _strike(tapped, ids, value, noise))
        x = samples.x.clone(memory_format=torch.contiguous_format)
        flat = x.view(len(x), -1)
        flat[torch.arange(len(x), device=x.device), noise.integers(samples.ids, flat.shape[1])] = value
        return tapped.logits(x, samples.ids, None)


def _strike(tapped: Tapped, ids: Tensor, value: float, noise: Noise) -> Strike:
    """Plan one forward pass: one number of one layer for each row."""
    site = noise.derive("layer").integers(ids, len(tapped.sites))
    word = noise.derive("number").integers(ids, _WORD)

    def spoil(i: int, output: Tensor) -> Tensor:
        hit = (site == i).nonzero().flatten()
        if len(hit) == 0:
            return output
        struck = output.clone(memory_format=torch.contiguous_format)
        flat = struck.view(len(output), -1)
        flat[hit, word[hit] % flat.shape[1]] = value
        return struck

    return spoil


def _measured(name: str, part: Score, better: Literal["lower", "neither"]) -> Measure:
    return Measure(
        name=name, value=part.value, unit="share of faults", better=better,
        low=part.low, high=part.high, n=part.n, method=part.method,
    )  # fmt: skip


def _confidence(sure: npt.NDArray[np.float64]) -> tuple[Measure, ...]:
    """Give the mean confidence of silently wrong answers; nothing where there are none."""
    if len(sure) == 0:
        return ()
    mean = float(min(sure.mean(), 1.0))
    return (Measure(name="silent_confidence", value=mean, unit="probability", better="lower", n=len(sure)),)
