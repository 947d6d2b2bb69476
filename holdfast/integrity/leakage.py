"""Leakage: training rows that are copies of rows held back to judge the model."""

from __future__ import annotations

from typing import final

import numpy as np
import pandas as pd

from holdfast.errors import IntegrityError
from holdfast.integrity.base import Faults, Material, measure
from holdfast.integrity.clustering import ClusterCheck


@final
class Leakage(ClusterCheck):
    """Quarantine the training rows that have a copy, exact or near, in a role that judges or tunes.

    The copy that is held back stays: what was promised to judge is not thrown away.
    """

    held_back: tuple[str, ...] = ("validation", "calibration", "gate", "test", "drill", "trusted")
    """Roles that training rows may not stand in."""

    def look(self, material: Material) -> Faults:
        """Find clusters that hold training rows and rows held back.

        Raises:
            IntegrityError: the rows have no roles yet, so nothing can be said of leakage.
        """
        if material.roles is None:
            raise IntegrityError(
                "leakage check",
                found="rows without roles",
                expected="a snapshot that was split",
                remedy="Split the snapshot first, or take leakage out of the integrity section.",
            )
        _, cluster = self.clusters(material)
        roles, train = np.asarray(material.roles), np.asarray(material.roles) == "train"
        held = np.isin(roles, self.held_back)
        leaked = np.flatnonzero(train & np.isin(cluster, cluster[held]))
        first = pd.Series(np.flatnonzero(held), index=cluster[held]).groupby(level=0).min()
        other = pd.DataFrame({"cluster": cluster[held], "role": roles[held]}).groupby("cluster")["role"].nunique()
        return Faults(
            rows={int(i): _reason(material, int(first[cluster[i]])) for i in leaked},
            measures=(
                measure("leaked_rows", len(leaked), "rows", "lower", int(train.sum())),
                measure("clusters_across_held_back_roles", int((other > 1).sum()), "clusters", "lower"),
            ),
            note="no training row is a copy of one held back",
        )


def _reason(material: Material, copy: int) -> str:
    role = "" if material.roles is None else material.roles[copy]
    return f"copy of a row held back for {role} (row {material.ids[copy]})"
