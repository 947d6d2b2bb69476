"""Randomized smoothing: a certified L2 radius for the majority vote of a model under Gaussian noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple, final

import torch
from pydantic import Field
from scipy import special

from holdfast.results import Curve, CurvePoint, Dimension, Measure, PerExample
from holdfast.scenarios.base import OnModel, Outcome
from holdfast.statistics import clopper_pearson, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from holdfast.data import Samples
    from holdfast.model import Target
    from holdfast.scenarios.base import Context
    from holdfast.seeding import Noise

_NUMBERS = 1 << 23  # in one draw of noisy copies: bounds memory
_AT_ONCE = 4  # micro-batches between two looks at whether a bound can still be reached


class Certificate(NamedTuple):
    """What could be certified of one point; a radius of -1 where the vote is wrong or abstains."""

    radius: float
    vote_right: bool


@final
class RandomizedSmoothing(OnModel):
    """Share of points whose smoothed classifier is right, provably, within an L2 radius.

    The model votes on Gaussian copies of each point: ``selections`` draws choose the class, ``draws`` fresh ones
    bound its probability from below by Clopper and Pearson at confidence 1 - alpha, each certificate for itself.
    Abstentions and wrong votes are not certified; sampling stops where neither can change any more. A model
    that was not trained with noise certifies little; the score is what it is.

    Distances are pixel units for images. For tables they are training interquartile ranges of the numbers that
    an attacker can change; only those get noise, missing values stay missing, and without any it does not apply.

    Source: Cohen, Rosenfeld and Kolter 2019, arXiv:1902.02918, theorem 1 and the algorithm CERTIFY.
    """

    dimension: ClassVar[Dimension] = "defence"
    family: ClassVar[str] = "certificates"
    reference: ClassVar[str] = "Cohen, Rosenfeld and Kolter 2019, arXiv:1902.02918, section 3.2 (CERTIFY)"
    headline: ClassVar[bool] = False

    points: Annotated[int, Field(gt=0)] = 200
    norm: Literal["l2"] = "l2"
    radius: Annotated[float, Field(ge=0.0)] = 0.25
    """Where the score is read."""
    sigma: Annotated[float, Field(gt=0.0)] = 0.25
    """Standard deviation of the noise, in the units of the radius."""
    selections: Annotated[int, Field(gt=0)] = 100
    """Draws that choose the class: n0 in the paper."""
    draws: Annotated[int, Field(gt=0)] = 1000
    """Draws that bound its probability: n in the paper."""
    alpha: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.001
    """Probability that one certificate is wrong."""
    radii: tuple[Annotated[float, Field(ge=0.0)], ...] = (0.0, 0.125, 0.25, 0.375, 0.5, 0.75, 1.0)
    """Where the curve is read."""

    def inapplicable(self, target: Target, samples: Samples) -> str | None:
        """Say why it means nothing here; also where no number can move."""
        if reason := super().inapplicable(target, samples):
            return reason
        return None if bool((target.space.scale(target.device) > 0).any()) else "no number that an attacker can change"

    def measure(self, target: Target, samples: Samples, noise: Noise, context: Context) -> Outcome:
        """Certify point by point; each draws from its own generator."""
        del context
        found = [
            self._certify(target, x, int(y), noise.derive(int(i)))
            for x, y, i in zip(samples.x, samples.y, samples.ids, strict=True)
        ]
        radii = torch.tensor([certificate.radius for certificate in found], dtype=torch.float64)
        certified = (radii >= self.radius).numpy()
        ladder = sorted({*self.radii, self.radius})
        points = tuple(CurvePoint(at=r, score=share((radii >= r).numpy(), "lower_bound")) for r in ladder)
        right = sum(certificate.vote_right for certificate in found)
        return Outcome(
            score=share(certified, "lower_bound"),
            measures=(
                _counted("mean_certified_radius", float(radii.clamp(min=0.0).mean()), "distance", len(found)),
                _counted("votes_right", right / len(found), "share", len(found)),
                _counted("abstentions_among_votes_right", _part(found, right), "share", max(right, 1)),
            ),
            curves=(Curve(name="certified accuracy", axis="radius", points=points),),
            per_example=PerExample.pack(samples.ids.cpu().numpy(), certified, samples.y.cpu().numpy()),
            details={"largest_possible_radius": certified_radius(self.draws, self.draws, self.sigma, self.alpha)},
        )

    @torch.no_grad()
    def _certify(self, target: Target, x: Tensor, label: int, noise: Noise) -> Certificate:
        """Certify one point (*shape); the answer depends on nothing but the point and its id."""
        if self._vote(target, x, noise.derive("select")) != label:
            return Certificate(-1.0, vote_right=False)
        hits, left, needed = 0, self.draws, fewest_hits(self.draws, self.alpha)
        for answers in self._answers(target, x, self.draws, noise.derive("estimate"), _AT_ONCE):
            hits, left = hits + int((answers == label).sum()), left - len(answers)
            if hits + left < needed:
                return Certificate(-1.0, vote_right=True)
        return Certificate(certified_radius(hits, self.draws, self.sigma, self.alpha), vote_right=True)

    def _vote(self, target: Target, x: Tensor, noise: Noise) -> int:
        """Choose the class that most noisy copies get, the lowest of equals; -1 where none got any."""
        votes = torch.zeros(len(target.classes), dtype=torch.int64, device=target.device)
        left = self.selections
        for answers in self._answers(target, x, self.selections, noise, 1):
            votes += torch.bincount(answers[answers >= 0], minlength=len(votes))
            left -= len(answers)
            ranked = votes.sort(descending=True).values
            if int(ranked[0] - ranked[1:2].sum()) > left:
                break  # the others cannot catch up
        return int(votes.argmax()) if bool(votes.any()) else -1

    def _answers(self, target: Target, x: Tensor, count: int, noise: Noise, at_once: int) -> Iterator[Tensor]:
        """Predict noisy copies of one point, a few micro-batches at a time."""
        generator, scale = noise.generator(), target.space.scale(x.device)
        size = target.space.micro_batch * max(1, min(at_once, _NUMBERS // (x.numel() * target.space.micro_batch)))
        for start in range(0, count, size):
            rows = min(size, count - start)
            # Drawn on the CPU whatever the device, so that devices agree.
            epsilon = torch.randn((rows, *x.shape), generator=generator).to(x.device)
            yield target.predict(x + self.sigma * scale * epsilon)


def certified_radius(hits: int, draws: int, sigma: float, alpha: float) -> float:
    """Radius sigma * Phi^-1(p), p the lower Clopper-Pearson limit of hits of draws; -1 where p <= 1/2.

    Source: Cohen, Rosenfeld and Kolter 2019, arXiv:1902.02918, proposition 2.
    """
    low, _ = clopper_pearson(hits, draws, 1.0 - alpha, side="lower")
    return sigma * float(special.ndtri(low)) if low > 0.5 else -1.0  # noqa: PLR2004  a majority


def fewest_hits(draws: int, alpha: float) -> int:
    """Hits from which on a radius is certified; draws + 1 where none would do."""
    low, high = 0, draws + 1
    while low < high:
        middle = (low + high) // 2
        enough = certified_radius(middle, draws, 1.0, alpha) >= 0.0
        low, high = (low, middle) if enough else (middle + 1, high)
    return low


def _part(found: list[Certificate], right: int) -> float:
    abstained = sum(certificate.vote_right and certificate.radius < 0.0 for certificate in found)
    return abstained / max(right, 1)


def _counted(name: str, value: float, unit: str, n: int) -> Measure:
    better = "lower" if name.startswith("abstentions") else "higher"
    return Measure(name=name, value=value, unit=unit, better=better, n=n)
