"""Tests of the page and its Markdown: self-contained, escaped, honest about what is missing."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from holdfast import reporting
from holdfast.recovery.gate import formerly
from holdfast.recovery.transfer import Change, Transfer
from holdfast.reporting import Page, drawings, markdown, render
from holdfast.reporting.text import VERDICTS
from holdfast.results import Decision, Measure, Reason
from holdfast.scorecard import scorecard

VOID = {"meta", "br", "img", "link", "input", "hr"}
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=y>|[a](javascript:b)"
NAMES_OF_NOTHING = re.compile(r"\b(?:nan|None|undefined)\b")


class Tree(HTMLParser):
    """A strict reader: every element closes in order, no attribute comes twice."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.stack, self.tags, self.texts = [], [], []
        self.feed(html)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), (tag, attrs)
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if "style" not in self.stack:
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def html(page):
    return render(page)


def tile(html, dimension):
    """The words of one dimension's tile."""
    tiles = re.findall(r"<article.*?</article>", html, re.DOTALL)
    return next(Tree(part).text for part in tiles if f"<h3>{dimension}</h3>" in part)


def test_the_page_is_well_formed_and_its_links_arrive(html):
    """Elements nest, ids are unique, every link and every reference inside a figure has a target, as is every label."""
    tree = Tree(html)
    ids = [attributes["id"] for _, attributes in tree.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    wanted = {value for _, found in tree.tags for name, value in found.items() if name in ("href", "xlink:href")}
    wanted |= {f"#{name}" for name in re.findall(r"url\(#([^)]+)\)", html)}
    assert len(wanted) > 20
    assert wanted <= {f"#{name}" for name in ids}


def test_the_page_needs_no_network_and_no_script(html):
    """No address, no script, no import: what it shows is in it."""
    tree = Tree(html)
    assert not re.search(r"https?:|@import|url\((?!#)", html)
    assert not any(found.get(name, "").startswith("//") for _, found in tree.tags for name in ("src", "href"))
    assert not {tag for tag, _ in tree.tags} & {"script", "link", "iframe", "object", "base", "form"}
    assert all(found["src"].startswith("data:image/png;base64,") for tag, found in tree.tags if tag == "img")
    assert not any(name.startswith("on") for _, found in tree.tags for name in found)
    policy = next(found["content"] for tag, found in tree.tags if "http-equiv" in found and tag == "meta")
    assert policy.startswith("default-src 'none'")


def test_the_page_is_small(html):
    """A page of twenty findings stays under 2 MB."""
    assert len(html.encode()) < 2_000_000


def test_the_same_page_gives_the_same_bytes(page, html):
    """Nothing on the page depends on the clock, the process or the order of calls; its JSON form is enough."""
    assert render(page) == html
    assert render(Page.model_validate_json(page.model_dump_json())) == html


def test_every_finding_is_on_the_page_with_its_origin(page, html):
    """Path, n, interval, seed and digests of each finding can be reached."""
    text = Tree(html).text
    for finding in page.findings:
        place = re.search(
            rf'<details class="finding" id="[^"]+"><summary>{re.escape(finding.path)}:.*?</details>', html, re.DOTALL
        )
        origin = Tree(place.group(0)).text
        for part in (finding.key, finding.provenance.subject, finding.provenance.data, finding.provenance.library):
            assert part in origin
        assert f"seed {finding.provenance.seed} " in origin
        assert finding.unscored is None or f"unscored: {finding.unscored}" in origin
        assert finding.score is None or f"n = {finding.score.n:,}" in origin
    for part in (
        page.ledger_head,
        page.scorecard.pack_digest,
        page.snapshot.md5,
        page.version.digest,
        "square broke 41",
    ):
        assert part in text


@pytest.mark.parametrize("action", list(VERDICTS))
def test_the_verdict_comes_first(page, action):
    """The verdict and the failed rule stand before the first score, in HTML and Markdown."""
    reasons, champion = (Reason(about="attacks/pgd", passed=False, text="too low"),), page.decision.champion
    decision = Decision(action=action, reasons=reasons, champion=champion)
    changed = page.model_copy(update={"decision": decision, "findings": ()})
    html, words = render(changed), markdown(changed)
    for head in (html[: html.index('<h2 id="resilience"')], words[: words.index("| Dimension")]):
        assert VERDICTS[action][1] in head[head.index("<main>") if "<main>" in head else 0 :]
        assert "too low" in head
        assert not re.search(r"[0-9] %", head)


def test_missing_numbers_are_words(example):
    """Not due and unscored have no figure anywhere near: no percent, no bar, no nan."""
    made = tuple(finding for finding in example.findings() if finding.unscored)
    page = example.example_page(findings=made)
    html = render(page)
    for dimension, words in (
        ("robustness", "unscored: anomalies/missing_values: not defined on a box space"),
        ("defence", "not due: pack standard asks for no scenario of defence"),
        ("recovery", "not due: no drill yet"),
        ("evolution", "not due: no drill yet"),
    ):
        assert words in tile(html, dimension)
        assert not re.search(r"[0-9]", tile(html, dimension))
    body = html[html.index('id="resilience"') : html.index('id="integrity"')]
    legend = r"<svg.*?</svg>|<figcaption>.*?</figcaption>|<thead>.*?</thead>|<[^>]*>"
    assert not re.search(r"[0-9]\s?%", re.sub(legend, " ", body, flags=re.DOTALL))
    assert 'class="bar"' not in body
    rows = [line for line in markdown(page).splitlines() if "unscored" in line or "not due" in line]
    assert len(rows) >= 6
    assert not any(re.search(r"[0-9.]+ ?%", line) for line in rows)


def test_an_empty_page_says_so(page):
    """With nothing measured each section says what is missing, and nothing reads as a number."""
    empty = Page(
        title="loans", decision=Decision(action="block", reasons=()), scorecard=scorecard((), "gate", "0" * 64),
        generated_at=page.generated_at,
    )  # fmt: skip
    text = Tree(render(empty)).text
    for words in (
        "Blocked", "No dimension is scored", "No scenario was run", "No finding holds a curve", "No attack stored examples",
        "No integrity check was recorded", "No training history", "No version of this model", "No finding carries a validity check", "not recorded",
    ):  # fmt: skip
        assert words.lower() in text.lower()
    assert not NAMES_OF_NOTHING.search(text)
    assert "No scenario was run." in markdown(empty)


def test_hostile_text_stays_text(example):
    """Names, reasons, labels and features from outside open no element, no attribute, no link."""
    made = (
        example.attack("attacks/pgd", range(3), details={
            "classes": [HOSTILE, "$x_1$"], "confusion": {"clean": [[1, 0], [0, 1]], "under_attack": [[0, 1], [1, 0]]},
            "examples": [{"before": {HOSTILE: HOSTILE}, "after": {HOSTILE: 1.0}, "label": HOSTILE, "predicted": HOSTILE}],
        }),
        example.finding(f"anomalies/{HOSTILE}", "robustness", HOSTILE, None, unscored=HOSTILE),
    )  # fmt: skip
    page = example.example_page(
        findings=made, title=HOSTILE, warnings=(HOSTILE,), lineage={HOSTILE: HOSTILE},
        decision=Decision(action="keep", reasons=(Reason(about=HOSTILE, passed=False, text=HOSTILE),)),
    )  # fmt: skip
    html = render(page)
    tags = Tree(html).tags
    assert "script" not in {tag for tag, _ in tags}
    assert not any(
        name.startswith("on") or "javascript" in str(found.get("href")) for _, found in tags for name in found
    )
    assert html.count("&lt;script&gt;") >= 8
    words = markdown(page)
    assert "<" not in words.replace("&lt;", "")
    assert not re.search(r"(?<!\\)\]\(", words)
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 6 for line in words.splitlines() if line.startswith("| "))


def test_failed_checks_are_marked(html, page):
    """A finding with a failed check is called invalid in its row, in its dimension and in Markdown."""
    assert "Not to be trusted: a validity check failed in attacks/apgd_ce" in tile(html, "defence")
    assert "a validity check failed" in markdown(page).split("## Findings")[0]
    assert "invalid: black box breaks more" in markdown(page)


def test_every_threat_model_is_shown(html):
    """Beside the weakest threat model stands the share that survives all attacks of the other."""
    assert "linf 0.05: all of 5 attacks ≤ 70.0 % (67.1 to 72.8 %, n = 1,000)" in Tree(html).text


def test_another_packs_headlines_are_not_compared(html):
    """Only the row measured with another pack is marked."""
    assert html.count("another pack: not comparable") == 1


def test_quarantined_rows_are_counted_by_reason(html):
    """Reasons for single rows are counted; the check's own reason stands for the rest."""
    text = Tree(html[html.index('<h2 id="integrity"') : html.index('<h2 id="training"')]).text
    assert "30 rows: exact duplicate" in text
    assert "7 rows: near duplicate, distance 2" in text


def _luminance(colour):
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _contrast(first, second):
    high, low = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_enough_in_light_dark_and_print():
    """Text has 4.5:1 on page and tiles, lines have 3:1, in all three schemes (WCAG 2.1, 1.4.3 and 1.4.11)."""
    css = (Path(reporting.__file__).parent / "page.css").read_text()
    schemes = [
        dict(re.findall(r"--([a-z0-9]+): (#[0-9a-f]{6})", block))
        for block in re.findall(r":root \{.*?\}", css, re.DOTALL)
    ]
    assert len(schemes) == 3
    for scheme in schemes:
        for ground in (scheme["paper"], scheme["raised"]):
            for name in ("ink", "muted", "accent", "good", "bad", "warn"):
                assert _contrast(scheme[name], ground) >= 4.5, (name, scheme)
            assert all(_contrast(scheme[f"s{k}"], ground) >= 3 for k in range(1, 7))


def test_every_figure_is_a_file_of_its_own(page, html):
    """The figures of the page come as SVG files that parse, know their colours, and are drawn once for both."""
    drawn = drawings(page)
    assert render(page, drawn) == html
    files = drawn.files()
    assert "forest.svg" in files
    assert len(files) == html.count("<svg ")
    for name, body in files.items():
        root = ET.fromstring(body)  # noqa: S314  our own drawing
        assert root.tag == "{http://www.w3.org/2000/svg}svg", name
        assert set(re.findall(r"var\((--\w+)\)", body)) <= set(re.findall(r"(--\w+): #", body))


@pytest.mark.parametrize("action", ["keep", "inconclusive"])
def test_nobody_stays_champion_where_there_is_none(page, action):
    """Without a champion the verdict says that nothing was promoted, and that there still is no champion."""
    changed = page.model_copy(update={"decision": Decision(action=action, reasons=(), champion=None)})
    for words in (Tree(render(changed)).text, markdown(changed)):
        assert "hampion stays" not in words
        assert "ot promoted" in words
        assert "There is still no champion." in words


def test_former_reasons_are_told_apart_from_those_of_this_run(page):
    """Where nothing was decided, the reasons that once made the champion one stand below, with their time."""
    now, *once = (Reason(about=about, passed=True, text="so") for about in ("now", "once", "once too"))
    reasons = (now, *map(formerly, once))
    decision = page.decision.model_copy(update={"action": "none", "reasons": reasons})
    changed = page.model_copy(update={"decision": decision, "promoted": page.generated_at})
    for words in (Tree(render(changed)).text, markdown(changed)):
        places = [words.index(part) for part in ("now: so", "Promoted on 2026-03-14 09:26 UTC because:", "once: so")]
        assert places == sorted(places)
        assert words.count("once too: so") == 1


def test_what_made_a_version_stands_apart_from_what_judged_it(page):
    """The data and seed of training stand under lineage, those of the evaluation under its own heading."""
    trained = page.snapshot.model_copy(update={"md5": "aa" * 16 + ".dir"})
    changed = page.model_copy(update={"trained_on": trained, "lineage": {"seed": 7}, "evaluated": {"seed": 8}})
    html, words = render(changed), markdown(changed)
    for made, judged in (
        html[html.index('id="lineage"') : html.index('id="validity"')].split('id="evaluated"'),
        words[words.index("## Lineage") :].split("## What this evaluation used"),
    ):
        assert trained.md5 in made
        assert page.snapshot.md5 not in made
        assert page.snapshot.md5 in judged
        assert trained.md5 not in judged


def test_what_a_retraining_kept_and_gained_is_shown_and_nothing_where_there_was_none(page, example):
    """Both forms say before, after, paired difference, measures and gaps, escaped; other versions have no such part."""
    parent, candidate = (example.ModelVersion(name="m", version=number, digest="ab" * 32) for number in (7, 8))
    change = Change(
        world="new windows", path="probes/quality", before=example.score(0.6), after=example.score(0.75),
        difference=0.15, low=0.1201, high=0.1799, n=321, method="Tango", lost=3,
    )  # fmt: skip
    kept = Transfer(
        parent=parent, candidate=candidate, metric="accuracy", changes=(change,), missing=(HOSTILE,),
        measures=(Measure(name="forgetting (attacks/pgd)", value=0.04, unit="points / 100", better="lower", n=321),),
    )  # fmt: skip
    told = page.model_copy(update={"transfer": kept})
    shown = Tree(render(told)).text
    for words in (shown, markdown(told)):
        for part in (
            "Kept and gained",
            "Version 7",
            "Version 8",
            "new windows",
            "+15.0 points (+12.0 to +18.0)",
            "321",
        ):
            assert part in words
        assert "forgetting (attacks/pgd): 0.04 points / 100, n = 321" in words
    assert HOSTILE in shown
    assert "<script>" not in render(told)
    assert "<script>" not in markdown(told)
    assert "Kept and gained" not in render(page) + markdown(page)
