"""Activation bit flips: single bits of what layers hand on turn over while an answer is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, final

import numpy as np
import torch
from pydantic import Field

from holdfast.results import Dimension, PerExample, Score
from holdfast.scenarios.base import OnModel, Outcome
from holdfast.scenarios.faults._bits import CLASSES, LAYOUTS, flipped, spans, width
from holdfast.scenarios.faults._taps import Tapped
from holdfast.statistics import clustered_share, grouped_share

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    from holdfast.data import Samples
    from holdfast.model import Target
    from holdfast.scenarios.base import Context
    from holdfast.scenarios.faults._taps import Site, Strike
    from holdfast.seeding import Noise

    Flags = npt.NDArray[np.bool_]

_WORD = 1 << 40  # its remainder by the numbers of a layer is uniform to one part in thousands of millions
_ROBUST_SHARE = 0.95


@final
class ActivationBitflip(OnModel):
    """Share of random single-bit flips of activations that leave a right answer right.

    Each flip hits one row's forward pass once: a layer drawn evenly, a number that it hands on, a bit of that number.
    The draws go by the row's id. Over the points that are right without a flip, ``flips`` flips each, the score is one
    minus the rate of silent data corruption (SDC-1); answers that are not finite are wrong. The interval is clustered
    by example, the slices are by class of bit and by layer. For paired comparison a point counts as right when it is
    right without a flip and under 95 % of its flips.

    Source: Li et al. 2017, SC'17 (faults in the data path, SDC-1).
    """

    dimension: ClassVar[Dimension] = "robustness"
    family: ClassVar[str] = "faults"
    reference: ClassVar[str] = "Li et al. 2017, SC'17 (faults in the data path, SDC-1)"

    points: Annotated[int, Field(gt=0)] = 300
    """Test points at most."""
    flips: Annotated[int, Field(gt=0)] = 8
    """Flips that each point meets, one at a time."""

    def inapplicable(self, target: Target, samples: Samples) -> str | None:
        """Say why it means nothing here; also without a layer that hands on numbers for each row."""
        if reason := super().inapplicable(target, samples):
            return reason
        return None if _sites(Tapped(target, samples)) else "no layer that hands on floating numbers for each row"

    def measure(self, target: Target, samples: Samples, noise: Noise, context: Context) -> Outcome:
        """Answer without a flip, then with each."""
        del context
        tapped = Tapped(target, samples)
        draw = _Draw(tapped.sites, _sites(tapped))
        clean = (tapped.predict(samples.x, samples.ids, None) == samples.y).cpu().numpy()
        rights, classes, layers = [], [], []
        for k in range(self.flips):
            stream = noise.derive("flip", k)
            answers = tapped.predict(samples.x, samples.ids, lambda ids, stream=stream: draw.strike(ids, stream))  # type: ignore[misc]
            rights.append((answers == samples.y).cpu().numpy())
            site, _, bit = draw.where(samples.ids, stream)
            layers.append(site.cpu().numpy())
            classes.append(draw.classes(site, bit))
        target.forwards += tapped.target.forwards
        right, kind, layer = (np.stack(each, axis=1) for each in (rights, classes, layers))
        kept = right[clean]
        per_example = PerExample.pack(
            samples.ids.cpu().numpy(), clean & (right.mean(axis=1) >= _ROBUST_SHARE), samples.y.cpu().numpy()
        )
        if not clean.any():
            return Outcome(score=None, unscored="no point is right without a flip", per_example=per_example)
        names = [f"{site.layer}#{site.call}" if site.call else site.layer for site in tapped.sites]
        return Outcome(
            score=clustered_share(kept),
            slices={
                **_slices(kept, kind[clean], {i: f"bits={name}" for i, name in enumerate(CLASSES)}),
                **_slices(kept, layer[clean], {i: f"layer={names[i]}" for i in draw.usable}),
            },
            per_example=per_example,
            details={"clean_accuracy": float(clean.mean()), "flips": int(right.size), "layers": len(draw.usable)},
        )


def _sites(tapped: Tapped) -> list[int]:
    """Number the sites whose numbers are of a type with known bits."""
    return [i for i, site in enumerate(tapped.sites) if site.kind in LAYOUTS]


def _slices(right: Flags, group: npt.NDArray[np.int64], names: dict[int, str]) -> dict[str, Score]:
    """Score the flips (n, flips) of each group; those of one example hang together."""
    rows = np.broadcast_to(np.arange(len(right))[:, None], right.shape)
    chosen = {name: group == number for number, name in names.items()}
    return {name: grouped_share(right[mask], rows[mask]) for name, mask in chosen.items() if mask.any()}


class _Draw:
    """Which bit of which number of which layer turns over, by the row's id."""

    def __init__(self, sites: list[Site], usable: list[int]) -> None:
        self.sites, self.usable = sites, usable

    def where(self, ids: Tensor, stream: Noise) -> tuple[Tensor, Tensor, Tensor]:
        """Draw site, number in it and bit (n,) each."""
        usable = torch.tensor(self.usable, device=ids.device)
        site = usable[stream.derive("layer").integers(ids, len(self.usable))]
        sizes = torch.tensor([int(np.prod(each.shape)) for each in self.sites], device=ids.device)
        bits = torch.tensor([width(s.kind) if s.kind in LAYOUTS else 1 for s in self.sites], device=ids.device)
        number = stream.derive("number").integers(ids, _WORD) % sizes[site]
        return site, number, stream.derive("bit").integers(ids, _WORD) % bits[site]

    def strike(self, ids: Tensor, stream: Noise) -> Strike:
        """Plan one forward pass."""
        site, number, bit = self.where(ids, stream)

        def turn(i: int, output: Tensor) -> Tensor:
            hit = (site == i).nonzero().flatten()
            if len(hit) == 0:
                return output
            struck = output.clone(memory_format=torch.contiguous_format)
            flat = struck.view(len(output), -1)
            flat[hit, number[hit]] = flipped(flat[hit, number[hit]], bit[hit])
            return struck

        return turn

    def classes(self, site: Tensor, bit: Tensor) -> npt.NDArray[np.int64]:
        """Number the class of each drawn bit, as in CLASSES."""
        firsts = {i: [spans(self.sites[i].kind)[name][0] for name in CLASSES] for i in self.usable}
        pairs = zip(site.tolist(), bit.tolist(), strict=True)
        return np.array([next(k for k, first in enumerate(firsts[i]) if b >= first) for i, b in pairs], dtype=np.int64)
