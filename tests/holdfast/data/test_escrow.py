"""Escrow: what came is given back as it came, or not at all."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from holdfast.data.escrow import Escrow
from holdfast.data.streams.base import Arrival
from holdfast.errors import DataError, StoreError

FRAME = pd.DataFrame({"size": [1.0, 2.5, None], "colour": ["red", None, "blue"], "n": [1, 2, 3]})
IMAGES = np.arange(3 * 16, dtype=np.uint8).reshape(3, 1, 4, 4)


@pytest.mark.parametrize("rows", [FRAME, IMAGES], ids=["table", "images"])
def test_rows_come_back_as_they_came(tmp_path, rows):
    """Tables and images survive, and keeping them twice writes once."""
    escrow = Escrow(tmp_path)
    digest = escrow.keep(Arrival(4, rows))
    (path,) = tmp_path.iterdir()
    written = path.stat().st_mtime_ns
    assert escrow.keep(Arrival(4, rows)) == digest
    assert path.stat().st_mtime_ns == written
    back = escrow.rows(digest, 4)
    assert (back.digest, back.position, len(back)) == (digest, 4, 3)


def test_changed_rows_are_refused(tmp_path):
    """A window with other bytes under its name never comes out, nor does a pickle."""
    escrow = Escrow(tmp_path)
    digest = escrow.keep(Arrival(0, FRAME))
    FRAME.assign(n=0).to_parquet(tmp_path / f"{digest}.parquet", index=False)
    with pytest.raises(DataError, match="as it came"):
        escrow.rows(digest, 0)
    (tmp_path / f"{digest}.parquet").write_bytes(b"\x80\x04N.")
    with pytest.raises(DataError, match="cannot be read"):
        escrow.rows(digest, 0)
    np.save(tmp_path / f"{digest}.npy", np.array([object()]), allow_pickle=True)
    with pytest.raises(DataError, match="cannot be read"):
        escrow.rows(digest, 0)


def test_what_cannot_be_had_is_an_outage_and_no_fault_of_the_window(tmp_path):
    """A file or folder that is not there, or does not let itself be read, says nothing of what was kept."""
    escrow = Escrow(tmp_path / "escrow")
    digest, labels = escrow.keep(Arrival(0, FRAME)), escrow.keep_labels(np.array([1, 0, 1]))
    (tmp_path / "escrow").rename(tmp_path / "unmounted")
    for read, name in ((escrow.rows, digest), (escrow.labels, labels), (escrow.labels, "")):
        with pytest.raises(StoreError, match="escrow, window 3: found No such file"):
            read(name, 3)
    (tmp_path / "unmounted").rename(tmp_path / "escrow")
    for name in (f"{digest}.parquet", f"{labels}.labels.json"):
        (tmp_path / "escrow" / name).unlink()
        (tmp_path / "escrow" / name).mkdir()
    for read, name in ((escrow.rows, digest), (escrow.labels, labels)):
        with pytest.raises(StoreError, match="Is a directory"):
            read(name, 3)


def test_labels_come_back_as_they_were_kept_or_not_at_all(tmp_path):
    """Others have another name and change nothing; another text under that name never comes out."""
    escrow = Escrow(tmp_path)
    digest = escrow.keep_labels(np.array([1, 0, 1]))
    other = escrow.keep_labels(np.array([0, 1, 0]))
    assert escrow.labels(digest, 0).tolist() == ["1", "0", "1"]
    assert escrow.labels(other, 0).tolist() == ["0", "1", "0"]
    assert len(escrow.files(digest, other, "")) == 2
    for text in ('["0", "0", "1"]', "not JSON"):
        (tmp_path / f"{digest}.labels.json").write_text(text)
        with pytest.raises(DataError, match="as it came"):
            escrow.labels(digest, 0)
