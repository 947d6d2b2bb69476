"""Partition aggregation: the certificate against every possible change of votes, and against flips that are trained."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from holdfast.data import Samples
from holdfast.model import ModelSpec
from holdfast.scenarios.base import Context
from holdfast.scenarios.certificates.label_flip_dpa import LabelFlipDpa, certified_flips, partition
from holdfast.scorecard import scorecard
from holdfast.seeding import Noise
from holdfast.space import Feature, Table
from holdfast.training.standard import Standard
from holdfast.training.workshop import Workshop

NOISE = Noise(4, ("dpa",))
CONTEXT = Context(seed=2)


def workshop(n=160):
    """Rows of three classes that a line each tells apart, a few of them wrongly labelled."""
    ids = torch.arange(2 * n)
    x = NOISE.normal(ids, (3,))
    y = x.argmax(1)
    features = tuple(Feature(name=f"f{i}", kind="number", iqr=1.35, mutable=True) for i in range(3))
    spec = ModelSpec(
        factory="holdfast.networks:mlp", settings={"width": 8}, space=Table(features=features), classes=("a", "b", "c")
    )
    parts = {"train": slice(0, n), "validation": slice(n, n + n // 2), "test": slice(n + n // 2, 2 * n)}
    rows = {role: Samples(x[cut], y[cut], ids[cut], role, "made") for role, cut in parts.items()}
    recipe = Standard(epochs=5, batch_size=8, learning_rate=0.05)
    return Workshop(recipe=recipe, spec=spec, device=torch.device("cpu"), **rows)


def winner(votes):
    """The class of most votes, the first of equals."""
    return max(range(len(votes)), key=lambda c: (votes[c], -c))


@given(votes=st.lists(st.integers(0, 5), min_size=2, max_size=3), label=st.integers(0, 2))
def test_the_radius_is_what_no_change_of_votes_can_turn(votes, label):
    """By enumeration of how many votes go where: the radius holds, and one more change turns the vote."""
    label %= len(votes)
    radius = int(certified_flips(torch.tensor([votes]), torch.tensor([label])))
    if winner(votes) != label:
        assert radius == -1
        return
    assert all(winner(each) == label for each in reachable(votes, radius))
    if sum(votes) >= radius + 1 and votes[label]:
        assert any(winner(each) != label for each in reachable(votes, radius + 1))


def reachable(votes, changes):
    """Every count of votes that so many models can make by voting otherwise."""
    classes = range(len(votes))
    for moved in itertools.product(itertools.product(classes, classes), repeat=min(changes, sum(votes))):
        found, left = list(votes), list(votes)
        for source, goal in moved:
            if left[source]:
                left[source] -= 1
                found[source] -= 1
                found[goal] += 1
        yield found


def test_the_partition_follows_from_inputs_alone():
    """Labels, ids, order and other rows matter to no row's partition; the seed does; partitions are about equal."""
    rows = workshop().train
    part = partition(rows.x, 5, NOISE)
    back = torch.arange(len(rows) - 1, -1, -1)
    assert torch.equal(partition(rows.x[back], 5, NOISE)[back], part)
    assert torch.equal(partition(rows.x[:7], 5, NOISE), part[:7])
    assert not torch.equal(partition(rows.x, 5, Noise(5, ("dpa",))), part)
    assert torch.bincount(part, minlength=5).min() > len(rows) / 10


def test_flipped_labels_turn_no_certified_point():
    """As many labels as are certified, flipped in one partition or in two: no point is lost."""
    made, scenario = workshop(), LabelFlipDpa(partitions=6, flips=2)
    clean = scenario.run(made, CONTEXT)
    part = partition(made.train.x, 6, Noise(CONTEXT.seed, (scenario.name(),)))
    certified = clean.per_example.unpack_flags()
    assert 0.3 < clean.score.value < 1
    for rows in ([0, 1], [int((part == 1).nonzero()[0]), int((part == 2).nonzero()[0])]):
        y = made.train.y.clone()
        y[rows] = (y[rows] + 1) % 3
        poisoned = LabelFlipDpa(partitions=6, flips=0).run(
            Workshop(**{**vars(made), "train": replace(made.train, y=y)}), CONTEXT
        )
        assert poisoned.per_example.unpack_flags()[certified].all()


def test_the_finding_says_what_it_is():
    """A lower bound, with a falling curve, that stands beside the attacks of its family and not among evasion's."""
    made, scenario = workshop(), LabelFlipDpa(partitions=5, flips=1)
    first, again = (scenario.run(made, CONTEXT) for _ in range(2))
    assert first.model_dump(exclude={"cost"}) == again.model_dump(exclude={"cost"})
    assert first.score.kind == "lower_bound"
    values = [point.score.value for point in first.curves[0].points]
    assert values == sorted(values, reverse=True)
    votes_right = next(m.value for m in first.measures if m.name == "votes_right")
    assert values[0] == pytest.approx(votes_right)
    (family,) = scorecard([first], "pack", "digest").of("defence").families
    assert family.family == "poisoning"
    assert [member.label for member in family.certificates] == ["certificates/label_flip_dpa"]
    assert family.members == ()


def test_partitions_too_small_to_train_are_unscored():
    """More partitions than rows leave some without any: the reason says so."""
    finding = LabelFlipDpa(partitions=400).run(workshop(), CONTEXT)
    assert finding.score is None
    assert "fewer than 400 partitions" in finding.unscored
