"""What benchmarks that retrain without the loop let in: the windows asked for, without rows at fault."""

from pathlib import Path

import numpy as np

from holdfast.data.admission import Labelled, admit
from holdfast.data.source import load
from holdfast.data.streams.base import Arrival
from holdfast.params import load as load_params

ROOT = Path(__file__).parents[2]


def test_rows_at_fault_by_the_schema_are_named_and_train_nothing(benchmark):
    """A state that is none, planted in two rows: those alone, and what is admitted excludes them."""
    params = load_params(ROOT / "params.yaml", (ROOT / "profiles" / "crisis.yaml",))
    data = load(ROOT / "embedded", params.data)
    rows = data.frame[data.roles == "drill"].iloc[:200].reset_index(drop=True)
    clean = benchmark.manifest_of(params, data, [Arrival(4, rows)]).windows[0].faulty
    planted = [place for place in (3, 70, 71) if place not in clean][:2]
    spoilt = rows.copy()
    spoilt.loc[planted, "state"] = "??"
    arrival = Arrival(4, spoilt.drop(columns=params.data.label))
    manifest = benchmark.manifest_of(params, data, [arrival])
    assert set(manifest.windows[0].faulty) == {*clean, *planted}
    assert len(clean) < 100
    grown = admit(data, [Labelled(arrival, rows[params.data.label])], manifest)
    assert set(np.flatnonzero(grown.excluded[grown.window == 4])) == {*clean, *planted}


def test_images_have_no_declared_rows(benchmark):
    """What is declared of columns says nothing of pixels."""
    params = load_params(ROOT / "params.yaml", (ROOT / "profiles" / "crisis.yaml",))
    data = load(ROOT / "embedded", params.data)
    arrival = Arrival(0, np.zeros((3, 1, 4, 4), np.float32))
    assert benchmark.manifest_of(params, data, [arrival]).windows[0].faulty == ()
