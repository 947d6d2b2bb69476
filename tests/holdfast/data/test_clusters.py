"""Clusters of duplicates, against brute force."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.data.clusters import (
    array_digests,
    differing_clusters,
    exact_clusters,
    frame_digests,
    near_clusters,
)


def brute_force(near):
    """Close a symmetric relation (n, n) by repeated expansion and name each class by its first row."""
    reached = near | np.eye(len(near), dtype=bool)
    for _ in range(len(near)):
        reached = (reached.astype(int) @ reached.astype(int)) > 0
    return reached.argmax(1)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=30))
def test_exact_clusters_are_named_by_their_first_row(digests):
    """Each row's cluster is the first position that holds its digest."""
    assert exact_clusters(np.array(digests, dtype=np.int64)).tolist() == [digests.index(d) for d in digests]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), differing=st.integers(0, 2))
def test_differing_clusters_equal_brute_force(seed, differing):
    """Rows that agree in all but k columns are linked, by any chain, and no others."""
    generator = np.random.default_rng(seed)
    table = generator.integers(0, 4, (25, 5))
    frame = pd.DataFrame(table, columns=list("abcde"))
    expected = brute_force((table[:, None] != table[None]).sum(2) <= differing)
    assert differing_clusters(frame, differing).tolist() == expected.tolist()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), threshold=st.sampled_from([0.5, 0.9, 0.99]))
def test_near_clusters_equal_brute_force(seed, threshold):
    """The sketch and the sorted windows lose no pair that the full correlation matrix has."""
    generator = np.random.default_rng(seed)
    base = generator.normal(size=(10, 40))
    rows = (base[generator.integers(0, 10, 40)] + 0.2 * generator.normal(size=(40, 40))).astype(np.float32)
    correlation = np.corrcoef(rows)
    if np.abs(correlation - threshold).min() < 1e-4:
        return
    assert near_clusters(rows, threshold).tolist() == brute_force(correlation >= threshold).tolist()


def test_near_clusters_see_through_brightness_and_contrast():
    """A darkened, flattened copy of an image is its near duplicate; constant images are not each other's."""
    image = np.random.default_rng(0).uniform(size=(1, 784)).astype(np.float32)
    rows = np.concatenate([image, 0.5 * image + 0.2, np.full_like(image, 0.1), np.full_like(image, 0.9), 1 - image])
    assert near_clusters(rows, 0.999).tolist() == [0, 0, 2, 3, 4]


def test_many_copies_stay_cheap():
    """Twenty thousand copies of three rows fall into three clusters without twenty thousand squared pairs."""
    rows = np.tile(np.eye(3, 16, dtype=np.float32), (7000, 1))
    assert np.unique(near_clusters(rows, 0.99)).tolist() == [0, 1, 2]


def test_missing_equals_missing_and_columns_do_not_commute():
    """Two rows with the same gap are equal, and values swapped between columns make another row."""
    frame = pd.DataFrame({"a": [None, None, 1.0, 2.0], "b": ["x", "x", "y", "y"], "c": [1.0, 1.0, 2.0, 1.0]})
    digests = frame_digests(frame)
    assert digests[0] == digests[1]
    assert digests[2] != digests[3]


def test_array_digests_name_bytes():
    """Equal bytes, and only those, have equal digests."""
    rows = np.array([[1.0, 2.0], [1.0, 2.0], [2.0, 1.0]], dtype=np.float32)
    digests = array_digests(rows)
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("threshold", [0.0, -0.5, 1.1])
def test_refuses_thresholds_that_mean_nothing(threshold):
    """A correlation threshold outside (0, 1] is an error."""
    with pytest.raises(ValueError, match="threshold"):
        near_clusters(np.zeros((2, 2), dtype=np.float32), threshold)


def test_refuses_features_that_are_not_finite():
    """A NaN would compare as near to nothing, so it is an error."""
    with pytest.raises(ValueError, match="finite"):
        near_clusters(np.array([[np.nan, 1.0]], dtype=np.float32), 0.9)
