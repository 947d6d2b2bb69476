"""The user's metric as a score: accuracy, balanced accuracy, AUROC, average precision or expected cost."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple, cast, get_args

import numpy as np

from holdfast.statistics.intervals import finite, flags_of, make_score, refuse, share, wilson
from holdfast.statistics.ranking import auroc, average_precision, two_classes

if TYPE_CHECKING:
    import numpy.typing as npt

    from holdfast.results import Score
    from holdfast.statistics.intervals import Floats

Metric = Literal["accuracy", "balanced_accuracy", "auroc", "average_precision", "expected_cost"]
METRICS: tuple[str, ...] = get_args(Metric)
RANKING: frozenset[str] = frozenset({"auroc", "average_precision"})


class ClassMeans(NamedTuple):
    """A metric that is a weighted sum over classes of a mean credit: what is resampled and combined."""

    credit: Floats
    """Credit of each point in [0, 1], (n,)."""
    classes: npt.NDArray[np.intp]
    """Index of each point's class, (n,)."""
    weights: Floats
    """Weight of each class, summing to 1."""

    def means(self) -> Floats:
        """Mean credit of each class."""
        return np.asarray(np.bincount(self.classes, weights=self.credit) / np.bincount(self.classes))

    def value(self) -> float:
        """Give the metric."""
        return float(self.weights @ self.means())


def check_metric(metric: str) -> Metric:
    """Give the metric back, or refuse a name that is none.

    Raises:
        ScenarioError: no such metric.
    """
    if metric not in METRICS:
        raise refuse("quality", f"metric {metric!r}", f"one of {', '.join(METRICS)}")
    return cast("Metric", metric)


def class_means(
    metric: str,
    labels: npt.ArrayLike,
    flags: npt.ArrayLike,
    predictions: npt.ArrayLike | None = None,
    costs: npt.ArrayLike | None = None,
) -> ClassMeans:
    """Write accuracy, balanced accuracy or expected cost as a weighted sum of mean credits per class.

    Args:
        metric: name of the metric.
        labels: class of each point, (n,).
        flags: whether each point is right, (n,).
        predictions: predicted class of each point, (n,); for expected cost.
        costs: non-negative cost (true class, predicted class); for expected cost.

    Raises:
        ScenarioError: unequal lengths, another metric, or no costs or predictions where they are needed.
    """
    y, right = finite(metric, labels), flags_of(metric, flags)
    if len(y) != len(right):
        raise refuse(metric, f"{len(y)} labels and {len(right)} flags", "as many flags as labels")
    values, classes, sizes = np.unique(y, return_inverse=True, return_counts=True)
    if metric == "accuracy":
        return ClassMeans(right, classes, sizes / sizes.sum())
    if metric == "balanced_accuracy":
        return ClassMeans(right, classes, np.full(len(values), 1.0 / len(values)))
    if metric != "expected_cost":
        raise refuse("class_means", f"metric {metric!r}", "a metric that is a sum over classes")
    matrix = _cost_matrix(costs, int(y.max()))
    credit, worst = _credits(matrix, y.astype(np.intp), predictions)
    weights = sizes * worst[values.astype(np.intp)]
    if weights.sum() == 0.0:
        raise refuse("expected_cost", "no mistake that costs anything", "a positive cost for a class that occurs")
    return ClassMeans(credit, classes, weights / weights.sum())


def _cost_matrix(costs: npt.ArrayLike | None, largest: int) -> Floats:
    if costs is None:
        raise refuse("expected_cost", "no costs", "a matrix of costs (true class, predicted class)")
    matrix = finite("expected_cost", costs, 2)
    if matrix.shape[0] != matrix.shape[1] or matrix.min() < 0.0 or largest >= len(matrix):
        raise refuse(
            "expected_cost",
            f"costs of shape {matrix.shape}, from {matrix.min():g}, and class {largest}",
            "a square matrix of non-negative costs, one row for each class",
        )
    return matrix


def _credits(matrix: Floats, labels: npt.NDArray[np.intp], predictions: npt.ArrayLike | None) -> tuple[Floats, Floats]:
    """Give one minus each point's cost over the worst of its class (n,), and the worst of each class."""
    if predictions is None:
        raise refuse("expected_cost", "no predictions", "the predicted class of each point")
    predicted = finite("expected_cost", predictions).astype(np.intp)
    if len(predicted) != len(labels) or min(predicted.min(), labels.min()) < 0 or predicted.max() >= len(matrix):
        raise refuse(
            "expected_cost",
            f"{len(predicted)} predictions from {predicted.min()} to {predicted.max()} for {len(labels)} labels",
            f"as many predictions as labels, classes 0 to {len(matrix) - 1}",
        )
    worst = matrix.max(axis=1)
    return 1.0 - matrix[labels, predicted] / np.where(worst > 0.0, worst, 1.0)[labels], worst


def quality(
    metric: str,
    labels: npt.ArrayLike,
    flags: npt.ArrayLike,
    scores: npt.ArrayLike | None = None,
    predictions: npt.ArrayLike | None = None,
    costs: npt.ArrayLike | None = None,
    *,
    rng: np.random.Generator,
) -> Score:
    """The user's metric as a score with its 95 % interval.

    Accuracy is a share (Wilson). Balanced accuracy is the mean of the recalls of the classes that occur.
    Expected cost is 1 - (cost paid) / (cost of the worst answer for every point), so that 1 is free and 0 the
    worst; for both, the Wilson intervals of the classes are combined by MOVER, which is conservative for
    graded costs and does not shrink to a point when every answer is right. AUROC has DeLong's interval,
    average precision a stratified bootstrap.

    Args:
        metric: one of :data:`METRICS`.
        labels: class of each point, (n,); 0 or 1 for the ranking metrics.
        flags: whether each point is right, (n,).
        scores: ranking scores (n,), higher for class 1; for AUROC and average precision.
        predictions: predicted class of each point (n,); for expected cost.
        costs: non-negative cost (true class, predicted class); for expected cost.
        rng: generator of the bootstrap.

    Raises:
        ScenarioError: no such metric, or what it needs is missing or malformed.

    Source: Brodersen et al. 2010, ICPR (balanced accuracy); Zou and Donner 2008, Statistics in Medicine 27
    (MOVER); Drummond and Holte 2006, Machine Learning 65 (normalised expected cost).
    """
    check_metric(metric)
    if metric == "accuracy":
        return share(flags)
    if metric in RANKING:
        if scores is None:
            raise refuse(metric, "no scores", "a ranking score for each point")
        positives, negatives = two_classes(metric, labels, scores)
        if metric == "average_precision":
            return average_precision(labels, scores, rng)
        area = auroc(positives, negatives)
        return make_score(area.value, (area.low, area.high), len(positives) + len(negatives), area.method)
    return _mover(class_means(metric, labels, flags, predictions, costs))


def _mover(parts: ClassMeans) -> Score:
    """Combine the Wilson intervals of the classes; a credit in [0, 1] varies no more than a flag of its mean."""
    means, sizes = parts.means(), np.bincount(parts.classes)
    ends = np.array([wilson(min(mean, 1.0) * size, size) for mean, size in zip(means, sizes, strict=True)])
    value = parts.value()
    down = math.sqrt(float(np.sum((parts.weights * (means - ends[:, 0])) ** 2)))
    up = math.sqrt(float(np.sum((parts.weights * (ends[:, 1] - means)) ** 2)))
    return make_score(value, (value - down, value + up), len(parts.credit), "mover_wilson")
