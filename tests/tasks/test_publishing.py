"""Publishing: a version's page says what made it, what judged it, and keeps each figure as a file."""

from types import SimpleNamespace

import pytest

from holdfast.results import Cost, Decision, Finding, Provenance, Reason, Score, StageReport
from tasks import publishing, tracking

DATA = StageReport(stage="integrity", subject="")


@pytest.fixture(autouse=True)
def _no_server(monkeypatch):
    monkeypatch.setattr(publishing, "create_markdown_artifact", lambda *_, **__: None)


def finding(path, seconds):
    return Finding(
        path=path, dimension="robustness", family="quality", settings={}, cost=Cost(seconds=seconds),
        score=Score(value=0.9, low=0.85, high=0.95, n=100, method="wilson"),
        provenance=Provenance(subject="5e", data="d4", role="test", seed=7, library="11", versions={}, device="cpu"),
    )  # fmt: skip


def published(world, made, params=None, snapshot=None, pack=None, **said):
    evaluated = StageReport(stage="evaluation", subject=made.version.digest, **said)
    reasons = (Reason(about="probes/quality", passed=False, text="too low"),)
    decision = Decision(action="keep", reasons=reasons, candidate=made.version)
    report = publishing.publish.fn(
        params or world.params, world.stores, snapshot or world.snapshot, DATA, made.trained, evaluated, decision,
        made.runs.lifecycle, pack=pack,
    )  # fmt: skip
    return SimpleNamespace(report=report, page=publishing.locate(world.params, world.stores, 1).read_text())


def test_a_page_says_what_made_the_version_and_not_what_params_say_now(world, made):
    """Judged under another seed, recipe, revision and data, the lineage is still that of its registration."""
    settings = {"epochs": 9}
    other = world.params.model_copy(
        update={"seed": 424242, "training": world.params.training.model_copy(update={"settings": settings})}
    )
    data = world.snapshot.model_copy(update={"md5": "ee" * 16 + ".dir", "file_md5": "ff" * 16, "revision": "0ther"})
    page = published(world, made, other, data, findings=(finding("probes/quality", 1.0),)).page
    lineage, judged = page[page.index('id="lineage"') : page.index('id="validity"')].split('id="evaluated"')
    for own, asked in (
        ("f39917c-dirty", "0ther"),
        (world.snapshot.md5, data.md5),
        (world.snapshot.file_md5, "ff" * 16),
    ):
        assert own in lineage
        assert asked not in lineage
        assert asked in judged
        assert own not in judged
    assert "424242" in judged
    assert "424242" not in lineage
    assert "&#34;epochs&#34;: 1" in lineage


def test_each_figure_of_the_page_is_a_file_of_the_run(world, made):
    """The lifecycle's run keeps every figure that was drawn as an SVG file."""
    published(world, made, findings=(finding("probes/quality", 1.0), finding("probes/calibration", 1.0)))
    kept = [item.path for item in tracking.client(world.stores).list_artifacts(made.runs.lifecycle, "figures")]
    assert len(kept) >= 2  # the forest and the training curve
    assert all(path.endswith(".svg") for path in kept)
    assert tracking.read_text(world.stores, made.runs.lifecycle, kept[0]).startswith("<svg")


def test_headlines_are_of_the_pack_that_was_asked(world, made):
    """A version that was only put through the gate's pack is not headlined as if it had been through the whole."""
    found = (finding("probes/quality", 1.0),)
    whole = published(world, made, findings=found).report.scorecard
    asked = published(world, made, findings=found, pack="gate").report.scorecard
    assert (whole.pack, asked.pack) == (world.params.evaluation.uses.run, "gate")
    assert whole.pack_digest != asked.pack_digest
    assert tracking.version_tags(world.stores, made.version)["holdfast.pack"] == "gate"


def test_only_fresh_work_counts_against_the_packs_budget(world, made):
    """A finding that was reused once took long, and warns nobody; the same found in this run does."""
    slow, quick = finding("probes/quality", 500.0), finding("probes/calibration", 1.0)
    assert "over its budget" in published(world, made, findings=(slow, quick)).page
    reused = published(world, made, findings=(slow, quick), reused=("probes/quality",))
    assert "over its budget" not in reused.page
    late = finding("probes/calibration", 500.0)
    told = published(world, made, findings=(slow, late), reused=("probes/quality",)).page
    assert "took 500.0 s of work" in told
