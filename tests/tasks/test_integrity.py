"""The integrity stage: what is asked once, what is asked anew, and bytes that are not the pinned ones."""

import logging

import numpy as np
import pandas as pd
import pytest

from holdfast.data.params import DataParams
from holdfast.digests import digest_json
from holdfast.errors import DataError, IntegrityError
from holdfast.integrity.duplicates import Duplicates
from holdfast.integrity.label_errors import LabelErrors
from holdfast.integrity.provenance import Provenance
from holdfast.results import IntegrityFinding, StageReport
from holdfast.stores import Stores
from tasks import datasets, integrity, storage
from tasks.recovery import open_ledger

CHECKS = (Provenance(), Duplicates(), LabelErrors())


class Params:
    """What the stage reads of params."""

    name, seed = "people", 0
    data = DataParams(
        kind="table", path="people.csv", label="left", roles={"train": 0.6, "validation": 0.2, "gate": 0.2}
    )

    @staticmethod
    def checks():
        return CHECKS

    @staticmethod
    def section_digest(*sections):
        return digest_json(sections)


def people(n=400):
    draw = np.random.default_rng(0)
    age = (draw.normal(0, 3, n) + draw.choice([20, 60], n)).round(4)
    return pd.DataFrame({"age": age, "pay": draw.normal(size=n).round(4), "left": (age > 40).astype(int)})


@pytest.fixture
def stores(tarball, tmp_path):
    """A project with a table of its own, pinned."""
    people().to_csv(tmp_path / "people.csv", index=False)
    datasets.add(tarball, tmp_path / "people.csv")
    storage._loaded.clear()
    return Stores.local(tarball, tarball / ".holdfast", actor="alice")


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO, logger="holdfast")
    return lambda: [record.getMessage() for record in caplog.records]


def test_another_file_in_data_reuses_the_checks_but_for_provenance(stores, said, tmp_path):
    """The data set's own bytes did not change: its checks stand, and provenance is told of the folder as it is now."""
    before = integrity.examine.fn(Params, stores, integrity.found_data.fn(Params, stores))
    (tmp_path / "more.csv").write_text("a\n1\n")
    datasets.add(stores.project, tmp_path / "more.csv")
    found = integrity.found_data.fn(Params, stores)
    spoken = len(said())
    after = integrity.examine.fn(Params, stores, found)
    words = said()[spoken:]
    assert words[0].startswith("integrity: 2 checks reused")
    assert len(words) == 2
    assert "provenance  pass" in words[1]
    assert found.md5 in after.integrity[0].reason
    assert found.md5 not in before.integrity[0].reason
    assert after.integrity[1:] == before.integrity[1:]
    assert [finding.check for finding in after.integrity] == [check.name() for check in CHECKS]


def test_a_long_check_is_heard_while_it_works(stores, said):
    """The stage passes on what a check says before each of its steps."""
    integrity.examine.fn(Params, stores, integrity.found_data.fn(Params, stores))
    assert len([line for line in said() if line.startswith("integrity: label_errors  fold ")]) == 3


def test_another_file_of_the_data_set_is_examined_anew(stores, said):
    """One changed value, pinned: nothing is reused."""
    integrity.examine.fn(Params, stores, integrity.found_data.fn(Params, stores))
    people().assign(pay=0.5).to_csv(stores.project / "data" / "people.csv", index=False)
    datasets.add(stores.project, stores.project / "data" / "people.csv")
    integrity.examine.fn(Params, stores, integrity.found_data.fn(Params, stores))
    assert not [line for line in said() if "reused" in line]


@pytest.mark.parametrize("how", ["verifying is switched off", "a write between verifying and reading"])
def test_bytes_that_slip_past_verifying_are_blocked_by_provenance(stores, monkeypatch, how):
    """The check holds what was measured against what is pinned, whatever was verified before, also when reused."""
    sound = integrity.examine.fn(Params, stores, integrity.found_data.fn(Params, stores))
    assert {finding.verdict for finding in sound.integrity} == {"pass"}
    pinned = storage.verify(stores.project)
    file = stores.project / "data" / "people.csv"

    def changed():
        file.write_text(file.read_text().replace("age", "agf"))

    if how == "verifying is switched off":
        changed()
        monkeypatch.setattr(storage, "verify", lambda _: pinned)
        monkeypatch.setattr(integrity, "materialise", lambda _: pinned)
    else:
        real = storage.load

        def load(*arguments):
            changed()
            return real(*arguments)

        monkeypatch.setattr(storage, "load", load)
        storage._loaded.clear()  # or nothing is read
    found = integrity.found_data.fn(Params, stores)
    report = integrity.examine.fn(Params, stores, found)
    (blocked,) = [finding for finding in report.integrity if finding.verdict == "block"]
    assert blocked.check == "provenance"
    assert f"the pinned one {pinned}" in blocked.reason
    with pytest.raises(IntegrityError, match="provenance"):
        integrity.refuse_blocked.fn(Params, stores, report)


def test_the_same_bytes_are_read_once_and_swapped_ones_are_never_taken_for_them(stores, monkeypatch):
    """What was read is kept by the md5 that was taken of every byte just now, and only where it is that also after."""
    read, real = [], storage.load
    file = stores.project / "data" / "people.csv"
    sound = file.read_text()

    def load(*arguments):
        read.append(arguments)
        file.write_text(sound.replace("0.1", "0.2") if len(read) == 1 else sound)
        return real(*arguments)

    monkeypatch.setattr(storage, "load", load)
    swapped = storage.snapshot(Params, stores)
    file.write_text(sound)
    first, second = (storage.snapshot(Params, stores) for _ in range(2))
    assert len(read) == 2  # what was swapped while it was read is read again, and what was not is not
    assert swapped.content != first.content
    assert first == second
    pd.read_csv(file).assign(pay=0.5).to_csv(file, index=False)
    datasets.add(stores.project, file)
    monkeypatch.setattr(storage, "load", real)
    assert storage.snapshot(Params, stores).content != first.content


def test_an_unrelated_file_alone_blocks_a_reused_report(stores, monkeypatch):
    """The data set is as it was and its checks are reused; a file beside it that nobody pinned still blocks."""
    integrity.examine.fn(Params, stores, integrity.found_data.fn(Params, stores))
    pinned = storage.verify(stores.project)
    (stores.project / "data" / "more.csv").write_text("a\n1\n")
    monkeypatch.setattr(storage, "verify", lambda _: pinned)
    monkeypatch.setattr(integrity, "materialise", lambda _: pinned)
    report = integrity.examine.fn(Params, stores, integrity.found_data.fn(Params, stores))
    assert [finding.check for finding in report.integrity if finding.verdict == "block"] == ["provenance"]


@pytest.mark.parametrize("verdict", ["quarantine", "block"])
def test_two_models_on_one_data_set_are_each_recorded(stores, verdict):
    """The same report of the same bytes is one entry for each model, however often a model comes by."""
    found = integrity.found_data.fn(Params, stores)
    faulty = IntegrityFinding(check="duplicates", verdict=verdict, reason="twice", examined=400, rows=(3,))
    report = StageReport(stage="integrity", subject=found.file_md5, integrity=(faulty,))

    class Other(Params):
        name = "strangers"

    for params in (Params, Other, Params):
        if verdict == "block":
            with pytest.raises(IntegrityError, match="twice"):
                integrity.refuse_blocked.fn(params, stores, report)
        else:
            row = int(integrity.load_data(stores, params, found).ids[0])
            rows = faulty.model_copy(update={"rows": (row,)})
            integrity.quarantine.fn(params, stores, found, report.model_copy(update={"integrity": (rows,)}))
    with open_ledger(stores).reading() as view:
        recorded = [(entry.model, entry.who) for entry in view.entries(kinds=("quarantine", "alert"))]
    assert recorded == [("people", "alice"), ("strangers", "alice")]


def set_aside(stores, *findings):
    """Go through the stage with these findings in place of the checks' own; give the snapshot that may train."""
    found = integrity.found_data.fn(Params, stores)
    report = StageReport(stage="integrity", subject=found.file_md5, integrity=findings)
    integrity.quarantine.fn(Params, stores, found, report)
    return integrity.usable_data.fn(Params, stores, report)


def holding(check, *rows):
    return IntegrityFinding(check=check, verdict="quarantine", reason="odd", examined=400, rows=tuple(sorted(rows)))


def test_a_rule_that_was_tried_once_holds_nothing_later(stores, said):
    """What may train follows from data, checks and releases: rows of a rule that is asked no more come back, said so."""
    clean = set_aside(stores)
    first, second, third = (int(row) for row in storage.load_data(stores, Params, clean).ids[:3])
    kept = set_aside(stores, holding("schema", first))
    assert set_aside(stores, holding("schema", first, second), holding("label_errors", third)) != kept
    assert "integrity: 3 rows quarantined; `holdfast data quarantine` lists them" in said()
    assert set_aside(stores, holding("schema", first)) == kept
    words = said()[-2:]
    assert words[0] == "integrity: 1 rows quarantined, as before; `holdfast data quarantine` lists them"
    assert words[1].startswith("integrity: 2 rows that other checks or settings once held are used")


def test_a_released_row_is_used_again(stores):
    """A person's word frees a row from the check that held it, and from that alone."""
    row = int(storage.load_data(stores, Params, set_aside(stores)).ids[0])
    held = set_aside(stores, holding("schema", row))
    assert integrity.release(Params, stores, (row,), "looked at") == 1
    assert set_aside(stores, holding("schema", row)).content != held.content
    assert set_aside(stores, holding("duplicates", row)).content == held.content


def test_data_that_was_pinned_after_it_was_examined_does_not_train(stores):
    """Whoever pins another table while the checks run: what may train is what was examined, or nothing."""
    found = integrity.found_data.fn(Params, stores)
    report = integrity.examine.fn(Params, stores, found)
    assert integrity.usable_data.fn(Params, stores, report).file_md5 == report.subject
    people().assign(age=9999.0).to_csv(stores.project / "data" / "people.csv", index=False)
    datasets.add(stores.project, stores.project / "data" / "people.csv")
    with pytest.raises(DataError, match=f"expected {report.subject}, as was examined"):
        integrity.usable_data.fn(Params, stores, report)


def test_the_list_is_given_where_the_data_is_not_what_is_pinned(stores, said):
    """That is when people want it most; which rows are held is then not known, and said so."""
    row = int(storage.load_data(stores, Params, set_aside(stores)).ids[0])
    set_aside(stores, holding("schema", row))
    (stores.project / "data" / "people.csv").write_text("age\n1\n")
    rows, held, data = integrity.quarantined(Params, stores)
    assert ([each["row"] for each in rows], held, data) == ([row], None, "")
    assert said()[-1].startswith("integrity: which rows are held now is not known: data/: found md5")


def test_the_list_tells_what_is_held_now(stores):
    """Every row that was ever set aside is listed; held are those of the checks as they are, where they were asked."""
    found = integrity.found_data.fn(Params, stores)
    row = int(storage.load_data(stores, Params, found).ids[0])
    set_aside(stores, holding("schema", row))
    rows, held, data = integrity.quarantined(Params, stores)
    assert ([each["row"] for each in rows], held, data) == ([row], None, found.file_md5)
    integrity.examine.fn(Params, stores, found)
    rows, held, _ = integrity.quarantined(Params, stores)
    assert ([each["row"] for each in rows], held) == ([row], set())


def test_a_data_set_that_is_not_versioned_is_refused(stores):
    """A file that .dvcignore hides has no md5 that anybody pinned."""
    (stores.project / ".dvcignore").write_text("data/people.csv\n")
    with pytest.raises(storage.DataError, match="does not cover"):
        storage._measured(stores.project, "people.csv")
