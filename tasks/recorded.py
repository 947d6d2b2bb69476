"""Recorded predictions: whose answers are watched where no champion is asked, and what they are compared with."""

from __future__ import annotations

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from holdfast.data.recorded import Recorded
from holdfast.data.stream import Window
from holdfast.digests import digest_json
from holdfast.errors import DataError
from holdfast.params import Params
from holdfast.results import DataSnapshot, ModelVersion
from holdfast.space import Table
from holdfast.stores import Stores
from tasks.recovery import find_version
from tasks.storage import load_data

_FEWEST = 100
"""Reference rows without which nothing can be compared."""


@task(cache_policy=NO_CACHE)
def watched_model(params: Params, stores: Stores, snapshot: DataSnapshot) -> ModelVersion:
    """Find whose answers are watched: the champion's, or those of a model that is known by its records only.

    Raises:
        StoreError: there is no champion, and nothing is recorded.
    """
    if not params.recorded:
        return find_version.fn(params, stores, None)
    digest = digest_json(["recorded", params.recorded, snapshot.content])
    return ModelVersion(name=params.name, version=0, digest=digest)


def recorded_answers(params: Params, stores: Stores, snapshot: DataSnapshot) -> Recorded:
    """Read rows as the pinned data's training rows describe them, and answers from the columns that params name.

    Raises:
        DataError: the data are no table.
    """
    space = load_data(stores, params, snapshot).space
    if not isinstance(space, Table):
        raise DataError("monitoring.stream.recorded", found="images", expected="a table", remedy="Watch a champion.")
    return Recorded(space, params.recorded)


def recorded_reference(params: Params, stores: Stores, snapshot: DataSnapshot) -> Window:
    """Give labelled rows of the pinned data with their recorded answers: what windows are compared with.

    Raises:
        DataError: they are too few, or have no recorded answers.
    """
    data, recorded = load_data(stores, params, snapshot), recorded_answers(params, stores, snapshot)
    rows = np.flatnonzero(data.holds("calibration") & ~data.later)
    if data.frame is None or len(rows) < _FEWEST:
        raise DataError(
            "reference rows", found=f"{len(rows)} rows of role calibration", expected=f"at least {_FEWEST}",
            remedy="Give data.roles.calibration a larger share.",
        )  # fmt: skip
    told = recorded.examine(data.frame.iloc[rows].reset_index(drop=True))
    return Window(
        position=-1, ids=data.ids[rows], x=told.inputs, probabilities=told.probabilities, space=recorded.space,
        labels=data.labels[rows],
    )  # fmt: skip
