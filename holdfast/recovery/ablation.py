"""Ablation: a suspicious part of a window is trained with and without; rows that are trusted decide what it teaches."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy import stats

from holdfast.integrity.classifiers import classify
from holdfast.recovery.screening import Suspect
from holdfast.results import Share, Value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.seeding import Noise

Array = np.ndarray[Any, np.dtype[Any]]
Burden = Literal["harm", "lesson"]
"""What must be shown: that the part harms (else it is cleared), or that it teaches something (else it is poison)."""
_LEVEL = 0.05
"""One-sided level of what must be shown."""
LEARNERS = {"table": ("quick", "linear"), "images": ("quick",)}
"""Who trains with and without: the quick classifier of the kind, and for tables logistic regression beside it."""
_FLOOR = 1e-3
_WORTH_THREADS = 20_000
"""Rows from which a second thread earns what it costs."""
_DRAWS = 3
"""Draws of known rows over which losses are averaged: quick classifiers on few rows differ by chance."""


class Ablation(Value):
    """What training on one suspicious part does to trusted rows."""

    suspect: Suspect
    burden: Burden
    effect: float
    """Mean log loss on trusted rows when trained with the part less without it, in nats; above 0 is harm."""
    low: float
    high: float
    """Ends of its 95 % interval."""
    p_value: Share
    """One-sided, of what the burden asks for."""
    n: int
    """Trusted rows."""
    poison: bool
    reason: str


@dataclass(frozen=True, eq=False)
class Labelled:
    """Rows for a quick classifier: features (n, d) float32 and class indices (n,) int64."""

    features: Array
    labels: Array

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Array) -> Labelled:
        """Give some rows, by index (m,) or mask (n,)."""
        return Labelled(self.features[rows], self.labels[rows])

    def marked(self, part: Array) -> Labelled:
        """Add a feature that says which rows (n,) bool are of a part: then any classifier can tell it apart."""
        return Labelled(np.column_stack([self.features, part]).astype(np.float32), self.labels)

    def beside(self, others: Labelled) -> Labelled:
        """Lay other rows after these."""
        return Labelled(np.concatenate([self.features, others.features]), np.concatenate([self.labels, others.labels]))


def ablate(
    suspect: Suspect,
    *,
    known: Labelled,
    window: Labelled,
    part: Array,
    trusted: Labelled,
    kind: Literal["table", "images"],
    classes: int,
    margin: float,
    burden: Burden,
    noise: Noise,
) -> Ablation:
    """Train a quick classifier with and without a part of a window, and let trusted rows decide.

    Where labels are outcomes, a part that differs may have drifted, and is poison only when what it teaches *harms*
    trusted rows like it by more than ``margin``. Where labels are facts, a backdoor harms no clean row, and a part
    stays poison unless what it teaches is a *lesson* that helps trusted rows by more than ``margin``.

    As many known rows as the window has train beside it, drawn anew three times: what the part teaches must not
    drown in a long past, since a window that is let in is one of many.

    Args:
        suspect: why the part is in question.
        known: rows known to be good, to draw from.
        window: all its rows.
        part: which of them (n,) bool are left out the second time.
        trusted: rows known to be good that train neither time.
        kind: which classifier is the quick one.
        classes: number of classes.
        margin: least harm or help that counts, in nats.
        burden: what must be shown.
        noise: source of the draws, and of the classifier.

    Source: Korycki and Krawczyk 2023, Machine Learning 112, arXiv:2009.09497 (detectors alone cannot tell adversarial
    from valid drift); Barreno et al. 2010, Machine Learning 81, section 4.4 (reject on negative impact).
    """
    learners = LEARNERS[kind]
    differences = np.zeros((len(learners), len(trusted)))
    for place in range(_DRAWS):
        drawn = known.take(noise.derive(place).numpy().permutation(len(known))[: len(window)])
        both = (drawn.beside(window), drawn.beside(window.take(~np.asarray(part))))
        for i, learner in enumerate(learners):
            with_it, without = (_loss(learner, rows, trusted, kind, classes, noise.seed & 0x7FFFFFFF) for rows in both)
            differences[i] += (with_it - without) / _DRAWS
    # What harms one learner harms: the gravest decides, and answers for having been chosen.
    gravest = differences[int(differences.mean(1).argmax())] if len(trusted) else differences[0]
    return judge(suspect, gravest, margin=margin, burden=burden, learners=len(learners))


def told_apart(known: Labelled, window: Labelled, kind: Literal["table", "images"], noise: Noise) -> float:
    """Tell how well a quick classifier that sees no label tells a window's rows from known ones: 0 not at all, 1 fully.

    It is Gini's coefficient, 2 AUC - 1, of as many rows of each, every one judged by a classifier fitted on others.

    Args:
        known: rows known to be good, to draw from.
        window: all its rows.
        kind: which classifier is the quick one.
        noise: source of the draws.
    """
    n, generator = min(len(known), len(window)), noise.numpy()
    if n < 2:  # noqa: PLR2004  nothing says that they differ
        return 0.0
    drawn = [each.features[generator.permutation(len(each))[:n]] for each in (known, window)]
    features, source = np.concatenate(drawn), np.repeat([0, 1], n)
    order = generator.permutation(2 * n)
    halves, scores = (order[::2], order[1::2]), np.zeros(2 * n)
    for fitted, asked in (halves, halves[::-1]):
        told = classify(kind, features[fitted], source[fitted], features[asked], 2, noise.seed & 0x7FFFFFFF)
        scores[asked] = told[:, 1]
    area = float(stats.mannwhitneyu(scores[source == 1], scores[source == 0]).statistic) / n**2
    return max(0.0, 2.0 * area - 1.0)


def judge(suspect: Suspect, differences: Array, *, margin: float, burden: Burden, learners: int = 1) -> Ablation:
    """Decide by the differences in loss (n,) on trusted rows, with less without the part; n below 2 decides nothing.

    Where they are the gravest of several learners', harm must be shown at a level that is divided by their number.

    The burden falls on the part in both cases: where no trusted row can speak, it is poison.
    """
    n = len(differences)
    if n < 2:  # noqa: PLR2004  no spread without two
        told = f"{n} trusted rows are like it: nothing speaks for it"
        return Ablation(
            suspect=suspect, burden=burden, effect=0.0, low=0.0, high=0.0, p_value=1.0, n=n, poison=True, reason=told
        )
    effect = float(differences.mean())
    error = max(float(differences.std(ddof=1)) / float(np.sqrt(n)), 1e-12)
    half = float(stats.t.ppf(0.975, n - 1)) * error
    sign = 1.0 if burden == "harm" else -1.0
    p = float(stats.t.sf(sign * effect / error, n - 1))
    p = min(1.0, p * learners) if burden == "harm" else p
    shown = p < _LEVEL and sign * effect > margin
    poison = shown if burden == "harm" else not shown
    told = f"training on it moves the log loss of {n} trusted rows by {effect:+.4f} [{effect - half:+.4f}, "
    told += f"{effect + half:+.4f}], " + _verdict(burden, margin, poison=poison)
    return Ablation(
        suspect=suspect, burden=burden, effect=effect, low=effect - half, high=effect + half, p_value=p, n=n,
        poison=poison, reason=told,
    )  # fmt: skip


def _verdict(burden: Burden, margin: float, *, poison: bool) -> str:
    if burden == "harm":
        return f"{'harm' if poison else 'no harm'} above {margin:.2g}"
    return f"{'no' if poison else 'a'} lesson worth {margin:.2g}"


def _loss(learner: str, rows: Labelled, asked: Labelled, kind: str, classes: int, seed: int) -> Array:
    """Train on rows, and give the log loss (m,) of others."""
    if len(asked) == 0:
        return np.zeros(0)
    if learner == "quick":
        probabilities = classify(kind, rows.features, rows.labels, asked.features, classes, seed)
    else:
        probabilities = _linear(rows, asked.features, classes)
    return np.asarray(-np.log(probabilities[np.arange(len(asked)), asked.labels]))


def _linear(rows: Labelled, asked: Array, classes: int) -> Array:
    """Fit logistic regression, the last feature and its products with all others among its features.

    What it learned of a marked part it carries to rows of another time, which trees would tell apart in other ways.
    """
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415  params are checked without it

    found = np.full((len(asked), classes), _FLOOR)
    present = np.unique(rows.labels)
    if len(present) == 1:
        found[:, present[0]] = 1.0
    else:
        with _one_thread(len(rows)):
            model = LogisticRegression(max_iter=2000).fit(_crossed(rows.features), rows.labels)
            found[:, present] = np.maximum(model.predict_proba(_crossed(asked)), _FLOOR)
    return np.asarray(found / found.sum(1, keepdims=True))


@contextmanager
def _one_thread(rows: int) -> Iterator[None]:
    """Keep a fit on few rows to one thread: others spend three times its processor time waiting for each other."""
    from threadpoolctl import threadpool_limits  # noqa: PLC0415  params are checked without it

    with threadpool_limits(limits=1) if rows < _WORTH_THREADS else nullcontext():
        yield


def _crossed(features: Array) -> Array:
    return np.column_stack([features, features[:, :-1] * features[:, -1:]])
