"""Label errors: rows that a classifier fitted without them confidently gives another class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, final

import numpy as np
from pydantic import Field

from holdfast.errors import IntegrityError
from holdfast.integrity.base import Faults, IntegrityCheck, Material, measure
from holdfast.integrity.classifiers import out_of_sample
from holdfast.results import Share  # noqa: TC001  pydantic reads it at run time

if TYPE_CHECKING:
    from holdfast.integrity.base import Array


def confident_joint(probabilities: Array, labels: Array) -> tuple[Array, Array]:
    """Count given against confidently suggested labels (Northcutt, Jiang and Chuang 2021, equation 1).

    A class is suggested for a row when its probability reaches the mean that rows given that class have there; of
    several, the likeliest.

    Args:
        probabilities: (n, k), out of sample.
        labels: given classes (n,) int64.

    Returns:
        The joint (k, k), given by suggested, and each row's suggestion (n,), -1 where no class is suggested.
    """
    classes = probabilities.shape[1]
    given = np.eye(classes, dtype=bool)[labels]
    rows = given.sum(0)
    thresholds = np.where(rows > 0, (probabilities * given).sum(0) / np.maximum(rows, 1), np.inf)
    reached = np.where(probabilities >= thresholds, probabilities, -1.0)
    suggested = np.where(reached.max(1) >= 0, reached.argmax(1), -1)
    joint = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(joint, (labels[suggested >= 0], suggested[suggested >= 0]), 1)
    return joint, suggested


@final
class LabelErrors(IntegrityCheck):
    """Quarantine rows off the diagonal of the confident joint, where the margin is wide enough.

    The margin is the suggested class's probability less the given class's: the classes of a noisy world
    overlap, and a narrow margin would quarantine the overlap.
    """

    reference: ClassVar[str] = "Northcutt, Jiang and Chuang 2021, JAIR 70, arXiv:1911.00068"
    margin: Share = 0.6
    folds: Annotated[int, Field(ge=2, le=10)] = 3
    max_quarantined: Share = 0.1

    def look(self, material: Material) -> Faults:
        """Fit by folds, build the confident joint, and name the rows beyond the margin.

        Raises:
            IntegrityError: a class has fewer rows than there are folds.
        """
        names, labels = np.unique(material.labels, return_inverse=True)
        fewest = int(np.bincount(labels).min())
        if len(names) < 2 or fewest < self.folds:  # noqa: PLR2004  one class has no errors to find
            raise IntegrityError(
                "label error check",
                found=f"{len(names)} classes, the smallest of {fewest} rows",
                expected=f"two classes of at least {self.folds} rows",
                remedy="Merge or drop the small class, or lower integrity.label_errors.folds.",
            )
        probabilities = out_of_sample(material, labels, len(names), self.folds, self.name())
        joint, suggested = confident_joint(probabilities, labels)
        row = np.arange(len(labels))
        margins = probabilities[row, suggested] - probabilities[row, labels]
        suspected = (suggested >= 0) & (suggested != labels)
        chosen = np.flatnonzero(suspected & (margins >= self.margin))
        ranked = chosen[np.argsort(-margins[chosen], kind="stable")]
        return Faults(
            rows={
                int(i): f"label {names[labels[i]]} looks like {names[suggested[i]]} (margin {margins[i]:.2f})"
                for i in ranked
            },
            measures=(
                measure("accuracy_out_of_sample", float((probabilities.argmax(1) == labels).mean()), "share", "higher"),
                measure("suspected_rows", int(suspected.sum()), "rows", "lower", len(labels)),
                measure("estimated_noise", 1.0 - float(np.trace(joint) / max(joint.sum(), 1)), "share", "lower"),
            ),
            note=f"{int(suspected.sum())} rows suspected, none by a margin of {self.margin:g}",
        )
