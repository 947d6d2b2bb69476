"""Quick classifiers that the checks judge labels by, deterministic by seed and never the model that is trained."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from holdfast.integrity.base import Array, Material

_COMPONENTS, _FEATURES = 60, 1500
_BANDWIDTH, _RIDGE = 0.7, 0.1
_FLOOR = 1e-3
_JUDGES = {"table": ("trees", "lightgbm"), "images": ("ridge regression", "scikit-learn")}


def classify(kind: str, features: Array, labels: Array, asked: Array, classes: int, seed: int) -> Array:
    """Fit on rows and give probabilities for others.

    Tables: gradient boosted trees (Ke et al. 2017, NeurIPS). Images: ridge regression of the class indicators on 1,500
    random Fourier features of 60 principal components (Rahimi and Recht 2007, NeurIPS), which has a closed form.

    Args:
        kind: ``table`` or ``images``.
        features: (n, d) float32.
        labels: (n,) int64 in 0 .. classes - 1.
        asked: (m, d) float32.
        classes: number of classes; one that no row holds gets the least probability.
        seed: names the draw of random features, of components and of the rows that cuts are read from.

    Returns:
        Probabilities (m, classes) float64, rows sum to 1.
    """
    scores = np.zeros((len(asked), classes))
    if kind == "table":
        scores[:, np.unique(labels)] = _trees(features, labels, asked, seed)
    else:
        scores = _kernel_ridge(features, labels, asked, classes, seed)
    floored = np.clip(scores, _FLOOR, None)
    return np.asarray(floored / floored.sum(1, keepdims=True))


def out_of_sample(material: Material, labels: Array, classes: int, folds: int, who: str) -> Array:
    """Give each row's probabilities (n, classes) by a classifier that was not fitted on it, by stratified folds.

    Args:
        material: its features, kind and seed are read, and its progress hears each fold as it begins.
        labels: (n,) int64 in 0 .. classes - 1.
        classes: number of classes.
        folds: number of folds; each class has at least as many rows.
        who: the check that asks, for the progress.
    """
    from sklearn.model_selection import StratifiedKFold  # noqa: PLC0415  params are checked without it

    probabilities, seed = np.zeros((len(labels), classes)), material.seed & 0x7FFFFFFF
    split = StratifiedKFold(folds, shuffle=True, random_state=seed)
    for number, (fitted, asked) in enumerate(split.split(material.features, labels), start=1):
        material.progress(f"{who}  fold {number} of {folds}, {len(fitted)} rows")
        rows, others = material.features[fitted], material.features[asked]
        probabilities[asked] = classify(material.kind, rows, labels[fitted], others, classes, seed)
    return probabilities


def judge(kind: str) -> str:
    """Name who judges labels of a kind: what one said of rows is not compared with what another says."""
    classifier, library = _JUDGES[kind]
    return f"{classifier} of {library} {version(library)}"


def _trees(features: Array, labels: Array, asked: Array, seed: int) -> Array:
    """Boost trees on rows (n, d), and give others' probabilities (m, k) of the classes that there are.

    One thread, whatever the machine has: sums have one order, and a fit takes a tenth of a second. LightGBM bundles
    columns that exclude each other, so that a name's hundred categories cost as much as one number; and it cuts numbers
    at values that many rows have, where quantiles cut past them.
    """
    import torch  # noqa: F401, PLC0415  brings the OpenMP that LightGBM wants to find, where the system has none
    from lightgbm import LGBMClassifier  # noqa: PLC0415  params are checked without it

    if len(np.unique(labels)) == 1:
        return np.ones((len(asked), 1))
    trees = LGBMClassifier(
        n_estimators=60, learning_rate=0.2, num_leaves=31, min_child_samples=20, random_state=seed, n_jobs=1,
        deterministic=True, force_row_wise=True, verbosity=-1,
    )  # fmt: skip
    return np.asarray(trees.fit(features, labels).predict_proba(asked))


def _kernel_ridge(features: Array, labels: Array, asked: Array, classes: int, seed: int) -> Array:
    from sklearn.decomposition import PCA  # noqa: PLC0415  params are checked without it

    components = min(_COMPONENTS, *features.shape)
    reduce = PCA(components, svd_solver="randomized", random_state=seed).fit(features)
    known, unknown = reduce.transform(features), reduce.transform(asked)
    width = _BANDWIDTH * max(float(np.sqrt(np.square(known).sum(1).mean())), 1e-12)
    generator = np.random.default_rng(seed)
    directions = (generator.normal(size=(components, _FEATURES)) / width).astype(np.float32)
    phases = generator.uniform(0, 2 * np.pi, _FEATURES).astype(np.float32)

    def waves(rows: Any) -> Any:  # noqa: ANN401  arrays of the untyped library
        return np.cos(rows @ directions + phases) * np.float32(np.sqrt(2 / _FEATURES))

    known = waves(known)
    indicators = np.eye(classes, dtype=np.float32)[labels]
    mean = indicators.mean(0)
    gram = known.T @ known + _RIDGE * np.eye(_FEATURES, dtype=np.float32)
    return np.asarray(waves(unknown) @ np.linalg.solve(gram, known.T @ (indicators - mean)) + mean, dtype=np.float64)
