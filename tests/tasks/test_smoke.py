"""The smoke evaluation: a version that answers worse than when it was judged does not serve; nothing else is held to it."""

from types import SimpleNamespace

import pytest
import torch

from holdfast.errors import ModelError
from holdfast.model import load_model
from holdfast.results import Decision
from holdfast.scenarios.base import Context, choose
from holdfast.scenarios.probes.quality import Quality
from tasks import recovery, responses, smoke, tracking
from tasks.smoke import hold_to_record


@pytest.fixture(scope="module")
def judged(world, made):
    """A version whose quality was found and logged, with its model and the finding."""
    target = load_model(tracking.fetch_model(world.stores, made.version), made.version.digest)
    context = Context(seed=3, code="", revision="none", metric="accuracy", costs=None)
    finding = Quality(points=100).run(target, world.data.samples("test", space=target.space), context)
    version = made.version
    run = tracking.open_run(
        world.stores, version.name, "smoke", title="evaluation", parent=made.runs.lifecycle,
        tags={"holdfast.version": str(version.version)},
    )  # fmt: skip
    tracking.log_finding(world.stores, run, version, finding)
    return SimpleNamespace(stores=world.stores, data=world.data, version=version, target=target, finding=finding)


@pytest.fixture
def said(monkeypatch):
    """What people are told."""
    told = []
    monkeypatch.setattr(smoke, "tell", lambda _, text: told.append(text))
    return told


def read_by_the_ledger(judged, finding):
    """Put on record that a decision about the version read a finding."""
    decision = Decision(action="keep", candidate=judged.version, reasons=(), evidence=(finding.fingerprint(),))
    recovery.open_ledger(judged.stores).append(
        "decision", who="t", model=judged.version.name, version=judged.version.version,
        body=decision.model_dump(mode="json"), key=f"smoke:{finding.fingerprint()}",
    )  # fmt: skip


def wrong_on(judged, rows, *, others=False):
    """Let the model answer rows the other way round that it gets right: as many of those that it was judged by.

    With ``others`` it is also asked about rows by which it was not judged, and answers those as ever.
    """
    target = judged.target
    labels = choose(judged.data.samples("test", space=target.space), 100, judged.finding.provenance.seed).y

    def logits(x):
        found = target.logits(x)
        if others and len(x) != len(labels):
            return found
        right = found.argmax(1) == labels
        return torch.where((right & (right.cumsum(0) <= rows))[:, None], -found, found)

    return SimpleNamespace(logits=logits, device=target.device, space=target.space)


def test_a_finding_that_no_decision_read_holds_nobody(judged, said):
    """Who may write to the registry alone cannot keep a version from serving."""
    hold_to_record(judged.stores, judged.version, wrong_on(judged, 100), judged.data)
    assert "what it was judged by is not on these rows" in said[-1]


def test_a_version_that_answers_worse_than_it_did_does_not_serve(judged, said):
    """The same answers pass, and so do a few that another library rounds otherwise; a broken device does not."""
    read_by_the_ledger(judged, judged.finding)
    right = round(100 * judged.finding.score.value)
    hold_to_record(judged.stores, judged.version, judged.target, judged.data)
    assert said[-1].endswith(f"{right} of 100 rows right, {right} when it was judged")
    hold_to_record(judged.stores, judged.version, wrong_on(judged, 5), judged.data)
    with pytest.raises(ModelError, match=f"found 0 of 100 rows right, {right} when it was judged"):
        hold_to_record(judged.stores, judged.version, wrong_on(judged, 100), judged.data)


@pytest.mark.parametrize("change", ["data", "points"])
def test_answers_on_other_rows_hold_nobody(judged, said, change):
    """A world that moved is no fault of a version's: only the very rows that it was judged by are asked again."""
    read_by_the_ledger(judged, judged.finding)
    data = SimpleNamespace(digest=judged.data.digest, samples=judged.data.samples)
    if change == "data":
        data.digest = "another snapshot"
    else:
        data.samples = lambda role, space: judged.data.samples("validation", space=space)
    hold_to_record(judged.stores, judged.version, wrong_on(judged, 100), data)
    assert "finite answers" in said[-1]


def test_a_rollback_asks(world, judged, said, monkeypatch):
    """Nothing moves where the version to go back to answers worse than it did."""
    read_by_the_ledger(judged, judged.finding)
    monkeypatch.setattr(responses, "load_data", world.load)
    responses._smoke(world.params, judged.stores, world.snapshot, judged.version)
    assert said[-1].endswith("when it was judged")
    monkeypatch.setattr(responses, "load_model", lambda *_: wrong_on(judged, 100, others=True))
    with pytest.raises(ModelError, match="expected the answers that it was judged by"):
        responses._smoke(world.params, judged.stores, world.snapshot, judged.version)
