"""A project's data files, to materialise, change and pin; and a small world in which a version is registered."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from holdfast.data.params import DataParams
from holdfast.data.source import load
from holdfast.params import load as load_params
from holdfast.results import DataSnapshot
from holdfast.stores import Stores
from tasks import runs, tracking, training

TOP = Path(__file__).parents[2]
TRACKED = ("data.dvc", ".dvcignore", ".gitignore", ".dvc/config", ".dvc/.gitignore")


@pytest.fixture
def tarball(tmp_path):
    """The project's data files as an archive holds them: no git, no cache, no data/."""
    project = tmp_path / "project"
    for name in TRACKED:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TOP / name, project / name)
    shutil.copytree(TOP / "embedded", project / "embedded")
    return project


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """A small table, tiny params and stores of their own; a task's ``load_data`` is to be patched with ``world.load``."""
    root = tmp_path_factory.mktemp("world")
    draw = np.random.default_rng(0)
    table = pd.DataFrame(draw.normal(size=(600, 3)).round(6), columns=["a", "b", "c"])
    table.assign(label=np.where(table["a"] > 0, "yes", "no")).to_csv(root / "people.csv", index=False)
    shares = {"train": 0.5, "validation": 0.1, "gate": 0.2, "test": 0.2}
    data = load(root, DataParams(kind="table", path="people.csv", label="label", roles=shares))
    params = load_params(TOP / "params.yaml", (TOP / "profiles" / "tiny.yaml",), ("training.settings.epochs=1",))
    snapshot = DataSnapshot(
        name="people", path="data/people.csv", md5="ab" * 16 + ".dir", file_md5="cd" * 16, revision="f39917c-dirty",
        rows=len(data), period=None, content=data.digest,
    )  # fmt: skip
    stores = Stores.local(root, root / "stores")
    tracking.prepare(stores, params.name)
    return SimpleNamespace(params=params, stores=stores, snapshot=snapshot, data=data, load=lambda *_: data)


@pytest.fixture(scope="session")
def made(world):
    """A version that was trained and registered in that world, with its training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "load_data", world.load)
        trained = training.train.fn(world.params, world.stores, world.snapshot)
        found = runs.begin.fn(world.params, world.stores, world.snapshot)
        version = training.register.fn(world.params, world.stores, world.snapshot, trained, found.training)
    return SimpleNamespace(version=version, trained=trained, runs=found)


@pytest.fixture
def spoil():
    """Change one byte of the weights below a folder."""

    def spoilt(folder):
        (weights,) = folder.rglob("model.safetensors")
        body = bytearray(weights.read_bytes())
        body[-1] ^= 1
        weights.chmod(0o644)
        weights.write_bytes(body)

    return spoilt
