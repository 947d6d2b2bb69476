"""Any attack of foolbox, by name."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, ClassVar, final

from holdfast.scenarios.attacks._outside import Outside, Unit

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


@final
class Foolbox(Outside):
    """Attack as foolbox does; most classes say their norm, for the others ``distance`` is filled in."""

    reference: ClassVar[str] = "Rauber et al. 2020, JOSS 5(53) 2607; and the paper of the attack that is named"
    package: ClassVar[str] = "foolbox"
    install: ClassVar[str] = "pip install 'holdfast[outside]'"

    attack: str = "LinfFastGradientAttack"

    @classmethod
    def classes(cls) -> dict[str, type]:
        """List the library's attacks by name."""
        from foolbox import attacks  # noqa: PLC0415  an extra
        from foolbox.attacks.base import Attack  # noqa: PLC0415  as above

        found = {name: getattr(attacks, name) for name in dir(attacks)}
        return {
            name: kind for name, kind in found.items()
            if inspect.isclass(kind) and issubclass(kind, Attack) and not inspect.isabstract(kind)
        }  # fmt: skip

    def build(self, model: Unit) -> Callable[[Tensor, Tensor], Tensor]:
        """Make the attack on a model of inputs in [0, 1]."""
        from foolbox import distances  # noqa: PLC0415  an extra
        from foolbox.criteria import Misclassification  # noqa: PLC0415  as above
        from foolbox.models.pytorch import PyTorchModel  # noqa: PLC0415  as above

        kind = self.classes()[self.attack]
        norm = distances.linf if self.norm == "linf" else distances.l2
        own = {"distance": norm} if "distance" in inspect.signature(kind).parameters else {}
        attack = kind(**own, **self.options)
        whole = PyTorchModel(model, bounds=(0.0, 1.0), device=model.place.device)

        def propose(x: Tensor, y: Tensor) -> Tensor:
            clipped: Tensor
            _, clipped, _ = attack(whole, x, Misclassification(y), epsilons=self.epsilon / model.width)
            return clipped

        return propose
