"""Tiny models and rows that every scenario can be held against."""

from __future__ import annotations

import pytest
import torch

from holdfast.data import Samples
from holdfast.model import ModelSpec, Target
from holdfast.scenarios.base import Context
from holdfast.seeding import Noise
from holdfast.space import Box, Feature, Table
from holdfast.training.standard import Standard
from holdfast.training.workshop import Workshop

ROWS = 40


def number(name, **settings):
    return Feature(**{"name": name, "kind": "number", "median": 10.0, "iqr": 4.0, "std": 3.0, **settings})


TABLE = Table(
    features=(
        number("amount", mutable=True, low=0.0, high=1000.0),
        number("months", mutable=True, step=1.0),
        number("age"),
        Feature(name="state", kind="category", categories=("CA", "NY", "TX"), mutable=True),
        Feature(name="franchise", kind="category", categories=("no",)),
        number("constant", median=1.0, iqr=0.0, std=0.0),
    )
)
BOX = Box(shape=(1, 8, 8), mean=(0.5,), std=(0.25,))
COLOUR = Box(shape=(3, 8, 8), mean=(0.5,) * 3, std=(0.25,) * 3)
OF_COLOUR = {"corruptions/saturate"}
"""Scenarios that mean nothing on images of one channel."""


def make_target(kind, box_space=BOX):
    box = kind == "box"
    spec = ModelSpec(
        factory=f"holdfast.networks:{'cnn' if box else 'mlp'}",
        settings={"width": 4, "hidden": 8} if box else {"width": 8},
        space=box_space if box else TABLE,
        classes=("a", "b", "c") if box else ("paid", "lost"),
    )
    target = Target(spec.build(seed=3), spec, "digest")
    # Fresh weights give one class to nearly all rows: centred, small disturbances change answers.
    target.module[-1][-1].bias.sub_(target.logits(rows(kind, box_space)).median(dim=0).values)
    return target


def rows(kind, box_space=BOX):
    ids, noise = torch.arange(ROWS) * 977 - 5000, Noise(5, ("rows",))
    if kind == "box":
        return noise.uniform(ids, box_space.shape)
    x = 10.0 + 5.0 * noise.normal(ids, (6,))
    x[:, 1] = x[:, 1].round()
    x[:, 3] = noise.derive("state").integers(ids, 4).float()
    x[:, 4] = 0.0
    x[:, 5] = 1.0
    x[::7, 2] = torch.nan
    return x


def make_samples(kind, target, role="test"):
    x = rows(kind, target.space if kind == "box" else BOX)
    y = target.predict(x)
    y[::5] = (y[::5] + 1) % len(target.classes)  # some are wrong from the start
    time = 2000.0 + (torch.arange(ROWS) % 4).double()
    return Samples(x=x, y=y, ids=torch.arange(ROWS) * 977 - 5000, role=role, snapshot="snap", time=time)


@pytest.fixture
def context(request):
    """Seed 7, and where the test is about a scenario that trains, what to train with."""
    about = getattr(request.node, "callspec", None)
    scenario, kind = (about.params.get(name) if about else None for name in ("scenario", "kind"))
    trains = scenario is not None and scenario.trains and kind is not None
    return Context(seed=7, workshop=make_workshop(kind) if trains else None)


def make_workshop(kind):
    """A recipe of two epochs, on rows that the model of this kind labelled."""
    target = make_target(kind)
    parts = {role: make_samples(kind, target, role) for role in ("train", "validation", "test")}
    recipe = Standard(epochs=2, batch_size=10, learning_rate=0.01)
    return Workshop(recipe=recipe, spec=target.spec, device=torch.device("cpu"), **parts)


@pytest.fixture
def build(request):
    """Make (target, samples) of one kind of space; images in colour where the test is about a scenario of colour."""
    about = getattr(request.node, "callspec", None)
    scenario = about.params.get("scenario") if about else None
    space = COLOUR if scenario is not None and scenario.name() in OF_COLOUR else BOX

    def make(kind, role="test"):
        target = make_target(kind, space)
        return target, make_samples(kind, target, role)

    return make
