"""Fast Adaptive Boundary: the nearest row across any boundary."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self, final

from holdfast.scenarios.attacks._boundary import Boundary

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.scenarios.attacks._batch import Batch
    from holdfast.seeding import Noise


@final
class Fab(Boundary):
    """Walk to the nearest of all classes' boundaries and along it, in search of the row nearest to the clean one.

    It knows no radius: what it finds counts where it lies within. A step takes one forward and one backward for each
    class, and one forward more; with many classes ``fab_t`` is the cheaper.
    """

    reference: ClassVar[str] = "Croce and Hein 2020, arXiv:1907.02044, algorithm 1"

    @property
    def most_forwards(self) -> int:
        """Forwards of one point at most."""
        return 2 * self.restarts * self.steps

    def longer(self) -> Self:
        """Give the same attack with twice the steps."""
        return self.model_copy(update={"steps": 2 * self.steps})

    def lighter(self) -> Self:
        """Give the same attack from the clean rows alone."""
        return self.model_copy(update={"restarts": 1})

    def perturb(self, batch: Batch, noise: Noise) -> Tensor:
        """Propose the first row within the radius, of any run, that breaks the point."""
        for restart in range(self.restarts):
            self.walk(batch, batch.nearest, noise.derive("start", restart) if restart else None)
        return batch.adversarial
