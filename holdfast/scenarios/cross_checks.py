"""The validity record across attacks: what only several findings on the same points can show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from holdfast.results import Check
from holdfast.scenarios.attacks._surrogate import COMPARABLE
from holdfast.scenarios.validity import explain, judge, skip

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from holdfast.results import Finding
    from holdfast.scenarios.validity import Flags


def with_family_checks(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Give the findings back, in order, each multi-step white-box one with the checks that take several attacks.

    A black box, a surrogate's gradients or one step that break what the model's own gradients leave convict the
    numbers of these, not their own. A certificate of the model itself is held against the attacks of its threat.
    """
    found = tuple(findings)
    groups = _by_threat(found)
    checks = {finding.path: _family_checks(group) for group in groups for finding in group if _climbs(finding)}
    checks |= {finding.path: (_bracket(finding, groups),) for finding in found if _proves(finding)}
    return tuple(f.model_copy(update={"checks": (*f.checks, *checks.get(f.path, ()))}) for f in found)


def family_checks(findings: Iterable[Finding]) -> tuple[Check, ...]:
    """Check what only several attacks on the same points can show, for each threat model.

    Masking: the black box breaks points that every multi-step white-box attack leaves, more than the reverse.
    Transfer: what breaks a surrogate does so likewise. A single step that beats all multi-step attacks. Names carry
    the threat model in brackets.
    """
    return tuple(check for group in _by_threat(findings) for check in _family_checks(group))


def _family_checks(group: Sequence[Finding]) -> tuple[Check, ...]:
    norm, epsilon, categories = _threat(group[0])
    threat = f"{norm} {epsilon:g}" + (f" + {categories} categories" if categories else "")
    black = [f for f in group if f.details.get("access") == "black_box"]
    single = [f for f in group if f.details.get("single_step")]
    carried = [f for f in group if f.details.get("access") == "transfer" and not _weak(f)]
    poor = next(filter(None, map(_weak, group)), "")
    multi = [f for f in group if _climbs(f)]
    return (
        _against(f"masking[{threat}]", multi, black, "points that hold against gradients, against the black box"),
        _against(f"single_step[{threat}]", multi, single, "points that hold against all steps, against one step"),
        _against(f"transfer[{threat}]", multi, carried, "points that hold against gradients, against a surrogate's")
        if carried
        else skip(f"transfer[{threat}]", poor or "no surrogate was attacked"),
    )


def _proves(finding: Finding) -> bool:
    """Tell a certificate of the model itself: smoothing's is of another classifier, which attacks do not meet."""
    return finding.details.get("certifies") == "model" and finding.per_example is not None


def _bracket(certificate: Finding, groups: Iterable[Sequence[Finding]]) -> Check:
    """Read certificate and attacks on the same points: the truth lies between, and no proved point may be broken."""
    norm, epsilon = str(certificate.settings["norm"]), float(certificate.settings["epsilon"])
    name = f"bracket[{norm} {epsilon:g}]"
    wanted = _question(certificate, (norm, epsilon, 0))
    attacks = next((group for group in groups if _question(group[0], _threat(group[0])) == wanted), None)
    if attacks is None or certificate.per_example is None:
        return skip(name, "no attack of this threat on the same points")
    proved, held = certificate.per_example.unpack_flags(), _all_hold(attacks)
    broken = int((proved & ~held).sum())
    reason = (
        f"of {len(proved)} points {int(proved.sum())} are proved and {int(held.sum())} hold against"
        f" {', '.join(sorted(f.path for f in attacks))}; proved and broken: {broken}"
    )
    found = Check(name=name, status="failed" if broken else "passed", reason=reason, statistic=broken, threshold=0.0)
    return explain(found)


def _climbs(finding: Finding) -> bool:
    return finding.details.get("access") == "white_box" and not finding.details.get("single_step")


def _weak(finding: Finding) -> str:
    """Say why the surrogate behind a finding is no witness; empty where it is one, or there is none."""
    told = (c.reason for c in finding.checks if c.name == COMPARABLE and c.status == "not_applicable")
    return next(told, "")


def _against(name: str, multi: Sequence[Finding], other: Sequence[Finding], what: str) -> Check:
    if not multi or not other:
        return skip(name, "it takes findings of both kinds on the same points")
    budgets = ", ".join(f"{f.path}: {f.details['most_forwards_per_point']}" for f in (*multi, *other))
    return explain(judge(name, _all_hold(multi), _all_hold(other), f"{what} (forwards per point at most: {budgets})"))


def _by_threat(findings: Iterable[Finding]) -> list[list[Finding]]:
    groups: dict[tuple[object, ...], list[Finding]] = {}
    for finding in findings:
        if finding.family == "evasion" and finding.score is not None and finding.per_example is not None:
            if "epsilon" not in finding.settings:  # a certificate: the lower bracket, no attack
                continue
            groups.setdefault(_question(finding, _threat(finding)), []).append(finding)
    return list(groups.values())


def _question(finding: Finding, threat: tuple[str, float, int]) -> tuple[object, ...]:
    """Name a threat to the points of one finding: what has the same name may be compared point by point."""
    origin = finding.provenance
    points = None if finding.per_example is None else finding.per_example.points
    return (*threat, points, origin.subject, origin.data, origin.role, origin.seed)


def _threat(finding: Finding) -> tuple[str, float, int]:
    settings = finding.settings
    return str(settings["norm"]), float(settings["epsilon"]), int(settings["categories"])


def _all_hold(findings: Sequence[Finding]) -> Flags:
    flags = [f.per_example.unpack_flags() for f in findings if f.per_example is not None]
    together: Flags = np.logical_and.reduce(flags)
    return together
