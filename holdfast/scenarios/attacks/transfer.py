"""Transfer: rows that break another training of the recipe, tried on the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, final

from pydantic import Field

from holdfast.errors import ScenarioError
from holdfast.scenarios.attacks._apgd import climb
from holdfast.scenarios.attacks._surrogate import Rehearsal, lead
from holdfast.scenarios.attacks.base import Attack

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.model import Target
    from holdfast.scenarios.attacks._batch import Batch
    from holdfast.scenarios.base import Context
    from holdfast.seeding import Noise


@final
class Transfer(Attack):
    """Climb against a surrogate to the end, and ask the model once about each row that came of it.

    The attacker knows the threat, the training and validation rows, the network and the recipe: all but the model.
    Weights, gradients and logits are out of reach, and each candidate buys one answer. What the model does to its
    own gradients hides nothing here, so what this breaks and white-box attacks leave convicts those.

    The surrogate is the user's recipe under a seed of its own. It stays robust where the recipe is, since what breaks
    a standard model seldom breaks a robust one; only epochs are saved, and the learning rate still runs its whole
    course. Unlike a white-box attack the climb does not stop at the first row that breaks the surrogate: the further
    beyond its boundary, the likelier beyond the model's. On tables the surrogate's loss chooses the categories.
    """

    reference: ClassVar[str] = "Papernot et al. 2016, arXiv:1605.07277, section 3; climbed as apgd_ce, on the margin"
    white_box: ClassVar[bool] = False
    trains: ClassVar[bool] = True

    epochs: Annotated[int, Field(gt=0)] | None = 8
    """Epochs of the surrogate's training, or the recipe's own where those are fewer; None takes the recipe's own."""
    steps: Annotated[int, Field(gt=0)] = 20
    """Gradient steps against the surrogate."""
    restarts: Annotated[int, Field(gt=0)] = 1
    """Candidates for each point, from starts of their own; each is one query."""

    @property
    def most_forwards(self) -> int:
        """Forwards of one point at most."""
        return self.restarts

    def bring(self, target: Target, noise: Noise, context: Context) -> Target | None:
        """Train the surrogate; what an attacker may move on it is what may be moved on the target."""
        if context.workshop is None:
            return None
        own = context.workshop.recipe.epochs
        epochs = own if self.epochs is None else min(self.epochs, own)
        seed = noise.generator().initial_seed()
        surrogate = context.workshop.fit(context.workshop.train, seed=seed, epochs=epochs)
        surrogate.space = target.space
        return surrogate

    def perturb(self, batch: Batch, noise: Noise) -> Tensor:
        """Propose the first candidate that breaks the point.

        Raises:
            ScenarioError: there is no surrogate.
        """
        if batch.surrogate is None:
            raise ScenarioError(
                self.name(), found="no surrogate", expected="one that bring() trained",
                remedy="Run the scenario with a workshop in its context.",
            )  # fmt: skip
        for restart in range(self.restarts):
            rows = batch.begin()
            if len(rows) == 0:
                break
            rehearsal = Rehearsal(batch.surrogate, batch, rows)
            climb(rehearsal, rehearsal.y, lead, noise.derive("start", restart), self.steps)
            batch.query(rows, rehearsal.adversarial)
        return batch.adversarial
