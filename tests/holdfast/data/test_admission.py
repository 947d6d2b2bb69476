"""Admission: windows get roles of their own, and nothing that anyone held back moves."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from holdfast.data.admission import AdmittedWindow, Labelled, Manifest, admit, present
from holdfast.data.params import DataParams
from holdfast.data.source import load
from holdfast.data.streams.base import Arrival
from holdfast.errors import DataError


def table(n, seed, year):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {"year": year, "size": rng.normal(size=n), "colour": rng.choice(["red", "blue"], n), "y": rng.integers(0, 2, n)}
    )


@pytest.fixture
def base(tmp_path):
    pd.concat([table(600, 0, 1), table(200, 1, 2)]).to_parquet(tmp_path / "t.parquet")
    params = DataParams(
        kind="table", path="t.parquet", label="y", classes=("no", "yes"), time="year", train_until=1, exclude=("year",)
    )
    return load(tmp_path, params)


def window(position, seed=5, n=300, labels=None, **changes):
    frame = table(n, seed, 3).assign(**changes)
    told = frame.pop("y").map({0: "no", 1: "yes"}) if labels is None else labels
    return Labelled(Arrival(position, frame), pd.Series(told, dtype=object))


def manifest(*windows, **settings):
    kept = tuple(AdmittedWindow(position=w.arrival.position, digest=w.arrival.digest) for w in windows)
    settings = {"recent": tuple(w.position for w in kept[-1:]), **settings}
    return Manifest(base_md5="m", base_content="c", windows=kept, **settings)


def test_windows_get_roles_and_the_base_keeps_its_own(base):
    """Base rows keep name and role, drill rows are gone, and each window's rows hold every role of its shares."""
    first, second = window(3), window(4, seed=6)
    grown = admit(base, [first, second], manifest(first, second))
    kept = base.roles != "drill"
    assert np.array_equal(grown.ids[: kept.sum()], base.ids[kept])
    assert np.array_equal(grown.roles[: kept.sum()], base.roles[kept])
    assert len(grown) == kept.sum() + 600
    assert grown.window.tolist() == [-1] * int(kept.sum()) + [3] * 300 + [4] * 300
    for position in (3, 4):
        roles = grown.roles[grown.window == position]
        shares = {role: (roles == role).mean() for role in ("train", "validation", "calibration", "gate")}
        assert shares == pytest.approx({"train": 0.6, "validation": 0.1, "calibration": 0.15, "gate": 0.15}, abs=0.07)
        assert not (roles == "test").any()
    assert len(np.unique(grown.ids)) == len(grown)
    trains = grown.samples("train")
    assert len(trains) == (grown.roles == "train").sum() > (base.roles == "train").sum()


def test_labels_are_read_as_the_source_writes_them(base):
    """Names of classes, and the numbers that the data set holds, are the same labels."""
    named = window(0)
    numbers = window(0, labels=table(300, 5, 3)["y"].astype(str).tolist())
    one, two = (admit(base, [each], manifest(each)) for each in (named, numbers))
    assert np.array_equal(one.labels, two.labels)
    assert one.digest == two.digest
    assert np.array_equal(one.labels[-300:], table(300, 5, 3)["y"])


def test_a_row_that_repeats_the_base_gets_no_role(base):
    """What is in the scorecard or the gate already never trains by way of a window."""
    copies = base.frame[base.roles == "test"].iloc[:50]
    copied = copies.drop(columns="y").reset_index(drop=True)
    again = Labelled(Arrival(0, copied), pd.Series(["no"] * len(copied), dtype=object))
    grown = admit(base, [again], manifest(again))
    assert set(grown.roles[grown.window == 0]) == {""}


def test_the_features_are_described_anew(base):
    """A category that came with a window is one that the next model knows."""
    fresh = window(0, colour="green")
    assert "green" in admit(base, [fresh], manifest(fresh)).space.features[1].categories
    assert "green" not in base.space.features[1].categories


def test_rows_that_break_what_was_declared_train_nothing(base):
    """They hold no role that teaches, no category of theirs becomes known, and the others are what they were."""
    first, second = window(3), window(4, seed=6, colour=["T"] * 45 + ["red"] * 255)
    whole = manifest(first, second)
    named = tuple(w.model_copy(update={"faulty": tuple(range(45)) if w.position == 4 else ()}) for w in whole.windows)
    grown = admit(base, [first, second], whole.model_copy(update={"windows": named}))
    assert np.flatnonzero(grown.excluded).tolist() == list(range(len(grown) - 300, len(grown) - 255))
    assert not any(grown.holds(role)[grown.excluded].any() for role in ("train", "validation", "calibration", "gate"))
    assert "T" not in grown.space.features[1].categories
    assert "T" in admit(base, [first, second], whole).space.features[1].categories
    assert Manifest.model_validate_json(whole.model_dump_json(exclude={"windows": {"__all__": {"faulty"}}})) == whole


def test_a_share_of_the_base_is_replayed(base):
    """Half of the old training rows stay, the same at every retraining; other roles are untouched."""
    one, two = window(0), window(1, seed=6)
    half = admit(base, [one], manifest(one, base_share=0.5))
    more = admit(base, [one, two], manifest(one, two, base_share=0.5))
    old = half.window == -1
    assert (half.roles[old] == "train").sum() == pytest.approx((base.roles == "train").sum() / 2, rel=0.2)
    assert np.array_equal(half.roles[old], more.roles[: old.sum()])
    assert (half.roles[old] == "gate").sum() == (base.roles == "gate").sum()


def pictures(n, seed):
    return np.random.default_rng(seed).integers(0, 256, (n, 4, 4), dtype=np.uint8)


@pytest.fixture
def images(tmp_path):
    """Six hundred pinned images of two classes, a tenth of them the source's own test rows."""
    x, y = pictures(660, 0), np.arange(660) % 2
    np.savez(tmp_path / "i.npz", x_train=x[:600], y_train=y[:600], x_test=x[600:], y_test=y[600:])
    shares = {"train": 0.7, "validation": 0.1, "calibration": 0.1, "gate": 0.1}
    return load(tmp_path, DataParams(kind="images", path="i.npz", classes=("no", "yes"), roles=shares))


def shown(position, seed=5, n=300, pixels=None):
    x = pictures(n, seed)[:, None] if pixels is None else pixels
    told = np.where(np.arange(len(x)) % 2 == 0, "no", "yes")
    return Labelled(Arrival(position, x), pd.Series(told, dtype=object))


def test_images_are_admitted_as_tables_are(images):
    """Pinned images keep name and role, a window's get roles by content, pixels and labels are its own."""
    first, second = shown(3), shown(4, seed=6)
    grown = admit(images, [first, second], manifest(first, second))
    assert np.array_equal(grown.ids[:660], images.ids)
    assert np.array_equal(grown.roles[:660], images.roles)
    assert np.array_equal(grown.pixels[660:960], first.arrival.rows)
    assert grown.labels[660:664].tolist() == [0, 1, 0, 1]
    assert grown.window.tolist() == [-1] * 660 + [3] * 300 + [4] * 300
    roles = grown.roles[660:]
    shares = {role: (roles == role).mean() for role in ("train", "validation", "calibration", "gate")}
    assert shares == pytest.approx({"train": 0.6, "validation": 0.1, "calibration": 0.15, "gate": 0.15}, abs=0.07)
    assert len(np.unique(grown.ids)) == len(grown)
    trains = grown.roles == "train"
    assert grown.space.mean[0] == pytest.approx(grown.pixels[trains].mean() / 255, abs=1e-6)
    assert np.array_equal(admit(images, [first], manifest(first)).ids[660:], grown.ids[660:960])
    half = admit(images, [first], manifest(first, base_share=0.5))
    assert (half.roles[:660] == "train").sum() == pytest.approx((images.roles == "train").sum() / 2, rel=0.2)
    assert np.array_equal(half.roles[660:], grown.roles[660:960])


def test_an_image_that_repeats_the_base_gets_no_role(images):
    """A copy of a pinned image under any label never trains by way of a window."""
    again = shown(0, pixels=images.pixels[:50])
    grown = admit(images, [again], manifest(again))
    assert set(grown.roles[660:]) == {""}
    assert len(np.unique(grown.ids)) == len(grown)


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (pictures(9, 1).reshape(9, 1, 2, 8), "images .1, 2, 8."),
        (pictures(9, 1)[:, None].astype(np.float32) / 255, "float32"),
        (pd.DataFrame({"size": [1.0, 2.0]}), "a table"),
    ],
)
def test_images_of_another_kind_are_refused(images, pixels, expected):
    """Another size, another type or a table train no image model."""
    each = shown(0, pixels=pixels)
    with pytest.raises(DataError, match=expected):
        admit(images, [each], manifest(each))


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        (lambda: Labelled(window(0).arrival, pd.Series(["no"], dtype=object)), "1 labels for 300 rows"),
        (lambda: window(0, labels=["maybe"] * 300), "labels maybe"),
        (lambda: window(0, size="large"), "found float and str"),
    ],
)
def test_a_window_that_does_not_fit_is_refused(base, bad, expected):
    """Labels of other classes, too few of them, or columns of another type train nothing."""
    each = bad()
    with pytest.raises(DataError, match=expected):
        admit(base, [each], manifest(each))
    without = Labelled(Arrival(0, window(0).arrival.rows.drop(columns="size")), window(0).labels)
    with pytest.raises(DataError, match="no column size"):
        admit(base, [without], manifest(without))


def test_a_column_stays_what_it_is_in_the_pinned_data(tmp_path):
    """Odd codes in a window, and codes of which hardly one comes again, make nothing else of an accepted category."""
    frame = table(600, 0, 1).assign(area=[f"{k % 60:02d}" for k in range(600)]).drop(columns="year")
    frame.to_parquet(tmp_path / "t.parquet")
    base = load(tmp_path, DataParams(kind="table", path="t.parquet", label="y", classes=("no", "yes")))
    odd, own = window(0, area=["K1A"] * 3 + ["07"] * 297), window(1, n=900, area=[f"K{k}" for k in range(900)])
    for each, code in ((odd, "K1A"), (own, "K1")):
        feature = admit(base, [each], manifest(each)).space.features[-1]
        assert (feature.name, feature.kind) == ("area", "category")
        assert any(name.startswith(code) for name in feature.categories)


def test_a_stray_word_is_found_whatever_role_its_row_has(tmp_path):
    """Where one word makes text of a column, it is named, also where no training row has it."""
    frame = table(600, 0, 1).assign(fee=[f"{k % 50}" for k in range(600)]).drop(columns="year")
    params = DataParams(kind="table", path="t.csv", label="y", classes=("no", "yes"))
    frame.to_csv(tmp_path / "t.csv", index=False)
    roles = load(tmp_path, params).roles
    for role in ("train", "test"):
        place = int(np.flatnonzero(roles == role)[0])
        frame.assign(fee=frame["fee"].where(frame.index != place, "abc")).to_csv(tmp_path / "t.csv", index=False)
        with pytest.raises(DataError, match=rf"fee: text in 1 of 600 rows .*'abc', row {place}\)"):
            load(tmp_path, params)


def test_the_present_is_what_came_with_the_last_windows_and_older_rows_make_up(base):
    """Held-out rows of the last windows alone stand for the present, unless they are too few to tell anything."""
    first, second = window(3), window(4, seed=6)
    grown = admit(base, [first, second], manifest(first, second))
    held = grown.samples("calibration").ids.numpy()
    last = np.isin(held, grown.ids[grown.window == 4])
    assert np.array_equal(present(grown, held, (4,), 10), np.flatnonzero(last))
    many = present(grown, held, (4,), int(last.sum()) + 5)
    assert len(many) == last.sum() + 5
    assert set(np.flatnonzero(last)) < set(many.tolist())
    assert np.array_equal(present(base, base.ids, (4,), 10), np.arange(len(base)))
    assert np.array_equal(present(grown, held, (), 10), np.arange(len(held)))  # windows that were pinned since
