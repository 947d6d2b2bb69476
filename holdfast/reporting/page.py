"""The page: one self-contained HTML document, readable without a network, on paper, on a phone and in the dark."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from holdfast.recovery.gate import now_and_formerly
from holdfast.reporting import text
from holdfast.reporting.confusion import attacks_with_confusion, confusions
from holdfast.reporting.curves import curves
from holdfast.reporting.examples import galleries
from holdfast.reporting.forest import forest
from holdfast.reporting.resilience import resilience_curves
from holdfast.reporting.training import training_curve
from holdfast.scorecard import threat

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jinja2 import Template

    from holdfast.reporting.canvas import Figure
    from holdfast.reporting.content import Page
    from holdfast.results import Finding, IntegrityFinding

CONFUSED = 3
"""Attacks whose confusion matrices are drawn, the strongest first."""
SHOWN = 3
"""Attacks whose examples are shown, the strongest first."""


class Drawings(NamedTuple):
    """The figures of a page, drawn from its findings alone."""

    forest: Figure
    curves: list[Figure]
    confusions: list[Figure]
    training: Figure
    resilience: list[Figure]

    def files(self) -> dict[str, str]:
        """Give each figure as an SVG file of its own, by file name, in the page's light colours."""
        every = (self.forest, *self.curves, *self.confusions, self.training, *self.resilience)
        return {f"{figure.name}.svg": figure.alone(light_colours()) for figure in every if figure.svg}


def drawings(page: Page) -> Drawings:
    """Draw all figures of a page."""
    findings = text.ordered(page.findings)
    confused = attacks_with_confusion(findings)[:CONFUSED]
    return Drawings(
        forest=forest(findings),
        curves=curves(findings),
        confusions=[figure for finding in confused for figure in confusions(finding)],
        training=training_curve(page.training, page.measure),
        resilience=resilience_curves(findings),
    )


def render(page: Page, drawn: Drawings | None = None) -> str:
    """Render a report as one HTML document: no script, no network, everything inline.

    The same page gives the same bytes. All text is escaped.

    Args:
        page: what the report says.
        drawn: its figures, where they are drawn already.
    """
    drawn = drawn or drawings(page)
    findings = text.ordered(page.findings)
    failed, passed = text.verdict_reasons(page.decision)
    glyph, verdict, meaning = text.verdict(page.decision)
    attacks = attacks_with_confusion(findings)
    shown = galleries(findings)
    return template("page.html.jinja").render(
        page=page,
        card=page.scorecard,
        findings=findings,
        grouped=[(dimension, list(group)) for dimension, group in groupby(findings, key=lambda each: each.dimension)],
        anchors=anchors(findings),
        glyph=glyph,
        verdict=verdict,
        meaning=meaning,
        failed=failed,
        passed=passed,
        once=now_and_formerly(page.decision)[1],
        promoted_because=text.promoted_because(page.promoted),
        forest=drawn.forest,
        curves=drawn.curves,
        confusions=drawn.confusions,
        confused_left=[finding.path for finding in attacks[CONFUSED:]],
        galleries=shown[:SHOWN],
        galleries_left=[each.path for each in shown[SHOWN:]],
        training=drawn.training,
        resilience=drawn.resilience,
        integrity=[(check, _quarantined(check)) for check in page.integrity],
        unscored=[finding for finding in findings if finding.unscored is not None],
        checked=[finding for finding in findings if finding.checks],
        comparable=page.scorecard.pack_digest,
    )


def anchors(findings: Sequence[Finding]) -> dict[str, str]:
    """Name the place of each finding on the page; paths may hold anything, so they are numbered."""
    return {finding.path: f"finding-{place}" for place, finding in enumerate(findings)}


def _quarantined(check: IntegrityFinding) -> list[tuple[str, int]]:
    """Count the quarantined rows by reason, most frequent first."""
    counts = Counter(check.reasons.get(str(row), check.reason) for row in check.rows)
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def _ball(finding: Finding) -> str:
    stated = threat(finding)
    return "" if stated is None else str(stated)


def light_colours() -> str:
    """Give the page's light colours, for a figure that stands alone."""
    style = _style_sheet().split(":root {", 1)[1].split("}", 1)[0]
    return "; ".join([*re.findall(r"--\w+: #[0-9a-f]{6}", style), "background: var(--paper)"])


def _style_sheet() -> str:
    return (Path(__file__).parent / "page.css").read_text()


@cache
def template(name: str) -> Template:
    """Give a page's template by file name."""
    environment = Environment(
        loader=PackageLoader("holdfast.reporting", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    helpers: dict[str, Any] = {
        "percent": text.percent, "interval": text.interval, "score": text.value, "state": text.state,
        "validity": text.validity, "quantity": text.quantity, "plain": text.plain, "number": text.number, "ball": _ball,
        "difference": text.difference,
    }  # fmt: skip
    environment.filters.update(helpers)
    environment.globals.update(kinds=text.KINDS, questions=text.QUESTIONS, kept=text.KEPT)
    return environment.get_template(name)
