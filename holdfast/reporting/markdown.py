"""The report in Markdown: what a person needs on the orchestrator's page, with the same words as the HTML."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from holdfast.recovery.gate import now_and_formerly
from holdfast.reporting import text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from holdfast.reporting.content import Page
    from holdfast.results import DataSnapshot, Finding, Reason
    from holdfast.scorecard import DimensionScore

MOST_PASSED = 6
"""Passed rules that are listed; above it they are counted."""
_SPECIAL = re.compile(r"([\\`*_\[\]<>|!#~])")


def markdown(page: Page) -> str:
    """Render a report as concise Markdown: verdict, reasons, dimensions, gaps, findings, integrity, lineage.

    All text that comes from outside is escaped: it cannot open markup, links, images or table cells.
    """
    parts = [
        _verdict(page),
        _table(("Dimension", "Score", "95 % interval", "n", "Weakest"), map(_dimension, page.scorecard.dimensions)),
        _summary(page),
        _findings(page.findings),
        _transfer(page),
        _integrity(page),
        _lineage(page),
        _evaluated(page),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def escape(words: str) -> str:
    """Make text harmless in Markdown, also inside a table."""
    return _SPECIAL.sub(r"\\\1", " ".join(words.split())).replace("\\<", "&lt;").replace("\\>", "&gt;")


def _verdict(page: Page) -> str:
    glyph, verdict, meaning = text.verdict(page.decision)
    version = f", version {page.version.version}" if page.version else ""
    now, once = now_and_formerly(page.decision)
    failed = [reason for reason in now if not reason.passed]
    passed = [reason for reason in now if reason.passed]
    lines = [f"# {escape(page.title)}{version}", "", f"**{glyph} {verdict}.** {meaning}", ""]
    lines += [_reason("✗", reason) for reason in failed]
    if failed or len(passed) > MOST_PASSED:
        lines += [f"- ✓ {len(passed)} rules passed"] if passed else []
    else:
        lines += [_reason("✓", reason) for reason in passed]
    if once:
        lines += ["", text.promoted_because(page.promoted), ""]
        lines += [_reason("✓" if reason.passed else "✗", reason) for reason in once]
    lines += [f"- ! {escape(warning)}" for warning in page.warnings]
    return "\n".join(lines).rstrip()


def _reason(glyph: str, reason: Reason) -> str:
    return f"- {glyph} {escape(reason.about)}: {escape(reason.text)}"


def _dimension(entry: DimensionScore) -> tuple[str, ...]:
    if entry.score is None or entry.weakest is None:
        return (entry.dimension, escape(text.state(entry)), "", "", "")
    marks = " ✗ a validity check failed" if entry.invalid else ""
    marks += f" ({len(entry.unscored)} unscored)" if entry.unscored else ""
    score = entry.score
    return (
        entry.dimension, text.value(score) + marks, text.interval(score), f"{score.n:,}", escape(entry.weakest)
    )  # fmt: skip


def _summary(page: Page) -> str:
    weakest = page.scorecard.weakest
    lines = ["- No dimension is scored."]
    if weakest is not None and weakest.score is not None:
        lines = [f"- Weakest of the scored dimensions: {weakest.dimension}, {text.value(weakest.score)}."]
    lines += [f"- Not scored: {entry.dimension} ({escape(text.state(entry))})." for entry in page.scorecard.not_scored]
    return "\n".join(lines)


def _findings(findings: Sequence[Finding]) -> str:
    if not findings:
        return "## Findings\n\nNo scenario was run."
    heads = ("Scenario", "Score", "95 % interval", "n", "Validity")
    return "## Findings\n\n" + _table(heads, map(_finding, text.ordered(findings)))


def _finding(finding: Finding) -> tuple[str, ...]:
    path, validity = escape(finding.path), escape(text.validity(finding))
    if finding.score is None:
        return (path, f"unscored: {escape(finding.unscored or '')}", "", "", validity)
    return (path, text.value(finding.score), text.interval(finding.score), f"{finding.score.n:,}", validity)


def _transfer(page: Page) -> str:
    kept = page.transfer
    if kept is None:
        return ""
    heads = ("Rows", "Asked", f"Version {kept.parent.version}", f"Version {kept.candidate.version}", "Difference", "n")
    rows = [
        (change.world, escape(change.path), text.value(change.before), text.value(change.after),
         escape(text.difference(change)), f"{change.n:,}")
        for change in kept.changes
    ]  # fmt: skip
    told = [f"- {escape(measure.name)}: {escape(text.quantity(measure))}" for measure in kept.measures]
    gaps = [f"- not told: {escape(gap)}" for gap in kept.missing]
    parts = [text.KEPT, _table(heads, rows) if rows else "", "\n".join([*told, *gaps])]
    return "\n\n".join(["## Kept and gained", *(part for part in parts if part)])


def _integrity(page: Page) -> str:
    if not page.integrity:
        return ""
    rows = [
        (escape(check.check), check.verdict, f"{check.examined:,}", f"{len(check.rows):,}", escape(check.reason))
        for check in page.integrity
    ]
    return "## Data integrity\n\n" + _table(("Check", "Verdict", "Examined", "Quarantined", "Reason"), rows)


def _lineage(page: Page) -> str:
    model = {"model digest": page.version.digest if page.version else "no version"}
    facts = {**model, **_data(page.trained_on), **page.lineage}
    return "## Lineage\n\n" + _facts(facts)


def _evaluated(page: Page) -> str:
    facts = {**_data(page.snapshot), **page.evaluated}
    facts |= {"pack": page.scorecard.pack, "pack digest": page.scorecard.pack_digest}
    facts |= {"ledger head": page.ledger_head or "not recorded", "generated": page.generated_at.isoformat()}
    return "## What this evaluation used\n\n" + _facts(facts)


def _data(snapshot: DataSnapshot | None) -> dict[str, Any]:
    return {} if snapshot is None else {"data md5": snapshot.md5, "file md5": snapshot.file_md5}


def _facts(facts: dict[str, Any]) -> str:
    return "\n".join(f"- {escape(name)}: {escape(text.plain(fact))}" for name, fact in facts.items())


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
