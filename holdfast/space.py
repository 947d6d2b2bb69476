"""Input spaces: which inputs can exist, and how the nearest one to a proposal is found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from holdfast.digests import digest_json
from holdfast.errors import ModelError
from holdfast.results import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

_TOLERANCE = 1e-4
"""Relative slack of float32 arithmetic on amounts of up to 10 million."""


class Box(Value):
    """Images (channels, height, width) with every pixel in [low, high]; one unit of distance is one pixel unit."""

    kind: Literal["box"] = "box"
    shape: tuple[int, int, int]
    low: float = 0.0
    high: float = 1.0
    mean: tuple[float, ...]
    """Mean of each channel over the training rows; the model standardises inside."""
    std: tuple[float, ...]

    @property
    def micro_batch(self) -> int:
        """Rows of one canonical forward pass."""
        return 64

    def under(self, threat: Box | Table) -> Box:
        """Give this model's space with the bounds that another space sets an attacker.

        Raises:
            ModelError: the other space is a table.
        """
        if threat.kind != "box":
            raise _other_threat("a threat to rows of a table", "a threat to images")
        return self.model_copy(update={"low": threat.low, "high": threat.high})

    def bounds(self) -> str:
        """Name what bounds an attacker: two attacks under other bounds are two questions."""
        return digest_json(["box", self.low, self.high])

    def scale(self, device: torch.device) -> Tensor:
        """Give raw units per unit of distance (1, 1, 1): one for pixels."""
        return torch.ones((1, 1, 1), device=device)

    def project(self, x: Tensor, origin: Tensor) -> Tensor:
        """Move x (n, c, h, w) to the nearest image; an origin outside the bounds widens them to itself."""
        low, high = self.limits(origin)
        return torch.minimum(torch.maximum(x, low), high)

    def limits(self, origin: Tensor) -> tuple[Tensor, Tensor]:
        """Give the ends of every feature (n, *shape), below and above; an origin outside the bounds widens them."""
        return origin.clamp(max=self.low), origin.clamp(min=self.high)

    def feasible(self, x: Tensor, origin: Tensor) -> Tensor:
        """Tell which rows (n,) are images, or no further outside than their origin."""
        return (self.project(x, origin) - x).abs().flatten(1).amax(1) <= _TOLERANCE

    def outermost(self, origin: Tensor) -> tuple[Tensor, Tensor]:
        """Give the smallest and the largest pixels (n, c, h, w) that are feasible from origins of float64."""
        low, high = origin.clamp(max=self.low), origin.clamp(min=self.high)
        float32 = 1 + 2.0**-20  # its bounds, and its distances from them
        slack = _TOLERANCE * float32
        return low - slack - (float32 - 1) * low.abs(), high + slack + (float32 - 1) * high.abs()


class Feature(Value):
    """One column of a table, in the user's raw units."""

    name: str
    kind: Literal["number", "category"]
    categories: tuple[str, ...] = ()
    """Names of the codes 0 .. k-1; code k stands for every value not seen in training."""
    low: float | None = None
    high: float | None = None
    step: float | None = None
    """Grid of possible values, for example 1 for counts; steps are counted from the row's own value."""
    mutable: bool = False
    """Whether an attacker can change it. False unless params say so."""
    median: float = 0.0
    iqr: float = 0.0
    """Interquartile range over the training rows: the unit of distance, and so of every epsilon of the scorecard.

    0 where one value holds most rows, as in counts that are mostly zero; then ``spread`` is the unit.
    """
    spread: float = 0.0
    """The unit where the IQR is 0: the IQR of the training values other than the most frequent one, or where that is
    0 too the standard deviation. 0 for a constant, which has no unit and cannot move."""
    std: float = 1.0
    """Standard deviation over the training rows: the encoder's unit where the IQR is 0."""
    knots: tuple[float, ...] = ()
    """Quantiles over the training rows, rising: between them the encoder is piecewise linear."""
    missing: tuple[str | int | float, ...] = ()
    """Codes that mean *unknown* in the user's rows; part of the model, so that serving reads them as training did."""

    @property
    def unit(self) -> float:
        """Raw units per unit of distance: the IQR, or ``spread`` where that is 0; 0 only where nothing gives a unit."""
        return self.iqr or self.spread


class Relation(Value):
    """A linear relation that every row keeps: sum of terms <= bound. Rows with a missing term are exempt."""

    terms: dict[str, float]
    bound: float = 0.0


class Table(Value):
    """Rows (features,) of numbers and category codes in raw user units; NaN is missing."""

    kind: Literal["table"] = "table"
    features: tuple[Feature, ...]
    relations: tuple[Relation, ...] = ()

    @model_validator(mode="after")
    def _relations_name_numbers(self) -> Self:
        numbers = {feature.name for feature in self.features if feature.kind == "number"}
        for relation in self.relations:
            if strangers := set(relation.terms) - numbers:
                msg = f"a relation names {sorted(strangers)}, which are not numeric features"
                raise ValueError(msg)
        return self

    def under(self, threat: Box | Table) -> Table:
        """Give this model's space with the freedom that another space leaves an attacker.

        What the model reads by (order of features, categories and their codes, median, deviation, knots, codes for
        missing) stays its own; mutability, unit, range, step and relations are the threat's, by name. What the
        threat does not know cannot move.

        Args:
            threat: the space of the data that the model is attacked on.

        Raises:
            ModelError: the threat is to images, moves a feature of another kind than the model's, or relates
                features that the model does not read as numbers.
        """
        if threat.kind != "table":
            raise _other_threat("a threat to images", "a threat to rows of a table")
        said = {feature.name: feature for feature in threat.features}
        features = tuple(_bounded(feature, said.get(feature.name)) for feature in self.features)
        numbers = {feature.name for feature in features if feature.kind == "number"}
        if strangers := sorted({name for relation in threat.relations for name in relation.terms} - numbers):
            raise _other_threat(
                f"relations over {', '.join(strangers)}",
                f"relations over the model's numbers: {', '.join(sorted(numbers))}",
            )
        return self.model_copy(update={"features": features, "relations": threat.relations})

    def bounds(self) -> str:
        """Name what bounds an attacker: two attacks under other bounds are two questions."""
        numbers = {
            f.name: [None if end is None else repr(float(end)) for end in (f.unit, f.low, f.high, f.step)]
            for f in self.features
            if f.kind == "number" and f.mutable and f.unit
        }
        categories = sorted(f.name for f in self.features if f.kind == "category" and f.mutable)
        relations = [relation.model_dump(mode="json") for relation in self.relations]
        return digest_json(["table", numbers, categories, relations])

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return (len(self.features),)

    @property
    def names(self) -> tuple[str, ...]:
        """Column names, in order."""
        return tuple(feature.name for feature in self.features)

    @property
    def micro_batch(self) -> int:
        """Rows of one canonical forward pass."""
        return 512

    def scale(self, device: torch.device) -> Tensor:
        """Give raw units per unit of distance (features,): each feature's unit, and 0 for what cannot move."""
        return torch.tensor([f.unit if f.mutable and f.kind == "number" else 0.0 for f in self.features], device=device)

    def columns(self, kind: Literal["number", "category"], *, mutable: bool | None = None) -> list[int]:
        """List the columns of one kind, and where asked of one mutability."""
        return [i for i, f in enumerate(self.features) if f.kind == kind and (mutable is None or f.mutable == mutable)]

    def project(self, x: Tensor, origin: Tensor) -> Tensor:
        """Move x (n, features) to a row that can exist, between x and its origin; missing values stay missing.

        Immutable and missing features return to the origin, numbers are clamped to their range and put on
        their grid, and relations are restored by drawing their own features back towards the origin.
        """
        movable = torch.tensor([f.mutable for f in self.features], device=x.device)
        x = torch.where(movable & ~origin.isnan(), x, origin)
        x = self._on_grid(torch.minimum(torch.maximum(x, self._low(origin)), self._high(origin)), origin)
        for relation in self.relations:
            x = self._restore(relation, x, origin)
        broken = ~self._keeps_relations(x, origin)
        return torch.where(broken[:, None], origin, x)

    def limits(self, origin: Tensor) -> tuple[Tensor, Tensor]:
        """Give the ends of every feature's range (n, features); -inf and inf where nothing ends it."""
        return self._low(origin), self._high(origin)

    def feasible(self, x: Tensor, origin: Tensor) -> Tensor:
        """Tell which rows (n,) can exist and are reachable from their origin: every rule, checked anew."""
        movable = torch.tensor([f.mutable for f in self.features], device=x.device)
        same = (x == origin) | (x.isnan() & origin.isnan())
        low, high = self._low(origin), self._high(origin)
        inside = (x >= low - _TOLERANCE * low.abs()) & (x <= high + _TOLERANCE * high.abs())
        fits = same | (movable & ~origin.isnan() & inside & self._is_on_grid(x, origin))
        return fits.all(1) & self._keeps_relations(x, origin)

    def _low(self, origin: Tensor) -> Tensor:
        ends = [0.0 if f.kind == "category" else -torch.inf if f.low is None else f.low for f in self.features]
        return torch.fmin(torch.tensor(ends, device=origin.device).expand_as(origin), origin)

    def _high(self, origin: Tensor) -> Tensor:
        ends = [
            max(len(f.categories) - 1.0, 0.0) if f.kind == "category" else torch.inf if f.high is None else f.high
            for f in self.features
        ]
        return torch.fmax(torch.tensor(ends, device=origin.device).expand_as(origin), origin)

    def _steps(self, device: torch.device) -> Tensor:
        return torch.tensor([1.0 if f.kind == "category" else f.step or 0.0 for f in self.features], device=device)

    def _on_grid(self, x: Tensor, origin: Tensor) -> Tensor:
        """Draw moves back to whole steps, towards the origin, so that no budget is overrun."""
        step = self._steps(x.device)
        whole = origin + torch.trunc((x - origin) / step.clamp(min=1e-12) + 1e-4 * (x - origin).sign()) * step
        return torch.where(step > 0, whole, x)

    def _is_on_grid(self, x: Tensor, origin: Tensor) -> Tensor:
        step = self._steps(x.device)
        ratio = (x - origin) / step.clamp(min=1e-12)
        return (step == 0) | ((ratio - ratio.round()).abs() <= 1e-3)  # noqa: PLR2004  float32 on large amounts

    def _weights(self, relation: Relation, device: torch.device) -> Tensor:
        return torch.tensor([relation.terms.get(f.name, 0.0) for f in self.features], device=device)

    def _slack(self, relation: Relation, origin: Tensor) -> tuple[Tensor, Tensor]:
        """Room left at the origin (n,), never negative, and the rows that the relation binds (n,)."""
        weights = self._weights(relation, origin.device)
        total = torch.where(weights != 0, weights * origin, 0.0).sum(1)
        return (relation.bound - total).clamp(min=0.0), ~total.isnan()

    def _restore(self, relation: Relation, x: Tensor, origin: Tensor) -> Tensor:
        weights = self._weights(relation, x.device)
        slack, binds = self._slack(relation, origin)
        move = x - origin
        rise = torch.where(weights != 0, weights * move, 0.0).sum(1)
        share = torch.where(binds & (rise > slack), slack / rise.clamp(min=1e-12), 1.0)
        drawn = self._on_grid(origin + share[:, None] * move, origin)
        return torch.where((weights != 0) & (share < 1)[:, None], drawn, x)

    def _keeps_relations(self, x: Tensor, origin: Tensor) -> Tensor:
        kept = torch.ones(len(x), dtype=torch.bool, device=x.device)
        for relation in self.relations:
            weights = self._weights(relation, x.device)
            slack, binds = self._slack(relation, origin)
            rise = torch.where(weights != 0, weights * (x - origin), 0.0).sum(1)
            size = torch.where(weights != 0, (weights * origin).abs(), 0.0).sum(1)
            kept &= ~binds | (rise <= slack + _TOLERANCE * (size + 1.0))
        return kept


Space = Annotated[Box | Table, Field(discriminator="kind")]


_BOUNDS = ("mutable", "iqr", "spread", "low", "high", "step")


def _bounded(own: Feature, said: Feature | None) -> Feature:
    """Bound one feature of a model as a threat says, or let it stand still where the threat says nothing."""
    if said is None:
        return own.model_copy(update={"mutable": False})
    if said.kind != own.kind:
        if said.mutable:
            raise _other_threat(f"{own.name} as a {said.kind} that can change", f"a {own.kind}, as the model reads it")
        return own.model_copy(update={"mutable": False})
    return own.model_copy(update={name: getattr(said, name) for name in _BOUNDS})


def _other_threat(found: str, expected: str) -> ModelError:
    return ModelError(
        "threat", found=found, expected=expected,
        remedy="Describe data.features and data.relations in params.yaml so that they fit the version, or retrain it.",
    )  # fmt: skip


def parse_relation(text: str, names: Sequence[str]) -> Relation:
    """Read ``2 * a + b <= 3 * c + 10`` into a Relation.

    Raises:
        ValueError: the text is no linear relation over the named features.
    """
    for sign, orientation in (("<=", 1.0), (">=", -1.0)):
        left, found, right = text.partition(sign)
        if found:
            terms: dict[str, float] = {}
            bound = orientation * (
                _collect(right, -orientation, terms, names) - _collect(left, orientation, terms, names)
            )
            return Relation(terms=terms, bound=bound)
    msg = f"{text!r} has no <= or >="
    raise ValueError(msg)


def _collect(side: str, sign: float, terms: dict[str, float], names: Sequence[str]) -> float:
    """Add one side's terms, and return its constant."""
    constant = 0.0
    for piece in side.replace("-", "+-").split("+"):
        if not (text := piece.replace(" ", "")):
            continue
        factor = -1.0 if text.startswith("-") else 1.0
        name = text.lstrip("-")
        if "*" in name:
            number, name = name.split("*", 1)
            factor *= float(number)
        if name in names:
            terms[name] = terms.get(name, 0.0) + sign * factor
        else:
            constant += factor * _number(name, names)
    return constant


def _number(text: str, names: Sequence[str]) -> float:
    try:
        return float(text)
    except ValueError:
        msg = f"{text!r} is no number and no numeric feature ({', '.join(names)})"
        raise ValueError(msg) from None
