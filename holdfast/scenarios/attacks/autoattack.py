"""AutoAttack: four unlike attacks in a row, each on what the ones before it left standing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Self, final

from pydantic import Field

from holdfast.scenarios.attacks.apgd_ce import ApgdCe
from holdfast.scenarios.attacks.apgd_t import ApgdT
from holdfast.scenarios.attacks.base import Attack
from holdfast.scenarios.attacks.fab_t import FabT
from holdfast.scenarios.attacks.square import Square

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.scenarios.attacks._batch import Batch
    from holdfast.seeding import Noise


@final
class Autoattack(Attack):
    """Run ``apgd_ce``, ``apgd_t``, ``fab_t`` and ``square`` in this order; a point that any of them breaks is broken.

    It is the ensemble's standard version, with the published settings of each member. It costs what a robust point
    costs under all four, and stands beside none of them: with this in a pack its members find nothing more.
    """

    reference: ClassVar[str] = "Croce and Hein 2020, arXiv:2003.01690, section 6"

    steps: Annotated[int, Field(gt=0)] = 100
    """Steps of ``apgd_ce``, ``apgd_t`` and ``fab_t``."""
    targets: Annotated[int, Field(gt=0)] = 9
    """Wrong classes that ``apgd_t`` and ``fab_t`` each try, the likeliest first; never more than there are."""
    queries: Annotated[int, Field(gt=0)] = 5000
    """Queries of ``square``."""

    @property
    def most_forwards(self) -> int:
        """Forwards of one point at most: a robust one's, under every member."""
        return sum(member.most_forwards for member in self.members())

    def members(self) -> tuple[Attack, ...]:
        """Give the attacks in their order, under the threat of this one."""
        threat = {"norm": self.norm, "epsilon": self.epsilon, "categories": self.categories}
        return (
            ApgdCe(steps=self.steps, **threat),
            ApgdT(steps=self.steps, targets=self.targets, **threat),
            FabT(steps=self.steps, targets=self.targets, **threat),
            Square(queries=self.queries, **threat),
        )

    def longer(self) -> Self:
        """Give twice the steps, towards the likeliest class alone: steps are in question here alone."""
        return self.model_copy(update={"steps": 2 * self.steps, "targets": 1, "queries": 1})

    def lighter(self) -> Self:
        """Give the same attacks towards the likeliest class alone."""
        return self.model_copy(update={"targets": 1})

    def perturb(self, batch: Batch, noise: Noise) -> Tensor:
        """Propose the first row of any member that breaks the point."""
        for member in self.members():
            member.perturb(batch, noise.derive(member.name()))
        return batch.adversarial
