"""The stream's page: who answered which window, what was wrong, who alarmed and what was done."""

from __future__ import annotations

from datetime import UTC, datetime

from holdfast.reporting.timeline import Moment, Reign, Sign, reigns, render, signals, timeline

QUIET = Sign(detector="harm", about="harm", ratio=0.4, alarm=False)
LOUD = Sign(detector="page_hinkley", about="harm", ratio=3.0, alarm=True)


def moment(position: int, version: int | None = 1, action: str = "none", **more: object) -> Moment:
    """One window of a hundred rows, a tenth of them wrong."""
    return Moment.model_validate(
        {"position": position, "rows": 100, "version": version, "cause": "none", "action": action, "wrong": 0.1,
         "past": 0.05, "signs": (QUIET,), **more}
    )  # fmt: skip


COURSE = [
    moment(0),
    moment(1, action="retrain", cause="harmful_drift", outcome="version 2: promote", signs=(QUIET, LOUD)),
    moment(2, version=2),
    moment(3, version=2, wrong=None, past=None),
    moment(4, version=None, action="repair", reason="<b>spoilt</b>"),
]


def test_windows_are_parted_by_who_answered_them() -> None:
    """Each reign is one stretch, and nobody's is one too."""
    assert reigns(COURSE) == [Reign(1, 0, 1), Reign(2, 2, 3), Reign(None, 4, 4)]
    assert reigns([]) == []


def test_the_timeline_shows_responses_versions_and_wrong_answers() -> None:
    """Responses stand by name, alerts and quiet windows do not, and versions stand over their windows."""
    figure = timeline([*COURSE, moment(5, version=None, action="alert")])
    assert all(f">{word}<" in figure.svg for word in ("retrain", "repair", "v1", "v2", "nobody"))
    assert "alert" not in figure.svg
    assert "retrain at window 1, repair at window 4" in figure.description
    assert timeline([]).missing


def test_alarms_are_counted_by_detector() -> None:
    """A detector that never alarmed is drawn and not counted."""
    figure = signals(COURSE)
    assert figure.description == "Alarms by detector: page_hinkley 1."
    assert ">page hinkley<" in figure.svg
    assert ">harm<" in figure.svg
    assert signals([]).missing


def test_the_page_lists_what_happened_and_lets_no_text_open_markup() -> None:
    """Quiet windows are counted, others listed, and reasons are escaped."""
    page = render("loans", COURSE, datetime(2026, 1, 2, tzinfo=UTC))
    assert "version 2: promote" in page
    unjudged = [moment(0, wrong=None, action="alert", matured=True), moment(1, wrong=None, action="alert")]
    told = render("loans", unjudged, datetime(2026, 1, 2, tzinfo=UTC))
    assert told.count(">not judged<") == told.count(">no labels<") == 1
    assert "Quiet windows are not listed: 3." in page
    assert "Quiet windows" not in told
    assert "&lt;b&gt;spoilt" in page
    assert "<b>spoilt" not in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")


def test_the_page_says_how_often_clean_windows_alarm() -> None:
    """A sentence for each version, where it is kept; without any nothing is said of it."""
    at = datetime(2026, 1, 2, tzinfo=UTC)
    assert "Version 1: 3 of 300 clean." in render("loans", COURSE, at, ("Version 1: 3 of 300 clean.",))
    assert "False alarms" not in render("loans", COURSE, at)
