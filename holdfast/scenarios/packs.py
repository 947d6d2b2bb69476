"""What packs promise: the seconds of work that one may take."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holdfast.results import Finding

_NAMED = 3


def overrun(findings: Iterable[Finding], budget_seconds: float) -> str | None:
    """Say by how much a pack overran its budget, and which scenarios took longest; None where it kept to it.

    The budget is of work: seconds of all scenarios are added, whichever ran side by side.

    Args:
        findings: those that this run computed. A finding that was reused still says what it once took, so the
            caller leaves it out.
        budget_seconds: seconds that the pack may take, above 0.
    """
    fresh = sorted(findings, key=lambda finding: (-finding.cost.seconds, finding.path))
    spent = sum(finding.cost.seconds for finding in fresh)
    if spent <= budget_seconds:
        return None
    longest = ", ".join(f"{finding.path} {finding.cost.seconds:.1f} s" for finding in fresh[:_NAMED])
    return (
        f"took {spent:.1f} s of work, {spent - budget_seconds:.1f} s over its budget of {budget_seconds:g} s: {longest}"
    )
