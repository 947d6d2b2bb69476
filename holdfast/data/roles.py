"""Roles of rows: a pure function of a row's content and period, so that new rows never move old ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from holdfast.errors import DataError
from holdfast.results import Role

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdfast.data.params import DataParams

Array = np.ndarray[Any, np.dtype[Any]]
ROLES: tuple[Role, ...] = get_args(Role)
NONE = ""
"""No role: such a row is in the snapshot and is never used."""
ORDER: tuple[Role, ...] = ("train", "validation", "calibration", "gate", "test", "trusted", "drill")
"""Order in which shares are laid along [0, 1)."""


def assign(
    digests: Array,
    clusters: Array,
    shares: Mapping[Role, float],
    *,
    later: Array | None = None,
    later_test: float = 0.5,
    tested: Array | None = None,
) -> Array:
    """Give each row a role, one for a whole duplicate cluster.

    A cluster stands at the point of [0, 1) that the least digest in it names. In the training period the shares
    cut that line; in the later one ``later_test`` does. Rows that the source set aside for testing are test rows.
    A cluster that reaches from the training period into the later one, or into the source's own test rows, would
    leak: its later rows are test rows where both periods say so, and have no role where not; what a test row of
    the source repeats has no role. Adding rows therefore moves no row of an exact cluster to another role.

    Args:
        digests: content digests (n,) int64, uniform.
        clusters: cluster of each row (n,) int64.
        shares: share of each role in the training period, at most 1 in all; the rest has no role.
        later: bool (n,), rows after the training period.
        later_test: share of later rows that are test rows; the others are drill rows.
        tested: bool (n,), the source's own test rows.

    Returns:
        Roles (n,) str; empty where a row has none.
    """
    n = len(digests)
    later = np.zeros(n, dtype=bool) if later is None else later
    tested = np.zeros(n, dtype=bool) if tested is None else tested
    _, cluster = np.unique(clusters, return_inverse=True)
    at = _places(digests, cluster)
    ends = np.cumsum([shares.get(role, 0.0) for role in ORDER])
    ends[-1] = 1.0 if abs(ends[-1] - 1.0) < 1e-9 else ends[-1]  # noqa: PLR2004  rounding of a sum of shares
    roles = np.array([*ORDER, NONE], dtype="<U11")[np.searchsorted(ends, at, side="right")]
    early = roles.copy()
    roles[later] = np.where(at < later_test, "test", "drill")[later]
    spans = later & _touches(cluster, ~later)
    roles[spans & ((early != "test") | (roles != "test"))] = NONE
    roles[_touches(cluster, tested) & (roles != "test")] = NONE
    roles[tested] = "test"
    return roles


def _places(digests: Array, cluster: Array) -> Array:
    """Give the place of each row's cluster on [0, 1)."""
    unsigned = digests.astype(np.int64).view(np.uint64)
    least = np.full(cluster.max(initial=-1) + 1, np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(least, cluster, unsigned)
    mixed = _mix(least)[cluster]  # the least of several is not uniform: mixed anew, it is
    return np.asarray((mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def _mix(x: Array) -> Array:
    """Finalise 64-bit words as SplitMix64 does (Steele, Lea and Flood 2014, OOPSLA)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))


def _touches(cluster: Array, rows: Array) -> Array:
    """Tell which rows (n,) lie in a cluster that holds one of these rows."""
    held = np.zeros(cluster.max(initial=-1) + 1, dtype=bool)
    held[cluster[rows]] = True
    return held[cluster]


def check_roles(
    params: DataParams,
    roles: Array,
    labels: Array,
    fitted: Array,
    classes: tuple[str, ...],
    later: Array | None = None,
) -> None:
    """Refuse a split in which a role came out empty, or the training rows lack a class: no model could learn it.

    A class that comes up after the training period alone is what a changed world may bring.

    Raises:
        DataError: it did, or they do.
    """
    if empty := [role for role in params.roles if not (roles == role).any()]:
        raise DataError(
            params.path, found=f"{len(roles)} rows, of which none has the role {', '.join(empty)}",
            expected="rows of every role in data.roles",
            remedy="Add rows, or give larger shares; rows that are duplicates of each other share a role.",
        )  # fmt: skip
    counts = np.bincount(labels[fitted], minlength=len(classes))
    afterwards = np.bincount(labels[later], minlength=len(classes)) if later is not None else np.zeros_like(counts)
    lacking = [classes[i] for i in np.flatnonzero((counts == 0) & (afterwards == 0))]
    if (counts > 0).sum() < 2 and not lacking:  # noqa: PLR2004  a choice needs two
        lacking = ["a second class"]
    if lacking:
        raise DataError(
            f"{params.path}, rows that train", found=f"none of class {', '.join(lacking)}",
            expected=f"rows of every class: {', '.join(classes)}",
            remedy="Add rows of it, take it out of data.classes, or give train a larger share;"
            " `holdfast data quarantine` lists what was set aside.",
        )  # fmt: skip
