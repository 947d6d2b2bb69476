"""The regression corpus replayed: rows that broke earlier versions, put to this one before any attack is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, final

from pydantic import Field

from holdfast.results import Dimension, Measure, PerExample
from holdfast.scenarios.answers import answer
from holdfast.scenarios.base import OnModel, Outcome
from holdfast.scenarios.corpus import originals_of
from holdfast.statistics import grouped_share

if TYPE_CHECKING:
    from holdfast.data import Samples
    from holdfast.model import Target
    from holdfast.scenarios.base import Context
    from holdfast.seeding import Noise


@final
class RegressionCorpus(OnModel):
    """The share of earlier attacks' successes that this version answers rightly.

    Its rows are no test rows but the attacked ones that are kept of earlier versions; whoever runs it hands them
    over. They were made against other weights, so a version that withstands them all may still fall to attacks of its
    own: it is no headline. One row that fell to several attacks, or in several versions, is there several times: the
    interval is over rows as they were before any attack. What it shows is an old weakness that came back.

    Source: Yan et al. 2021, arXiv:2011.09161, section 3 (regressions between versions of a model).
    """

    dimension: ClassVar[Dimension] = "defence"
    family: ClassVar[str] = "regression"
    reference: ClassVar[str] = "Yan et al. 2021, arXiv:2011.09161, section 3"
    headline: ClassVar[bool] = False

    kept: Annotated[int, Field(gt=0)] = 200
    """Successes of each attack on each version that are kept at most, those first by content."""

    def measure(self, target: Target, samples: Samples, noise: Noise, context: Context) -> Outcome:
        """Ask for each row once."""
        del noise, context
        answers = answer(target, samples)
        originals = originals_of(answers.ids)
        broken = grouped_share(~answers.right, originals)
        return Outcome(
            score=grouped_share(answers.right, originals),
            measures=(
                Measure(
                    name="still_breaking", value=broken.value, unit="share of earlier successes", better="lower",
                    low=broken.low, high=broken.high, n=broken.n, method=broken.method,
                ),
            ),
            per_example=PerExample.pack(answers.ids, answers.right, answers.labels),
        )  # fmt: skip
