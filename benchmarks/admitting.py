"""What the loop lets a retraining learn from, for benchmarks that retrain without it: by its own rule."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from holdfast.data.admission import AdmittedWindow, Manifest
from holdfast.integrity.rows import declared_of_rows, examine_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.data.source import Loaded
    from holdfast.data.streams.base import Arrival
    from holdfast.params import Params


def manifest_of(params: Params, data: Loaded, arrivals: Sequence[Arrival]) -> Manifest:
    """Name the windows that are laid beside the pinned data, and which of their rows the loop finds at fault."""
    windows = tuple(
        AdmittedWindow(position=arrival.position, digest=arrival.digest, faulty=_faulty(params, arrival))
        for arrival in arrivals
    )
    return Manifest(base_md5="", base_content=data.digest, windows=windows, recent=())


def _faulty(params: Params, arrival: Arrival) -> tuple[int, ...]:
    schema = declared_of_rows(params.checks(), params.data.label)
    if schema is None or isinstance(arrival.rows, np.ndarray):
        return ()
    return examine_rows(schema, arrival.rows, params.seed).rows
