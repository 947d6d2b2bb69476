"""Linear bounds: a proof that no input within the threat changes the answer, by CROWN after interval bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, final

import torch
from pydantic import Field

from holdfast.perturbation import Threat
from holdfast.results import Curve, CurvePoint, Dimension, Measure, PerExample
from holdfast.scenarios.base import OnModel, Outcome
from holdfast.scenarios.certificates._network import obstacle
from holdfast.scenarios.certificates._proof import Proof, prove
from holdfast.space import Box
from holdfast.statistics import share

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.data import Samples
    from holdfast.model import Target
    from holdfast.scenarios.base import Context
    from holdfast.seeding import Noise

_CURVE_SHARE, _CURVE_POINTS = 5, 200
"""A curve looks at one point in five at most, and at no more than these: as those of attacks do."""


@final
class LinearBounds(OnModel):
    """Share of points that are right and provably stay right within the threat that attacks of these settings have.

    Every activation is enclosed between two lines, and carried back to the image they bound how far each other class
    can rise. Interval bounds go first and decide what they can; the rest is bounded by lines, first between interval
    bounds of the activations and then between bounds that are proved layer by layer. What cannot be proved is not
    certified: the score says nothing of those points, and a network that was not trained for it may get 0.

    The proof is about the model as it is computed: in float32, with its preprocessing, on images as attacks may leave
    them, tolerances included. Bounds are float64; a class must rise by more than float32 can err in any order of adding
    up (Higham 2002), for products of TensorFloat-32 on a graphics card too, but not for transforms such as Winograd's.
    """

    dimension: ClassVar[Dimension] = "defence"
    family: ClassVar[str] = "certificates"
    reference: ClassVar[str] = (
        "Zhang et al. 2018, arXiv:1811.00866, section 3 (CROWN); Gowal et al. 2018, arXiv:1810.12715, section 3 (IBP)"
    )
    kinds: ClassVar[frozenset[str]] = frozenset({"box"})
    headline: ClassVar[bool] = False

    norm: Literal["linf", "l2"] = "linf"
    epsilon: Annotated[float, Field(ge=0.0)] = 0.05
    """Radius in pixel values, as attacks have it."""

    def inapplicable(self, target: Target, samples: Samples) -> str | None:
        """Say why it means nothing here; also which layer it cannot read."""
        return super().inapplicable(target, samples) or obstacle(target.module)

    def measure(self, target: Target, samples: Samples, noise: Noise, context: Context) -> Outcome:
        """Prove what can be proved of the points that are right."""
        del noise, context
        right = target.predict(samples.x) == samples.y
        proof = self.prove(target, samples, right)
        clean, decided = share(right.cpu().numpy()), proof.decided
        return Outcome(
            score=share(proof.certified.cpu().numpy(), "lower_bound"),
            measures=(
                Measure(
                    name="clean_accuracy", value=clean.value, unit="share", better="higher",
                    low=clean.low, high=clean.high, n=clean.n, method=clean.method,
                ),
            ),
            curves=self._curves(target, samples, right, proof.certified),
            slices={
                f"class={name}": share(proof.certified[samples.y == code].cpu().numpy(), "lower_bound")
                for code, name in enumerate(target.classes) if bool((samples.y == code).any())
            },
            per_example=PerExample.pack(
                samples.ids.cpu().numpy(), proof.certified.cpu().numpy(), samples.y.cpu().numpy()
            ),
            details={"certifies": "model", "certified_by": decided, "largest_rounding": proof.rounding},
        )  # fmt: skip

    def prove(self, target: Target, samples: Samples, asked: Tensor) -> Proof:
        """Certify some points (n,) against this threat.

        Raises:
            ScenarioError: the model answers outside of its own bounds.
        """
        space = target.space
        if not isinstance(space, Box):
            msg = "linear bounds are for images"
            raise TypeError(msg)
        return prove(target, space, samples, asked, Threat(norm=self.norm, epsilon=self.epsilon))

    def _curves(self, target: Target, samples: Samples, right: Tensor, certified: Tensor) -> tuple[Curve, ...]:
        """Read at 0, a quarter and a half of epsilon on some points; what holds in a ball holds in a smaller one."""
        some = min(_CURVE_POINTS, len(samples) // _CURVE_SHARE)
        if some == 0 or self.epsilon == 0:
            return ()
        few = samples.take(torch.arange(some, device=samples.x.device))
        held, points = certified[:some], [(self.epsilon, certified[:some])]
        for part in (0.5, 0.25):
            smaller = self.model_copy(update={"epsilon": part * self.epsilon})
            held = held | smaller.prove(target, few, right[:some] & ~held).certified
            points.append((part * self.epsilon, held))
        points.append((0.0, right[:some]))
        scores = tuple(
            CurvePoint(at=at, score=share(flags.cpu().numpy(), "lower_bound")) for at, flags in reversed(points)
        )
        return (Curve(name="certified accuracy", axis=f"epsilon ({self.norm})", points=scores),)
