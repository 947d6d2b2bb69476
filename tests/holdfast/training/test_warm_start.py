"""Warm start: the champion's answers are where a training begins, and nothing but its own network inherits them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from holdfast.errors import ModelError, StoreError
from holdfast.model import ModelSpec, Target, save_model
from holdfast.seeding import Noise
from holdfast.space import Box, Feature, Relation, Table
from holdfast.training.loop import fit
from holdfast.training.standard import Standard
from holdfast.training.warm_start import Former, inherit

CPU = torch.device("cpu")
QUICK = Standard(epochs=3, batch_size=32, average=0.9, learning_rate=0.02)


def grown(space: Table, **more) -> Table:
    """The table as data that have grown describe it: other medians and units, new kinds, another freedom."""
    features = tuple(
        feature.model_copy(update={"median": feature.median + 3.0, "iqr": 2.2, "knots": (0.0, 1.0), "high": 50.0})
        if feature.kind == "number"
        else feature.model_copy(update={"categories": ("t", "u", "uu", "v", "w"), "mutable": False})
        for feature in space.features
    )
    return Table(features=features, relations=(Relation(terms={"a": 2.0, "b": -1.0}),)).model_copy(update=more)


def champion(world, seed=1) -> Target:
    """A champion with weights of its own."""
    trained = fit(QUICK, world.spec, world.train, world.validation, seed=seed, device=CPU)
    return trained.target


def test_a_champion_answers_as_before_in_grown_data(table_world):
    """Logits are equal bit for bit; a kind that came since is answered as unseen was, unseen and missing as ever."""
    mine = champion(table_world)
    spec = table_world.spec.model_copy(update={"space": grown(table_world.spec.space)})
    theirs = inherit(mine, spec)
    assert theirs.spec.space.features[4].categories == ("u", "v", "w", "t", "uu")
    x = table_world.validation.x.clone()
    codes = {0.0: (0.0,), 1.0: (1.0,), 2.0: (2.0,), 3.0: (3.0, 4.0, 5.0), float("nan"): (float("nan"),)}
    for before, after in codes.items():
        for code in after:
            x[:, 4] = before
            now = x.clone()
            now[:, 4] = code
            assert torch.equal(mine.logits(x), theirs.logits(now)), (before, code)
    assert mine.digest == theirs.digest  # whose weights they are


def test_reading_stays_the_champions_and_freedom_is_the_datas(table_world):
    """Medians, units and knots are kept; mutability, ranges, steps and relations are what the data say now."""
    own, said = table_world.spec.space, grown(table_world.spec.space)
    found = inherit(champion(table_world), table_world.spec.model_copy(update={"space": said})).spec.space
    for was, now, kept in zip(own.features, said.features, found.features, strict=True):
        assert (kept.median, kept.iqr, kept.knots) == (was.median, was.iqr, was.knots)
        assert (kept.mutable, kept.low, kept.high, kept.step) == (now.mutable, now.low, now.high, now.step)
    assert found.relations == said.relations


def test_images_are_read_as_the_champion_read_them(image_world):
    """Mean and deviation stay, and the answers with them; images of another shape are refused."""
    mine, space = champion(image_world), image_world.spec.space
    spec = image_world.spec.model_copy(update={"space": space.model_copy(update={"mean": (0.9,), "high": 2.0})})
    theirs = inherit(mine, spec)
    assert torch.equal(mine.logits(image_world.validation.x), theirs.logits(image_world.validation.x))
    assert (theirs.spec.space.mean, theirs.spec.space.high) == (space.mean, 2.0)
    other = Box(shape=(1, 9, 9), mean=(0.3,), std=(0.2,))
    with pytest.raises(ModelError, match="images of shape"):
        inherit(mine, image_world.spec.model_copy(update={"space": other}))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda spec: {"settings": {"width": 17, "dropout": 0.2}}, "settings"),
        (lambda spec: {"classes": ("yes", "no")}, "classes"),
        (lambda spec: {"code": "5e"}, "code"),
        (lambda spec: {"space": Table(features=spec.space.features[1:])}, "other features: a"),
        (lambda spec: {"space": Box(shape=(1, 2, 2), mean=(0.0,), std=(1.0,))}, "images"),
        (lambda spec: {"space": spec.space.model_copy(update={"features": with_code(spec.space)})}, "for unknown"),
    ],
)
def test_what_would_read_its_weights_otherwise_is_refused_by_name(table_world, change, told):
    """Another network, order of classes, module, feature, kind of input or meaning of a code inherits nothing."""
    with pytest.raises(ModelError, match=told) as caught:
        inherit(champion(table_world), table_world.spec.model_copy(update=change(table_world.spec)))
    assert "warm_start" in caught.value.remedy


def with_code(space: Table) -> tuple[Feature, ...]:
    return (space.features[0].model_copy(update={"missing": (-9,)}), *space.features[1:])


SQUARE = """
from torch import nn

def build(shape, classes):
    return nn.Sequential(nn.Linear(shape[0], shape[0]), nn.Linear(shape[0], classes))
"""


def test_a_network_that_cannot_be_widened_is_refused_where_kinds_came(table_world, tmp_path, monkeypatch):
    """Weights that the encoded width reaches in two ways are nobody's to guess; without new kinds they are inherited."""
    (tmp_path / "square_net.py").write_text(SQUARE)
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = table_world.spec.model_copy(update={"factory": "square_net:build", "settings": {}})
    square = Target(spec.build(1), spec, "d1", CPU)
    assert torch.equal(inherit(square, spec).logits(table_world.validation.x), square.logits(table_world.validation.x))
    with pytest.raises(ModelError, match=r"1\.0\.weight of shape \(15, 15\)"):
        inherit(square, spec.model_copy(update={"space": grown(spec.space)}))


def test_a_training_begins_with_the_champions_weights(table_world):
    """With steps too small to count the answers are still the champion's, and from fresh weights they are not."""
    mine = champion(table_world)
    former = Former(mine, table_world.train.ids[:0])
    still = Standard(epochs=1, batch_size=32, learning_rate=1e-12)
    begun = fit(
        still, table_world.spec, table_world.train, table_world.validation, seed=9, device=CPU, former=former
    ).target
    afresh = fit(still, table_world.spec, table_world.train, table_world.validation, seed=9, device=CPU).target
    x = table_world.validation.x
    assert torch.allclose(begun.logits(x), mine.logits(x), atol=1e-5)
    assert not torch.allclose(afresh.logits(x), mine.logits(x), atol=1e-2)


def test_a_cut_off_warm_start_ends_in_the_same_bits_and_no_others(table_world, tmp_path):
    """Stopped and called again it ends as unbroken; begun from another champion its checkpoint is refused."""
    mine, other = champion(table_world), champion(table_world, seed=2)

    def train(target, **more):
        return fit(
            QUICK, table_world.spec, table_world.train, table_world.validation, seed=3, device=CPU,
            former=Former(target, table_world.train.ids[::2]), **more,
        ).target.digest  # fmt: skip

    def stop(report):
        if report.epoch == 2:
            raise KeyboardInterrupt

    whole = train(mine)
    with pytest.raises(KeyboardInterrupt):
        train(mine, checkpoints=tmp_path, progress=stop)
    with pytest.raises(StoreError, match="another training"):
        train(other, checkpoints=tmp_path)
    assert train(mine, checkpoints=tmp_path) == whole
    assert train(other) != whole
    before = save_model(tmp_path / "kept", mine.module, mine.spec)
    assert before == mine.digest  # the champion itself is untouched


def test_a_former_model_of_another_description_is_refused(table_world):
    """A champion that was not brought into the training's own description begins nothing."""
    mine = champion(table_world)
    wide = table_world.spec.model_copy(update={"space": grown(table_world.spec.space)})
    rows = replace(table_world.train, x=Noise(0, ("x",)).normal(table_world.train.ids, (5,)))
    with pytest.raises(ModelError, match="another description"):
        fit(QUICK, wide, rows, table_world.validation, seed=0, device=CPU, former=Former(mine, rows.ids))


def test_a_model_of_defaults_is_inherited_by_itself(table_world):
    """The same description gives the same module back, and the same digest."""
    mine = champion(table_world)
    spec = ModelSpec.model_validate_json(mine.spec.model_dump_json())
    assert inherit(mine, spec).spec == mine.spec
