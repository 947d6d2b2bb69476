"""Pinning a version's data: proposed first, written by DVC when asked, and the version goes on knowing its own rows."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from dvc.repo import Repo

from holdfast.data.admission import AdmittedWindow, Manifest
from holdfast.data.assigned import roles_file
from holdfast.data.params import DataParams
from holdfast.errors import DataError
from holdfast.params import load as load_params
from holdfast.recovery.promotion import register
from holdfast.results import Decision, ModelVersion
from holdfast.space import Feature, Table
from holdfast.stores import Stores
from tasks import objects, pinning, storage, versioning
from tasks.monitoring import judged_from
from tasks.recovery import open_ledger

TOP = Path(__file__).parents[2]
SHARES = {"train": 0.5, "validation": 0.1, "calibration": 0.1, "gate": 0.2}


def rows(kind, n, seed):
    """Draw rows and their labels."""
    draw = np.random.default_rng(seed)
    y = draw.integers(0, 2, n)
    if kind == "table":
        return pd.DataFrame({"a": draw.normal(size=n), "b": draw.integers(0, 9, n)}), y
    return draw.integers(0, 256, (n, 1, 6, 6), dtype=np.uint8), y


def written(place, kind):
    x, y = rows(kind, 500, 0)
    if kind == "table":
        x.assign(label=y).to_parquet(place / "t.parquet", index=False)
        return DataParams(kind="table", path="t.parquet", label="label", roles={**SHARES, "test": 0.1})
    tested = rows(kind, 60, 1)
    np.savez(place / "i.npz", x_train=x[:, 0], y_train=y, x_test=tested[0][:, 0], y_test=tested[1])
    return DataParams(kind="images", path="i.npz", roles=SHARES)


def kept(project, kind, position):
    """Keep a window as a retraining does."""
    x, y = rows(kind, 200, 10 + position)
    body = io.BytesIO()
    x.to_parquet(body, index=False) if kind == "table" else np.save(body, x, allow_pickle=False)
    labels = json.dumps([str(label) for label in y])
    return AdmittedWindow(
        position=position, digest=f"w{position}", rows_md5=objects.keep(project, body.getvalue()),
        labels_md5=objects.keep(project, labels.encode()), faulty=(0, 7) if position == 3 else (),
    )  # fmt: skip


@pytest.fixture(scope="module", params=["table", "images"])
def made(request, tmp_path_factory):
    """A project with data of one kind, version 1 made of it, and version 2 of it and two windows."""
    folder, kind = tmp_path_factory.mktemp("pin"), request.param
    project = folder / "project"
    (project / ".dvc").mkdir(parents=True)
    (project / "data").mkdir()
    for name in ("data.dvc", ".dvcignore", ".dvc/config"):
        shutil.copy(TOP / name, project / name)
    data = written(project / "data", kind)
    with storage.opened(project, quiet=True) as repo:
        repo.add(str(project / "data"))
    whole = load_params(TOP / "params.yaml", (TOP / "profiles" / "tiny.yaml",))
    silent = whole.monitoring.model_copy(update={"stream": None})
    params = whole.model_copy(update={"data": data, "monitoring": silent})
    stores = Stores.local(project, folder / "state", actor="alice")
    stores.root.mkdir()
    base = storage.snapshot(params, stores)
    windows = tuple(kept(project, kind, position) for position in (3, 4))
    manifest = Manifest(base_md5=base.md5, base_content=base.content, windows=windows, recent=(4,))
    grown = storage.admitted_snapshot(params, stores, base, storage.weighed(params, stores, manifest))
    ledger = open_ledger(stores)
    for number, snapshot in ((1, base), (2, grown)):
        version = ModelVersion(name="tiny", version=number, digest=f"{number}" * 64)
        register(ledger, version, who="alice", lineage={"data": snapshot.model_dump(mode="json")})
    return SimpleNamespace(folder=folder, params=params, base=base, grown=grown)


@pytest.fixture
def here(made, tmp_path, monkeypatch):
    """A copy of that project, whose registry answers from the ledger."""
    storage._loaded.clear()
    folder = shutil.copytree(made.folder, tmp_path / "copy")
    stores = Stores.local(folder / "project", folder / "state", actor="alice")
    found = SimpleNamespace(fn=lambda _p, _s, n: ModelVersion(name="tiny", version=n or 2, digest=f"{n or 2}" * 64))
    monkeypatch.setattr(pinning, "find_version", found)
    return SimpleNamespace(**{**vars(made), "stores": stores, "project": stores.project})


def files(project):
    kept = [project / "data.dvc", *sorted((project / "data").rglob("*"))]
    return {path.name: path.read_bytes() for path in kept if path.is_file()}


def test_the_default_proposes_and_changes_nothing(here):
    """The md5 before and after, the rows and the commands are told; data/ and data.dvc stay byte for byte."""
    before = files(here.project)
    told = pinning.pin(here.params, here.stores)
    assert files(here.project) == before
    assert (told.version, told.windows, told.applied) == (2, (3, 4), False)
    assert told.before == here.base.md5 != told.after
    assert told.rows == {role: summary.rows for role, summary in here.grown.roles.items()}
    assert told.commit[0] == "git add data.dvc"
    assert any(told.after in line and "would" in line for line in told.lines())


def test_rows_that_the_present_contradicts_are_named_by_the_data_version(here):
    """Their ids are an object of the manifest, and they hold no role in what it gives, which loads without judging anew."""
    manifest = storage.read_manifest(here.project, here.grown.manifest)
    left_out = objects.read_ids(here.project, manifest.left_out_md5)
    data = storage.load_data(here.stores, here.params, here.grown)
    assert len(left_out) == np.isin(data.ids, left_out).sum() > 0
    assert not data.roles[np.isin(data.ids, left_out)].any()
    assert manifest.left_out_md5 in manifest.objects()
    assert len(manifest.objects()) == 2 * len(manifest.windows) + 1


def test_applied_it_is_what_was_proposed_and_the_version_knows_its_rows(here):
    """DVC pins the md5 that was proposed; the version's snapshot loads as before, and a fresh one holds its rows."""
    was = storage.load_data(here.stores, here.params, here.grown)
    assert was.excluded.sum() == 2  # faulty rows of a window, which the pin keeps out
    told = pinning.pin(here.params, here.stores)
    done = pinning.pin(here.params, here.stores, apply=True)
    assert (done.after, done.applied) == (told.after, True)
    assert storage.verify(here.project) == told.after
    storage._loaded.clear()
    own = storage.load_data(here.stores, here.params, here.grown)
    assert own.digest == was.digest == here.grown.content
    assert dict(zip(own.ids, own.labels, strict=True)) == dict(zip(was.ids, was.labels, strict=True))
    fresh = storage.snapshot(here.params, here.stores)
    assert (fresh.manifest, fresh.last_window, fresh.md5) == ("", 4, told.after)
    data = storage.load_data(here.stores, here.params, fresh)
    assert dict(zip(data.ids, data.roles, strict=True)) == dict(zip(was.ids, was.roles, strict=True))
    assert judged_from(here.project, {"data": fresh.model_dump(mode="json")}) == 5
    assert judged_from(here.project, {"data": here.grown.model_dump(mode="json")}) == 5


def test_a_second_pin_says_that_nothing_is_to_do(here):
    """Asked again, with or without apply, it changes nothing; a version of the pinned data alone asks for none."""
    first = pinning.pin(here.params, here.stores, 1)
    assert first.before == first.after == here.base.md5
    assert "nothing to do" in first.lines()[0]
    pinning.pin(here.params, here.stores, apply=True)
    before = files(here.project)
    for apply in (False, True):
        again = pinning.pin(here.params, here.stores, apply=apply)
        assert again.before == again.after
        assert not again.applied
    assert files(here.project) == before
    with pytest.raises(DataError, match="of which version 1 was made"):
        pinning.pin(here.params, here.stores, 1)


def test_a_pin_that_fails_leaves_what_was_pinned(here, monkeypatch):
    """Where DVC refuses, or a person interrupts, data/ is as it was and can be used."""
    before = files(here.project)

    def refuse(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("dvc.repo.Repo.add", refuse)
    with pytest.raises(KeyboardInterrupt):
        pinning.pin(here.params, here.stores, apply=True)
    assert files(here.project) == before
    assert storage.verify(here.project) == here.base.md5


def _moved_into_data(replace):
    """Give `Path.replace` that is killed when it has moved a file into data/."""

    def moved(self, target):
        found = replace(self, target)
        if Path(target).parent.name == "data":
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    return moved


def _killed(when):
    """Give what wraps a function so that its process is killed before or after a call."""

    def wrap(function):
        def armed(*arguments, **named):
            if when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            function(*arguments, **named)
            os.kill(os.getpid(), signal.SIGKILL)

        return armed

    return wrap


@pytest.mark.parametrize(
    ("owner", "name", "wrap", "pinned"),
    [
        (versioning, "write_atomically", _killed("after"), False),
        (Path, "replace", _moved_into_data, False),
        (Repo, "add", _killed("before"), False),
        (Repo, "add", _killed("after"), True),
    ],
    ids=["on record", "moved", "before it is pinned", "after it"],
)
def test_a_pin_that_is_killed_is_undone_or_done_by_the_next_start(here, owner, name, wrap, pinned):
    """Wherever SIGKILL comes, what is pinned is restored by itself, and the next pin is the one that was proposed."""
    before, proposed = files(here.project), pinning.pin(here.params, here.stores)
    if (child := os.fork()) == 0:
        setattr(owner, name, wrap(getattr(owner, name)))
        pinning.pin(here.params, here.stores, apply=True)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    storage._loaded.clear()
    assert storage.materialise(here.project) == (proposed.after if pinned else proposed.before)
    assert (files(here.project) == before) is not pinned
    done = pinning.pin(here.params, here.stores, apply=True)
    assert done.after == storage.verify(here.project) == proposed.after


def test_a_response_under_way_comes_first(here):
    """What a retraining is about to lie beside is not moved away from under it; a proposal harms nobody."""
    body = Decision(action="retrain", reasons=(), position=5).model_dump(mode="json")
    open_ledger(here.stores).append("decision", who="holdfast", model="tiny", body=body, key="response:tiny:5")
    assert not pinning.pin(here.params, here.stores).applied
    with pytest.raises(DataError, match="none under way"):
        pinning.pin(here.params, here.stores, apply=True)
    assert storage.verify(here.project) == here.base.md5


def test_replayed_windows_are_not_pinned_twice(here):
    """Windows of a replay are rows of data.dvc already."""
    whole = load_params(TOP / "params.yaml", (TOP / "profiles" / "tiny.yaml",))
    params = here.params.model_copy(update={"monitoring": whole.monitoring})
    with pytest.raises(DataError, match="pinned already"):
        pinning.pin(params, here.stores)


def test_changed_data_is_never_pinned_along(here):
    """What nobody pinned is refused before anything is written."""
    (here.project / "data" / "mine.txt").write_text("mine")
    before = files(here.project)
    with pytest.raises(DataError, match=r"as data\.dvc pins"):
        pinning.pin(here.params, here.stores, apply=True)
    assert files(here.project) == before
    assert not roles_file(here.project / "data" / here.params.data.path).exists()


def test_rows_that_no_integrity_could_read_are_not_pinned():
    """The manifest left them out; pinned they would stop every run, so the refusal names their windows."""
    space = Table(features=(Feature(name="x", kind="number", iqr=0.05),))
    window, version = np.array([-1, 4, 4]), ModelVersion(name="w", version=3, digest="c" * 64)
    grown = SimpleNamespace(
        frame=pd.DataFrame({"x": [0.1, 3e38, 0.2]}), space=space, window=window, params=SimpleNamespace(path="t.csv")
    )
    with pytest.raises(DataError, match="1 rows of windows 4 with numbers"):
        pinning._require_finite(grown, version)
    grown.frame = pd.DataFrame({"x": [0.1, np.nan, 1e30]})
    pinning._require_finite(grown, version)
