"""Warm start: a champion's weights in the network that a retraining trains, reading rows as the champion read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from holdfast.errors import ModelError
from holdfast.model import Target
from holdfast.networks import TableEncoder
from holdfast.space import Box, Table

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.model import ModelSpec
    from holdfast.space import Feature

_REMEDY = "To begin afresh, set recovery.retraining.warm_start to false and recovery.retraining.recipe to null."


@dataclass(frozen=True, eq=False)
class Former:
    """The model that a training goes on from, and what it knows."""

    target: Target
    """As `inherit` gives it: built by the description that the training trains."""
    learned: Tensor
    """Ids (m,) int64 of the rows that it learned from."""

    def knows(self, ids: Tensor) -> Tensor:
        """Tell which rows (n,) bool, on the CPU, it learned from."""
        return torch.isin(ids.cpu(), self.learned.cpu())


def inherit(champion: Target, spec: ModelSpec) -> Target:
    """Give a champion as a model of data that have grown since: its weights, and its own reading of every row.

    Its medians, units and knots stay: read by others, its weights would mean something else. A category that came
    since gets a code of its own after the known ones, with the weights of "not seen": where a network is linear in
    the encoded row first, the champion's answers are unchanged but for rounding. What an attacker may move is the grown
    data's to say.

    Args:
        champion: loaded by its digest.
        spec: what would be trained afresh: the grown data's space, the factory and classes of params.

    Raises:
        ModelError: another network, other classes or other features: the weights would mean something else.

    Source: Chen, Goodfellow and Shlens 2016, arXiv:1511.05641 (a wider network that computes the same function).
    """
    _require_same(champion.spec, spec)
    own = champion.spec.space
    space = _grown_box(own, spec.space) if isinstance(own, Box) else _grown_table(own, spec.space)
    inherited = spec.model_copy(update={"space": space})
    module = inherited.build(seed=0)
    wanted = {name: tensor.shape for name, tensor in module.state_dict().items()}
    state = champion.module.state_dict()
    if set(state) != set(wanted):
        raise _another("a network with other weights", "the champion's")
    sources = _columns(own, space) if isinstance(own, Table) and isinstance(space, Table) else []
    width = len(sources) - sum(_more(own, space))
    module.load_state_dict(
        {name: _widened(name, tensor, wanted[name], sources, width) for name, tensor in state.items()}
    )
    return Target(module, inherited, champion.digest, champion.device)


def _require_same(own: ModelSpec, spec: ModelSpec) -> None:
    """Refuse another network and other classes.

    Raises:
        ModelError: a difference, each named.
    """
    names = ("factory", "settings", "classes", "code")
    before, now = (each.model_dump(mode="json") for each in (own, spec))
    other = [f"{name} {now[name]}, and the champion's is {before[name]}" for name in names if before[name] != now[name]]
    if other:
        raise _another("; ".join(other), "the champion's own factory, settings, classes and code")


def _grown_box(own: Box, said: Box | Table) -> Box:
    if not isinstance(said, Box) or said.shape != own.shape:
        found = f"images of shape {said.shape}" if isinstance(said, Box) else "rows of a table"
        raise _another(found, f"images of shape {own.shape}, as the champion reads")
    return own.model_copy(update={"low": said.low, "high": said.high})


def _grown_table(own: Table, said: Box | Table) -> Table:
    if not isinstance(said, Table):
        raise _another("images", "rows of a table, as the champion reads")
    if strange := sorted(set(own.names) ^ set(said.names)):
        raise _another(f"other features: {', '.join(strange)}", f"the champion's: {', '.join(own.names)}")
    named = {feature.name: feature for feature in said.features}
    features = tuple(_grown_feature(feature, named[feature.name]) for feature in own.features)
    return Table(features=features, relations=said.relations)


def _grown_feature(own: Feature, said: Feature) -> Feature:
    if (own.kind, own.missing) != (said.kind, said.missing):
        raise _another(
            f"{own.name} as a {said.kind} with {list(said.missing)} for unknown",
            f"a {own.kind} with {list(own.missing)} for unknown, as the champion reads it",
        )
    fresh = tuple(name for name in said.categories if name not in own.categories)
    limits = {name: getattr(said, name) for name in ("mutable", "low", "high", "step")}
    return own.model_copy(update={"categories": (*own.categories, *fresh), **limits})


def _more(own: Box | Table, grown: Box | Table) -> list[int]:
    """Count the categories that came since, feature by feature."""
    if not (isinstance(own, Table) and isinstance(grown, Table)):
        return []
    return [len(b.categories) - len(a.categories) for a, b in zip(own.features, grown.features, strict=True)]


def _columns(own: Table, grown: Table) -> list[int]:
    """Say from which encoded column of the champion each encoded column of the grown space takes its weights."""
    start = TableEncoder(own).width - sum(len(own.features[i].categories) + 2 for i in own.columns("category"))
    sources, more = list(range(start)), _more(own, grown)
    for i in own.columns("category"):
        known = len(own.features[i].categories)
        unseen = start + known
        sources += [*range(start, unseen), *[unseen] * (more[i] + 1), unseen + 1]
        start = unseen + 2
    return sources


def _widened(name: str, tensor: Tensor, shape: torch.Size, sources: list[int], width: int) -> Tensor:
    """Give a tensor of the champion in the shape that the grown encoding asks for.

    Raises:
        ModelError: it differs in more than the width of the encoded row.
    """
    if tensor.shape == shape:
        return tensor
    differ = [dim for dim in range(tensor.dim()) if tensor.dim() == len(shape) and tensor.shape[dim] != shape[dim]]
    if len(differ) != 1 or (tensor.shape[differ[0]], shape[differ[0]]) != (width, len(sources)):
        raise _another(
            f"{name} of shape {tuple(shape)}: categories came that the champion never saw",
            f"a tensor of shape {tuple(tensor.shape)}, or one that is wider by the encoded categories alone",
        )
    return tensor.index_select(differ[0], torch.tensor(sources, device=tensor.device))


def _another(found: str, expected: str) -> ModelError:
    return ModelError("warm start", found=found, expected=expected, remedy=_REMEDY)
