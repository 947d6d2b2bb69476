"""Quality: the user's metric on clean rows, which every dimension protects."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

import numpy as np

from holdfast.results import Dimension, PerExample
from holdfast.scenarios.answers import answer, confusion, metric_score, undefined
from holdfast.scenarios.base import OnModel, Outcome
from holdfast.statistics import share

if TYPE_CHECKING:
    from holdfast.data import Samples
    from holdfast.model import Target
    from holdfast.scenarios.base import Context
    from holdfast.seeding import Noise


@final
class Quality(OnModel):
    """The user's metric, the accuracy within each class as slices, and the confusion matrix.

    For two classes the ranking score of a point is logit 1 minus logit 0; a row whose logits are not finite
    ranks as wrongly as it can.

    Source: Brodersen et al. 2010, ICPR (balanced accuracy); DeLong et al. 1988, Biometrics 44 (AUROC).
    """

    dimension: ClassVar[Dimension] = "robustness"
    family: ClassVar[str] = "quality"
    reference: ClassVar[str] = "Brodersen et al. 2010, ICPR; DeLong et al. 1988, Biometrics 44"
    headline: ClassVar[bool] = False

    def measure(self, target: Target, samples: Samples, noise: Noise, context: Context) -> Outcome:
        """Score the clean answers."""
        answers = answer(target, samples)
        if reason := undefined(context, answers):
            return Outcome(score=None, unscored=reason)
        classes = [int(label) for label in np.unique(answers.labels)]
        return Outcome(
            score=metric_score(context, answers, noise.numpy()),
            slices={f"class={target.classes[c]}": share(answers.right[answers.labels == c]) for c in classes},
            per_example=PerExample.pack(answers.ids, answers.right, answers.labels, answers.margins),
            details={
                "metric": context.metric,
                "classes": list(target.classes),
                "confusion": confusion(answers, len(target.classes)),
            },
        )
