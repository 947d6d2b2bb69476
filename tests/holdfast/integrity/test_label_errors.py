"""Label errors: flips planted in the embedded sets, found at measured precision and recall."""

import numpy as np
import pytest

from holdfast.errors import IntegrityError
from holdfast.integrity import classifiers
from holdfast.integrity.label_errors import LabelErrors, confident_joint


def flipped(labels, share, seed=0):
    """Flip a share of labels to any other class."""
    generator = np.random.default_rng(seed)
    rows = generator.choice(len(labels), int(share * len(labels)), replace=False)
    wrong = labels.copy()
    wrong[rows] = (wrong[rows] + generator.integers(1, labels.max() + 1, len(rows))) % (labels.max() + 1)
    return wrong, rows


def rates(finding, material, rows):
    found = np.isin(material.ids[rows], finding.rows).sum()
    return found / len(finding.rows), found / len(rows)


def test_confident_joint_by_hand():
    """Four rows whose thresholds, suggestions and counts can be worked out on paper."""
    probabilities = np.array([[0.9, 0.1], [0.1, 0.9], [0.2, 0.8], [0.45, 0.55]])
    joint, suggested = confident_joint(probabilities, np.array([0, 0, 1, 1]))  # thresholds 0.5 and 0.675
    assert suggested.tolist() == [0, 1, 1, -1]
    assert joint.tolist() == [[1, 1], [0, 1]]


def test_flips_of_images_are_found(build, fashion):
    """Of 5 % planted flips, over a third are found, and seven in ten found rows are planted."""
    features, labels = fashion
    wrong, rows = flipped(labels, 0.05)
    material = build(features=features, labels=wrong, kind="images")
    finding = LabelErrors().examine(material)
    precision, recall = rates(finding, material, rows)
    assert finding.verdict == "quarantine"
    assert precision > 0.7, precision
    assert recall > 0.35, recall


def test_unflipped_images_lose_little(build, fashion):
    """On the embedded images as they are, under one in a hundred is suspected beyond the margin."""
    features, labels = fashion
    finding = LabelErrors().examine(build(features=features, labels=labels, kind="images"))
    assert len(finding.rows) < 0.012 * len(labels)


def test_flips_in_a_table_are_found(build):
    """On a table with a clear rule, nine in ten flips are found at nine in ten."""
    features = np.random.default_rng(0).normal(size=(3000, 6)).astype(np.float32)
    labels = (features[:, 0] + features[:, 1] > 0).astype(np.int64)
    wrong, rows = flipped(labels, 0.05)
    material = build(features=features, labels=wrong)
    precision, recall = rates(LabelErrors().examine(material), material, rows)
    assert precision > 0.8, precision
    assert recall > 0.8, recall


def test_too_many_wrong_labels_block(build):
    """Labels that are wrong in one row of five are no longer an affair of rows."""
    features = np.random.default_rng(0).normal(size=(2000, 4)).astype(np.float32)
    wrong, _ = flipped((features[:, 0] > 0).astype(np.int64), 0.2)
    assert LabelErrors(margin=0.3).examine(build(features=features, labels=wrong)).verdict == "block"


def test_same_seed_same_finding_and_no_global_draws(build):
    """The finding is a function of the material, and the global generator is not touched."""
    features = np.random.default_rng(0).normal(size=(400, 5)).astype(np.float32)
    wrong, _ = flipped((features[:, 0] > 0).astype(np.int64), 0.1)
    state = np.random.get_state()[1].copy()  # noqa: NPY002  the global generator is what is watched
    findings = [LabelErrors().examine(build(features=features, labels=wrong, kind="images")) for _ in range(2)]
    assert findings[0] == findings[1]
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002  as above


def test_a_class_too_small_to_fold_is_an_error(build):
    """A class of two rows cannot be judged by three folds."""
    labels = np.array([0] * 10 + [1] * 2)
    with pytest.raises(IntegrityError, match="smallest of 2 rows"):
        LabelErrors().examine(build(features=np.zeros((12, 2), dtype=np.float32), labels=labels))


def test_each_fold_is_announced_before_it_is_fitted(build, monkeypatch):
    """Who waits hears of every fold as it begins, and the finding is the same as in silence."""
    features = np.random.default_rng(0).normal(size=(400, 5)).astype(np.float32)
    labels, heard = (features[:, 0] > 0).astype(np.int64), []
    silent = LabelErrors().examine(build(features=features, labels=labels))
    fit = classifiers.classify
    monkeypatch.setattr(classifiers, "classify", lambda *parts: heard.append("fitted") or fit(*parts))
    told = LabelErrors().examine(build(features=features, labels=labels, progress=heard.append))
    assert [line.partition(",")[0] for line in heard] == [
        "label_errors  fold 1 of 3", "fitted", "label_errors  fold 2 of 3", "fitted", "label_errors  fold 3 of 3",
        "fitted",
    ]  # fmt: skip
    assert told == silent
