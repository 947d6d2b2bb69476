"""Poison screening: a part of a class that stands apart in the class's strongest direction and is not of the class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, final

import numpy as np
from pydantic import Field
from scipy.linalg import eigh, solve_triangular
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from holdfast.integrity.base import Faults, IntegrityCheck, Material, measure
from holdfast.integrity.classifiers import classify
from holdfast.results import Share  # noqa: TC001  pydantic reads it at run time

if TYPE_CHECKING:
    from holdfast.integrity.base import Array

_DIMENSIONS = 1024
_SHRINKAGE = 0.01


@final
class PoisonScreening(IntegrityCheck):
    """Screen each class by spectral signature, activation clustering and exclusionary reclassification.

    Features are whitened by the covariance of the *other* classes, so that what is normal in the data is small and
    a trigger is large. The class's first singular direction there is its spectral signature (Tran et al.); its rows are
    split in two along it (Chen et al., section 4). The smaller part is poison when it is as compact as only a
    planted pattern is *and* a classifier fitted without it puts most of it in other classes (Chen et al., section 5).
    The share of poison is never given. Poison whose features lie within its class's own variation is not seen.
    """

    reference: ClassVar[str] = (
        "Tran, Li and Madry 2018, arXiv:1811.00636; Chen et al. 2018, arXiv:1811.03728; "
        "whitening after Hayase et al. 2021, arXiv:2104.11315"
    )
    silhouette: Share = 0.8
    """Least silhouette of the split; natural parts of classes stay below."""
    own_share: Share = 0.5
    """A part of which more is reclassified to its own class is not poison."""
    directions: Annotated[int, Field(ge=1, le=10)] = 1
    """Singular directions that are screened; outliers may fill the first ones."""
    min_rows: Annotated[int, Field(ge=5)] = 10
    min_share: Share = 0.02
    """Smallest part of a class that is judged; less is a handful of outliers."""
    max_quarantined: Share = 0.1

    def look(self, material: Material) -> Faults:
        """Screen every class with enough rows."""
        names, labels = np.unique(material.labels, return_inverse=True)
        features, seed = _reduced(material.features, material.seed & 0x7FFFFFFF), material.seed & 0x7FFFFFFF
        means = np.stack([features[labels == c].mean(0) for c in range(len(names))])
        residuals = features - means[labels]
        scatter = residuals.T @ residuals
        rows: dict[int, str] = {}
        screened, outliers, largest = 0, 0, 0.0
        for c, name in enumerate(names):
            here = np.flatnonzero(labels == c)
            if len(names) < 2 or len(here) < 2 * self.min_rows:  # noqa: PLR2004  whitened by other classes
                continue
            screened += 1
            for signature in _signatures(residuals[here], scatter, len(labels), self.directions).T:
                part, silhouette = _split(signature, seed)
                small = here[part]
                if len(small) < max(self.min_rows, self.min_share * len(here)):
                    outliers += 1
                    continue
                largest = max(largest, silhouette)
                if silhouette < self.silhouette:
                    continue
                own = _own_share(material, labels, small, c, len(names), seed)
                if own < self.own_share:
                    reason = f"stands apart in class {name} and is not of it"
                    detail = f"part of {len(small)}, silhouette {silhouette:.2f}, {own:.0%} reclassified as {name}"
                    rows |= {int(i): f"{reason} ({detail})" for i in small}
        return Faults(
            rows=rows,
            measures=(
                measure("classes_screened", screened, "classes", "higher", len(names)),
                measure("directions_lost_to_outliers", outliers, "directions", "lower"),
                measure("largest_silhouette", largest, "silhouette", "lower"),
            ),
            note=f"no planted part in {screened} of {len(names)} classes; {outliers} directions show outliers only",
        )


def _reduced(features: Array, seed: int) -> Array:
    """Give features in float64, by principal components where they are too many to whiten."""
    if features.shape[1] <= _DIMENSIONS:
        return features.astype(np.float64)
    components = min(_DIMENSIONS // 2, len(features))
    return np.asarray(PCA(components, svd_solver="randomized", random_state=seed).fit_transform(features), dtype=float)


def _signatures(residuals: Array, scatter: Array, n: int, directions: int) -> Array:
    """Project one class's residuals (m, d), whitened by the other classes, on its first singular directions (m, k)."""
    dimensions = len(scatter)
    covariance = (scatter - residuals.T @ residuals) / max(n - len(residuals), 1)
    covariance[np.diag_indices(dimensions)] += max(_SHRINKAGE * np.trace(scatter) / n / dimensions, 1e-12)
    white = solve_triangular(np.linalg.cholesky(covariance), residuals.T, lower=True).T
    small = white @ white.T if len(white) < dimensions else white.T @ white
    last = len(small) - 1
    values, vectors = eigh(small, subset_by_index=[max(last + 1 - directions, 0), last])
    projected = vectors * np.sqrt(np.maximum(values, 0.0)) if len(white) < dimensions else white @ vectors
    return np.asarray(projected[:, ::-1])


def _split(signature: Array, seed: int) -> tuple[Array, float]:
    """Split values (m,) in two; give the smaller part (m,) bool and the silhouette."""
    values = signature[:, None]
    part = KMeans(2, n_init=3, random_state=seed).fit(values).labels_
    smaller = part == np.bincount(part, minlength=2).argmin()
    if smaller.all() or not smaller.any():
        return smaller, 0.0
    return smaller, _silhouette(signature, smaller)


def _silhouette(values: Array, part: Array) -> float:
    """Give the mean silhouette of numbers (m,) split in two (Rousseeuw 1987); rows alone in their part count 0."""
    to_part, to_rest = _distances(values, values[part]), _distances(values, values[~part])
    sizes = np.where(part, part.sum(), (~part).sum())
    within = np.where(part, to_part, to_rest) / np.maximum(sizes - 1, 1)
    between = np.where(part, to_rest, to_part) / (len(values) - sizes)
    larger = np.maximum(np.maximum(within, between), 1e-300)
    return float(np.where(sizes > 1, (between - within) / larger, 0.0).mean())


def _distances(values: Array, others: Array) -> Array:
    """Sum the distances of each number (m,) to all others (k,), in one sort."""
    ordered = np.sort(others)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    below = np.searchsorted(ordered, values)
    return np.asarray(values * below - sums[below] + (sums[-1] - sums[below]) - values * (len(ordered) - below))


def _own_share(material: Material, labels: Array, part: Array, own: int, classes: int, seed: int) -> float:
    """Fit without a part (m,) of a class; give the share of it that is put in its own class."""
    rest = np.setdiff1d(np.arange(len(labels)), part)
    probabilities = classify(
        material.kind, material.features[rest], labels[rest], material.features[part], classes, seed
    )
    return float((probabilities.argmax(1) == own).mean())
