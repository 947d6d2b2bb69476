"""Roles: shares, clusters, periods, and that old rows stay where they are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.data.clusters import exact_clusters
from holdfast.data.roles import NONE, assign

SHARES = {"train": 0.6, "validation": 0.06, "calibration": 0.06, "gate": 0.14, "test": 0.12, "trusted": 0.02}
digests = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=60).map(lambda v: np.array(v, dtype=np.int64))


def roles_of(content, later=None, shares=SHARES, **settings):
    return assign(content, exact_clusters(content), shares, later=later, **settings)


@settings(deadline=None)
@given(old=digests, new=digests, periods=st.randoms(use_true_random=False))
def test_new_rows_of_new_content_move_no_old_row(old, new, periods):
    """Appending rows that repeat none of the old ones leaves every old role as it was, in both periods."""
    new = new[~np.isin(new, old)]
    later = np.array([periods.random() < 0.4 for _ in range(len(old) + len(new))])
    before = roles_of(old, later[: len(old)])
    after = roles_of(np.concatenate([old, new]), later)
    assert (after[: len(old)] == before).all()


@settings(deadline=None)
@given(old=digests, pick=st.lists(st.integers(0, 10**6), max_size=20), later=st.booleans())
def test_repeated_rows_move_no_old_row_to_another_role(old, pick, later):
    """Appending copies can take a leaking row out of its role, and never puts it into another."""
    copies = old[[i % len(old) for i in pick]]
    old_later = np.arange(len(old)) % 2 == 0
    new_later = np.concatenate([old_later, np.full(len(copies), later)])
    before, after = roles_of(old, old_later), roles_of(np.concatenate([old, copies]), new_later)[: len(old)]
    assert ((after == before) | (after == NONE)).all()


@settings(deadline=None)
@given(content=digests, order=st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(content, order):
    """A permuted snapshot has the same roles, permuted."""
    permutation = np.array(order.sample(range(len(content)), len(content)))
    assert (roles_of(content[permutation]) == roles_of(content)[permutation]).all()


@settings(deadline=None)
@given(
    few=st.lists(st.integers(0, 8), min_size=1, max_size=80),
    later=st.randoms(use_true_random=False),
    tested=st.booleans(),
)
def test_no_cluster_straddles_roles(few, later, tested):
    """All rows of a cluster that have a role have the same one, across periods and the source's own test set."""
    content = np.array(few, dtype=np.int64) * 7919**4
    flags = np.array([later.random() < 0.5 for _ in few])
    clusters = np.array(few) // 2  # near duplicates too
    if tested:
        shares = {role: share for role, share in SHARES.items() if role != "test"}
        roles = assign(content, clusters, shares, tested=flags)
    else:
        roles = assign(content, clusters, SHARES, later=flags)
    for cluster in set(clusters):
        assert len(set(roles[clusters == cluster]) - {NONE}) <= 1


def test_shares_are_kept():
    """Of 40,000 rows each role gets its share within four standard deviations, and what is left has no role."""
    content = np.random.default_rng(0).integers(-(2**63), 2**63 - 1, 40_000)
    shares = {"train": 0.5, "validation": 0.1, "gate": 0.2}
    roles = roles_of(content, shares=shares)
    for role, share in {**shares, NONE: 0.2}.items():
        assert abs((roles == role).mean() - share) < 4 * np.sqrt(share * (1 - share) / 40_000)


@pytest.mark.parametrize("size", [2, 5])
def test_shares_of_clusters_are_kept(size):
    """The least digest of a cluster is small, and still clusters are spread as the shares say."""
    content = np.random.default_rng(1).integers(-(2**63), 2**63 - 1, 40_000)
    roles = assign(content, np.arange(40_000) // size, SHARES)
    assert abs((roles == "train").mean() - 0.6) < 4 * np.sqrt(0.24 * size / 40_000)


def test_later_rows_are_test_or_drill():
    """Rows after the training period are never trained on, and ``later_test`` of them are test rows."""
    content = np.random.default_rng(2).integers(-(2**63), 2**63 - 1, 10_000)
    later = np.arange(10_000) >= 4_000
    roles = roles_of(content, later, later_test=0.25)
    assert set(roles[later]) == {"test", "drill"}
    assert abs((roles[later] == "test").mean() - 0.25) < 0.025
    assert "drill" not in set(roles[~later])
