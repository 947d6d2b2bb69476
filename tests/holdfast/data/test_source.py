"""A data set in memory: roles, labels, spaces and samples, from our sets and from others."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from holdfast.data.params import DataParams, FeatureParams
from holdfast.data.source import RowsSeen, load
from holdfast.errors import DataError, RoleError
from holdfast.model import ModelSpec, Target
from holdfast.scenarios.base import Context
from holdfast.scenarios.drift.later_years import LaterYears

IMAGE_ROLES = {"train": 0.6, "validation": 0.15, "gate": 0.25}


def people(n=2000, seed=0):
    """Make a table that is not ours."""
    draw = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "age": draw.normal(40, 10, n),
            "town": draw.choice(["Ulm", "Bonn", "Kiel"], n),
            "member": draw.random(n) < 0.5,
            "joined": pd.Timestamp("2010-01-01") + pd.to_timedelta(draw.integers(0, 3650, n), unit="D"),
            "churned": draw.choice(["stay", "go"], n),
        }
    )


def settings(**more):
    base = {"kind": "table", "path": "people.csv", "label": "churned", "time": "joined", "train_until": 2015.5}
    return DataParams(**{**base, **more})


def put(folder, frame):
    frame.to_csv(folder / "people.csv", index=False)
    return folder


def test_a_table_that_is_not_ours_loads_by_naming_it(tmp_path):
    """Text dates are years, text labels are classes, the time is no feature, and each role has its rows."""
    data = load(put(tmp_path, people()), settings())
    assert data.classes == ("go", "stay")
    assert data.space.names == ("age", "town", "member")
    assert data.period[0].startswith("2010-01")
    train, later = data.samples("train"), data.samples("test", "later")
    assert train.x.shape == (len(train), 3)
    assert train.time.max() <= 2015.5 < later.time.min()
    assert data.samples("test").time.max() <= 2015.5
    assert data.samples("drill").time.min() > 2015.5
    assert {"train", "validation", "calibration", "gate", "test", "drill", "trusted"} == set(data.role_summaries())
    assert sum(summary.rows for summary in data.role_summaries().values()) == 2000
    assert {train.snapshot} == {data.digest}


def test_a_period_holds_for_every_role(tmp_path):
    """No role gives a row of another period than was asked for, and one that has none there gives none."""
    data = load(put(tmp_path, people()), settings())
    for role in data.role_summaries():
        parts = {period: data.samples(role, period) for period in ("training", "later")}
        assert (parts["training"].time <= 2015.5).all()
        assert (parts["later"].time > 2015.5).all()
        assert sum(map(len, parts.values())) == data.holds(role).sum()
        assert (len(parts["later"]) > 0) == (role in {"test", "drill"})
    target = Target(nn.Linear(3, 2), ModelSpec(factory="a:b", space=data.space, classes=data.classes), "digest")
    context = Context(seed=0)
    finding = LaterYears().run(target, data.samples("gate", LaterYears.period), context)
    assert (finding.score, finding.unscored) == (None, "no gate rows of the later period")


def test_rows_and_order_of_the_file_leave_roles_alone(tmp_path):
    """Shuffled and with 500 rows more, each old row has its id and its role."""
    frame = people()
    before = load(put(tmp_path, frame), settings())
    more = pd.concat([frame, people(500, seed=1)]).sample(frac=1, random_state=3)
    after = load(put(tmp_path, more), settings())
    role = dict(zip(after.ids.tolist(), after.roles.tolist(), strict=True))
    assert [role[row] for row in before.ids.tolist()] == before.roles.tolist()


def test_the_space_is_fitted_on_training_rows_alone(tmp_path):
    """Changing every row of other roles changes no statistic, and their values never enter the categories."""
    frame = people()
    data = load(put(tmp_path, frame), settings())
    train = frame["age"][data.roles == "train"]
    assert data.space.features[0].median == pytest.approx(train.median())
    gate = np.flatnonzero(data.roles == "gate")[0]
    frame.loc[gate, "town"] = "Rome"
    changed = load(put(tmp_path, frame), settings())
    assert ("Rome" in changed.space.features[1].categories) == (changed.roles[gate] == "train")


def test_quarantined_rows_leave_all_roles_but_test_and_drill(tmp_path):
    """They are counted, change the digest, and are still examined."""
    data = load(put(tmp_path, people()), settings())
    bad = frozenset(int(data.ids[data.roles == role][0]) for role in ("train", "gate", "test", "drill", "trusted"))
    clean = load(tmp_path, settings(), bad | {12345})
    for role in ("train", "gate", "trusted"):
        assert len(clean.samples(role)) == len(data.samples(role)) - 1
        assert not bad & set(clean.samples(role).ids.tolist())
    for role in ("test", "drill"):
        assert clean.role_summaries()[role] == data.role_summaries()[role]
    assert clean.excluded.sum() == 5
    assert clean.digest != data.digest
    assert data.quarantined() == ""
    assert len(clean.material(seed=0, provenance={})) == 2000


def test_another_space_gives_its_own_codes(tmp_path):
    """Rows for a model of another snapshot are encoded by that model's categories."""
    frame = people()
    old = load(put(tmp_path, frame[frame["town"] != "Bonn"]), settings()).space
    data = load(put(tmp_path, frame), settings())
    ours, theirs = data.samples("gate"), data.samples("gate", space=old)
    names = [data.space.features[1].categories[int(code)] for code in ours.x[:, 1]]
    assert [{"Kiel": 0, "Ulm": 1, "Bonn": 2}[name] for name in names] == theirs.x[:, 1].tolist()
    assert (ours.ids == theirs.ids).all()


def test_material_is_finite_and_whole(tmp_path):
    """Missing values are imputed and flagged, never left; positions agree in every part."""
    frame = people()
    frame.loc[::7, "age"] = np.nan
    data = load(put(tmp_path, frame), settings())
    material = data.material(seed=3, provenance={"file_md5": "a"})
    assert np.isfinite(material.features).all()
    assert material.frame["age"].isna().sum() == len(frame.loc[::7])
    assert (material.kind, material.label, material.time) == ("table", "churned", "joined")
    assert (material.ids == data.ids).all()


@pytest.mark.parametrize(
    ("change", "more", "said"),
    [
        ({}, {"label": "churn"}, "did you mean 'churned'"),
        ({"churned": None}, {}, "2000 rows without a label"),
        ({"churned": "go"}, {}, "one class"),
        ({"churned": 0.5}, {}, "Regression is not supported yet"),
        ({}, {"classes": ("left", "right")}, "labels go, stay"),
        ({}, {"classes": ("go", "gone", "stay", "stray")}, "none of class gone, stray; expected rows of every class"),
        ({"joined": "soon"}, {}, "dates as in"),
        ({}, {"exclude": ("age", "town", "member")}, "no columns but"),
        ({}, {"features": {"agee": FeatureParams()}, "exclude": ("twon",)}, "'twon'.*'agee'"),
        ({}, {"features": {"town": FeatureParams(kind="number")}}, "text where a number"),
        ({"age": 1, "town": "Ulm", "member": True}, {}, "none has the role"),
        ({}, {"duplicates": 0.01}, "duplicates"),
    ],
)  # fmt: skip
def test_data_that_is_not_what_params_say_is_refused(tmp_path, change, more, said):
    """Wrong names, labels, times, kinds and splits that come out empty: a clear error each."""
    with pytest.raises(DataError, match=said):
        load(put(tmp_path, people().assign(**change)), settings(**more))


def test_a_class_that_comes_up_after_the_training_period_is_let_in(tmp_path):
    """A changed world may bring new classes; one that no row has at all is a mistake."""
    frame = people()
    frame.loc[frame["joined"] >= "2017", "churned"] = "back"
    for classes in ((), ("back", "go", "stay")):
        data = load(put(tmp_path, frame), settings(classes=classes))
        assert data.classes == ("back", "go", "stay")
        assert set(data.samples("train").y.tolist()) == {1, 2}
    with pytest.raises(DataError, match="none of class away"):
        load(put(tmp_path, frame), settings(classes=("away", "back", "go", "stay")))


def test_whole_numbers_count_the_names_of_classes(tmp_path):
    """0 and 1 are the first and second of two names; names that match go by name."""
    frame = people()
    counted = frame.assign(churned=(frame["churned"] == "go").astype(int))
    data = load(put(tmp_path, counted), settings(classes=("stay", "go")))
    named = load(put(tmp_path, frame), settings(classes=("stay", "go")))
    assert (data.labels == named.labels).all()
    assert data.classes == ("stay", "go")


def test_near_duplicates_share_a_role(tmp_path):
    """Rows that differ in one of four columns are one cluster at ``duplicates: 0.75``, and no cluster straddles."""
    frame = people(300).assign(income=np.arange(300) * 1.5)
    twins = pd.concat([frame, frame.assign(member=~frame["member"])], ignore_index=True)
    data = load(put(tmp_path, twins), settings(duplicates=0.75, time=None, train_until=None, exclude=("joined",)))
    assert (data.roles[:300] == data.roles[300:]).all()


def archive(folder, n=600, tests=100):
    draw = np.random.default_rng(0)
    x = draw.integers(0, 256, (n + tests, 6, 6), dtype=np.uint8)
    x[n] = x[0]  # a test row that the training rows hold too
    y = np.arange(n + tests) % 3
    np.savez(folder / "i.npz", x_train=x[:n], y_train=y[:n], x_test=x[n:], y_test=y[n:])
    return folder


def test_the_source_own_test_set_is_the_test_role(tmp_path):
    """All its rows are test rows, and a training row that one of them repeats has no role."""
    data = load(archive(tmp_path), DataParams(kind="images", path="i.npz", roles=IMAGE_ROLES))
    assert (data.roles[600:] == "test").all()
    assert data.roles[0] == ""
    train = data.samples("train")
    assert train.x.shape[1:] == (1, 6, 6)
    assert train.x.dtype == torch.float32
    assert train.x.max() <= 1.0
    assert data.space.mean[0] == pytest.approx(float(train.x.double().mean()), abs=1e-6)
    assert data.space.std[0] == pytest.approx(float(train.x.double().std(correction=0)), abs=1e-6)
    material = data.material(seed=0, provenance={})
    assert material.label == "label"
    assert material.features.shape == (700, 36)


def test_two_test_sets_are_one_too_many(tmp_path):
    """A share of role test beside the source's own test set is refused, with shares that would do."""
    with pytest.raises(DataError, match="Leave test out"):
        load(archive(tmp_path), DataParams(kind="images", path="i.npz"))


def test_an_image_folder_loads_by_naming_it(tmp_path):
    """A folder of class folders becomes samples of every role."""
    draw = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(60):
            Image.fromarray(draw.integers(0, 256, (4, 4, 3), dtype=np.uint8)).save(
                tmp_path / "pets" / name / f"{i}.png"
            )
    data = load(tmp_path, DataParams(kind="images", path="pets", roles=IMAGE_ROLES))
    assert data.classes == ("cat", "dog")
    assert data.samples("train").x.shape[1:] == (3, 4, 4)


# Rows that a version learned from


def marked(data):
    """Tell which rows the three learning roles hold."""
    return np.isin(data.roles, ["train", "validation", "calibration"]) & ~data.excluded


def test_a_snapshot_says_what_is_learned_from_it(tmp_path):
    """Rows of the three learning roles that are not quarantined, by id, and the columns that name them."""
    frame = people()
    plain = load(put(tmp_path, frame), settings())
    banned = int(plain.ids[plain.roles == "train"][0])
    data = load(tmp_path, settings(), {banned})
    seen = data.rows_seen()
    assert seen.columns == tuple(frame.columns)
    assert list(seen.ids) == sorted(data.ids[marked(data)].tolist())
    assert banned not in seen.ids
    assert RowsSeen.model_validate_json(seen.model_dump_json()) == seen
    assert np.array_equal(data.recognise(seen), marked(data))


def test_rows_are_recognised_when_roles_change(tmp_path):
    """Other features and other shares give other roles; what was learned from stays known, with its duplicates."""
    before = load(put(tmp_path, people()), settings())
    shares = {"train": 0.3, "validation": 0.1, "gate": 0.5, "test": 0.1}
    for after in (load(tmp_path, settings(exclude=("member",))), load(tmp_path, settings(roles=shares))):
        found = after.recognise(before.rows_seen())
        assert np.array_equal(found, marked(before))
        assert (found & after.holds("gate")).sum() > 50


def test_rows_are_recognised_under_columns_that_came_later(tmp_path):
    """A further column renames every row; over the champion's own columns each has its name again."""
    frame = people()
    before = load(put(tmp_path, frame), settings())
    after = load(put(tmp_path, frame.assign(height=np.arange(len(frame)) * 0.5)), settings())
    assert not np.isin(after.ids, before.ids).any()
    assert np.array_equal(after.recognise(before.rows_seen()), marked(before))
    turned = load(put(tmp_path, frame[frame.columns[::-1]]), settings())
    assert np.array_equal(turned.recognise(before.rows_seen()), marked(before))


def test_a_row_that_was_added_again_counts_as_seen(tmp_path):
    """A copy has an id of its own, and is no fresher than the row it copies."""
    frame = people()
    before = load(put(tmp_path, frame), settings())
    at = np.flatnonzero(before.roles == "train")[0]
    after = load(put(tmp_path, pd.concat([frame, frame.iloc[[at]]])), settings())
    assert after.ids[-1] not in before.ids
    assert after.recognise(before.rows_seen())[-1]


def test_what_cannot_be_told_is_refused(tmp_path):
    """Without one of the columns that named the rows, or with images for a table, nobody knows them."""
    frame = people()
    seen = load(put(tmp_path, frame), settings()).rows_seen()
    after = load(put(tmp_path, frame.drop(columns="member")), settings())
    with pytest.raises(RoleError, match="no column member"):
        after.recognise(seen)
    with pytest.raises(RoleError, match="another kind"):
        after.recognise(RowsSeen(columns=None, ids=seen.ids))


def test_rows_left_out_are_gone_and_the_rest_goes_by_another_name(tmp_path):
    """Order is kept, the name depends on which rows they are and on nothing else, and leaving out none changes none."""
    data = load(put(tmp_path, people()), settings())
    gate = data.samples("gate")
    ids = gate.ids.tolist()
    rest = data.samples("gate", without=ids[:5])
    assert rest.ids.tolist() == ids[5:]
    assert rest.snapshot == data.samples("gate", without=ids[4::-1]).snapshot
    assert len({rest.snapshot, data.digest, data.samples("gate", without=ids[:4]).snapshot}) == 3
    assert data.samples("gate", without=()).snapshot == data.digest
