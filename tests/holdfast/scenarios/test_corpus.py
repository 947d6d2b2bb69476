"""The regression corpus: rows by name that every version reads alike, bounded by content, of one data set, without pickle."""

from __future__ import annotations

import io
import pickle
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.data import Samples
from holdfast.errors import DataError
from holdfast.scenarios.corpus import Corpus, none_yet, schema_of, successes
from holdfast.space import Box, Feature, Table

CLASSES = ("no", "yes")


def table(*features):
    return Table(features=features)


OWN = table(
    Feature(name="b", kind="number", mutable=True),
    Feature(name="kind", kind="category", categories=("u", "v"), mutable=True),
    Feature(name="a", kind="number", mutable=True, low=0.0),
)
THEIRS = table(
    Feature(name="kind", kind="category", categories=("t", "u", "v"), mutable=True),
    Feature(name="a", kind="number", mutable=True, low=0.0),
    Feature(name="b", kind="number", mutable=True),
)
SCHEMA = schema_of("people.csv", "label", OWN, CLASSES)


def rows(x, y=None):
    x = torch.tensor(x, dtype=torch.float32)
    y = torch.zeros(len(x), dtype=torch.int64) if y is None else torch.tensor(y)
    return Samples(x=x, y=y, ids=torch.arange(len(x)), role="test", snapshot="s")


def made(n, first=0, subject="s1", path="attacks/pgd"):
    x = torch.stack([torch.arange(first, first + n).float(), torch.zeros(n), torch.ones(n)], dim=1)
    digests, after = np.arange(first, first + n), x + 0.5 * torch.tensor([1.0, 0, 1])
    return successes(SCHEMA, OWN, CLASSES, rows(x.tolist()), digests, after, path, subject)


def test_a_version_with_other_codes_reads_the_same_rows():
    """Numbers and kinds are found by name, a missing value stays missing, and classes keep their names."""
    nan = float("nan")
    before = rows([[1.0, 0.0, 2.0], [3.0, nan, nan], [5.0, 1.0, 6.0]], [1, 0, 1])
    after = torch.tensor([[1.5, 1.0, 2.5], [3.5, nan, nan], [5.5, 1.0, 6.5]])
    kept = Corpus.from_bytes(
        successes(SCHEMA, OWN, CLASSES, before, np.arange(3), after, "attacks/pgd", "s1").to_bytes(), SCHEMA
    )
    was, now, y = kept.encoded(THEIRS, ("yes", "no"))
    assert torch.equal(was.nan_to_num(-1), torch.tensor([[1.0, 2, 1], [-1, -1, 3], [2, 6, 5]]))
    assert torch.equal(now.nan_to_num(-1), torch.tensor([[2.0, 2.5, 1.5], [-1, -1, 3.5], [2, 6.5, 5.5]]))
    assert y.tolist() == [0, 1, 0]
    back, again, _ = kept.encoded(OWN, CLASSES)
    assert torch.equal(back.nan_to_num(-1), before.x.nan_to_num(-1))
    assert torch.equal(again.nan_to_num(-1), after.nan_to_num(-1))
    known = table(*(f.model_copy(update={"categories": ("u",)}) if f.name == "kind" else f for f in OWN.features))
    assert kept.encoded(known, CLASSES)[0][2, 1] == 1.0  # its code for what it does not know


def test_a_row_whose_kind_nobody_could_name_is_not_kept():
    """A version's code for *unknown* says nothing to the next one."""
    x = [[1.0, 2.0, 1.0], [1.0, 1.0, 1.0]]
    two = np.arange(2)
    assert len(successes(SCHEMA, OWN, CLASSES, rows(x), two, torch.tensor(x) + 1, "p", "s1")) == 0
    mixed = [[1.0, 2.0, 1.0], [1.0, 0.0, 1.0]]
    assert successes(SCHEMA, OWN, CLASSES, rows(mixed), two, torch.tensor(mixed), "p", "s1").digests.tolist() == [1]


def test_images_are_kept_as_they_are():
    """Pixels before and after come back bit for bit."""
    box = Box(shape=(1, 2, 2), mean=(0.0,), std=(1.0,))
    schema = schema_of("pixels.npz", "y", box, CLASSES)
    x = torch.rand(3, 1, 2, 2)
    batch = Samples(x=x, y=torch.tensor([0, 1, 1]), ids=torch.arange(3), role="test", snapshot="s")
    kept = Corpus.from_bytes(
        successes(schema, box, CLASSES, batch, np.arange(3), x.flip(0), "p", "s1").to_bytes(), schema
    )
    before, after, y = kept.encoded(box, CLASSES)
    assert torch.equal(before, x)
    assert torch.equal(after, x.flip(0))
    assert torch.equal(y, batch.y)


@settings(max_examples=20, deadline=None)
@given(most=st.integers(1, 30), sizes=st.lists(st.integers(1, 12), min_size=3, max_size=3))
def test_what_is_kept_depends_on_no_order(most, sizes):
    """However parts are laid together, the same rows stay, at most so many of each version, and laying one in again changes nothing."""
    parts = [made(n, first=5 * i, subject=f"s{i % 2}") for i, n in enumerate(sizes)]
    kept = set()
    for order in permutations(parts):
        whole = none_yet(SCHEMA, OWN)
        for part in order:
            whole = whole.with_more(part, most)
        assert all((whole.subjects == subject).sum() <= most for subject in ("s0", "s1"))
        assert whole.with_more(order[0], most).to_bytes() == whole.to_bytes()
        kept.add(whole.to_bytes())
    assert len(kept) == 1


def test_a_version_is_not_asked_what_it_fell_for_itself_nor_what_it_learned_from():
    """Its own successes, all rows but those known to be new to it, and doubles of other versions are left out."""
    whole = made(4, subject="s1").with_more(made(4, subject="s2"), 99).with_more(made(2, first=9, subject="s3"), 99)
    assert len(whole) == 10
    assert sorted(whole.earlier_than("s4", range(99)).digests.tolist()) == [0, 1, 2, 3, 9, 10]
    assert sorted(whole.earlier_than("s3", (0, 3, 9)).digests.tolist()) == [0, 3]
    assert len(whole.earlier_than("s4", ())) == 0  # of none is it known that it is new
    assert len(made(3).earlier_than("s1", range(99))) == 0


def test_a_corpus_of_another_data_set_is_refused():
    """Another file, label, class, feature, kind or code for *unknown* is another data set; an order of columns is none."""
    assert schema_of("people.csv", "label", THEIRS, ("yes", "no")) == SCHEMA
    more = table(*OWN.features, Feature(name="c", kind="number"))
    coded = table(OWN.features[0].model_copy(update={"missing": (-9,)}), *OWN.features[1:])
    for other in (
        schema_of("others.csv", "label", OWN, CLASSES), schema_of("people.csv", "y", OWN, CLASSES),
        schema_of("people.csv", "label", OWN, ("no", "maybe")), schema_of("people.csv", "label", more, CLASSES),
        schema_of("people.csv", "label", coded, CLASSES),
    ):  # fmt: skip
        with pytest.raises(DataError, match="another data set"):
            Corpus.from_bytes(made(2).to_bytes(), other)
        with pytest.raises(DataError, match="another data set"):
            made(2).with_more(none_yet(other, OWN), 9)


def test_what_is_no_archive_of_plain_arrays_is_refused_and_never_run(tmp_path):
    """A pickle, an archive with one inside, a torn file and nothing at all are refused."""
    proof = tmp_path / "run"

    class Bomb:
        def __reduce__(self):
            return (proof.touch, ())

    inside = io.BytesIO()
    np.savez(inside, schema=np.array(SCHEMA), numbers=np.array([Bomb()], dtype=object))
    whole = made(2).to_bytes()
    for body in (pickle.dumps(Bomb()), inside.getvalue(), whole[: len(whole) // 2], b""):
        with pytest.raises(DataError, match="regression corpus"):
            Corpus.from_bytes(body, SCHEMA)
    assert not proof.exists()
