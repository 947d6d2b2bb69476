"""A copy of a model whose activations can be changed on their way from layer to layer."""

from __future__ import annotations

import copy
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from holdfast.model import Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.data import Samples

    Strike = Callable[[int, Tensor], Tensor]
    """Gives what a site hands on (m, *shape), from the site's number and what it would have handed on."""


class Site(NamedTuple):
    """What one call of one layer hands on for each row."""

    layer: str
    call: int
    """Calls of the same layer before this one in a forward pass."""
    shape: tuple[int, ...]
    kind: torch.dtype
    module: nn.Module


class Tapped:
    """A copy of a model, and the sites in it: floating tensors that a layer without parts hands on, a row each.

    Layers that hand on what they were given (flattening, dropout after training) are no sites, and neither are those
    that give several tensors, as recurrent ones do.
    """

    def __init__(self, target: Target, samples: Samples) -> None:
        self.target = Target(copy.deepcopy(target.module), target.spec, target.digest, target.device)
        self.sites: list[Site] = []
        self._numbers: dict[tuple[str, int], int] = {}
        self._calls: Counter[str] = Counter()
        self._strike: Strike | None = None
        self._listening = True
        for name, module in self.target.module.named_modules():
            if not any(True for _ in module.children()):
                module.register_forward_hook(self._hook(name))
        self.predict(samples.x[:1], samples.ids[:1], None)
        self._listening = False

    def predict(self, x: Tensor, ids: Tensor, plan: Callable[[Tensor], Strike] | None) -> Tensor:
        """Predict (n,) as ``Target.predict``, with activations struck.

        Args:
            x: inputs (n, *shape).
            ids: of the rows (n,).
            plan: told the ids of the rows of one forward pass (m,), says what happens in it; None: nothing.
        """
        return self._each(x, ids, plan, self.target.predict)

    def logits(self, x: Tensor, ids: Tensor, plan: Callable[[Tensor], Strike] | None) -> Tensor:
        """Compute logits (n, classes), with activations struck as in ``predict``."""
        return self._each(x, ids, plan, torch.no_grad()(self.target.logits))

    def _each(
        self, x: Tensor, ids: Tensor, plan: Callable[[Tensor], Strike] | None, ask: Callable[[Tensor], Tensor]
    ) -> Tensor:
        size, found = self.target.space.micro_batch, []
        for rows, names in zip(torch.split(x, size), torch.split(ids, size), strict=True):
            # As the target pads: the first row again.
            padded = torch.cat([names, names[:1].expand(size - len(names))])
            self._calls.clear()
            self._strike = plan(padded) if plan else None
            found.append(ask(rows))
        return torch.cat(found)

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[object, ...], object], Tensor | None]:
        def heard(module: nn.Module, given: tuple[object, ...], output: object) -> Tensor | None:
            call = self._calls[name]
            self._calls[name] += 1
            if self._listening and isinstance(output, Tensor) and self._counts(module, given, output):
                self._numbers[name, call] = len(self.sites)
                self.sites.append(Site(name, call, tuple(output.shape[1:]), output.dtype, module))
            number = self._numbers.get((name, call))
            if self._strike is None or number is None or not isinstance(output, Tensor):
                return None
            return self._strike(number, output)

        return heard

    def _counts(self, module: nn.Module, given: tuple[object, ...], output: Tensor) -> bool:
        """Tell whether what is handed on is a site: a floating number or more for each row, and made here."""
        by_row = output.dim() > 0 and len(output) == self.target.space.micro_batch and output.numel() > 0
        passed = any(isinstance(each, Tensor) and each.data_ptr() == output.data_ptr() for each in given)
        made_here = not passed or module.__module__ == "torch.nn.modules.activation"  # these may work in place
        return by_row and output.is_floating_point() and made_here
