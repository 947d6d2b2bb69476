"""Quick classifiers: what trees see, whatever the machine offers."""

import sys

import lightgbm
import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from holdfast.integrity.classifiers import classify

N = 3000


def test_trees_tell_a_value_that_many_rows_have_from_its_neighbour():
    """A term of 84 months says one thing and one of 83 another, among hundreds of terms: quantiles cut past them."""
    rng = np.random.default_rng(0)
    terms = np.where(np.arange(N) < N // 3, 84, rng.permutation(N) % 700).astype(np.float32)
    labels = (terms == 84).astype(np.int64)
    told = classify("table", terms[:, None], labels, np.array([[83], [84], [85]], np.float32), 2, 0)
    assert told.argmax(1).tolist() == [0, 1, 0]


def test_trees_learn_from_names_that_exclude_each_other():
    """Of eighty columns, one for each name, the ten that raise the odds are found."""
    rng = np.random.default_rng(1)
    names = rng.integers(0, 80, N)
    labels = (rng.random(N) < np.where(names < 10, 0.9, 0.1)).astype(np.int64)
    told = classify("table", np.eye(80, dtype=np.float32)[names], labels, np.eye(80, dtype=np.float32), 2, 0)
    assert np.flatnonzero(told[:, 1] > 0.5).tolist() == list(range(10))


def test_trees_have_one_thread_and_one_order_of_sums(monkeypatch):
    """What reaches the library: on several threads sums have no order, and answers would depend on the machine."""
    seen, train = [], lightgbm.sklearn.train
    monkeypatch.setattr(lightgbm.sklearn, "train", lambda **given: seen.append(given["params"]) or train(**given))
    rows = np.random.default_rng(2).normal(size=(N, 12)).astype(np.float32)
    labels = (rows[:, 0] > 0).astype(np.int64)
    with threadpool_limits(limits=2):
        first, second = (classify("table", rows, labels, rows[:100], 2, 7) for _ in range(2))
    assert [(each["num_threads"], each["deterministic"], each["force_row_wise"]) for each in seen] == [
        (1, True, True)
    ] * 2
    assert np.array_equal(first, second)


@pytest.mark.parametrize(
    ("labels", "best"),
    [(np.zeros(N, np.int64), [0]), (np.full(N, 2), [2]), (np.arange(N) % 2 * 2, [0, 2]), (np.arange(N) % 3, [0, 1, 2])],
)
def test_trees_give_the_classes_that_there_are(labels, best):
    """Classes that no row holds get the least probability; one class alone is certain."""
    rows = labels[:, None].astype(np.float32)
    told = classify("table", rows, labels, rows[: len(best)], 3, 0)
    assert np.allclose(told.sum(1), 1.0)
    assert told.argmax(1).tolist() == best
    assert (told.max(1) > 0.99).all()


def test_rows_that_nothing_tells_apart_get_the_rate_of_the_classes():
    """Columns in which all rows are alike split nowhere."""
    told = classify("table", np.zeros((60, 2), np.float32), np.arange(60) % 3 // 2, np.zeros((5, 2), np.float32), 2, 1)
    assert np.allclose(told, [2 / 3, 1 / 3])


def test_tables_are_judged_by_lightgbm(monkeypatch):
    """Without the library there is no answer, and no other learner in its place."""
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(ImportError):
        classify("table", np.zeros((60, 2), np.float32), np.arange(60) % 2, np.zeros((5, 2), np.float32), 2, 1)
