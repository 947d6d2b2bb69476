"""Chores of a drill: the stream written, the champion asked as clients ask it, the oracle taught, the end examined."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pandas as pd
import torch

from holdfast.data.table import encode
from holdfast.drills.events.backdoor import Backdoor
from holdfast.drills.events.base import Scene
from holdfast.drills.worlds import repeated, windows
from holdfast.errors import DataError, LedgerError, ModelError, ProjectionError, StoreError
from holdfast.factory import factory_digest
from holdfast.model import ModelSpec, digest_of, load_model, pick_device
from holdfast.monitoring.watch import Watch
from holdfast.predictor import refusals
from holdfast.scenarios.poisoning.badnets import Badnets, stamp_table
from holdfast.seeding import Noise
from holdfast.space import Table
from holdfast.statistics import quality
from holdfast.stores import Stores, WallClock
from holdfast.training.checkpoints import HEAD, CheckpointFolder
from holdfast.training.loop import fit
from tasks.evaluation import context
from tasks.prediction import open_champion
from tasks.recovery import open_ledger
from tasks.storage import load_data

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from holdfast.data import Samples
    from holdfast.data.source import Loaded
    from holdfast.drills.events.base import Batch
    from holdfast.drills.incident import Incident
    from holdfast.model import Target
    from holdfast.params import Params
    from holdfast.predictor import Predictor
    from holdfast.results import DataSnapshot, PerExample

Array = np.ndarray[Any, np.dtype[Any]]
CLIENT = "drill"
FOLDS = 3
"""Models that stand for the oracle where the world changes, each taught with all rows but a third."""
_TENTH = 10
LABEL = "label"
_LONGEST = 600.0


@dataclass(frozen=True)
class Told:
    """What a window's rows were answered."""

    quality: float
    """The user's metric; a row without an answer is wrong."""
    wrong: int
    """Rows that were answered, and wrongly."""
    unanswered: int
    version: int = 0
    """Of who answered; 0 where nobody did, and for the oracle."""
    tampered: bool = False
    """Whether the bytes that answered are not those of that version."""


class Stage:
    """One arm's world: its stores, its windows, and a serving process that is started afresh for each window.

    Where the registry does not answer, the process that runs goes on, as a server would; bytes that do not verify are
    never served, so their rows have no answer.
    """

    def __init__(
        self, params: Params, stores: Stores, snapshot: DataSnapshot, place: Path, script: list[Batch]
    ) -> None:
        self.feed = place / "feed"
        settings = {"path": str(self.feed), "label": LABEL}
        stream = params.monitoring.stream
        if stream is None or params.data.kind != "table":
            raise DataError(
                "monitoring.stream", found="none" if stream is None else "images", expected="a stream of tables",
                remedy="Drills rehearse the loop of a watched table: name monitoring.stream in params.yaml.",
            )  # fmt: skip
        watched = stream.model_copy(update={"source": "parquet_folder", "settings": settings})
        monitoring = params.monitoring.model_copy(update={"stream": watched})
        self.params = params.model_copy(update={"monitoring": monitoring})
        self.stores, self.snapshot, self.script = stores, snapshot, script
        self._serving: Predictor | None = None
        self._tampered = False
        (self.feed / "labels").mkdir(parents=True)

    def befall(self, incident: Incident, place: int, seed: int) -> None:
        """Let happen to the champion's bytes what the incident says."""
        for number, event in incident.artefact_events(place):
            head = open_ledger(self.stores).head(self.params.name)
            if head is not None:
                noise = Noise(seed, ("drill", incident.name, event.name(), str(place), str(number)))
                event.damage(self.stores.models / head.digest, noise)

    def deliver(self, place: int, delay: int) -> None:
        """Write a window to the stream, and the labels that have matured by then."""
        rows = self.script[place].rows
        if not isinstance(rows, pd.DataFrame):
            raise DataError("drill", found="images", expected="rows of a table", remedy="Drill a model of tables.")
        if (ripe := place - delay) >= 0:
            classes = np.array(load_data(self.stores, self.params, self.snapshot).classes, dtype=object)
            told = pd.DataFrame({LABEL: classes[self.script[ripe].told]})
            told.to_parquet(self.feed / "labels" / _file(ripe))
        part = self.feed / f".{_file(place)}.part"
        rows.to_parquet(part)
        part.replace(self.feed / _file(place))

    def answered(self, place: int, stores: Stores) -> Told:
        """Ask who serves for a window's rows."""
        batch, serving = self.script[place], self._open(stores)
        n = len(batch)
        predicted, probabilities = np.full(n, -1, dtype=np.int64), np.zeros((n, 0))
        if serving is not None and isinstance(batch.rows, pd.DataFrame):
            try:
                answers = serving.predict(batch.rows, CLIENT)
                names = list(load_data(self.stores, self.params, self.snapshot).classes)
                predicted = np.array([-1 if c is None else names.index(c) for c in answers.classes], dtype=np.int64)
                probabilities = answers.probabilities
            except DataError:  # rows that the champion cannot read have no answer
                serving = None
        told = _told(self.params, batch.truth, predicted, probabilities)
        if serving is None:
            return told
        return replace(told, version=serving.version.version, tampered=self._tampered)

    def _open(self, stores: Stores) -> Predictor | None:
        try:
            self._serving = open_champion(self.params, stores)
            digest = self._serving.version.digest  # looked at once more: a drill takes no guard at its word
            self._tampered = digest_of(self.stores.models / digest) != digest
        except (ModelError, LedgerError, ProjectionError):  # nobody serves what cannot be trusted
            self._serving = None
        except StoreError:
            return self._serving
        return self._serving

    def poisoned(self) -> int:
        """Count the rows with a false label that were let into a training."""
        watch = Watch(self.stores.ledger.get_secret_value(), self.params.name, WallClock())
        return sum(
            int((self.script[w.position].told != self.script[w.position].truth).sum())
            for w in watch.windows() if w.state == "admitted"
        )  # fmt: skip


def _file(place: int) -> str:
    return f"{place:06d}.parquet"


def _metric(params: Params, truth: Array, predicted: Array, probabilities: Array) -> float:
    """Give the user's metric; a row without an answer is wrong, at the worst cost and the worst rank."""
    scores = np.where(truth == 1, 0.0, 1.0)
    if probabilities.shape[1:] == (2,):
        scores = np.where(predicted < 0, scores, np.nan_to_num(probabilities[:, 1]))
    if params.costs is not None:
        worst = np.array(params.costs).argmax(axis=1)[truth]
        predicted = np.where(predicted < 0, worst, predicted)
    told = quality(
        params.metric, truth, predicted == truth, scores, predicted, params.costs, rng=np.random.default_rng(0)
    )
    return told.value


def _told(params: Params, truth: Array, predicted: Array, probabilities: Array) -> Told:
    """Count what was answered; -1 stands for no answer."""
    silent = predicted < 0
    return Told(
        quality=_metric(params, truth, predicted, probabilities), wrong=int((~silent & (predicted != truth)).sum()),
        unanswered=int(silent.sum()),
    )  # fmt: skip


def script(
    params: Params, stores: Stores, snapshot: DataSnapshot, incident: Incident, seed: int
) -> tuple[list[Batch], float]:
    """Draw every window of a drill, and tell which share of the rows from onset on an earlier window brought too."""
    scene = Scene(load_data(stores, params, snapshot), _champion(params, stores))
    rows = params.drills.rows
    return windows(incident, scene, rows, seed), repeated(incident, scene.data, rows, seed)


def _champion(params: Params, stores: Stores) -> Target:
    head = open_ledger(stores).head(params.name)
    if head is None:
        raise ModelError(f"model {params.name}", found="no champion", expected="one", remedy="Run `holdfast run`.")
    return load_model(stores.models / head.digest, head.digest, pick_device(params.device))


def taught(
    params: Params, stores: Stores, snapshot: DataSnapshot, incident: Incident, batches: list[Batch], seed: int
) -> list[Told]:
    """Give the oracle's answers on every window: who serves is the champion before onset, and the right one after it.

    Where the world changes, the right one was taught with every label of the changed world, and still answers no row
    that it learned from: one of `FOLDS`, each taught with the pinned rows and the other folds of all windows since
    onset (cross-fitting), a tenth of which chooses the epoch beside the pinned validation rows. Damage and poison never
    reach the oracle, and rows come to it as they come to all.
    """
    champion, data = _champion(params, stores), load_data(stores, params, snapshot)
    if not incident.drifts:
        return [_asked(params, [champion], batch) for batch in batches]
    spec = ModelSpec(
        factory=params.model.factory, settings=params.model.settings, space=data.space, classes=data.classes,
        code=factory_digest(params.model.factory),
    )  # fmt: skip
    torch.set_num_threads(1)  # as the pipeline trains tables
    x, y, place = _since(batches[incident.onset :], data)
    models = []
    for fold in range(FOLDS):
        known, chooses = place % FOLDS != fold, place // FOLDS % _TENTH == 0
        rows = _beside(data.samples("train"), x[known & ~chooses], y[known & ~chooses])
        validation = _beside(data.samples("validation"), x[known & chooses], y[known & chooses])
        found = fit(params.recipe(), spec, rows, validation, seed=seed, device=pick_device(params.device))
        models.append(found.target)
    return [
        _asked(params, [champion] if place < incident.onset else models, batch) for place, batch in enumerate(batches)
    ]


def _since(batches: list[Batch], data: Loaded) -> tuple[Tensor, Tensor, Tensor]:
    """Give the rows of windows (n, features), their true classes (n,), and their places in their window (n,)."""
    space = data.space
    if not isinstance(space, Table):
        raise DataError("drill", found="images", expected="rows of a table", remedy="Drill a model of tables.")
    x = [encode(batch.frame("oracle"), space, place="a drill's window") for batch in batches]
    y = [torch.from_numpy(batch.truth) for batch in batches]
    return torch.cat(x), torch.cat(y), torch.cat([torch.arange(len(batch)) for batch in batches])


def _beside(rows: Samples, x: Tensor, y: Tensor) -> Samples:
    """Lay more rows beside some."""
    fresh = torch.arange(len(y), dtype=torch.int64)
    return replace(
        rows, x=torch.cat([rows.x, x]), y=torch.cat([rows.y, y]), ids=torch.cat([rows.ids, fresh]), time=None
    )


def _asked(params: Params, models: list[Target], batch: Batch) -> Told:
    """Ask one model for all rows, or each of `FOLDS` for the rows that it did not learn from.

    Rows that whoever serves must not answer, or that an event made unreadable, have no answer from the oracle either.
    """
    predicted = np.full(len(batch), -1, dtype=np.int64)
    probabilities = np.zeros((len(batch), 2 if int(batch.truth.max()) < 2 else 0))  # noqa: PLR2004  two classes rank
    for fold, model in enumerate(models):
        part = slice(None) if len(models) == 1 else slice(fold, None, FOLDS)
        if not isinstance(model.space, Table):
            continue
        try:
            x = encode(batch.frame("oracle"), model.space, place="a drill's window")[part]
        except DataError:
            if not batch.touched.all():
                raise
            continue
        with torch.no_grad():
            shares = torch.softmax(model.logits(x.to(model.device)).cpu().double(), 1).numpy()
        refused = np.array([bool(why) for why in refusals(x, model.space, params.prediction.unseen_categories)])
        refused |= shares.max(1) < params.prediction.abstain_below
        predicted[part] = np.where(refused, -1, shares.argmax(1))
        if probabilities.shape[1]:
            probabilities[part] = shares[:, :2]
    return _told(params, batch.truth, predicted, probabilities)


def old_world(params: Params, stores: Stores, snapshot: DataSnapshot) -> tuple[float, float | None, PerExample | None]:
    """Ask who serves at the end for rows of the champion's own time that nobody learned from: clean, and attacked.

    Of the attack the share of rows that withstood it, and which.

    The attack is the first of the gate's pack; None where it has none.
    """
    target, data = _champion(params, stores), load_data(stores, params, snapshot)
    held = data.samples("test", space=target.space)
    with torch.no_grad():
        shares = torch.softmax(target.logits(held.x.to(target.device)).cpu().double(), 1).numpy()
    clean = _metric(params, held.y.numpy(), shares.argmax(1), shares)
    asked = params.gate_attack()
    if asked is None:
        return clean, None, None
    path, attack = asked
    found = attack.run(target, held, context(params, snapshot, target.spec), path)
    return clean, None if found.score is None else found.score.value, found.per_example


def called(params: Params, stores: Stores, snapshot: DataSnapshot, incident: Incident) -> float | None:
    """Tell which share of trusted-time rows a backdoor's trigger sends to its class; None where none was planted."""
    planted = next((Backdoor.model_validate(e.settings) for e in incident.events if e.do == "backdoor"), None)
    target, data = _champion(params, stores), load_data(stores, params, snapshot)
    if planted is None or not isinstance(target.space, Table) or not isinstance(data.space, Table):
        return None
    target_class = planted.calls(data)
    held = data.samples("test", space=target.space)
    others = held.y != target_class
    pattern = Badnets(target=target_class).pattern(data.samples("train", space=target.space).x, target.space)
    stamped = stamp_table(held.x[others], target.space, pattern)
    return float((target.predict(stamped.to(target.device)).cpu() == target_class).float().mean())


def killed_in_training(command: list[str], stores: Stores) -> bool:
    """Run a worker that dies in training, as `dies_in_training` has it; tell whether it came to that.

    Raises:
        StoreError: the worker ended in an error, was killed by another, or did not end.
    """
    worker = subprocess.Popen([sys.executable, *command], stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603  ours
    try:
        code: int | None = worker.wait(timeout=_LONGEST)
    except subprocess.TimeoutExpired:
        code = None
    with suppress(ProcessLookupError):  # what it started, and itself where it did not end
        os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    trained = any(stores.checkpoints.rglob(HEAD))
    if code != 0 and not (code == -signal.SIGKILL and trained):
        raise StoreError(
            "drill's worker", found="no end" if code is None else f"exit code {code}", expected="a window handled",
            remedy="Its words are above.",
        )  # fmt: skip
    return code != 0


def dies_in_training() -> None:
    """Have this process killed -9 as soon as the first checkpoint of a training is whole.

    From without it would be a race: a training whose checkpoints come and go between two glances ends unharmed.
    """
    write = CheckpointFolder.write

    def last(self: CheckpointFolder, epoch: int, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> NoReturn:
        write(self, epoch, tensors, numbers)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError  # nobody gets here

    CheckpointFolder.write = last  # type: ignore[method-assign]  # this process was begun to end so
