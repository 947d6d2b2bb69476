"""Stuck neurons: units of hidden layers that hand on one value, whatever comes in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, final

import numpy as np
import torch
from pydantic import Field
from torch import nn

from holdfast.networks import ImageEncoder, TableEncoder
from holdfast.results import Dimension, Measure, PerExample
from holdfast.scenarios.base import OnModel, Outcome
from holdfast.scenarios.disturbance import SEVERITIES, curve, retained
from holdfast.scenarios.faults._taps import Tapped
from holdfast.statistics import clustered_share, share

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    from holdfast.data import Samples
    from holdfast.model import Target
    from holdfast.scenarios.base import Context
    from holdfast.scenarios.faults._taps import Site, Strike
    from holdfast.seeding import Noise
    from holdfast.space import Box, Table

    Flags = npt.NDArray[np.bool_]

Way = Literal["zero", "saturated"]
WAYS: tuple[Way, ...] = ("zero", "saturated")
_SHARES = (0.01, 0.02, 0.05, 0.10, 0.20)
_PROBES = 64


class Layer(NamedTuple):
    """Units that one hidden site hands on."""

    site: int
    name: str
    axis: int
    """Which axis of a row counts the units: channels of images, features of everything else."""
    units: int
    most: float
    """What a saturated unit hands on."""


@final
class StuckNeurons(OnModel):
    """Accuracy where each hidden unit is stuck with a probability of 1, 2, 5, 10 and 20 %, by severity.

    Stuck at zero, and stuck at saturation: the largest value that its layer hands on for 64 inputs drawn around the
    space's own centre, since what a row gets must not depend on the rows beside it. Units are channels of images and
    features of everything else, after the activation functions where these are layers, else of every hidden layer.

    Each row draws by its id which units are stuck. A real fault holds the same units for all rows; drawing by row
    averages over such faults, and only then does the interval cover their choice. The score is the mean accuracy over
    severities and both ways, clustered by example; a point counts as right in a paired comparison when it is right in
    more than half. ``worst_unit_cost`` is what one unit that is stuck alone, in all rows, costs: the worst of the
    ``suspects`` whose rows suffered most.

    Source: Torres-Huitzil and Girau 2017, IEEE Access 5 (stuck-at faults of neurons).
    """

    dimension: ClassVar[Dimension] = "robustness"
    family: ClassVar[str] = "faults"
    reference: ClassVar[str] = "Torres-Huitzil and Girau 2017, IEEE Access 5 (stuck-at faults of neurons)"

    points: Annotated[int, Field(gt=0)] = 300
    """Test points at most."""
    suspects: Annotated[int, Field(gt=0)] = 4
    """Units that are tried alone, in each of both ways."""

    def inapplicable(self, target: Target, samples: Samples) -> str | None:
        """Say why it means nothing here; also without hidden layers."""
        if reason := super().inapplicable(target, samples):
            return reason
        return None if _hidden(Tapped(target, samples).sites, len(target.classes)) else "no hidden layer of units"

    def measure(self, target: Target, samples: Samples, noise: Noise, context: Context) -> Outcome:
        """Answer with no unit stuck, then with more and more, then with single ones."""
        del context
        bench = _Bench(target, samples, noise.derive("probe"))
        clean = bench.right(None)
        rights: dict[Way, list[Flags]] = {way: [] for way in WAYS}
        blame = _Blame(bench)
        for way in WAYS:
            for severity in SEVERITIES:
                stuck = _Stuck(bench.layers, way, severity, noise.derive(way, severity))
                rights[way].append(bench.right(stuck))
                blame.hear(stuck, clean & ~rights[way][-1])
        flags = np.stack([*rights["zero"], *rights["saturated"]], axis=1)
        cost, worst = self._worst(bench, blame, clean)
        target.forwards += bench.tapped.target.forwards
        return Outcome(
            score=clustered_share(flags),
            measures=(
                *retained(flags.mean(axis=1), clean.astype(np.float64)),
                Measure(
                    name="worst_unit_cost", value=cost, unit="points of accuracy", better="lower", n=len(clean),
                ),
            ),
            curves=tuple(curve(way, [share(right) for right in (clean, *rights[way])]) for way in WAYS),
            slices={f"stuck={way}": clustered_share(np.stack(rights[way], axis=1)) for way in WAYS},
            per_example=PerExample.pack(
                samples.ids.cpu().numpy(), flags.mean(axis=1) > 1 / 2, samples.y.cpu().numpy()
            ),
            details={"worst": worst, "clean_accuracy": float(clean.mean()), "layers": bench.told()},
        )  # fmt: skip

    def _worst(self, bench: _Bench, blame: _Blame, clean: Flags) -> tuple[float, dict[str, Any]]:
        """Try each suspect alone: the cost of the worst in points of accuracy, and which it was."""
        tried = [
            (100.0 * float(clean.mean() - bench.right(_Alone(layer, unit, way)).mean()), layer, unit, way)
            for layer, unit in blame.suspects(self.suspects)
            for way in WAYS
        ]
        cost, layer, unit, way = max(tried, key=lambda each: each[0])
        return cost, {"layer": layer.name, "unit": unit, "stuck": way}


class _Stuck:
    """Units stuck by the rows' ids."""

    def __init__(self, layers: list[Layer], way: Way, severity: int, noise: Noise) -> None:
        self._layers = {layer.site: layer for layer in layers}
        self._way, self._share, self._noise = way, _SHARES[severity - 1], noise

    def chosen(self, layer: Layer, ids: Tensor) -> Tensor:
        """Tell which units (n, units) are stuck in which rows."""
        return self._noise.derive(layer.site).uniform(ids, (layer.units,)) < self._share

    def plan(self, ids: Tensor) -> Strike:
        def strike(i: int, output: Tensor) -> Tensor:
            layer = self._layers.get(i)
            return output if layer is None else _hold(output, layer, self.chosen(layer, ids), self._way)

        return strike


class _Alone:
    """One unit stuck in all rows."""

    def __init__(self, layer: Layer, unit: int, way: Way) -> None:
        self._layer, self._unit, self._way = layer, unit, way

    def plan(self, ids: Tensor) -> Strike:
        only = torch.arange(self._layer.units, device=ids.device) == self._unit

        def strike(i: int, output: Tensor) -> Tensor:
            return _hold(output, self._layer, only[None], self._way) if i == self._layer.site else output

        return strike


def _hold(output: Tensor, layer: Layer, chosen: Tensor, way: Way) -> Tensor:
    """Hold the chosen units (n, units) of what a layer hands on at one value."""
    shape = [len(chosen), *[1] * (output.dim() - 1)]
    shape[1 + layer.axis] = layer.units
    return torch.where(chosen.reshape(shape), 0.0 if way == "zero" else layer.most, output)


class _Bench:
    """The tapped copy, its hidden layers and the points."""

    def __init__(self, target: Target, samples: Samples, noise: Noise) -> None:
        self.tapped, self.samples = Tapped(target, samples), samples
        self._labels = samples.y
        found = _hidden(self.tapped.sites, len(target.classes))
        most: dict[int, float] = {}

        def listen(_: Tensor) -> Strike:
            def strike(i: int, output: Tensor) -> Tensor:
                most[i] = float(torch.nan_to_num(output.float(), 0.0, 0.0, 0.0).max())
                return output

            return strike

        ids = torch.arange(_PROBES)
        self.tapped.predict(_around(target.space, ids, noise).to(samples.x), ids.to(target.device), listen)
        sites = self.tapped.sites
        self.layers = [Layer(i, sites[i].layer, axis, sites[i].shape[axis], most[i]) for i, axis in found]

    def right(self, fault: _Stuck | _Alone | None) -> Flags:
        """Tell which points are answered rightly under a fault."""
        answers = self.tapped.predict(self.samples.x, self.samples.ids, fault.plan if fault else None)
        flags: Flags = (answers == self._labels).cpu().numpy()
        return flags

    def told(self) -> list[dict[str, Any]]:
        """Describe the layers."""
        return [{"layer": each.name, "units": each.units, "saturated_at": each.most} for each in self.layers]


class _Blame:
    """How often rows went wrong while each unit was stuck."""

    def __init__(self, bench: _Bench) -> None:
        self._bench = bench
        self._units = [(layer, unit) for layer in bench.layers for unit in range(layer.units)]
        self._lost, self._hit = np.zeros(len(self._units)), np.zeros(len(self._units))

    def hear(self, stuck: _Stuck, lost: Flags) -> None:
        """Count the rows (n,) that were lost with the units stuck in them."""
        ids = self._bench.samples.ids
        hit = torch.cat([stuck.chosen(layer, ids) for layer in self._bench.layers], dim=1).cpu().numpy()
        # Where many units are stuck at once each of them has less to do with it.
        weight = hit / hit.sum(axis=1, keepdims=True).clip(1)
        self._hit += weight.sum(axis=0)
        self._lost += weight[lost].sum(axis=0)

    def suspects(self, count: int) -> list[tuple[Layer, int]]:
        """Name the units whose rows suffered most."""
        order = np.argsort(-self._lost / self._hit.clip(1e-9), kind="stable")
        return [self._units[i] for i in order[:count]]


def _hidden(sites: list[Site], classes: int) -> list[tuple[int, int]]:
    """Number the sites of hidden units, with the axis of a row that counts them.

    After activation functions, where these are layers; else all but the encoder in front and the logits at the end.
    """
    axes, axis = [], None
    for i, site in enumerate(sites):
        if isinstance(site.module, nn.Linear):
            axis = -1
        elif isinstance(site.module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            axis = 0
        logits = i == len(sites) - 1 and site.shape == (classes,)
        if site.shape and not logits and not isinstance(site.module, ImageEncoder | TableEncoder):
            flat = len(site.shape) == 1
            channels = axis == 0 or (axis is None and len(site.shape) > 2)  # noqa: PLR2004  channels, height, width
            axes.append((i, 0 if flat or channels else len(site.shape) - 1))
    active = [each for each in axes if sites[each[0]].module.__module__ == "torch.nn.modules.activation"]
    return active or axes


def _around(space: Box | Table, ids: Tensor, noise: Noise) -> Tensor:
    """Draw inputs around the centre of a space: by its mean and deviation, or its medians and units."""
    normal = noise.normal(ids, space.shape)
    if space.kind == "box":
        mean, std = (torch.tensor(each).reshape(-1, 1, 1) for each in (space.mean, space.std))
        return (mean + std * normal).clamp(space.low, space.high)
    centre, unit = torch.tensor([f.median for f in space.features]), torch.tensor([f.unit for f in space.features])
    x = centre + unit * normal
    for i in space.columns("category"):
        x[:, i] = noise.derive("category", i).integers(ids, len(space.features[i].categories) + 1).float()
    return x
