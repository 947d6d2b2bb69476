"""Inspection: a window's verdict from end to end, on a small table and on small images."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
import pandas as pd
import pytest

from holdfast.data.params import DataParams
from holdfast.data.source import inputs_of, load, quick_features
from holdfast.errors import DataError
from holdfast.recovery import inspection
from holdfast.recovery.ablation import Labelled, ablate
from holdfast.recovery.inspection import Inspection, Known, Names, call, inspect, measure, pinned
from holdfast.recovery.screening import Judged, Screening
from holdfast.seeding import Noise
from holdfast.statistics import half_brier

SETTINGS = Screening(replays=50)
NOISE = Noise(0, ("inspection",))


def table(n, seed, slope=1.0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {"size": rng.normal(size=n), "age": rng.normal(size=n), "trade": rng.choice(list("abcdefgh"), n)}
    )
    frame["y"] = (rng.random(n) < 1 / (1 + np.exp(-3 * slope * frame["size"]))).astype(int)
    return frame


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Pinned rows that are known, and the names of what they hold."""
    folder = tmp_path_factory.mktemp("data")
    table(2500, 0).to_parquet(folder / "t.parquet")
    data = load(folder, DataParams(kind="table", path="t.parquet", label="y", classes=("no", "yes")))
    train = data.samples("train")
    names = Names.of(train.x, data.space, data.classes)
    parts = names.parts(train.x, train.y.numpy(), SETTINGS)
    rows = Labelled(quick_features(train.x, data.space), train.y.numpy())
    return data, names, pinned(rows, parts, "table", 2, 0, facts=False)


def examined(world, frame):
    data, names, base = world
    x, labels = inputs_of(frame.drop(columns="y"), data.space, "window"), frame["y"].to_numpy()
    features = quick_features(x, data.space)
    witness = call(features, base=base, clean=(), settings=SETTINGS, kind="table", classes=2, noise=NOISE)
    return inspect(Labelled(features, labels), names.parts(x, labels, SETTINGS), witness, None, NOISE)


def test_a_turned_slice_is_poison_and_told_by_name(world):
    """Labels of two trades turned in a window: the verdict is poison, and the reason names the column and the trades."""
    frame = table(800, 5)
    inside = frame["trade"].isin(["b", "d"])
    frame.loc[inside, "y"] = 1 - frame.loc[inside, "y"]
    found = examined(world, frame)
    assert found.poison
    assert found.statistic == found.suspects[0].statistic
    (reason, *_) = found.reasons(world[1])
    assert reason.startswith("trade b, d:")
    assert "harm above 0.01" in reason


@pytest.mark.parametrize(("shift", "least", "most"), [(0.0, 0.01, 0.0125), (30.0, 0.038, 0.04)])
def test_rows_that_moved_must_harm_the_more_clearly(world, monkeypatch, shift, least, most):
    """From half of the margin, where rows are like the past's, to twice of it where they are told apart."""
    asked = []
    monkeypatch.setattr(
        inspection, "ablate", lambda *given, **named: asked.append(named["margin"]) or ablate(*given, **named)
    )
    frame = table(800, 5)
    inside = frame["trade"].isin(["b", "d"])
    frame.loc[inside, "y"] = 1 - frame.loc[inside, "y"]
    frame["age"] += shift
    assert examined(world, frame).poison
    assert SETTINGS.margin == 0.02
    assert all(least <= margin <= most for margin in asked)
    assert asked


def test_facts_have_the_whole_margin(monkeypatch):
    """What an image shows does not drift: neither half nor twice."""
    asked = []
    monkeypatch.setattr(
        inspection, "ablate", lambda *given, **named: asked.append(named["margin"]) or ablate(*given, **named)
    )
    settings = SETTINGS.model_copy(update={"facts": True})
    x, labels = pictures(900, 0)
    rows, parts = shown(x, labels)
    base = pinned(rows, parts, "images", 4, 0, facts=True)
    x, labels = pictures(400, 1)
    labels[np.flatnonzero(labels == 1)[:60]] = 2
    rows, parts = shown(x, labels)
    witness = call(rows.features, base=base, clean=(), settings=settings, kind="images", classes=4, noise=NOISE)
    inspect(rows, parts, witness, None, NOISE)
    assert set(asked) == {0.02}


@pytest.mark.parametrize("slope", [1.0, 0.3])
def test_a_clean_window_and_one_that_drifted_pass(world, slope):
    """The same law as before, and one that became weaker for all trades alike, are no poison."""
    found = examined(world, table(800, 6, slope=slope))
    assert not found.poison
    assert found.reasons(world[1]) == ()


def test_a_verdict_comes_back_from_its_json(world):
    """Margins survive packing to float32; what could not be inspected is poison, and says why."""
    found = examined(world, table(300, 6))
    again = Inspection.model_validate_json(found.model_dump_json())
    assert again == found
    assert len(again.unpack()) == 300
    assert again.unpack().max() <= 0.0
    lost = Inspection(poison=True, unreadable="no column size")
    assert lost.reasons(world[1]) == ("it cannot be screened: no column size",)


def test_codes_keep_values_apart(world):
    """Numbers fall between the pinned deciles; missing values and unseen categories have codes of their own."""
    data, names, _ = world
    frame = pd.DataFrame({"size": [-99.0, 99.0, None], "age": [0.0, 0.0, 0.0], "trade": ["a", "zz", None]})
    every = SETTINGS.model_copy(update={"numbers": True, "facts": True})
    x = inputs_of(frame, data.space, "w")
    assert set(names.parts(x, np.zeros(3, dtype=np.int64), SETTINGS)) == {"trade"}
    parts = names.parts(x, np.zeros(3, dtype=np.int64), every)
    assert set(parts) == {"trade", "size", "age", "the label"}
    assert parts["size"].tolist() == [0, 9, 10]
    assert parts["trade"].tolist() == [0, 8, 9]
    with pytest.raises(DataError, match="another kind or size"):
        inputs_of(np.zeros((2, 1, 4, 4), dtype=np.uint8), data.space, "w")


def pictures(n, seed):
    """Eight by eight images of four classes: a bright quarter, in noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, n)
    x = rng.random((n, 8, 8)).astype(np.float32) * 0.6
    for k in range(4):
        row, column = 4 * (k // 2), 4 * (k % 2)
        x[labels == k, row : row + 4, column : column + 4] += 0.35
    return x, labels


def shown(x, labels):
    return Labelled(x.reshape(len(x), -1), labels), {"the label": labels}


@pytest.mark.parametrize(("planted", "turned", "poison"), [(0, 0, False), (25, 0, True), (0, 60, True)])
def test_a_backdoor_and_turned_labels_in_images(planted, turned, poison):
    """Two and a half per cent of rows with a patch and one label, or six with turned labels, are poison; none are not."""
    settings, rng = SETTINGS.model_copy(update={"facts": True}), np.random.default_rng(1)
    base = pinned(*shown(*pictures(1500, 0)), "images", 4, 0, facts=True)
    x, labels = pictures(1000, 7)
    chosen = rng.choice(np.flatnonzero(labels != 3), planted, replace=False)
    x[chosen, -2:, -2:], labels[chosen] = 1.0, 3
    wrong = rng.choice(1000, turned, replace=False)
    labels[wrong] = (labels[wrong] + rng.integers(1, 4, turned)) % 4
    rows, parts = shown(x, labels)
    witness = call(rows.features, base=base, clean=(), settings=settings, kind="images", classes=4, noise=NOISE)
    assert inspect(rows, parts, witness, None, NOISE).poison == poison


def test_clean_windows_take_the_place_of_the_pinned_past():
    """With enough of them a window is held against the last ones alone, and all of them have trained the witness."""
    settings = SETTINGS.model_copy(update={"past": 2})
    base = pinned(*shown(*pictures(400, 0)), "images", 4, 0, facts=True)
    clean = []
    for seed in (1, 2, 3):
        rows, parts = shown(*pictures(200, seed))
        clean.append(Known(rows, Judged(np.zeros(200), parts), statistic=10.0 - seed))
    asked = pictures(200, 9)[0].reshape(200, -1)
    few, enough = (
        call(asked, base=base, clean=some, settings=settings, kind="images", classes=4, noise=NOISE)
        for some in (clean[:1], clean)
    )
    assert (few.lately, enough.lately) == (9.0, 8.0)  # the last two
    assert len(few.past) == 600
    assert len(enough.past) == 400
    assert np.array_equal(enough.past.rows.labels, np.concatenate([clean[1].rows.labels, clean[2].rows.labels]))


def taken_for_each_other(n, seed):
    """Pictures of which every third in the last two classes shows the other one."""
    x, labels = pictures(n, seed)
    other = (np.random.default_rng([seed, 1]).random(n) < 0.3) & (labels >= 2)
    return x, np.where(other, 5 - labels, labels)


def test_a_backdoor_is_found_in_a_class_that_is_often_confused():
    """One and a half per cent of rows, sent to a class whose own labels contradict what is seen in every third row."""
    settings, caught = SETTINGS.model_copy(update={"facts": True}), []
    for usual in (True, False):
        base = pinned(*shown(*taken_for_each_other(1500, 0)), "images", 4, 0, facts=usual)
        x, labels = taken_for_each_other(1000, 7)
        chosen = np.random.default_rng(1).choice(np.flatnonzero(labels < 2), 15, replace=False)
        x[chosen, -2:, -2:], labels[chosen] = 1.0, 3
        rows, parts = shown(x, labels)
        witness = call(rows.features, base=base, clean=(), settings=settings, kind="images", classes=4, noise=NOISE)
        caught.append(inspect(rows, parts, witness, None, NOISE))
    assert [each.poison for each in caught] == [True, False]
    assert caught[0].statistic > 2 * caught[1].statistic


def test_how_pinned_rows_were_judged_comes_back():
    """Margins, usual confusion and what the margins are: a judgement by another measure is told from this one."""
    rows, parts = shown(*taken_for_each_other(400, 0))
    for facts in (True, False):
        known = pinned(rows, parts, "images", 4, 0, facts=facts)
        kept = Inspection.model_validate_json(Inspection.of_known(known, "images").model_dump_json())
        assert kept.measure == measure("images", facts=facts) != measure("images", facts=not facts)
        assert kept.measure.endswith(version("scikit-learn"))
        assert measure("table", facts=facts).endswith(version("lightgbm"))
        again = kept.known(rows, parts)
        assert again.judged.margins == pytest.approx(known.judged.margins, abs=1e-6)
        if facts:
            assert again.confusion == pytest.approx(known.confusion, abs=1e-6)
        else:
            assert again.confusion is None
    assert Inspection(poison=False).measure == "difference"


def test_an_inspection_scores_the_quick_classifier_for_whoever_holds_it_against_others(world):
    """Brier scores and errors of each row, through JSON; of labels that are facts none, for these it does not call."""
    data, _, base = world
    frame = table(400, 9)
    found = Inspection.model_validate_json(examined(world, frame).model_dump_json())
    x, labels = inputs_of(frame.drop(columns="y"), data.space, "window"), frame["y"].to_numpy()
    features = quick_features(x, data.space)
    told = call(features, base=base, clean=(), settings=SETTINGS, kind="table", classes=2, noise=NOISE).probabilities
    assert found.scores()[:, 0] == pytest.approx(half_brier(told, labels), abs=1e-6)
    assert (found.scores()[:, 1] == (told.argmax(1) != labels)).all()
    facts = SETTINGS.model_copy(update={"facts": True})
    shapes = pinned(*shown(*pictures(800, 0)), "images", 4, 0, facts=True)
    rows, parts = shown(*pictures(300, 7))
    witness = call(rows.features, base=shapes, clean=(), settings=facts, kind="images", classes=4, noise=NOISE)
    assert inspect(rows, parts, witness, None, NOISE).scores().shape == (0, 2)
