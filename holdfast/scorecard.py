"""The scorecard of one version: four dimensions, each as strong as its weakest family, and what is not scored."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np

from holdfast.errors import RoleError, ScenarioError
from holdfast.results import Dimension, Finding, Score, Value
from holdfast.statistics import share

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Status = Literal["scored", "unscored", "not_due"]

DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)
DRILLED: tuple[Dimension, ...] = ("recovery", "evolution")
"""Dimensions that only a drill can score."""
ASIDE: frozenset[str] = frozenset({"probes/quality", "probes/regression_corpus"})
"""Scenarios that are reported and are no headline: quality is what the dimensions protect."""
NO_DRILL = "no drill yet"
_TAG_REASON = 400


class ThreatModel(NamedTuple):
    """How far an attacker may move an input, as an attack's settings state it."""

    norm: str
    epsilon: float
    categories: int = 0
    """Categorical features that may change beside the numbers."""

    def __str__(self) -> str:
        swaps = f" and {self.categories} categorical" if self.categories else ""
        return f"{self.norm} {self.epsilon:g}{swaps}"


class Unscored(Value):
    """A scenario without a score, and why."""

    path: str
    reason: str


class Member(Value):
    """One line of a family: a scenario or, in evasion, all attacks of one threat model on the same points."""

    label: str
    score: Score
    paths: tuple[str, ...]
    """The findings behind it, the lowest score first."""
    invalid: tuple[str, ...] = ()
    """Those of them with a failed validity check: the number is not to be trusted."""

    @property
    def weakest(self) -> str:
        """Name the scenario that scores lowest alone."""
        return self.paths[0]


class FamilyScore(Value):
    """A family is as strong as its weakest member; the mean stands beside it."""

    family: str
    members: tuple[Member, ...] = ()
    """The weakest first."""
    mean: float | None = None
    """Mean over the members, in [0, 1]; None where none is scored."""
    certificates: tuple[Member, ...] = ()
    """Lower brackets: they say what no attack can undercut, and are no part of the minimum."""
    unscored: tuple[Unscored, ...] = ()

    @property
    def weakest(self) -> Member | None:
        """Give the weakest member; None when none is scored."""
        return self.members[0] if self.members else None

    @property
    def invalid(self) -> tuple[str, ...]:
        """Name the findings with a failed check, certificates included."""
        return tuple(path for member in (*self.members, *self.certificates) for path in member.invalid)


class DimensionScore(Value):
    """The headline of one dimension: scored, unscored or not due; never a number in place of words."""

    dimension: Dimension
    status: Status
    reason: str
    """Why there is no score; where there is one, what it is the minimum of."""
    score: Score | None = None
    weakest: str | None = None
    """Path of the weakest scenario of the weakest family."""
    family: str | None = None
    """The weakest family."""
    families: tuple[FamilyScore, ...] = ()
    """The weakest first, those without a score last."""

    @property
    def invalid(self) -> tuple[str, ...]:
        """Name the findings with a failed check: with any, the headline is not to be trusted."""
        return tuple(path for family in self.families for path in family.invalid)

    @property
    def unscored(self) -> tuple[Unscored, ...]:
        """List the scenarios that the headline does not cover."""
        return tuple(gap for family in self.families for gap in family.unscored)


class Scorecard(Value):
    """Four headlines, comparable only with others of the same pack digest."""

    pack: str
    pack_digest: str
    dimensions: tuple[DimensionScore, ...]
    """All four, in the order of `DIMENSIONS`."""

    def of(self, dimension: Dimension) -> DimensionScore:
        """Give one dimension's headline."""
        return next(entry for entry in self.dimensions if entry.dimension == dimension)

    @property
    def weakest(self) -> DimensionScore | None:
        """Give the weakest of the scored dimensions; None when none is scored."""
        scored = [(entry.score.value, entry) for entry in self.dimensions if entry.score is not None]
        return min(scored, key=lambda pair: pair[0])[1] if scored else None

    @property
    def not_scored(self) -> tuple[DimensionScore, ...]:
        """List the dimensions without a score, each with its reason."""
        return tuple(entry for entry in self.dimensions if entry.score is None)


def scorecard(findings: Iterable[Finding], pack: str, pack_digest: str) -> Scorecard:
    """Condense the findings about one version into four headlines.

    A dimension is the minimum over its families, a family the minimum over its scenarios, evasion the
    minimum over threat models of the share of points that survive every attack. Findings with a failed
    check stay in the minimum, which they can only lower, and are named in ``invalid``. Scenarios of
    `ASIDE` are left out, certificates are brackets beside what they bound: evasion, or the family they name.

    Args:
        findings: of role ``test``, or ``drill`` for the drilled dimensions; each path once.
        pack: name of the scenario list that was asked.
        pack_digest: digest of that list and its settings.

    Raises:
        RoleError: a finding on rows of another role.
        ScenarioError: a path twice.
    """
    by_dimension: dict[Dimension, list[Finding]] = defaultdict(list)
    seen: set[str] = set()
    for finding in findings:
        _admit(finding, seen)
        if base_path(finding.path) not in ASIDE and finding.family != "quality":
            by_dimension[finding.dimension].append(finding)
    dimensions = tuple(_dimension(name, by_dimension[name], pack) for name in DIMENSIONS)
    return Scorecard(pack=pack, pack_digest=pack_digest, dimensions=dimensions)


def tags(card: Scorecard) -> dict[str, str]:
    """Render the headlines as short strings for the tags of a model version: ``holdfast.<dimension>`` and the pack."""
    named = {f"holdfast.{entry.dimension}": headline(entry) for entry in card.dimensions}
    return {**named, "holdfast.pack": card.pack, "holdfast.pack_digest": card.pack_digest}


def headline(entry: DimensionScore) -> str:
    """Say one headline in one line, for example ``0.712 [0.683, 0.739] n=1000 upper_bound weakest=attacks/square``."""
    if entry.score is None:
        return f"{entry.status.replace('_', ' ')}: {entry.reason}"[:_TAG_REASON]
    score = entry.score
    low, value, high = (decimal(number) for number in (score.low, score.value, score.high))
    words = [f"{value} [{low}, {high}]", f"n={score.n}", score.kind, f"weakest={entry.weakest}"]
    if entry.invalid:
        words.append(f"INVALID: {', '.join(entry.invalid)}"[:_TAG_REASON])
    if entry.unscored:
        words.append(f"unscored={len(entry.unscored)}")
    return " ".join(words)


def decimal(value: float, digits: int = 3) -> str:
    """Write a share so that only 0 reads as 0 and only 1 as 1, whatever the rounding."""
    step = 10.0**-digits
    if 0.0 < value < 1.0:
        value = min(max(value, step), 1.0 - step)
    return f"{value:.{digits}f}"


def base_path(path: str) -> str:
    """Strip the ``-variant`` of params from a path."""
    family, _, name = path.partition("/")
    return f"{family}/{name.partition('-')[0]}"


def is_certificate(finding: Finding) -> bool:
    """Tell a certificate: what it proves is a lower bracket of its family, evasion unless it says another."""
    lower = finding.score is not None and finding.score.kind == "lower_bound"
    return lower or finding.path.startswith("certificates/")


def threat(finding: Finding) -> ThreatModel | None:
    """Read the threat model off the settings of an attack or a certificate; None where they state none."""
    norm = finding.settings.get("norm")
    epsilon = finding.settings.get("epsilon", finding.settings.get("radius"))  # a certificate's ball
    if isinstance(norm, str) and isinstance(epsilon, int | float):
        return ThreatModel(norm, float(epsilon), int(finding.settings.get("categories", 0)))
    return None


def _admit(finding: Finding, seen: set[str]) -> None:
    role = finding.provenance.role
    allowed = ("test", "drill") if finding.dimension in DRILLED else ("test",)
    if role not in allowed:
        raise RoleError(
            f"scorecard, {finding.path}",
            found=f"a finding on rows of role {role}",
            expected=" or ".join(allowed),
            remedy="Run the scenario on the rows that the scorecard may read.",
        )
    if finding.path in seen:
        raise ScenarioError(
            f"scorecard, {finding.path}",
            found="two findings of this path",
            expected="each path once",
            remedy="Hand over the findings of one version and one pack.",
        )
    seen.add(finding.path)


def _dimension(name: Dimension, findings: Sequence[Finding], pack: str) -> DimensionScore:
    if not findings:
        reason = NO_DRILL if name in DRILLED else f"pack {pack} asks for no scenario of {name}"
        return DimensionScore(dimension=name, status="not_due", reason=reason)
    by_family: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        by_family["evasion" if finding.family == "certificates" else finding.family].append(finding)
    families = sorted((_family(family, group) for family, group in by_family.items()), key=_family_order)
    weakest = families[0].weakest
    if weakest is None:
        gaps = "; ".join(f"{gap.path}: {gap.reason}" for family in families for gap in family.unscored)
        reason = gaps or "certificates alone are no headline"
        return DimensionScore(dimension=name, status="unscored", reason=reason, families=tuple(families))
    scored = sum(family.weakest is not None for family in families)
    return DimensionScore(
        dimension=name, status="scored", reason=f"minimum over {scored} of {len(families)} families",
        score=weakest.score, weakest=weakest.weakest, family=families[0].family, families=tuple(families),
    )  # fmt: skip


def _family_order(family: FamilyScore) -> tuple[float, str]:
    weakest = family.weakest
    return (2.0 if weakest is None else weakest.score.value, family.family)


def _family(family: str, findings: Sequence[Finding]) -> FamilyScore:
    scored = [finding for finding in findings if finding.score is not None]
    certified = [finding for finding in scored if is_certificate(finding)]
    others = [finding for finding in scored if not is_certificate(finding)]
    members = _threat_models(others) if family == "evasion" else [_single(finding) for finding in others]
    members.sort(key=_member_order)
    return FamilyScore(
        family=family,
        members=tuple(members),
        mean=float(np.mean([member.score.value for member in members])) if members else None,
        certificates=tuple(sorted((_single(finding) for finding in certified), key=_member_order)),
        unscored=tuple(
            Unscored(path=finding.path, reason=finding.unscored)
            for finding in sorted(findings, key=lambda finding: finding.path)
            if finding.unscored is not None
        ),
    )


def _member_order(member: Member) -> tuple[float, str]:
    return (member.score.value, member.label)


def _value(finding: Finding) -> tuple[float, str]:
    return (2.0 if finding.score is None else finding.score.value, finding.path)


def _single(finding: Finding, label: str = "") -> Member:
    if finding.score is None:
        msg = f"{finding.path} has no score"
        raise ValueError(msg)
    invalid = () if finding.valid else (finding.path,)
    return Member(label=label or finding.path, score=finding.score, paths=(finding.path,), invalid=invalid)


def _threat_models(findings: Sequence[Finding]) -> list[Member]:
    """Join attacks that share threat model, subject and points; one without flags or threat stands alone."""
    groups: dict[tuple[str | float, ...], list[Finding]] = defaultdict(list)
    for finding in findings:
        stated, flags = threat(finding), finding.per_example
        origin = finding.provenance
        if stated is None or flags is None:
            groups[(finding.path,)].append(finding)
        else:
            groups[(*stated, flags.points, flags.labels, origin.subject, origin.data)].append(finding)
    return [_survive(group) for group in groups.values()]


def _survive(group: Sequence[Finding]) -> Member:
    """Score the points that survive every attack of the group: still an upper bound."""
    ordered = sorted(group, key=_value)
    stated = threat(ordered[0])
    ball = "no stated threat model" if stated is None else str(stated)
    flags = [finding.per_example.unpack_flags() for finding in ordered if finding.per_example is not None]
    if len(flags) < len(ordered) or stated is None:
        return _single(ordered[0], f"{ordered[0].path}, {ball}")
    return Member(
        label=f"{ball}: all of {len(ordered)} attacks" if len(ordered) > 1 else f"{ball}: {ordered[0].path}",
        score=share(np.logical_and.reduce(flags), "upper_bound"),
        paths=tuple(finding.path for finding in ordered),
        invalid=tuple(finding.path for finding in ordered if not finding.valid),
    )
