"""Attacks of outside libraries, one point at a time, counted and bounded as our own are."""

from __future__ import annotations

import inspect
import random
from abc import abstractmethod
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast, final

import numpy as np
import torch
from pydantic import model_validator
from torch import Tensor, nn

from holdfast.digests import digest_json
from holdfast.scenarios.attacks.base import Attack
from holdfast.seeding import drawing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from holdfast.model import Target
    from holdfast.scenarios.attacks._batch import Batch
    from holdfast.seeding import Noise
    from holdfast.space import Box


class Outside(Attack):
    """An attack of another library, by its name there: it proposes, and what it proposes is counted by our rules.

    Each point is attacked alone, under a seed of its own: these libraries draw from the process's generators, and some
    stop a batch together, so that otherwise a point's result would hang on its neighbours. What leaves the ball is
    brought back before the model is asked. Nothing says whether such an attack follows gradients, so it neither
    convicts others of masked ones nor is convicted.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"box"})
    white_box: ClassVar[bool] = False
    package: ClassVar[str]
    """Distribution on the package index."""
    install: ClassVar[str]

    attack: str
    """Class in the library, as it is spelt there."""
    options: dict[str, Any] = {}
    """Arguments of the class, but for radius, norm and what holds the model, which are filled in."""

    @classmethod
    @abstractmethod
    def classes(cls) -> dict[str, type]:
        """List the library's attacks by name.

        Raises:
            ImportError: it is not installed.
        """

    @abstractmethod
    def build(self, model: Unit) -> Callable[[Tensor, Tensor], Tensor]:
        """Make the attack on a model of inputs in [0, 1]; it maps (1, *shape) and labels (1,) to a proposal."""

    @property
    @final
    def access(self) -> str:
        """What it may ask of the model is its library's business."""
        return "outside"

    @property
    @final
    def most_forwards(self) -> int:
        """One: what it takes inside is counted as it comes, and nobody can say it beforehand."""
        return 1

    @final
    def code(self) -> str:
        """Name the library's version: another one may find other rows."""
        return digest_json([self.package, version(self.package)])

    @model_validator(mode="after")
    @final
    def _known(self) -> Self:
        try:
            known = self.classes()
            version(self.package)
        except (ImportError, PackageNotFoundError) as error:
            msg = f"{self.package} is not installed: {self.install}"
            raise ValueError(msg) from error
        if self.attack not in known:
            listed = ", ".join(sorted(known))
            msg = f"{self.package} {version(self.package)} has no attack {self.attack}; it has: {listed}"
            raise ValueError(msg)
        own = set(self.options) & _OURS
        if own:
            msg = f"options: {', '.join(sorted(own))} is what epsilon and norm of this scenario say"
            raise ValueError(msg)
        required, taken = parameters(known[self.attack])
        if taken is not None and (strange := sorted(set(self.options) - taken)):
            msg = f"options: {self.attack} takes no {', '.join(strange)}; it takes: {', '.join(sorted(taken))}"
            raise ValueError(msg)
        if missing := sorted(required - set(self.options)):
            msg = f"options: {self.attack} needs {', '.join(missing)}"
            raise ValueError(msg)
        return self

    @final
    def perturb(self, batch: Batch, noise: Noise) -> Tensor:
        """Propose for each point what the library's attack makes of it alone."""
        rows = batch.begin()
        model = Unit(batch.target)
        for row in torch.split(rows, 1):
            x, y = batch.origin[row], batch.y[row]
            with _seeded(noise.derive("library", int(batch.ids[row])), batch.target.device):
                found = self.build(model)(model.unit(x), y.clone()).detach()
            batch.query(row, model.raw(found.to(x).reshape(x.shape)))
        return batch.adversarial


_OURS = {"eps", "epsilon", "epsilons", "norm", "distance", "model", "estimator", "classifier"}


class Unit(nn.Module):
    """A target as these libraries want it: pixels in [0, 1] in, logits out, each pass counted on the target.

    The target is no submodule: a library that switches modes or clears gradients does so here and not on it.
    """

    def __init__(self, target: Target) -> None:
        super().__init__()
        self._target = (target,)
        self.place = nn.Parameter(torch.zeros((), device=target.device), requires_grad=False)  # they look for a device
        self.eval()

    @property
    def target(self) -> Target:
        """The model under attack."""
        return self._target[0]

    @property
    def space(self) -> Box:
        """The images that it reads."""
        return cast("Box", self.target.space)  # `kinds` admits no other

    @property
    def width(self) -> float:
        """Pixel units in the unit interval."""
        return self.space.high - self.space.low

    def unit(self, x: Tensor) -> Tensor:
        """Bring images into [0, 1]."""
        return ((x - self.space.low) / self.width).clamp(0.0, 1.0)

    def raw(self, x: Tensor) -> Tensor:
        """Bring proposals back into pixel units."""
        return self.space.low + x * self.width

    def forward(self, x: Tensor) -> Tensor:
        """Give the logits (n, classes), differentiable in x; rows are not padded, for there is one."""
        target = self.target
        target.forwards += len(x)
        logits: Tensor = target.module(self.raw(x.to(self.place.dtype)))  # some hand over doubles
        if logits.requires_grad:
            logits.register_hook(lambda slope: self._went_back(len(slope)))  # type: ignore[no-untyped-call]
        return logits

    def _went_back(self, rows: int) -> None:
        self.target.backwards += rows


def parameters(kind: type) -> tuple[set[str], set[str] | None]:
    """Name the arguments that a class needs, and all that it takes; None where it takes any."""
    listed = [each for each in inspect.signature(kind).parameters.values() if each.name not in _OURS]
    named = [each for each in listed if each.kind not in {each.VAR_KEYWORD, each.VAR_POSITIONAL}]
    everything = {each.name for each in named}
    needed = {each.name for each in named if each.default is each.empty}
    return needed, everything if len(named) == len(listed) else None


@contextmanager
def _seeded(noise: Noise, device: torch.device) -> Iterator[None]:
    """Seed every generator that a library may draw from, and give them all back as they were."""
    seed = noise.key & 0xFFFFFFFF
    numpy, python = np.random.get_state(), random.getstate()  # noqa: NPY002  the libraries' own, not ours
    try:
        with drawing(seed, device):
            np.random.seed(seed)  # noqa: NPY002  as above
            random.seed(seed)
            yield
    finally:
        np.random.set_state(numpy)  # noqa: NPY002  as above
        random.setstate(python)
