"""What a model answers on clean rows, and what the user's metric makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from holdfast.statistics import RANKING, quality

if TYPE_CHECKING:
    import numpy.typing as npt

    from holdfast.data import Samples
    from holdfast.model import Target
    from holdfast.results import Score
    from holdfast.scenarios.base import Context

    Mask = npt.NDArray[np.bool_]

_TWO = 2


@dataclass(frozen=True, eq=False)
class Answers:
    """Answers to n rows; a row whose logits are not finite is wrong, whatever the metric."""

    ids: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    right: Mask
    predictions: npt.NDArray[np.int64]
    """Predicted class, or -1 where the logits are not finite."""
    confidences: npt.NDArray[np.float64]
    """Probability of the predicted class by the model itself; 1 where the logits are not finite."""
    margins: npt.NDArray[np.float32] | None
    """For two classes: logit of class 1 minus logit of class 0, beyond all others where they are not finite."""

    def take(self, mask: Mask) -> Answers:
        """Keep some rows."""
        margins = None if self.margins is None else self.margins[mask]
        return Answers(
            self.ids[mask], self.labels[mask], self.right[mask], self.predictions[mask], self.confidences[mask], margins
        )


@torch.no_grad()
def answer(target: Target, samples: Samples, x: torch.Tensor | None = None) -> Answers:
    """Put the rows, or other inputs x (n, *shape) in their place, to the model."""
    logits = target.logits(samples.x if x is None else x)
    finite = logits.isfinite().all(1)
    predictions = torch.where(finite, logits.argmax(1), -1)
    confidences = torch.where(finite, torch.nan_to_num(logits).double().softmax(1).amax(1).clamp(max=1.0), 1.0)
    return Answers(
        ids=samples.ids.cpu().numpy(),
        labels=samples.y.cpu().numpy(),
        right=(predictions == samples.y).cpu().numpy(),
        predictions=predictions.cpu().numpy(),
        confidences=confidences.cpu().numpy(),
        margins=_margins(logits, finite, samples.y) if logits.shape[1] == _TWO else None,
    )


def _margins(logits: torch.Tensor, finite: torch.Tensor, labels: torch.Tensor) -> npt.NDArray[np.float32]:
    margins = (logits[:, 1] - logits[:, 0]).cpu().numpy().astype(np.float32)
    lost = ~finite.cpu().numpy()
    edge = np.float32(np.abs(margins[~lost]).max(initial=0.0)) * np.float32(2.0) + np.float32(1.0)
    margins[lost] = np.where(labels.cpu().numpy()[lost] == 1, -edge, edge)
    return margins


def undefined(context: Context, answers: Answers) -> str | None:
    """Say why the user's metric has no value on these answers; None when it has."""
    if len(answers.labels) == 0:
        return "no rows"
    if context.metric in RANKING and answers.margins is None:
        return f"{context.metric} ranks two classes, and the model has more"
    if context.metric in RANKING and len(np.unique(answers.labels)) < _TWO:
        return f"{context.metric} needs rows of both classes"
    return None


def metric_score(context: Context, answers: Answers, rng: np.random.Generator) -> Score:
    """Score answers by the user's metric.

    Raises:
        ScenarioError: the metric is not defined here; ask :func:`undefined` first.
    """
    return quality(
        context.metric,
        answers.labels,
        answers.right,
        answers.margins,
        _costed(context, answers),
        context.costs,
        rng=rng,
    )


def _costed(context: Context, answers: Answers) -> npt.NDArray[np.int64]:
    """Give the predictions, each that is none replaced by the costliest of its row."""
    if context.costs is None:
        return answers.predictions
    costliest = np.asarray(context.costs).argmax(axis=1)
    return np.where(answers.predictions < 0, costliest[answers.labels], answers.predictions)


def confusion(answers: Answers, classes: int) -> list[list[int]]:
    """Count rows by (true class, predicted class); rows without an answer are in no column."""
    counts: npt.NDArray[Any] = np.zeros((classes, classes), dtype=np.int64)
    told = answers.predictions >= 0
    np.add.at(counts, (answers.labels[told], answers.predictions[told]), 1)
    nested: list[list[int]] = counts.tolist()
    return nested
