"""Shards: a cut-off attack goes on where it was, and a sequential one stops where its floor is decided."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from holdfast.errors import StoreError
from holdfast.scenarios.attacks import base
from holdfast.scenarios.attacks.pgd import Pgd
from holdfast.scenarios.attacks.square import Square
from holdfast.scenarios.attacks.transfer import Transfer
from tests.holdfast.scenarios.attacks.conftest import BOX, knowing, linear, samples_of


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(base, "POINTS", 20)


@pytest.fixture
def case():
    target, _, _ = linear(BOX)
    x = torch.rand((90, *BOX.shape), generator=torch.Generator().manual_seed(1))
    return target, samples_of(target, x), knowing(target)


def essence(finding):
    """All of a finding but the seconds that it took."""
    body = finding.model_dump(mode="json")
    body["cost"].pop("seconds")
    return body


def counted(monkeypatch, attack, stop=None):
    """Count the shards that are attacked; with ``stop``, be killed in that one."""
    seen, strike = [], attack.strike

    def told(self, target, samples, *rest):
        seen.append(len(samples))
        if len(seen) == stop:
            raise KeyboardInterrupt
        return strike(self, target, samples, *rest)

    monkeypatch.setattr(attack, "strike", told)
    return seen


@pytest.mark.parametrize(
    "attack", [Pgd(steps=4, epsilon=0.02), Square(queries=15, epsilon=0.02), Transfer(epsilon=0.02)]
)
def test_a_cut_off_attack_goes_on_with_the_shard_that_it_was_in(case, attack, tmp_path, monkeypatch):
    """Killed in its fourth shard, it repeats that one alone, and finds and says what an unbroken run does."""
    target, samples, context = case
    unbroken = attack.run(target, samples, context)
    kept = replace(context, under_way=tmp_path / "question")
    with monkeypatch.context() as patch:
        counted(patch, type(attack), stop=4)
        with pytest.raises(KeyboardInterrupt):
            attack.run(target, samples, kept)
    seen = counted(monkeypatch, type(attack))
    again = attack.run(target, samples, kept)
    monkeypatch.undo()
    assert [n for n in seen if n in {20, 10}][:2] == [20, 10]  # the fourth and the last; checks ask fewer points
    assert len(list((tmp_path / "question").iterdir())) == 5
    assert essence(again) == essence(unbroken)


def test_a_shard_that_was_changed_is_refused(case, tmp_path):
    """Bytes that are not what was written are no result; the message says what to delete."""
    target, samples, context = case
    kept = replace(context, under_way=tmp_path / "question")
    Pgd(steps=2).run(target, samples, kept)
    changed = next((tmp_path / "question").glob("*/*.safetensors"))
    changed.write_bytes(changed.read_bytes()[:-4] + b"\1\1\1\1")
    with pytest.raises(StoreError, match=changed.name):
        Pgd(steps=2).run(target, samples, kept)


def test_a_shard_of_other_points_is_not_taken(case, tmp_path):
    """Under one question, other points are attacked afresh."""
    target, samples, context = case
    kept = replace(context, under_way=tmp_path / "question")
    Pgd(steps=2).run(target, samples, kept)
    fewer = samples.take(torch.arange(7))
    assert essence(Pgd(steps=2).run(target, fewer, kept)) == essence(Pgd(steps=2).run(target, fewer, context))


@pytest.mark.parametrize("floor", [0.05, 0.95])
def test_a_clear_floor_stops_the_attack_with_the_full_runs_verdict(case, floor, monkeypatch):
    """Far from the floor a part of the points is enough; the safe end lies on the side where all points have it."""
    target, samples, context = case
    attack = Pgd(steps=4, epsilon=0.01)
    full = attack.run(target, samples, context)
    part = attack.model_copy(update={"until": floor}).run(target, samples, context)
    assert part.score.n < full.score.n == 90
    assert part.cost.forwards < full.cost.forwards
    assert (part.score.low >= floor) == (full.score.low >= floor)
    assert part.details["drawn_of"] == 90
    assert part.score.method == "sequential_of_90"
    assert part.per_example.unpack_flags().tolist() == full.per_example.unpack_flags()[: part.score.n].tolist()


def test_a_floor_that_stays_open_has_all_points_attacked(case):
    """At the very edge the run is a full one, and its score the full one's."""
    target, samples, context = case
    attack = Pgd(steps=4, epsilon=0.01)
    full = attack.run(target, samples, context)
    edge = attack.model_copy(update={"until": full.score.low}).run(target, samples, context)
    assert edge.score == full.score
