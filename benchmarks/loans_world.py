"""A stationary world to monitor: loans of one epoch in random order, a champion, references, rows for windows.

Its challenger learned what the champion learned, and learns no window: they hold nothing new.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from holdfast.data import Samples
from holdfast.data.columns import read_labels
from holdfast.data.source import quick_features
from holdfast.data.stream import Window
from holdfast.data.table import encode, feature_names, fit_table, read_table
from holdfast.digests import digest_json
from holdfast.integrity.classifiers import classify
from holdfast.model import ModelSpec
from holdfast.monitoring.challenger import allowed, losses
from holdfast.params import Params, load
from holdfast.seeding import Noise
from holdfast.training.loop import fit

Array = np.ndarray[Any, np.dtype[Any]]
REPOSITORY = Path(__file__).parents[1]
TRAINED, CHOSEN = 10_000, 1_500


@dataclass(frozen=True)
class World:
    """Answered rows of one distribution; references and pool have no row in common, and none that trained."""

    name: str
    """Digest of champion and rows."""
    params: Params
    references: tuple[Window, ...]
    allowed: tuple[Array, ...]
    """Leads (2,) that a challenger is allowed by each reference."""
    pool: Window
    accuracy: float


def build(path: Path, references: int, size: int, seed: int) -> World:
    """Read the loans to ``train_until``, train the champion of params.yaml on some, and answer the others."""
    params = load(REPOSITORY / "params.yaml", (REPOSITORY / "profiles" / "crisis.yaml",))
    frame = read_table(path)
    frame = frame[frame[params.data.time] <= params.data.train_until].drop_duplicates()
    order = torch.randperm(len(frame), generator=Noise(seed, ("world",)).generator()).numpy()
    frame = frame.iloc[order].reset_index(drop=True)
    labels, classes = read_labels(frame[params.data.label], params.data.classes, path.name)
    space = fit_table(frame[:TRAINED], feature_names(frame, params.data), params.data)
    x, y, ids = encode(frame, space, place=path.name), torch.from_numpy(labels), torch.arange(len(frame))

    def samples(start: int, end: int, role: str) -> Samples:
        return Samples(x=x[start:end], y=y[start:end], ids=ids[start:end], role=role, snapshot="loans")

    spec = ModelSpec(factory=params.model.factory, settings=params.model.settings, space=space, classes=classes)
    held = TRAINED + CHOSEN
    trained = fit(
        params.recipe(), spec, samples(0, TRAINED, "train"), samples(TRAINED, held, "validation"), seed=seed,
        device=torch.device("cpu"),
    )  # fmt: skip
    with torch.no_grad():
        logits = torch.cat([trained.target.logits(part) for part in x[held:].split(10_000)]).double()
    told = classify(
        "table", quick_features(x[:TRAINED], space), labels[:TRAINED], quick_features(x[held:], space), len(classes), 0
    )
    answered = Window(
        position=-1, ids=ids[held:].numpy(), x=x[held:], probabilities=torch.softmax(logits, 1).numpy(), space=space,
        labels=labels[held:],
    )  # fmt: skip
    answered = replace(answered, lead=ahead(answered, told))
    parts = [answered.take(np.arange(i * size, (i + 1) * size)) for i in range(references)]
    some = tuple(allowed(part.lead) for part in parts if part.lead is not None)
    parts = [allowing(part, each) for part, each in zip(parts, some, strict=True)]
    pool = answered.take(np.arange(references * size, len(answered)))
    name = digest_json(
        [trained.target.digest, answered.id, references, size, hashlib.sha256(told.tobytes()).hexdigest()]
    )
    return World(
        name=name, params=params, references=tuple(parts), allowed=some, pool=pool,
        accuracy=1.0 - float(pool.wrong.mean()),
    )  # fmt: skip


def ahead(window: Window, told: Array) -> Array:
    """Give the leads (n, 2) of a challenger that gave these probabilities (n, classes)."""
    return np.asarray(losses(window.probabilities, window.matured) - losses(told, window.matured))


def allowing(window: Window, some: Array) -> Window:
    """Take what a challenger is allowed (2,) off its leads."""
    return window if window.lead is None else replace(window, lead=window.lead - some)
