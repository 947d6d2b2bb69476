"""Poison screening: a planted backdoor found without being told of it, and quiet on clean data."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import silhouette_score

from holdfast.integrity.poison_screening import PoisonScreening, _silhouette

LOANS = Path(__file__).parents[3] / "embedded" / "sba_loans_small.parquet"


def backdoored(features, labels, share, target, trigger, seed=1):
    """Stamp a trigger on a share of images and call them the target (Gu et al. 2017, arXiv:1708.06733)."""
    generator = np.random.default_rng(seed)
    rows = generator.choice(np.flatnonzero(labels != target), int(share * len(labels)), replace=False)
    images = features.copy().reshape(-1, 28, 28)
    if trigger == "patch":
        images[rows, 24:27, 24:27] = 1.0
    elif trigger == "pixel":
        images[rows, 26, 26] = 1.0
    else:
        images[rows] = 0.9 * images[rows] + 0.1 * generator.uniform(size=(28, 28)).astype(np.float32)
    wrong = labels.copy()
    wrong[rows] = target
    return images.reshape(len(labels), -1), wrong, rows


@pytest.mark.parametrize(
    ("share", "target", "trigger"), [(0.05, 0, "patch"), (0.05, 6, "pixel"), (0.05, 4, "blend"), (0.01, 3, "patch")]
)
def test_a_planted_backdoor_is_found(build, fashion, share, target, trigger):
    """Nine in ten poisoned images are set aside, and nine in ten of those set aside are poisoned."""
    images, labels, rows = backdoored(*fashion, share, target, trigger)
    material = build(features=images, labels=labels, kind="images")
    finding = PoisonScreening().examine(material)
    found = np.isin(material.ids[rows], finding.rows).sum()
    assert finding.verdict == "quarantine"
    assert found >= 0.9 * len(rows)
    assert found >= 0.9 * len(finding.rows)


@pytest.mark.parametrize("seed", [None, 0])
def test_quiet_on_clean_images(build, fashion, seed):
    """No image of the embedded set, nor of random halves of it, is suspected."""
    features, labels = fashion
    some = slice(None) if seed is None else np.random.default_rng(seed).choice(len(labels), len(labels) // 2, False)
    finding = PoisonScreening().examine(build(features=features[some], labels=labels[some], kind="images"))
    assert (finding.verdict, len(finding.rows)) == ("pass", 0)


def test_quiet_on_clean_loans(build):
    """No loan of the embedded set is suspected."""
    frame = pd.read_parquet(LOANS).iloc[::4].reset_index(drop=True)
    numbers = frame.drop(columns="charged_off").select_dtypes("number").astype(np.float64)
    numbers = ((numbers - numbers.mean()) / numbers.std()).fillna(0.0)
    features = np.concatenate([numbers, pd.get_dummies(frame.select_dtypes("str"))], axis=1).astype(np.float32)
    labels = frame["charged_off"].to_numpy(dtype=np.int64)
    assert PoisonScreening().examine(build(frame, features=features, labels=labels)).verdict == "pass"


def test_too_much_poison_blocks(build, fashion):
    """A backdoor in every seventh image blocks the snapshot."""
    images, labels, _ = backdoored(*fashion, 0.14, 2, "patch")
    strict = PoisonScreening(max_quarantined=0.05)
    assert strict.examine(build(features=images, labels=labels, kind="images")).verdict == "block"


def test_the_silhouette_equals_the_reference():
    """The one-sort silhouette of split numbers equals scikit-learn's over all pairs."""
    generator = np.random.default_rng(0)
    values = np.concatenate([generator.normal(0, 1, 90), generator.normal(4, 1, 30), [50.0]])
    for part in (values > 2, values > 49, generator.random(121) < 0.5):
        assert _silhouette(values, part) == pytest.approx(silhouette_score(values[:, None], part), abs=1e-9)
