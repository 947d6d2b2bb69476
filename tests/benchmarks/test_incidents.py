"""The table of incidents: a row says what must not be read without each other, and a page has a place for it."""

from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "rehearse-incidents.md"


def finding(*measures, checks=()):
    named = [
        {"name": "right response", "status": "passed", "reason": "none in 5 of 5 seeds"},
        {"name": "every window handled once", "status": "passed", "reason": "9 windows in each seed"},
    ]
    return {
        "path": "drills/benign_shift", "dimension": "evolution", "score": None, "unscored": "nothing gained",
        "checks": [*named, *checks], "cost": {"seconds": 40.0},
        "measures": [{"name": n, "value": v, "low": v - 0.1, "high": v + 0.1} for n, v in measures],
    }  # fmt: skip


def test_a_row_has_a_cell_for_every_head_and_says_what_forgetting_is_of(benchmark):
    """Checks are known by name, however many there are; forgetting of clean answers alone is marked."""
    told = finding(
        ("forgetting_clean", 0.01), ("quiet_windows_left_alone", 0.9), ("rows_answered_wrongly", 12.4),
        ("rows_seen_before", 0.75), checks=[{"name": "forgetting under attack", "status": "not_applicable"}],
    )  # fmt: skip
    head, rule, row = benchmark.table([told], "origin").splitlines()[:3]
    assert head.count("|") == rule.count("|") == row.count("|")
    cells = dict(zip(head.split(" | "), row.split(" | "), strict=True))
    assert cells["forgetting"] == "0.01 (clean)"
    assert cells["quiet windows left alone"] == "0.90 [0.80, 1.00]"
    assert (cells["rows answered wrongly"], cells["share of rows seen before"]) == ("12", "0.75")
    assert cells["windows handled"] == "once each"


@pytest.mark.parametrize(("status", "wrong"), [("failed", ["drills/benign_shift"]), ("not_applicable", [])])
def test_only_a_check_that_failed_is_wrong(benchmark, status, wrong):
    """Forgetting under attack, where the gate has none, is no wrong response."""
    assert benchmark.gone_wrong([finding(checks=[{"name": "forgetting under attack", "status": status}])]) == wrong


def test_the_page_has_the_tables_place(benchmark):
    """It is written between its marks, once, and all around it stays."""
    page = PAGE.read_text()
    before, after = page.split(benchmark.BEGIN)[0], page.split(benchmark.END)[1]
    again = benchmark.placed(benchmark.placed(page, "| one |"), "| two |")
    assert again.startswith(before)
    assert again.endswith(after)
    assert ("| one |" in again, again.count("| two |")) == (False, 1)


def test_a_page_without_the_place_is_refused(benchmark):
    """A table at the end of some page is nobody's."""
    with pytest.raises(SystemExit, match="lacks the marks"):
        benchmark.placed("# A page\n", "| table |")
