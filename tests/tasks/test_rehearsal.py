"""A rehearsal: the oracle answers what whoever serves would answer, and kills and spoilt bytes are what they are."""

import os
import signal
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from holdfast.data.params import DataParams
from holdfast.data.table import fit_table
from holdfast.drills.events.base import Batch
from holdfast.errors import StoreError
from holdfast.stores import Stores
from holdfast.training.checkpoints import HEAD, CheckpointFolder
from tasks import rehearsal


@pytest.mark.parametrize(("unseen", "below", "right"), [("abstain", 0.0, 8), ("answer", 0.0, 10), ("answer", 0.9, 5)])
def test_the_oracle_refuses_what_whoever_serves_refuses(monkeypatch, unseen, below, right):
    """Else it would be ahead by rows that nobody may answer, and damage that did nothing would count as not mended."""
    known = pd.DataFrame({"number": np.arange(40.0), "kind": ["a", "b"] * 20})
    space = fit_table(known, ["number", "kind"], DataParams(kind="table", path="t", label="y"))
    asked = pd.DataFrame({"number": np.arange(10.0), "kind": ["a"] * 8 + ["new"] * 2})
    sure = torch.where(torch.arange(10) < 5, 5.0, 1.0)
    model = SimpleNamespace(
        space=space, device="cpu", logits=lambda x: torch.stack([sure[: len(x)], torch.zeros(len(x))], 1)
    )
    batch = Batch(rows=asked, truth=np.zeros(10, dtype=np.int64), told=np.zeros(10, dtype=np.int64),
                  touched=np.zeros(10, dtype=bool))  # fmt: skip
    monkeypatch.setattr(rehearsal, "_metric", lambda _, truth, predicted, __: int((truth == predicted).sum()))
    params = SimpleNamespace(prediction=SimpleNamespace(unseen_categories=unseen, abstain_below=below))
    told = rehearsal._asked(params, [model], batch)
    assert (told.quality, told.wrong, told.unanswered) == (right, 0, 10 - right)


def test_who_answers_is_looked_at_once_more(monkeypatch, tmp_path):
    """Were the guard gone, answers of spoilt bytes would be counted; nobody who answers is no spoilt answer."""
    stage, truth = object.__new__(rehearsal.Stage), np.array([0, 1])
    batch = Batch(pd.DataFrame({"a": [1.0, 2.0]}), truth, truth, np.zeros(2, dtype=bool))
    stage.params, stage.stores, stage.snapshot, stage.script = None, Stores.local(tmp_path, tmp_path), None, [batch] * 3
    stage._serving, stage._tampered = None, False
    answers = SimpleNamespace(classes=("no", "no"), probabilities=np.full((2, 2), 0.5))
    serving = SimpleNamespace(version=SimpleNamespace(version=4, digest="d"), predict=lambda *_: answers)
    monkeypatch.setattr(rehearsal, "_metric", lambda *_: 0.5)
    monkeypatch.setattr(rehearsal, "load_data", lambda *_: SimpleNamespace(classes=("no", "yes")))
    for place, (bytes_, who, tampered) in enumerate([("d", serving, False), ("x", serving, True), ("x", None, False)]):
        monkeypatch.setattr(rehearsal, "digest_of", lambda _, found=bytes_: found)
        monkeypatch.setattr(rehearsal, "open_champion", opened(who))
        told = stage.answered(place, stage.stores)
        assert (told.tampered, told.version) == (tampered, 0 if who is None else 4)
        assert (told.wrong, told.unanswered) == ((0, 2) if who is None else (1, 0))


def opened(who):
    def open_champion(*_):
        if who is None:
            raise rehearsal.ModelError("model", found="other bytes", expected="the champion's", remedy="Repair it.")
        return who

    return open_champion


def test_a_worker_dies_with_its_first_whole_checkpoint(monkeypatch, tmp_path):
    """Not before, when there is nothing to go on with, and not after: no glance from without can come too late."""

    def struck(pid, stroke):
        raise InterruptedError(f"{pid == os.getpid()} {stroke == signal.SIGKILL}")

    monkeypatch.setattr(CheckpointFolder, "write", CheckpointFolder.write)  # put back when all is done
    monkeypatch.setattr(rehearsal.os, "kill", struck)
    rehearsal.dies_in_training()
    folder = CheckpointFolder(tmp_path, "training")
    with pytest.raises(InterruptedError, match="True True"):
        folder.write(1, {"weight": torch.ones(2)}, {"epoch": 1})
    assert folder.read()[1] == {"epoch": 1}


def test_only_a_death_in_training_is_one(tmp_path):
    """A worker that went through was not killed; one that something else killed, or that failed, ends the drill."""
    stores = Stores.local(tmp_path, tmp_path)
    shot = ["-S", "-c", "import os; os.kill(os.getpid(), 9)"]
    assert not rehearsal.killed_in_training(["-S", "-c", ""], stores)
    for command in (shot, ["-S", "-c", "raise SystemExit(3)"]):
        with pytest.raises(StoreError, match="exit code"):
            rehearsal.killed_in_training(command, stores)
    (stores.checkpoints / "k").mkdir(parents=True)
    (stores.checkpoints / "k" / HEAD).write_text("{}")
    assert rehearsal.killed_in_training(shot, stores)
