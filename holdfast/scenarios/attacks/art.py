"""Any evasion attack of the Adversarial Robustness Toolbox, by name."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np
import torch
from torch import nn

from holdfast.scenarios.attacks._outside import Outside, Unit

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


@final
class Art(Outside):
    """Attack as that toolbox does; ``eps`` and ``norm`` are filled in where the class has them."""

    reference: ClassVar[str] = "Nicolae et al. 2018, arXiv:1807.01069; and the paper of the attack that is named"
    package: ClassVar[str] = "adversarial-robustness-toolbox"
    install: ClassVar[str] = "pip install 'holdfast[outside]'"

    attack: str = "FastGradientMethod"

    @classmethod
    def classes(cls) -> dict[str, type]:
        """List the library's attacks by name."""
        from art.attacks import EvasionAttack, evasion  # noqa: PLC0415  an extra

        found = {name: getattr(evasion, name) for name in dir(evasion)}
        return {name: kind for name, kind in found.items() if inspect.isclass(kind) and issubclass(kind, EvasionAttack)}

    def build(self, model: Unit) -> Callable[[Tensor, Tensor], Tensor]:
        """Make the attack on a model of inputs in [0, 1]."""
        from art.estimators.classification import PyTorchClassifier  # noqa: PLC0415  an extra

        kind, target = self.classes()[self.attack], model.target
        takes = inspect.signature(kind).parameters
        filled = {
            "eps": self.epsilon / model.width, "norm": np.inf if self.norm == "linf" else 2, "verbose": False,
        }  # fmt: skip
        classifier = PyTorchClassifier(
            model=model, loss=nn.CrossEntropyLoss(), input_shape=target.spec.space.shape,
            nb_classes=len(target.classes), clip_values=(0.0, 1.0),
            device_type="gpu" if model.place.device.type == "cuda" else "cpu",
        )  # fmt: skip
        attack = kind(classifier, **{k: v for k, v in filled.items() if k in takes}, **self.options)

        def propose(x: Tensor, y: Tensor) -> Tensor:
            found = attack.generate(x=x.cpu().numpy(), y=y.cpu().numpy())
            return torch.from_numpy(np.asarray(found, dtype=np.float32))

        return propose
