"""Pinning: what comes back is the version's rows, names, roles and labels, and nothing held out moves."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest

from holdfast.data.admission import AdmittedWindow, Labelled, Manifest, admit
from holdfast.data.assigned import pinned_manifest, pinned_windows, read_assigned, roles_file
from holdfast.data.params import DataParams, FeatureParams
from holdfast.data.pinning import of_version, write_pinned
from holdfast.data.source import load
from holdfast.data.streams.base import Arrival
from holdfast.errors import DataError

MD5 = "0123456789abcdef" * 2


def table(n, seed, year):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "year": year,
            "size": rng.normal(size=n).round(6),
            "colour": rng.choice(["red", "blue"], n),
            "y": rng.integers(0, 2, n),
        }
    )


def of_rows(folder, suffix):
    """A base of two periods with drill rows, and two windows of later years; the first repeats some drill rows."""
    source = folder / f"t.{suffix}"
    frame = pd.concat([table(600, 0, 1), table(200, 1, 2)], ignore_index=True)
    frame.to_parquet(source) if suffix == "parquet" else frame.to_csv(source, index=False)
    params = DataParams(
        kind="table", path=source.name, label="y", classes=("no", "yes"), time="year", train_until=1, exclude=("year",)
    )
    base = load(folder, params)
    repeated = base.frame[base.roles == "drill"].iloc[:20]
    first = pd.concat([repeated, table(280, 5, 3)], ignore_index=True)
    return base, [labelled(0, first), labelled(1, table(300, 6, 4))]


def labelled(position, frame):
    frame = frame.copy()
    told = frame.pop("y").map({0: "no", 1: "yes"})
    return Labelled(Arrival(position, frame), pd.Series(told.to_numpy(), dtype=object))


def of_images(folder, suffix):
    """Images with a test set of the source's own, and two windows; labels are names."""
    rng = np.random.default_rng(0)
    names = np.array(["cat", "dog"])
    make = lambda n: (rng.integers(0, 256, (n, 6, 6), dtype=np.uint8), names[rng.integers(0, 2, n)])  # noqa: E731  two uses
    (x, y), (tx, ty) = make(500), make(80)
    np.savez(folder / "i.npz", x_train=x, y_train=y, x_test=tx, y_test=ty, class_names=names)
    shares = {"train": 0.6, "validation": 0.1, "gate": 0.2, "calibration": 0.1}
    params = DataParams(kind="images", path="i.npz", classes=("cat", "dog"), roles=shares)
    windows = []
    for position in range(2):
        x, y = make(150)
        windows.append(Labelled(Arrival(position, x[:, None]), pd.Series(y, dtype=object)))
    return load(folder, params), windows


KINDS = pytest.mark.parametrize(
    ("make", "suffix"), [(of_rows, "parquet"), (of_rows, "csv"), (of_images, "npz")], ids=["parquet", "csv", "npz"]
)


def manifest(windows, **settings):
    kept = tuple(AdmittedWindow(position=w.arrival.position, digest=w.arrival.digest) for w in windows)
    return Manifest(base_md5="m", base_content="c", windows=kept, recent=(1,), **settings)


def pinned(tmp_path, make, suffix, **settings):
    """A base with windows, what they came to, and what is read back where they were pinned."""
    base, windows = make(tmp_path, suffix)
    grown = admit(base, windows, manifest(windows, **settings))
    out = tmp_path / "pinned"
    out.mkdir()
    files = write_pinned(base, windows, grown, tmp_path / base.params.path, out, MD5)
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in files)
    return base, grown, load(out, base.params), out


def by_id(data):
    """Role, label, period and content of each row, by its name."""
    return {
        int(i): (str(r), int(y), bool(late), int(d))
        for i, r, y, late, d in zip(data.ids, data.roles, data.labels, data.later, data.digests, strict=True)
    }


@KINDS
def test_a_round_trip_gives_the_versions_rows(tmp_path, make, suffix):
    """Every row that the version had comes back with its name, role, label and period; read as its own, by one digest."""
    base, grown, back, _ = pinned(tmp_path, make, suffix)
    had, found = by_id(grown), by_id(back)
    assert {i: found[i] for i in had} == had
    mine = of_version(back)
    assert mine.digest == grown.digest
    assert by_id(mine) == had
    assert (mine.last_window, back.last_window) == (1, 1)
    for role in ("train", "gate", "test"):
        ours, theirs = mine.samples(role), grown.samples(role)
        assert sorted(ours.ids.tolist()) == sorted(theirs.ids.tolist())
    assert len(back) == len(base) + sum(grown.window >= 0)


@KINDS
def test_nothing_that_was_held_out_trains(tmp_path, make, suffix):
    """New shares and another end of the training period move no row: neither of the base nor of a window."""
    base, grown, back, out = pinned(tmp_path, make, suffix)
    held = set(grown.ids[~np.isin(grown.roles, ["train", ""])].tolist())
    held |= set(base.ids[np.isin(base.roles, ["gate", "test", "drill"])].tolist())
    shares = {"train": 0.9, "validation": 0.05, "gate": 0.05}
    changed = base.params.model_copy(update={"roles": shares, "train_until": 9.0 if base.params.time else None})
    for data in (back, load(out, changed)):
        trains = set(data.ids[data.roles == "train"].tolist())
        assert trains == set(grown.ids[grown.roles == "train"].tolist())
        assert not trains & held


def test_streamed_rows_stay_streams_but_where_a_window_has_them(tmp_path):
    """Drill rows are laid down again as they were; those that a window repeats have no role, so none is there twice."""
    base, _, back, _ = pinned(tmp_path, of_rows, "parquet")
    drill = base.ids[base.roles == "drill"]
    roles = dict(zip(back.ids.tolist(), back.roles.tolist(), strict=True))
    told = [roles[int(i)] for i in drill]
    assert told.count("") == 20
    assert told.count("drill") == len(drill) - 20
    used = back.digests[back.roles != ""]
    windows = back.digests[(back.window >= 0) & (back.roles != "")]
    assert all((used == digest).sum() >= 1 for digest in windows)
    assert not set(back.digests[back.roles == "drill"].tolist()) & set(windows.tolist())
    assert not np.isin(drill, of_version(back).ids).any()


def test_a_replayed_share_stays_as_it_was(tmp_path):
    """Training rows of the base that the version did not replay have no role afterwards either."""
    base, grown, back, _ = pinned(tmp_path, of_rows, "parquet", base_share=0.5)
    assert (back.roles == "train").sum() == (grown.roles == "train").sum()
    assert (base.roles == "train").sum() > ((grown.roles == "train") & (grown.window < 0)).sum()


@KINDS
def test_a_pinned_base_is_pinned_again_with_what_came_since(tmp_path, make, suffix):
    """Another window is laid beside the pinned ones, and a second pin gives that version's rows, by the same digest."""
    _, grown, back, out = pinned(tmp_path, make, suffix)
    fresh = third(make)
    more = admit(back, [fresh], manifest([fresh]))
    assert set(more.roles[more.window == 2]) == {"train", "validation", "calibration", "gate"}
    assert (more.roles == "train").sum() == (grown.roles == "train").sum() + (
        more.roles[more.window == 2] == "train"
    ).sum()
    place = tmp_path / "again"
    place.mkdir()
    write_pinned(back, [fresh], more, out / back.params.path, place, MD5[::-1])
    again = load(place, back.params)
    assert of_version(again).digest == more.digest
    assert pinned_windows(place / back.params.path) == {0, 1, 2}
    assert by_id(of_version(again)) == by_id(more)


def test_odd_codes_of_a_window_are_read_again_where_they_were_pinned(tmp_path):
    """Neither stray words nor names that hardly come again are a fault of rows that were admitted beside pinned ones."""
    codes = [f"{k % 60:02d}" for k in range(600)]
    table(600, 0, 1).assign(area=codes).drop(columns="year").to_parquet(tmp_path / "t.parquet")
    base = load(tmp_path, DataParams(kind="table", path="t.parquet", label="y", classes=("no", "yes")))
    windows = [
        labelled(0, table(300, 5, 3).drop(columns="year").assign(area=["K1A"] * 3 + ["07"] * 297)),
        labelled(1, table(900, 6, 4).drop(columns="year").assign(area=[f"K{k}" for k in range(900)])),
    ]
    rows = base.ids[base.roles == "train"].tolist()  # few of them are left to tell what a column is
    for name, share, left_out in (("all", 1.0, []), ("few", 0.05, []), ("rest", 1.0, rows[:-20])):
        grown = admit(base, windows, manifest(windows, base_share=share), left_out)
        out = tmp_path / name
        out.mkdir()
        write_pinned(base, windows, grown, tmp_path / "t.parquet", out, MD5)
        back = load(out, base.params)
        assert of_version(back).digest == grown.digest
        assert back.space == grown.space


def test_what_is_said_of_a_column_after_the_pin_holds(tmp_path):
    """Its kind, and the codes that mean unknown: a column of numbers and a code is one of numbers, as without a pin."""
    fees = [f"{k % 40}" if k % 8 else "unknown" for k in range(600)]
    table(600, 0, 1).assign(fee=fees).drop(columns="year").to_csv(tmp_path / "t.csv", index=False)
    base = load(tmp_path, DataParams(kind="table", path="t.csv", label="y", classes=("no", "yes")))
    windows = [labelled(0, table(300, 5, 3).drop(columns="year").assign(fee=["7"] * 297 + ["unknown"] * 3))]
    out = tmp_path / "pinned"
    out.mkdir()
    write_pinned(base, windows, admit(base, windows, manifest(windows)), tmp_path / "t.csv", out, MD5)
    for said, kind in (
        ({}, "category"), ({"missing_values": {"fee": ("unknown",)}}, "number"),
        ({"features": {"size": FeatureParams(kind="category")}}, "category"),
    ):  # fmt: skip
        features = {each.name: each.kind for each in load(out, base.params.model_copy(update=said)).space.features}
        assert features["fee"] == kind
        assert features["size"] == ("category" if "features" in said else "number")


def third(make):
    """A third window, with rows that no other has."""
    if make is of_rows:
        return labelled(2, table(300, 9, 5))
    x = np.random.default_rng(9).integers(0, 256, (150, 1, 6, 6), dtype=np.uint8)
    return Labelled(Arrival(2, x), pd.Series(["cat", "dog"] * 75, dtype=object))


@pytest.mark.parametrize("fault", ["rows", "order", "role", "bytes"])
def test_a_roles_file_of_other_rows_is_refused(tmp_path, fault):
    """Where data and roles do not belong together nothing is read: drawn anew, held-out rows could train."""
    base, _, _, out = pinned(tmp_path, of_rows, "parquet")
    place = roles_file(out / "t.parquet")
    if fault == "bytes":
        place.write_bytes(b"PAR1")
    elif fault == "role":
        frame = pd.read_parquet(place).assign(role="judge")
        frame.to_parquet(place)
    else:
        frame = pd.read_parquet(out / "t.parquet")
        (frame.iloc[:-1] if fault == "rows" else frame.iloc[::-1]).to_parquet(out / "t.parquet")
    with pytest.raises(DataError, match="held out may train"):
        load(out, base.params)


def test_the_files_are_the_same_bytes_each_time(tmp_path):
    """A proposal names the md5 that applying it gives; and the roles file says which manifest it was."""
    _, _, _, out = pinned(tmp_path, of_images, "npz")
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    shutil.rmtree(out)
    _, _, _, out = pinned(tmp_path, of_images, "npz")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == first
    assert pinned_manifest(out / "i.npz") == MD5
    assert pinned_manifest(tmp_path / "i.npz") == ""
    assert read_assigned(tmp_path / "i.npz", np.array([1])) is None


def test_a_format_that_changes_values_is_refused(tmp_path):
    """Text of many digits does not come back as the number it was: then nothing is pinned."""
    base, (first, _) = of_rows(tmp_path, "csv")
    rows = first.arrival.rows.assign(size=np.pi * first.arrival.rows["size"])
    exact, out = [Labelled(Arrival(0, rows), first.labels)], tmp_path / "pinned"
    out.mkdir()
    grown = admit(base, exact, manifest(exact))
    with pytest.raises(DataError, match="Convert the data set to Parquet"):
        write_pinned(base, exact, grown, tmp_path / "t.csv", out, MD5)


def test_a_folder_of_images_is_refused_by_name(tmp_path):
    """Nothing is written where the format is a file for each image."""
    base, windows = of_images(tmp_path, "npz")
    grown = admit(base, windows, manifest(windows))
    (tmp_path / "classes").mkdir()
    with pytest.raises(DataError, match="a folder of image files"):
        write_pinned(base, windows, grown, tmp_path / "classes", tmp_path, MD5)
