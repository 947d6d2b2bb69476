"""Duplicates: rows that stand in the data more than once, exactly or nearly."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import numpy as np
import pandas as pd

from holdfast.integrity.base import Faults, Material, measure
from holdfast.integrity.clustering import ClusterCheck

if TYPE_CHECKING:
    from holdfast.integrity.base import Array


@final
class Duplicates(ClusterCheck):
    """Keep the first row of each cluster of copies within a role, and quarantine the others.

    Copies across roles are the business of ``leakage``. Equal images with different labels are all quarantined,
    the first too: none can be told to be the right one.
    """

    def look(self, material: Material) -> Faults:
        """Find every row that an earlier one of its role repeats."""
        exact, near = self.clusters(material)
        first = _first_of_role(near, material.roles)
        first_exact = _first_of_role(exact, material.roles)
        rows = {
            int(i): f"{'copy' if first_exact[i] != i else 'near copy'} of an earlier row"
            f" (row {material.ids[first_exact[i] if first_exact[i] != i else first[i]]})"
            for i in np.flatnonzero(first != np.arange(len(first)))
        }
        contested = _contested(exact, material.labels) if material.kind == "images" else np.zeros(0, dtype=np.int64)
        rows |= {int(i): "equal images with different labels" for i in contested}
        sizes = np.bincount(near, minlength=1)
        return Faults(
            rows=rows,
            measures=(
                measure("exact_copies", int((exact != np.arange(len(exact))).sum()), "rows", "lower"),
                measure("near_copies", int((near != np.arange(len(near))).sum()), "rows", "lower"),
                measure("clusters", int((sizes > 1).sum()), "clusters", "lower"),
                measure("largest_cluster", int(sizes.max()), "rows", "lower"),
            ),
            note="no row repeats an earlier one of its role",
        )


def _first_of_role(cluster: Array, roles: Array | None) -> Array:
    """Give the position (n,) of the first row of the same cluster and role."""
    role = np.zeros(len(cluster), dtype=np.int64) if roles is None else pd.factorize(roles)[0]
    position = pd.Series(np.arange(len(cluster)))
    return np.asarray(position.groupby([cluster, role], sort=False).transform("min"))


def _contested(cluster: Array, labels: Array) -> Array:
    """Find rows whose cluster holds more than one label."""
    said = pd.Series(labels).groupby(cluster, sort=False)
    return np.flatnonzero((said.transform("min") != said.transform("max")).to_numpy())
