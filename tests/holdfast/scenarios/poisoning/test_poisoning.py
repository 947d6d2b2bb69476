"""Poisoning: exact shares of rows, triggers that can exist, and harm where it was planted."""

from __future__ import annotations

import pytest
import torch

from holdfast.data import Samples
from holdfast.model import ModelSpec
from holdfast.results import Finding
from holdfast.scenarios.base import Context
from holdfast.scenarios.poisoning.badnets import Badnets
from holdfast.scenarios.poisoning.label_flip import LabelFlip
from holdfast.seeding import Noise
from holdfast.space import Box, Feature, Relation, Table
from holdfast.training.standard import Standard
from holdfast.training.workshop import Workshop

CPU = torch.device("cpu")
NOISE = Noise(3, ("poisoning",))
CONTEXT = Context(seed=11)


def split(x, y, spec, recipe):
    """Half of the rows train, a quarter validates, a quarter tests."""
    n, parts = len(y), {}
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    cuts = {"train": order[: n // 2], "validation": order[n // 2 : 3 * n // 4], "test": order[3 * n // 4 :]}
    for role, index in cuts.items():
        parts[role] = Samples(x=x[index], y=y[index], ids=index + 7, role=role, snapshot="made")
    return Workshop(recipe=recipe, spec=spec, device=CPU, **parts)


def images(n=360):
    ids = torch.arange(n)
    y = ids % 3
    x = 0.1 + 0.3 * NOISE.uniform(ids, (1, 8, 8))
    for k in range(3):
        x[y == k, :, 2 * k : 2 * k + 2, :6] += 0.4
    space = Box(shape=(1, 8, 8), mean=(0.3,), std=(0.2,))
    spec = ModelSpec(
        factory="holdfast.networks:cnn", settings={"width": 4, "hidden": 16}, space=space, classes=("a", "b", "c")
    )
    return split(x, y, spec, Standard(batch_size=12, learning_rate=5e-3))


def table(n=800, mutable=True):
    ids = torch.arange(n)
    x = NOISE.normal(ids, (4,))
    x[:, 1] = x[:, 0] + x[:, 1].abs()  # a <= b
    x[:, 2] = NOISE.derive("count").integers(ids, 9).float()
    x[:, 3] = NOISE.derive("kind").integers(ids, 3).float()
    y = (x[:, 0] > 0).long()
    x[::19, 2] = torch.nan
    features = (
        Feature(name="a", kind="number", mutable=mutable, iqr=1.3, low=-6, high=6),
        Feature(name="b", kind="number", mutable=mutable, iqr=1.3, low=-6, high=9),
        Feature(name="count", kind="number", mutable=mutable, iqr=4, step=1, low=0, high=30),
        Feature(name="kind", kind="category", mutable=mutable, categories=("u", "v", "w")),
    )
    space = Table(features=features, relations=(Relation(terms={"a": 1.0, "b": -1.0}),))
    spec = ModelSpec(factory="holdfast.networks:mlp", space=space, classes=("no", "yes"))
    return split(x, y, spec, Standard(batch_size=25, learning_rate=5e-3))


def measures(finding):
    return {measure.name: measure.value for measure in finding.measures}


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_flips_change_exactly_the_share_of_labels_and_nothing_else(share):
    """The stated share of rows has another valid label; inputs, ids and the other labels are as they were."""
    workshop = images()
    poisoned = LabelFlip(share=share).poison(workshop, NOISE)
    assert int((poisoned.y != workshop.train.y).sum()) == round(share * len(workshop.train))
    assert torch.equal(poisoned.x, workshop.train.x)
    assert torch.equal(poisoned.ids, workshop.train.ids)
    assert set(poisoned.y.tolist()) == {0, 1, 2}


def test_flips_belong_to_rows_and_not_to_their_order():
    """Reversed rows get the same labels, reversed."""
    workshop = images()
    back = torch.arange(len(workshop.train) - 1, -1, -1)
    turned = Workshop(**{**vars(workshop), "train": workshop.train.take(back)})
    assert torch.equal(LabelFlip().poison(turned, NOISE).y, LabelFlip().poison(workshop, NOISE).y[back])


def test_flipping_most_labels_of_two_classes_turns_the_answers_around():
    """With 9 labels in 10 flipped, a two-class model is mostly wrong, and the clean training beside it is not."""
    finding = LabelFlip(share=0.9, epochs=6).run(table(), CONTEXT)
    assert finding.score.value < 0.2
    assert measures(finding)["accuracy_clean_training"] > 0.9
    assert measures(finding)["accuracy_drop"] > 0.7
    assert finding.score.value == pytest.approx(measures(finding)["accuracy_poisoned"])
    assert finding.score.method == "wilson_one_training"
    assert finding.valid


def test_a_backdoor_in_images_is_found_and_clean_answers_stay():
    """A patch on a fifth of the rows calls its class on almost every other image; without poison it does not."""
    finding = Badnets(share=0.2, epochs=12, target=1).run(images(), CONTEXT)
    told = measures(finding)
    assert finding.score.value < 0.2
    assert told["attack_success_rate"] == pytest.approx(1 - finding.score.value)
    assert told["trigger_on_clean_training"] < 0.6
    assert told["accuracy_poisoned"] > 0.9
    assert finding.valid, finding.checks


def test_the_image_trigger_is_a_checkerboard_in_the_corner():
    """Only the corner changes, to the bounds of the space, and planted rows are of the target class."""
    workshop, scenario = images(), Badnets(patch=2, share=0.25, target=2)
    poisoned = scenario.poison(workshop, NOISE)
    planted = (poisoned.x != workshop.train.x).flatten(1).any(1)
    assert int(planted.sum()) == round(0.25 * len(workshop.train))
    assert (poisoned.y[planted] == 2).all()
    assert (workshop.train.y[planted] != 2).all()
    assert torch.equal(poisoned.x[planted][0, 0, -2:, -2:], torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    assert torch.equal(poisoned.x[:, :, :6], workshop.train.x[:, :, :6])
    assert torch.equal(poisoned.y[~planted], workshop.train.y[~planted])


@pytest.mark.parametrize("features", [1, 2, 4])
def test_table_triggers_can_exist_and_are_rare(features):
    """Stamped rows obey range, grid and relations, missing cells stay missing, and few clean rows look like them."""
    workshop, scenario = table(), Badnets(features=features)
    rows, space = workshop.train, workshop.spec.space
    stamped = scenario.stamp(rows.x, workshop)
    assert space.feasible(stamped, rows.x).all()
    assert (stamped[:, 0] <= stamped[:, 1] + 1e-4).all()
    assert torch.equal(stamped.isnan(), rows.x.isnan())
    changed = ((stamped != rows.x) & ~rows.x.isnan()).any(0)
    pattern = scenario.pattern(rows.x, space)
    assert len(pattern) == features
    assert set(changed.nonzero().flatten().tolist()) <= set(pattern)
    assert changed.any()
    for column, value in pattern.items():
        if space.features[column].kind == "number":
            assert (rows.x[:, column] > value).float().mean() <= 0.02


def test_a_backdoor_in_a_table_is_found():
    """Rows with the trigger are sent to the target class by the poisoned model, more than by the clean one."""
    told = measures(Badnets(share=0.2, epochs=10, features=3).run(table(), CONTEXT))
    assert told["attack_success_rate"] > told["trigger_on_clean_training"] + 0.3
    assert told["accuracy_poisoned"] > 0.8


def test_with_several_seeds_the_interval_is_over_seeds():
    """Two repeats poison other rows from other seeds; the interval counts seeds and says so."""
    finding = LabelFlip(share=0.4, epochs=2, seeds=2).run(table(), CONTEXT)
    assert (finding.score.n, finding.score.method) == (2, "student_by_seed")


def test_where_an_attacker_can_do_nothing_there_is_no_score():
    """No mutable feature, a class that is not there, a patch larger than the image: unscored, with the reason."""
    for workshop, scenario, reason in (
        (table(mutable=False), Badnets(), "can move"),
        (table(), Badnets(target=2), "does not exist"),
        (images(), Badnets(patch=9), "does not fit"),
    ):
        finding = scenario.run(workshop, CONTEXT)
        assert finding.score is None
        assert reason in finding.unscored


def test_same_seed_same_finding_and_json():
    """Asked twice, the same; written and read, the same; the global generator does not move."""
    torch.manual_seed(4)
    before = torch.get_rng_state()
    first, second = (Badnets(epochs=2, share=0.2).run(images(), CONTEXT) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert first.model_dump(exclude={"cost"}) == second.model_dump(exclude={"cost"})
    assert Finding.model_validate_json(first.model_dump_json()) == first


def test_a_clean_training_that_learnt_nothing_is_invalid():
    """Where one constant answer beats the clean training by far, harm means nothing and the check fails."""
    workshop = images()
    most = int(torch.bincount(workshop.train.y).argmax())
    other = (most + 1) % 3
    x = torch.zeros_like(workshop.test.x) + 0.25
    x[:, :, 2 * other : 2 * other + 2, :6] += 0.4  # every test image looks like another class than its label
    test = Samples(x=x, y=torch.full_like(workshop.test.y, most), ids=workshop.test.ids, role="test", snapshot="made")
    finding = LabelFlip(epochs=8).run(Workshop(**{**vars(workshop), "test": test}), CONTEXT)
    assert [check.name for check in finding.checks if check.status == "failed"] == ["clean_training_learnt"]
    assert not finding.valid
