"""Streams: windows come in order and whole, labels when they mature, and nothing that was read changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import create_engine

from holdfast.data.params import DataParams
from holdfast.data.source import load
from holdfast.data.streams.base import Arrival, Site
from holdfast.data.streams.npz_folder import NpzFolder
from holdfast.data.streams.parquet_folder import ParquetFolder
from holdfast.data.streams.replay import Replay
from holdfast.data.streams.sql_table import SqlTable
from holdfast.errors import DataError


def table(n, years=(1, 2, 3)):
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "year": np.sort(rng.choice(years, n)), "size": rng.normal(size=n), "colour": rng.choice(["red", "blue"], n),
            "y": rng.integers(0, 2, n),
        }
    )  # fmt: skip


@pytest.fixture
def data(tmp_path):
    table(900).to_parquet(tmp_path / "t.parquet")
    params = DataParams(
        kind="table", path="t.parquet", label="y", classes=("no", "yes"), time="year", train_until=1, exclude=("year",),
        later_test=0.1,
    )  # fmt: skip
    return load(tmp_path, params)


def every(stream, site):
    found = []
    while (arrival := stream.arrival(len(found), site)) is not None:
        found.append(arrival)
    return found


def test_a_replay_gives_each_drill_row_once_year_by_year(data, tmp_path):
    """Every row after the training period that no scorecard holds comes once, in the order of its year."""
    site = Site(project=tmp_path, data=data)
    windows = every(Replay(windows_per_period=4), site)
    assert len(windows) == 8
    assert [set(w.rows["year"]) for w in windows] == [{2}] * 4 + [{3}] * 4
    assert "y" not in windows[0].rows
    whole = pd.concat([w.rows for w in windows]).sort_values("size")
    held = data.frame[data.roles == "drill"].drop(columns="y").sort_values("size")
    pd.testing.assert_frame_equal(whole.reset_index(drop=True), held.reset_index(drop=True))
    assert len(every(Replay(windows_per_period=4, until=2), site)) == 4
    late = every(Replay(windows_per_period=4, since=3), site)
    assert [w.digest for w in late] == [w.digest for w in windows[4:]]
    for settings, found in (({"until": 1}, "until: found 1"), ({"since": 4}, "since: found 4")):
        with pytest.raises(DataError, match=rf"{found}, and rows of 2 to 3"):
            every(Replay(windows_per_period=4, **settings), site)
    assert [w.digest for w in every(Replay(windows_per_period=4), site)] == [w.digest for w in windows]
    assert windows[0].digest != every(Replay(windows_per_period=4, seed=1), site)[0].digest


def test_replayed_labels_mature_after_their_delay(data, tmp_path):
    """Labels are the rows' own, by name, and are not there a window too early."""
    site, stream = Site(project=tmp_path, data=data), Replay(windows_per_period=4, label_delay=2)
    assert stream.labels(1, 2, site) is None
    labels, window = stream.labels(1, 3, site), stream.arrival(1, site)
    by_size = dict(zip(data.frame["size"], data.frame["y"], strict=True))
    assert list(labels) == [("no", "yes")[by_size[size]] for size in window.rows["size"]]


def test_a_replay_without_later_rows_is_refused(tmp_path):
    """Data without a training period has nothing to replay."""
    table(300).to_parquet(tmp_path / "t.parquet")
    data = load(tmp_path, DataParams(kind="table", path="t.parquet", label="y"))
    with pytest.raises(DataError, match="no row of role drill"):
        Replay().arrival(0, Site(project=tmp_path, data=data))
    timed = replace(data, roles=np.where(data.ids % 2 == 0, "drill", data.roles), later=data.roles == "train")
    timed = replace(timed, later=timed.later & (timed.roles != "drill"))
    with pytest.raises(DataError, match="no row of role drill"):  # drill rows, none of them later than the training
        Replay().arrival(0, Site(project=tmp_path, data=timed))


def test_a_folder_gives_its_files_in_the_order_of_their_names(tmp_path):
    """Files are windows, label files make them mature, and a half-labelled file is refused."""
    folder, stream, site = tmp_path / "in", ParquetFolder(path="in", label="y"), Site(project=tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        stream.arrival(0, site)
    (folder / "labels").mkdir(parents=True)
    for name, size in (("b", 4), ("a", 3)):
        table(size).to_parquet(folder / f"{name}.parquet")
    assert [len(w) for w in every(stream, site)] == [3, 4]
    assert "y" not in stream.arrival(0, site).rows
    assert stream.labels(0, 9, site) is None
    table(3)[["y"]].to_parquet(folder / "labels" / "a.parquet")
    assert list(stream.labels(0, 9, site)) == list(table(3)["y"])
    pd.DataFrame({"y": [1.0, None, 0.0, 1.0]}).to_parquet(folder / "labels" / "b.parquet")
    with pytest.raises(DataError, match="y for each row"):
        stream.labels(1, 9, site)


def test_a_folder_of_archives_gives_images_and_labels_beside_them(tmp_path):
    """Archives are windows of images, label archives make them mature, and pickled objects are refused unread."""
    folder, stream, site = tmp_path / "in", NpzFolder(path="in"), Site(project=tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        stream.arrival(0, site)
    (folder / "labels").mkdir(parents=True)
    pixels = np.arange(4 * 3 * 2, dtype=np.uint8).reshape(4, 3, 2)
    np.savez(folder / "b.npz", x=pixels)
    np.savez(folder / "a.npz", x=pixels[:3])
    first, second = every(stream, site)
    assert first.rows.shape == (3, 1, 3, 2)
    assert np.array_equal(second.rows[:, 0], pixels)
    assert np.array_equal(second.asked[..., 0], pixels)
    assert stream.labels(0, 9, site) is None
    np.savez(folder / "labels" / "a.npz", y=np.array([0, 1, 0]))
    assert list(stream.labels(0, 9, site)) == [0, 1, 0]
    np.savez(folder / "labels" / "b.npz", z=np.array([0, 1, 0, 1]))
    with pytest.raises(DataError, match="an array y"):
        stream.labels(1, 9, site)
    np.savez(folder / "labels" / "b.npz", y=np.array([0, 1, 0, None], dtype=object))
    with pytest.raises(DataError, match="never unpickled"):
        stream.labels(1, 9, site)


def test_a_table_in_a_database_gives_whole_windows_only(tmp_path):
    """A window has come when all its rows are there, in the order of the key, and is labelled when none lacks its label."""
    url = f"sqlite:///{tmp_path / 'feed.db'}"
    frame = table(10).assign(id=range(10, 0, -1))
    frame["y"] = frame["y"].astype(object).where(frame["id"] != 5, None)
    frame.to_sql("feed", create_engine(url), index=False)
    stream, site = SqlTable(table="feed", key="id", label="y", rows=4), Site(project=tmp_path, url=url)
    first, second = every(stream, site)
    assert set(first.rows.columns) == {"year", "size", "colour"}
    assert list(first.rows["size"]) == list(frame.sort_values("id")["size"][:4])
    assert len(stream.labels(0, 1, site)) == 4
    assert stream.labels(1, 1, site) is None
    assert first.digest != second.digest


@pytest.mark.parametrize(
    ("settings", "url", "expected"),
    [
        ({"table": "none", "key": "id"}, True, "a table that answers"),
        ({"table": "feed", "key": "nope"}, True, "no column nope"),
        ({"table": "feed", "key": "id"}, False, "no URL"),
    ],
)
def test_a_database_that_does_not_answer_is_an_error(tmp_path, settings, url, expected):
    """An outage, a wrong name or no URL are never an empty stream."""
    place = f"sqlite:///{tmp_path / 'feed.db'}"
    table(4).assign(id=range(4), label=1).to_sql("feed", create_engine(place), index=False)
    with pytest.raises(DataError, match=expected):
        SqlTable(rows=2, **settings).arrival(0, Site(project=tmp_path, url=place if url else None))


def test_a_windows_name_is_its_rows():
    """Other values, another order or another column give another name; storage types do not."""
    frame = table(5).drop(columns="y")
    name = Arrival(0, frame).digest
    assert Arrival(7, frame.astype({"year": "float64"})).digest == name
    others = (frame.iloc[::-1].reset_index(drop=True), frame.assign(size=0.0), frame.rename(columns={"size": "mass"}))
    assert len({name, *(Arrival(0, other).digest for other in others)}) == 4
    images = np.arange(2 * 4 * 4, dtype=np.uint8).reshape(2, 1, 4, 4)
    assert Arrival(0, images).digest != Arrival(0, images[::-1]).digest
    with pytest.raises(DataError, match="no rows"):
        Arrival(0, frame.iloc[:0])
