"""The gate: floors, paired non-inferiority, validity and power turn findings into one decision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import Field

from holdfast.errors import RoleError, ScenarioError
from holdfast.recovery.comparison import by_flags, by_metric
from holdfast.results import Decision, Finding, ModelVersion, Reason, Share, Value
from holdfast.seeding import Noise
from holdfast.statistics import check_metric

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from holdfast.results import Check, PerExample, Score

Margin = Annotated[float, Field(gt=0.0, le=0.5)]
Costs = tuple[tuple[float, ...], ...]

QUALITY = "probes/quality"
"""The one scenario that the user's metric scores; every other is a share of flags."""
AT_PROMOTION = "at promotion: "
"""Precedes what a reason is about where it was given when the champion was promoted, and says nothing of now."""
_SAME = ("role", "data", "seed", "library", "versions", "device")


class Floor(Value):
    """The safe end of a scenario's interval is at least this."""

    scenario: str
    minimum: Share


class NonInferiority(Value):
    """The candidate is not worse than the champion by this margin or more."""

    scenario: str
    margin: Margin


class Gates(Value):
    """What a candidate must pass: this list and nothing else."""

    floors: dict[str, Share] = Field(default_factory=dict)
    """Scenario path to the least that the low end of its 95 % interval may be."""
    non_inferiority: dict[str, Margin] = Field(default_factory=dict)
    """Scenario path to margin; compared with the champion on the same points of role ``gate``."""
    power: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.8
    """Least power, for an equal candidate, at which the comparison counts."""

    def floor_rules(self) -> tuple[Floor, ...]:
        """Give the floors as rules, by scenario."""
        return tuple(Floor(scenario=path, minimum=least) for path, least in sorted(self.floors.items()))

    def comparisons(self) -> tuple[NonInferiority, ...]:
        """Give the comparisons as rules, by scenario."""
        return tuple(NonInferiority(scenario=path, margin=m) for path, m in sorted(self.non_inferiority.items()))


Outcome = Literal["passed", "block", "floor", "worse", "underpowered", "inferior"]


class _Ruling(NamedTuple):
    outcome: Outcome
    about: str
    text: str


@dataclass(frozen=True)
class _Case:
    """What a decision reads, findings by path."""

    gates: Gates
    candidate: ModelVersion
    champion: ModelVersion | None
    ours: dict[str, Finding]
    theirs: dict[str, Finding]
    scorecard: dict[str, Finding]
    metric: str
    costs: Costs | None

    def compared(self) -> list[Finding]:
        """Give the champion's findings that a rule names."""
        return [self.theirs[path] for path in sorted(self.gates.non_inferiority) if path in self.theirs]

    def read(self) -> list[Finding]:
        """Give every finding that the decision reads."""
        return [*self.ours.values(), *self.scorecard.values(), *self.compared()]


def decide(
    gates: Gates,
    candidate: ModelVersion,
    champion: ModelVersion | None,
    candidate_findings: Sequence[Finding],
    champion_findings: Sequence[Finding],
    metric: str,
    floor_findings: Sequence[Finding] | None = None,
    costs: Costs | None = None,
) -> Decision:
    """Decide whether the candidate takes the champion's place; every rule that was asked leaves its reason.

    The first that applies: **block** when a validity check failed, or a scenario that a gate names is missing
    or unscored; **keep** when a floor failed, or a comparison shows the candidate worse by its margin or more (its
    upper limit is below minus the margin: no further point would change that); **inconclusive** when a comparison
    has less than the asked power (the reason says the n it needs); **keep** when a lower limit is not above minus
    its margin; else **promote**. All rules must pass (an intersection-union test), so no level is corrected for their
    number.
    Gates that name no scenario promote nothing.

    Args:
        gates: the rules.
        candidate: version that asks.
        champion: version that serves, or None where a registry said there is none.
        candidate_findings: the candidate's findings on role ``gate``.
        champion_findings: the champion's, on the same points; unread where there is no champion.
        metric: the user's metric; it is what ``probes/quality`` compares.
        floor_findings: the candidate's scorecard, role ``test``; floors read it.
        costs: cost (true class, predicted class), for expected cost.

    Raises:
        ScenarioError: findings that may not be compared (other points, data, seed, library, versions, device,
            settings, threat or subject), a path that appears twice, or a metric that cannot be computed from them.
        RoleError: findings of a role other than ``gate`` (comparison) or ``test`` (floors).

    Source: Tango 1998, Statistics in Medicine 17 (limit); Berger 1982, Technometrics 24 (intersection-union);
    Browne 1995, Statistics in Medicine 14 (upper limit of a nuisance parameter for power).
    """
    case = _Case(
        gates=gates,
        candidate=candidate,
        champion=champion,
        ours=_by_path(candidate_findings),
        theirs=_by_path(champion_findings if champion else ()),
        scorecard=_by_path(floor_findings or ()),
        metric=check_metric(metric),
        costs=costs,
    )
    rulings = [*_validity(case), *_floors(case), *_comparisons(case)]
    return Decision(
        action=_action(rulings, gates),
        reasons=(
            *_preamble(gates, champion),
            *map(_said, rulings),
        ),
        candidate=candidate,
        champion=champion,
        evidence=tuple(sorted({finding.fingerprint() for finding in case.read()})),
    )


def reexamine(
    gates: Gates, champion: ModelVersion, floor_findings: Sequence[Finding], metric: str
) -> tuple[Reason, ...]:
    """Hold a version that serves already to the floors and to validity, as they are now; it is compared with nobody.

    Args:
        gates: the rules.
        champion: the version that serves.
        floor_findings: its fresh scorecard, role ``test``.
        metric: the user's metric.

    Raises:
        ScenarioError: a path that appears twice, or an unknown metric.
        RoleError: findings of a role other than ``test``.
    """
    case = _Case(
        gates=gates, candidate=champion, champion=None, ours={}, theirs={}, scorecard=_by_path(floor_findings),
        metric=check_metric(metric), costs=None,
    )  # fmt: skip
    return tuple(map(_said, (*_validity(case), *_floors(case))))


def formerly(reason: Reason) -> Reason:
    """Mark a reason as one that was given when the champion was promoted."""
    return reason.model_copy(update={"about": f"{AT_PROMOTION}{reason.about}"})


def now_and_formerly(decision: Decision) -> tuple[tuple[Reason, ...], tuple[Reason, ...]]:
    """Part the reasons of now from those that once made the champion, the latter without their mark."""
    now = tuple(reason for reason in decision.reasons if not reason.about.startswith(AT_PROMOTION))
    once = (reason for reason in decision.reasons if reason.about.startswith(AT_PROMOTION))
    return now, tuple(reason.model_copy(update={"about": reason.about.removeprefix(AT_PROMOTION)}) for reason in once)


def _said(ruling: _Ruling) -> Reason:
    return Reason(about=ruling.about, passed=ruling.outcome == "passed", text=ruling.text)


def _action(rulings: Sequence[_Ruling], gates: Gates) -> Literal["promote", "keep", "inconclusive", "block"]:
    outcomes = {ruling.outcome for ruling in rulings}
    if "block" in outcomes:
        return "block"
    if outcomes & {"floor", "worse"} or not (gates.floors or gates.non_inferiority):
        return "keep"
    if "underpowered" in outcomes:
        return "inconclusive"
    return "keep" if "inferior" in outcomes else "promote"


def _preamble(gates: Gates, champion: ModelVersion | None) -> Iterator[Reason]:
    if not (gates.floors or gates.non_inferiority):
        yield Reason(about="gates", passed=False, text="the gates name no scenario: nothing was asked, nothing moves")
    elif champion is None:
        yield Reason(about="champion", passed=True, text="there is no champion: floors and validity alone decide")


def _by_path(findings: Sequence[Finding]) -> dict[str, Finding]:
    found = {finding.path: finding for finding in findings}
    if len(found) != len(findings):
        paths = [finding.path for finding in findings]
        twice = sorted({path for path in paths if paths.count(path) > 1})
        raise _unequal(", ".join(twice), "two findings of one path", "one finding for each scenario")
    return found


def _unequal(path: str, found: str, expected: str) -> ScenarioError:
    return ScenarioError(
        f"gate {path}", found=found, expected=expected, remedy="Run the gate's pack again for candidate and champion."
    )


# Validity


def _validity(case: _Case) -> Iterator[_Ruling]:
    """Hold every finding of the candidate, and those of the champion that are compared, to their checks."""
    sides = (("candidate", [*case.ours.values(), *case.scorecard.values()]), ("champion", case.compared()))
    for side, findings in sides:
        for finding in findings:
            where = f"{side}, role {finding.provenance.role}"
            for check in finding.checks:
                if check.status == "failed":
                    text = f"validity check {check.name} failed ({where}): {check.reason.rstrip('.')}.{_figures(check)}"
                    yield _Ruling("block", finding.path, text)
    read = case.read()
    if all(finding.valid for finding in read):
        checks = sum(len(finding.checks) for finding in read)
        text = f"every validity check passed or does not apply ({checks} checks of {len(read)} findings)"
        yield _Ruling("passed", "validity", text)


def _figures(check: Check) -> str:
    """Say by how much a test of flags failed; others ask for no share of points."""
    if check.statistic is None or check.threshold is None or check.p_value is None:
        return ""
    return f" Found {check.statistic:.3g}, {check.threshold:g} is allowed, p = {check.p_value:.2g}."


def _absent(path: str, finding: Finding | None, whose: str) -> _Ruling:
    if finding is None:
        return _Ruling("block", path, f"a gate names it and {whose} has no finding of it")
    return _Ruling("block", path, f"a gate names it and for {whose} it is unscored: {finding.unscored}")


# Floors


def _floors(case: _Case) -> Iterator[_Ruling]:
    for rule in case.gates.floor_rules():
        finding = case.scorecard.get(rule.scenario)
        if finding is None or finding.score is None:
            yield _absent(rule.scenario, finding, "the candidate's scorecard")
        else:
            yield _floor(rule, finding, finding.score, case)


def _floor(rule: Floor, finding: Finding, score: Score, case: _Case) -> _Ruling:
    _check_role(finding, "test")
    champion = case.champion.digest if case.champion else None
    # A recipe's finding has the recipe for its subject, so only the champion's can be told for wrong here.
    if finding.provenance.subject == champion != case.candidate.digest:
        raise _unequal(rule.scenario, "the champion's finding in the candidate's scorecard", "the candidate's own")
    passed = score.low >= rule.minimum
    text = (
        f"floor {rule.minimum:.4f}: the low end {score.low:.4f} of [{score.low:.4f}, {score.high:.4f}] "
        f"({score.method}, n = {score.n}) is {'at or above' if passed else 'below'} it"
    )
    return _Ruling("passed" if passed else "floor", rule.scenario, text)


def _check_role(finding: Finding, role: str) -> None:
    if finding.provenance.role != role:
        raise RoleError(
            f"gate {finding.path}",
            found=f"a finding on rows of role {finding.provenance.role}",
            expected=f"role {role}",
            remedy="Floors read the scorecard (test); comparisons read the gate rows, which nothing else chose by.",
        )


# Non-inferiority


def _comparisons(case: _Case) -> Iterator[_Ruling]:
    for rule in case.gates.comparisons():
        path = rule.scenario
        ours, theirs = case.ours.get(path), case.theirs.get(path)
        if ours is None or ours.score is None:
            yield _absent(path, ours, "the candidate on the gate rows")
        elif case.champion is None:
            _check_own(ours, case.candidate)
            yield _Ruling(
                "passed", path, f"scored {ours.score.value:.4f} (n = {ours.score.n}); no champion to compare with"
            )
        if case.champion is None:
            continue
        if theirs is None or theirs.score is None:
            yield _absent(path, theirs, "the champion on the gate rows")
        elif ours and ours.score:
            yield _compare(rule, ours, theirs, case)


def _compare(rule: NonInferiority, ours: Finding, theirs: Finding, case: _Case) -> _Ruling:
    _check_comparable(ours, theirs, case)
    mine, other = ours.per_example, theirs.per_example
    if mine is None or other is None:
        return _Ruling("block", rule.scenario, "a gate names it and no flags were kept: it cannot be paired")
    _check_points(rule.scenario, mine, other)
    quality = rule.scenario.partition("-")[0] == QUALITY  # a variant of quality is quality too
    if quality and case.metric != "accuracy":
        rng = Noise(ours.provenance.seed, ("gate", rule.scenario)).numpy()
        found = by_metric(case.metric, mine, other, rule.margin, case.gates.power, rng, case.costs)
    else:
        found = by_flags(mine, other, rule.margin, case.gates.power)
    numbers = (
        f"candidate minus champion {found.difference:+.4f}, lower 95 % limit {found.low:+.4f}, "
        f"margin {rule.margin:.4f}, n = {mine.n} ({found.details}; power {found.power:.2f} for an equal candidate)"
    )
    if found.high < -rule.margin:
        return _Ruling("worse", rule.scenario, f"inferior: upper 95 % limit {found.high:+.4f}; {numbers}")
    if found.power < case.gates.power:
        text = f"inconclusive: needs n = {found.needed} for power {case.gates.power:.2f}; {numbers}"
        return _Ruling("underpowered", rule.scenario, text)
    if found.low > -rule.margin:
        return _Ruling("passed", rule.scenario, f"not inferior: {numbers}")
    return _Ruling("inferior", rule.scenario, f"not shown to be non-inferior: {numbers}")


def _check_own(finding: Finding, version: ModelVersion) -> None:
    _check_role(finding, "gate")
    if finding.provenance.subject != version.digest:
        raise _unequal(
            finding.path,
            f"a finding about {finding.provenance.subject[:16]}",
            f"{version.name} {version.version}, digest {version.digest[:16]}",
        )


def _check_comparable(ours: Finding, theirs: Finding, case: _Case) -> None:
    """Refuse to compare unequal questions: a stored number never meets a fresh one."""
    _check_own(ours, case.candidate)
    if case.champion:
        _check_own(theirs, case.champion)
    if ours.settings != theirs.settings:
        raise _unequal(ours.path, f"settings {ours.settings} and {theirs.settings}", "equal settings")
    for name in _SAME:
        mine, other = getattr(ours.provenance, name), getattr(theirs.provenance, name)
        if mine != other:
            raise _unequal(ours.path, f"{name} {mine} (candidate) and {other} (champion)", f"one {name}")
    mine, other = ours.details.get("threat"), theirs.details.get("threat")
    if mine != other:
        raise ScenarioError(
            f"gate {ours.path}", found=f"threat {mine} (candidate) and {other} (champion)",
            expected="one threat: the same features that can change, in the same units, ranges, steps and relations",
            remedy="Run the gate's pack again for both; where only one of them reads a mutable feature, take mutable"
            " from it in data.features, or name no attack in recovery.gates.non_inferiority.",
        )  # fmt: skip


def _check_points(path: str, ours: PerExample, theirs: PerExample) -> None:
    if (ours.points, ours.n) != (theirs.points, theirs.n) or ours.n == 0:
        found = f"points {ours.points[:16]} (n = {ours.n}) and {theirs.points[:16]} (n = {theirs.n})"
        raise _unequal(path, found, "the same points, in the same order")
    if ours.labels != theirs.labels:
        raise _unequal(path, "other labels for the same points", "one label for each point")
