"""Deep partition aggregation: a vote of models with a part of the rows each, which few flipped labels cannot turn."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Annotated, ClassVar, final

import torch
from pydantic import Field

from holdfast.results import Curve, CurvePoint, Dimension, Measure, PerExample
from holdfast.scenarios.base import OnRecipe, Outcome, choose
from holdfast.statistics import share

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.scenarios.base import Context
    from holdfast.seeding import Noise
    from holdfast.training.workshop import Workshop


@final
class LabelFlipDpa(OnRecipe):
    """Share of test points that a vote of partitions has right, provably, whichever few training labels are flipped.

    A row's partition follows from its inputs alone, each partition trains one model by the recipe from a seed of its
    own, and the class with most votes wins, the first of equals. A flipped label changes one model, and so at most one
    vote: a point is certified for half the votes, rounded down, by which its class leads. The proof is about that vote
    of ``partitions`` models, and not about the champion; it says what the recipe would give up in accuracy to have it.

    Rows may not be added or changed: encoders take their statistics from all inputs together, and one more row would
    move every model. Validation rows, which choose epochs, stay clean, and so do the checks of rows before training.
    Unlike SS-DPA of the same paper, models learn nothing from inputs beyond their partition.

    Source: Levine and Feizi 2021, arXiv:2006.14768, theorem 1.
    """

    dimension: ClassVar[Dimension] = "defence"
    family: ClassVar[str] = "poisoning"
    reference: ClassVar[str] = "Levine and Feizi 2021, arXiv:2006.14768, theorem 1 (DPA), for flipped labels alone"
    headline: ClassVar[bool] = False

    partitions: Annotated[int, Field(gt=1)] = 20
    """Models that vote: more stand more flips, and each knows less."""
    flips: Annotated[int, Field(ge=0)] = 3
    """Flipped training rows: where the score is read."""
    epochs: Annotated[int, Field(gt=0)] | None = None
    """Epochs of each training; None takes the recipe's own."""
    points: Annotated[int, Field(gt=0)] = 1000
    """Test points at most."""

    def measure_recipe(self, workshop: Workshop, noise: Noise, context: Context) -> Outcome:
        """Train a model on each partition, and count their votes on the test points."""
        test = choose(workshop.test.require("test"), self.points, context.seed).to(workshop.device)
        part = partition(workshop.train.x, self.partitions, noise)
        sizes = torch.bincount(part, minlength=self.partitions)
        if len(test) == 0 or int(sizes.min()) < 2:  # noqa: PLR2004  nothing is learnt from one row
            reason = f"a partition of {int(sizes.min())} rows: take fewer than {self.partitions} partitions"
            return Outcome(score=None, unscored=reason if len(test) else "no test rows")
        votes = torch.zeros((len(test), len(workshop.spec.classes)), dtype=torch.int64, device=workshop.device)
        alone = 0.0
        for number in range(self.partitions):
            seed = noise.derive("training", number).generator().initial_seed()
            rows = workshop.train.take((part == number).to(workshop.train.y.device))
            answers = workshop.fit(rows, seed=seed, epochs=self.epochs).predict(test.x)
            votes += torch.nn.functional.one_hot(answers.clamp(min=0), votes.shape[1]) * (answers >= 0)[:, None]
            alone += float((answers == test.y).double().mean()) / self.partitions
        radius = certified_flips(votes, test.y)
        flags = (radius >= self.flips).cpu().numpy()
        most = int(radius.max())
        points = tuple(
            CurvePoint(at=float(at), score=share((radius >= at).cpu().numpy(), "lower_bound"))
            for at in sorted({*range(0, most + 1, max(1, most // 8)), self.flips})
        )
        return Outcome(
            score=share(flags, "lower_bound"),
            measures=(
                _share("votes_right", float((radius >= 0).double().mean()), len(test)),
                _share("mean_accuracy_alone", alone, len(test)),
                Measure(
                    name="median_certified_flips", value=float(radius.clamp(min=0).double().median()), unit="rows",
                    better="higher", n=len(test),
                ),
            ),
            curves=(Curve(name="certified accuracy", axis="flipped rows", points=points),),
            per_example=PerExample.pack(test.ids.cpu().numpy(), flags, test.y.cpu().numpy()),
            details={"certifies": "vote of partitions", "rows": len(part), "smallest_partition": int(sizes.min())},
        )  # fmt: skip


def partition(x: Tensor, count: int, noise: Noise) -> Tensor:
    """Give each row (n, *shape) its partition (n,) by the bytes of its inputs: neither label nor other rows matter."""
    names = [blake2b(row.tobytes(), digest_size=8).digest() for row in x.cpu().numpy()]
    words = torch.tensor([int.from_bytes(name, "big", signed=True) for name in names], dtype=torch.int64)
    return noise.derive("partition").integers(words, count)


def certified_flips(votes: Tensor, labels: Tensor) -> Tensor:
    """Give how many votes may change for certain (n,), by votes (n, classes); -1 where the vote is wrong.

    Half the lead over the strongest other class, rounded down; one of a lower number wins a tie, and so leads by less.

    Source: Levine and Feizi 2021, arXiv:2006.14768, theorem 1.
    """
    classes = torch.arange(votes.shape[1], device=votes.device)
    own = votes.gather(1, labels[:, None])
    others = votes + (classes < labels[:, None]).to(votes.dtype)
    others = torch.where(classes == labels[:, None], -1, others)
    lead = own[:, 0] - others.amax(1)
    return torch.where(lead >= 0, lead // 2, -1)


def _share(name: str, value: float, n: int) -> Measure:
    return Measure(name=name, value=value, unit="share", better="higher", n=n)
