"""Events and worlds: what befalls rows and bytes, seeded, in its place and nowhere else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from holdfast.data.params import DataParams, FeatureParams
from holdfast.data.source import load
from holdfast.drills.events.backdoor import Backdoor
from holdfast.drills.events.base import Batch, Scene
from holdfast.drills.events.evasion import Evasion
from holdfast.drills.events.label_flip import LabelFlip
from holdfast.drills.events.missing_column import MissingColumn
from holdfast.drills.events.stuck_values import StuckValues
from holdfast.drills.events.tampered_artefact import TamperedArtefact
from holdfast.drills.events.unit_slip import UnitSlip
from holdfast.drills.events.weight_bitflip import WeightBitflip
from holdfast.drills.incident import Incident, Right, Tilt, World
from holdfast.drills.worlds import repeated, require_rows, windows
from holdfast.errors import DataError, ModelError
from holdfast.model import ModelSpec, load_model, pick_device, save_model
from holdfast.registry import find
from holdfast.seeding import Noise
from holdfast.training.base import Recipe
from holdfast.training.loop import fit

if TYPE_CHECKING:
    from pathlib import Path

NOISE = Noise(3, ("events",))
PARAMS = DataParams(
    kind="table", path="rows.parquet", label="bad", classes=("no", "yes"), time="year", train_until=2000,
    exclude=("year",), later_test=0.1,
    features={"a": FeatureParams(mutable=True), "b": FeatureParams(kind="number", mutable=True),
              "c": FeatureParams(kind="category", mutable=True)},
    roles={"train": 0.4, "validation": 0.1, "gate": 0.1, "test": 0.1, "drill": 0.3},
)  # fmt: skip


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """A table over two periods, and a champion of it."""
    draws, n = np.random.default_rng(1), 6000
    frame = pd.DataFrame(
        {
            "a": draws.normal(size=n), "b": draws.integers(1, 400, n).astype(np.int32), "c": draws.choice(["x", "y", "z"], n),
            "year": np.repeat(np.arange(1997, 2003), n // 6),
        }
    )  # fmt: skip
    frame["bad"] = np.where(frame["a"] > 0, "yes", "no")
    folder = tmp_path_factory.mktemp("data")
    frame.to_parquet(folder / "rows.parquet")
    data = load(folder, PARAMS)
    spec = ModelSpec(
        factory="holdfast.networks:mlp", settings={"width": 8, "depth": 1}, space=data.space, classes=data.classes
    )
    recipe = find("holdfast.training", "standard", Recipe).model_validate({"epochs": 3, "batch_size": 128})
    rows = data.samples("train"), data.samples("validation")
    return Scene(data, fit(recipe, spec, *rows, seed=0, device=pick_device("cpu")).target)


def batch(scene: Scene, n: int = 200) -> Batch:
    """The first rows of the data, as the stream would bring them."""
    frame, labels = scene.data.frame, scene.data.labels[:n]
    assert frame is not None
    return Batch(
        frame.iloc[:n].drop(columns="bad").reset_index(drop=True), labels, labels.copy(), np.zeros(n, dtype=bool)
    )


def test_flipped_labels_are_told_and_not_true(scene: Scene) -> None:
    """A tenth of the rows, all of the slice that is named, are told as another class, and stay what they are."""
    before = batch(scene)
    after = LabelFlip(share=0.1, feature="c", values=("x",)).strike(before, scene, NOISE)
    flipped = after.told != after.truth
    assert flipped.sum() == 20
    assert (flipped == after.touched).all()
    assert set(before.rows["c"][flipped]) == {"x"}
    assert (after.truth == before.truth).all()
    pd.testing.assert_frame_equal(after.rows, before.rows)


def test_a_backdoor_stamps_other_classes_and_tells_its_target(scene: Scene) -> None:
    """Stamped rows share the trigger's values, come from other classes, and are told as the target."""
    before = batch(scene)
    after = Backdoor(share=0.1, target=1).strike(before, scene, NOISE)
    assert after.touched.sum() == 20
    assert (before.truth[after.touched] == 0).all()
    assert (after.told[after.touched] == 1).all()
    changed = [name for name in "abc" if (after.rows[name] != before.rows[name]).any()]
    assert changed
    assert all(after.rows[name][after.touched].unique().size == 1 for name in changed)
    pd.testing.assert_frame_equal(after.rows[~after.touched], before.rows[~after.touched])
    assert after.rows.dtypes.to_dict() == before.rows.dtypes.to_dict()


def test_a_backdoor_calls_the_rarest_class_unless_told_otherwise(scene: Scene) -> None:
    """What nearly every row is called anyway would take nobody in."""
    labels = scene.data.samples("train").y.numpy()
    rarest = int(np.bincount(labels).argmin())
    assert Backdoor().calls(scene.data) == rarest
    assert Backdoor(target=1 - rarest).calls(scene.data) == 1 - rarest
    after = Backdoor(share=0.1).strike(batch(scene), scene, NOISE)
    assert (after.told[after.touched] == rarest).all()


def test_an_evasion_wave_sends_searches_that_the_champion_gets_wrong(scene: Scene) -> None:
    """The last rows of the searches lie within their reach, fool the champion more often, and keep their class."""
    before = batch(scene)
    after = Evasion(share=0.5, trail=5, epsilon=0.5).strike(before, scene, NOISE)
    assert after.touched.sum() == 100
    assert after.rows.dtypes.to_dict() == before.rows.dtypes.to_dict()
    assert (after.told == after.truth).all()
    from holdfast.data.table import encode  # noqa: PLC0415  beside its one use

    told = scene.champion.predict(encode(after.rows, scene.champion.space)).numpy()  # type: ignore[arg-type]
    plain = scene.champion.predict(encode(before.rows, scene.champion.space)).numpy()  # type: ignore[arg-type]
    assert (told != after.truth)[after.touched].mean() > (plain != before.truth).mean()


def test_a_feed_breaks_in_three_ways(scene: Scene) -> None:
    """A column goes, a unit slips, a value sticks; all rows are touched, and what is not named stays."""
    before = batch(scene)
    assert "b" not in MissingColumn(feature="b").strike(before, scene, NOISE).rows
    slipped = UnitSlip(feature="b", factor=1000).strike(before, scene, NOISE).rows
    assert (slipped["b"] == before.rows["b"] * 1000).all()
    stuck = StuckValues(feature="b").strike(before, scene, NOISE)
    assert stuck.rows["b"].unique().size == 1
    assert stuck.touched.all()
    pd.testing.assert_frame_equal(stuck.rows.drop(columns="b"), before.rows.drop(columns="b"))
    for event in (MissingColumn(feature="q"), UnitSlip(feature="c"), StuckValues(feature="q")):
        with pytest.raises(DataError, match=r"drill event"):
            event.strike(before, scene, NOISE)


@pytest.mark.parametrize("event", [TamperedArtefact(), WeightBitflip(bits=1)])
def test_damaged_bytes_no_longer_verify(event: Any, scene: Scene, tmp_path: Path) -> None:
    """Whatever was changed, loading by the digest refuses."""
    digest = save_model(tmp_path / "model", scene.champion.module, scene.champion.spec)
    load_model(tmp_path / "model", digest)
    event.damage(tmp_path / "model", NOISE)
    with pytest.raises(ModelError):
        load_model(tmp_path / "model", digest)


def made(**more: Any) -> Incident:
    return Incident(
        name="made", title="Made", about="", measures="recovery", onset=2, horizon=5, right=(Right(action="none"),),
        **more,
    )  # fmt: skip


def test_windows_are_a_pure_function_of_the_seed_and_hold_drill_rows_alone(scene: Scene) -> None:
    """The same seed gives the same windows, another one others; rows of the changed world come once each."""
    asked = made(after=World(period="later"))
    first, again, other = (windows(asked, scene, 300, seed) for seed in (0, 0, 1))
    for one, two in zip(first, again, strict=True):
        pd.testing.assert_frame_equal(one.rows, two.rows)
    assert not first[0].rows.equals(other[0].rows)
    assert [set(w.rows["year"] > 2000) for w in first] == [{False}] * 2 + [{True}] * 3
    frame = scene.data.frame
    assert frame is not None
    held = set(frame["a"][scene.data.roles == "drill"])
    assert {value for w in first for value in w.rows["a"]} <= held
    later = [value for w in first[2:] for value in w.rows["a"]]
    assert len(later) == len(set(later)) == 900


def test_an_ordered_world_keeps_the_order_of_time_and_a_tilted_one_moves_its_feature(scene: Scene) -> None:
    """Mean years rise from window to window; the tilted column's mean rises against the same seed untilted."""
    ordered = windows(made(after=World(period="later", ordered=True)), scene, 300, 0)[2:]
    years = [w.rows["year"].mean() for w in ordered]
    assert years == sorted(years)
    tilted = windows(made(after=World(tilt=Tilt(feature="b", strength=1.0))), scene, 300, 0)
    assert tilted[3].rows["b"].mean() > tilted[0].rows["b"].mean() + 30
    assert json.dumps([w.told.tolist() for w in tilted]) == json.dumps([w.truth.tolist() for w in tilted])


def test_windows_share_no_row_while_the_pool_lasts(scene: Scene) -> None:
    """Else detectors would have met what they are to find; the share that was met is told, and rows come in turn."""
    data = scene.data
    pool = int(((data.roles == "drill") & ~data.later).sum())

    def rows(size: int) -> list[set[float]]:
        found = [set(w.frame("test")["a"]) for w in windows(made(), scene, size, 0)]  # "a" tells rows apart
        assert {len(each) for each in found} == {size}
        return found

    few = rows(pool // 5)
    assert len(set.union(*few)) == 5 * (pool // 5)
    assert repeated(made(), data, pool // 5, 0) == 0.0
    half = pool // 2
    many = rows(half)
    assert not many[0] & many[1]
    assert len(many[2] & many[0]) >= half - 1, "those that came longest ago come first"
    assert repeated(made(), data, half, 0) == pytest.approx(1.0, abs=0.01)
    assert repeated(made(after=World(period="later")), data, half, 0) == 0.0
    first, second = (w.frame("test")["a"] for w in windows(made(), scene, 3 * pool // 5, 0)[:2])
    again = second.isin(set(first)).to_numpy()
    assert 0.25 < again.mean() < 0.40, "a third of it had to come again"
    assert again[: len(again) // 2].mean() == pytest.approx(again.mean(), abs=0.1), "and lies all over the window"


def test_too_few_rows_are_refused_with_what_to_do(scene: Scene) -> None:
    """The message says how many there are and how many the incident asks for; who asks before hears the same."""
    for incident, rows, told in (
        (made(), 3000, "at least 3000"), (made(after=World(period="later")), 1000, "at least 3000, for 3 windows"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=told):
            windows(incident, scene, rows, 0)
        with pytest.raises(DataError, match=told):
            require_rows(incident, scene.data, rows)
    require_rows(made(), scene.data, 10)
