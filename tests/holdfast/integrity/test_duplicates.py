"""Duplicates and leakage: copies planted and found, everything else left alone."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from holdfast.errors import IntegrityError
from holdfast.integrity.duplicates import Duplicates
from holdfast.integrity.leakage import Leakage

FASHION = Path(__file__).parents[3] / "embedded" / "fashion_mnist_5k.npz"


@pytest.fixture(scope="module")
def images():
    """Six hundred embedded images, pixels in [0, 1]."""
    with np.load(FASHION) as archive:
        return archive["x_train"][:600].reshape(600, -1).astype(np.float32) / 255


def table():
    generator = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "a": generator.normal(size=300),
            "b": generator.normal(size=300),
            "c": ["x", "y", None] * 100,
            "d": np.arange(300),
            "label": 0,
        }
    )


def test_clean_images_pass(build, images):
    """No two of the embedded images chosen here are copies."""
    assert Duplicates().examine(build(features=images, kind="images")).verdict == "pass"


def test_copies_and_near_copies_of_images_are_found(build, images):
    """An exact, a brightened and a slightly noisy copy are quarantined; the first of each stays."""
    noisy = images[2] + np.random.default_rng(0).normal(0, 0.01, 784).astype(np.float32)
    material = build(features=np.stack([*images, images[0], 0.5 * images[1] + 0.1, noisy]), kind="images")
    finding = Duplicates().examine(material)
    assert finding.rows == tuple(int(i) for i in material.ids[600:])
    assert [finding.reasons[str(row)].split(" of")[0] for row in finding.rows] == ["copy", "near copy", "near copy"]


def test_equal_images_with_different_labels_are_all_set_aside(build, images):
    """None of two contradicting copies is trusted."""
    labels = np.zeros(601, dtype=np.int64)
    labels[600] = 1
    material = build(features=np.concatenate([images, images[5:6]]), kind="images", labels=labels)
    assert Duplicates().examine(material).rows == (int(material.ids[5]), int(material.ids[600]))


@pytest.mark.parametrize(
    ("settings", "change", "found"),
    [
        ({}, {}, True),
        ({}, {"a": 1e-9}, False),
        ({"digits": 6}, {"a": 1e-9}, True),
        ({"differing": 1}, {"a": 1.0}, True),
        ({"differing": 1}, {"a": 1.0, "b": 1.0}, False),
        ({"differing": 2}, {"a": 1.0, "b": 1.0}, True),
        ({"ignore": ("a",)}, {"a": 1.0}, True),
        ({}, {"label": 1}, False),
    ],
)
def test_copies_in_tables(build, settings, change, found):
    """A row copied with some cells moved is a copy exactly where the settings say so."""
    frame = table()
    copy = frame.iloc[[7]].assign(**{name: frame.loc[7, name] + by for name, by in change.items()})
    material = build(pd.concat([frame, copy], ignore_index=True))
    assert Duplicates(**settings).examine(material).rows == ((int(material.ids[300]),) if found else ())


def test_each_role_keeps_its_first_copy(build):
    """Copies within a role go; a copy in another role is leakage's business."""
    frame = table().iloc[[0, 0, 1, 0, 0]].reset_index(drop=True)
    material = build(frame, roles=np.array(["train", "train", "train", "test", "test"]))
    assert Duplicates(max_quarantined=1.0).examine(material).rows == tuple(int(material.ids[i]) for i in (1, 4))


@pytest.mark.parametrize("role", ["validation", "calibration", "gate", "test", "drill", "trusted"])
def test_leakage_drops_the_training_copy_only(build, images, role):
    """A near copy of a held-back image leaves training, and the held-back image stays."""
    features = np.concatenate([images[:300], images[:1] * 0.9, images[1:2]])
    roles = np.array(["train"] * 300 + [role, "train"])
    material = build(features=features, kind="images", roles=roles)
    finding = Leakage().examine(material)
    assert (finding.verdict, finding.rows) == ("quarantine", (int(material.ids[0]),))
    assert role in finding.reasons[str(material.ids[0])]


def test_leakage_passes_a_clean_split(build):
    """Copies within the training rows leak nothing."""
    frame = table().iloc[[0, 0, 1, 2]].reset_index(drop=True)
    material = build(frame, roles=np.array(["train", "train", "test", "gate"]))
    assert Leakage().examine(material).verdict == "pass"


def test_leakage_refuses_rows_without_roles(build):
    """What was not split cannot be said not to leak."""
    with pytest.raises(IntegrityError, match="without roles"):
        Leakage().examine(build(table()))
