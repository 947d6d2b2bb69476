"""Escrow: what came is given back as it came, or not at all."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from holdfast.data.escrow import Escrow
from holdfast.data.streams.base import Arrival
from holdfast.errors import DataError

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


def test_changed_or_lost_rows_are_refused(tmp_path):
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
    with pytest.raises(DataError):
        escrow.rows("0" * 64, 1)


def test_labels_wait_until_they_mature(tmp_path):
    """No labels are an error, not an empty list; kept ones come back as text."""
    escrow = Escrow(tmp_path)
    digest = escrow.keep(Arrival(0, FRAME))
    with pytest.raises(DataError, match="no labels"):
        escrow.labels(digest, 0)
    escrow.keep_labels(digest, np.array([1, 0, 1]))
    assert escrow.labels(digest, 0).tolist() == ["1", "0", "1"]
