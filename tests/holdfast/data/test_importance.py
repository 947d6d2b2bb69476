"""Importance: rows that the present contradicts leave the training set, and what still holds stays."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from holdfast.data.admission import AdmittedWindow, Labelled, Manifest, admit
from holdfast.data.importance import implausible
from holdfast.data.params import DataParams
from holdfast.data.source import load
from holdfast.data.streams.base import Arrival
from holdfast.errors import DataError


def world(n, seed, year, *, turned):
    """Labels follow the sign of size; where ``turned``, blue rows have the other label."""
    draw = np.random.default_rng(seed)
    size, colour = draw.normal(size=n).round(6), draw.choice(["red", "blue"], n)
    y = (size > 0) ^ (turned & (colour == "blue"))
    return pd.DataFrame({"year": year, "size": size, "colour": colour, "y": y.astype(int)})


@pytest.fixture
def grown(tmp_path):
    """A base in which blue rows obey the law, one window that does too, and two in which they are turned."""
    world(1500, 0, 1, turned=False).to_parquet(tmp_path / "t.parquet")
    shares = {"train": 0.7, "validation": 0.1, "gate": 0.1, "test": 0.1}
    base = load(tmp_path, DataParams(
        kind="table", path="t.parquet", label="y", classes=("no", "yes"), time="year", exclude=("year",), roles=shares
    ))  # fmt: skip
    windows = []
    for place in range(3):
        frame = world(600, 5 + place, 2, turned=place > 0)
        told = frame.pop("y").map({0: "no", 1: "yes"})
        windows.append(Labelled(Arrival(place, frame), told.astype(object)))
    kept = tuple(AdmittedWindow(position=w.arrival.position, digest=w.arrival.digest) for w in windows)
    manifest = Manifest(base_md5="m", base_content="c", windows=kept, recent=(1, 2))
    return lambda left_out=(): admit(base, windows, manifest, left_out)


def test_what_the_present_contradicts_is_left_out(grown):
    """Turned rows of the past are nearly all left out, the others mostly stay, and the present loses none."""
    data = grown()
    ids = implausible(data, (1, 2), seed=0)
    trains, out = data.roles == "train", np.isin(data.ids, ids)
    past = trains & ~np.isin(data.window, (1, 2))
    blue = (data.frame["colour"] == "blue").to_numpy()
    assert out[past & blue].mean() > 0.9
    assert out[past & ~blue].mean() < 0.45
    assert not out[~past].any()
    assert np.array_equal(ids, implausible(data, (1, 2), seed=0))


def test_rows_that_are_left_out_train_no_more_and_keep_no_other_role(grown):
    """The data version differs, its other roles do not, and the description of features comes from what trains."""
    full = grown()
    ids = implausible(full, (1, 2), seed=0)
    lean = grown(ids)
    assert (lean.roles == "train").sum() == (full.roles == "train").sum() - len(ids)
    assert not lean.roles[np.isin(lean.ids, ids)].any()
    for role in ("validation", "calibration", "gate", "test"):
        assert np.array_equal(lean.samples(role).ids, full.samples(role).ids)
    assert lean.digest != full.digest


def test_too_little_of_the_present_chooses_nothing(grown):
    """Without windows that stand for the present nobody says what is implausible."""
    with pytest.raises(DataError, match="training rows of the present"):
        implausible(grown(), (), seed=0)
