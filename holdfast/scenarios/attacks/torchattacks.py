"""Any attack of torchattacks, by name."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, ClassVar, final

from holdfast.scenarios.attacks._outside import Outside, Unit

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


@final
class Torchattacks(Outside):
    """Attack as torchattacks does; the name is its class, and ``eps`` is filled in where the class has one."""

    reference: ClassVar[str] = "Kim 2020, Torchattacks, arXiv:2010.01950; and the paper of the attack that is named"
    package: ClassVar[str] = "torchattacks"
    install: ClassVar[str] = "pip install --no-deps torchattacks (it pins an old requests, for nothing)"

    attack: str = "FGSM"

    @classmethod
    def classes(cls) -> dict[str, type]:
        """List the library's attacks by name."""
        import torchattacks  # noqa: PLC0415  an extra

        found = {name: getattr(torchattacks, name) for name in dir(torchattacks)}
        return {
            name: kind for name, kind in found.items()
            if inspect.isclass(kind) and issubclass(kind, torchattacks.attack.Attack)
        }  # fmt: skip

    def build(self, model: Unit) -> Callable[[Tensor, Tensor], Tensor]:
        """Make the attack on a model of inputs in [0, 1]."""
        kind = self.classes()[self.attack]
        own = {"eps": self.epsilon / model.width} if "eps" in inspect.signature(kind).parameters else {}
        made: Callable[[Tensor, Tensor], Tensor] = kind(model, **own, **self.options)
        return made
