"""What a composition of disturbances is: several of them on one input, one after the other, graded together."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Self, final

from pydantic import Field, ValidationError, model_validator

from holdfast.digests import digest_json
from holdfast.registry import available, code_of, find
from holdfast.results import Value
from holdfast.scenarios.base import Scenario
from holdfast.scenarios.disturbance import SEVERITIES, Disturbance

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.data import Samples
    from holdfast.model import Target
    from holdfast.seeding import Noise
    from holdfast.space import Box, Table

Grade = Annotated[int, Field(ge=0, le=SEVERITIES[-1])]


class Member(Value):
    """One disturbance of a composition: which, how strong, and its own settings."""

    scenario: str
    """Its path, for example ``anomalies/unit_slip``."""
    severities: tuple[Grade, Grade, Grade, Grade, Grade] = SEVERITIES
    """Its severity, 1 to 5, at each of the composition's five; 0 leaves it out there. It never falls."""
    settings: dict[str, Any] = {}
    """As under ``evaluation.scenarios``, but for ``points``, which is the composition's."""

    @model_validator(mode="after")
    def _can_be_built(self) -> Self:
        if any(later < earlier for earlier, later in pairwise(self.severities)) or not self.severities[-1]:
            msg = f"severities must rise or stay from each to the next, and the last be above 0 (got {self.severities})"
            raise ValueError(msg)
        if "points" in self.settings:
            msg = f"points of {self.scenario}: a composition reads one set of points; set its own"
            raise ValueError(msg)
        self.build()
        return self

    @property
    def kind(self) -> type[Disturbance]:
        """The class that the path names.

        Raises:
            ValueError: there is none, or it is no disturbance that can be put in sequence.
        """
        family, _, name = self.scenario.partition("/")
        package = f"holdfast.scenarios.{family}"
        if not (family.isidentifier() and available(package)):
            msg = f"{self.scenario}: not the path of a scenario; name one as in anomalies/unit_slip"
            raise ValueError(msg)
        try:
            found = find(package, name, Scenario)
        except (LookupError, TypeError) as error:
            msg = f"{self.scenario}: {error}"
            raise ValueError(msg) from error
        if not issubclass(found, Disturbance) or issubclass(found, Composed):
            graded = "its members can be named instead" if issubclass(found, Composed) else "it has no severities"
            msg = f"{self.scenario}: cannot be composed, {graded}; name anomalies or corruptions"
            raise ValueError(msg)  # noqa: TRY004  pydantic collects these
        return found

    def build(self) -> Disturbance:
        """Make it of its settings.

        Raises:
            ValueError: it cannot be made.
        """
        kind = self.kind
        try:
            return kind.model_validate(self.settings)
        except ValidationError as error:
            told = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
            msg = f"settings of {self.scenario}: {told}"
            raise ValueError(msg) from error


class Composed(Disturbance):
    """Several disturbances on the same input, in the order in which they are named.

    The order matters: a value in another unit that then goes missing is missing, and so is every later change to it.
    Each member draws by its place, so that one that is named twice hits other rows the second time.
    """

    members: Annotated[tuple[Member, ...], Field(min_length=1)]
    """What is done to an input, first to last."""

    @model_validator(mode="after")
    def _members_of_this_kind(self) -> Self:
        for member in self.members:
            if not self.kinds <= member.kind.kinds:
                here, there = (" or ".join(sorted(kinds)) for kinds in (self.kinds, member.kind.kinds))
                msg = f"{member.scenario} is defined on a {there} space, and {self.name()} is about a {here} space"
                raise ValueError(msg)
        return self

    @final
    def disturb(self, x: Tensor, ids: Tensor, severity: int, noise: Noise, space: Box | Table) -> Tensor:
        """Let each member disturb what those before it left."""
        for place, member in enumerate(self.members):
            if grade := member.severities[severity - 1]:
                x = member.build().disturb(x, ids, grade, noise.derive("member", place), space)
        return x

    def inapplicable(self, target: Target, samples: Samples) -> str | None:
        """Say why it means nothing here; also where one of its members does not."""
        if reason := super().inapplicable(target, samples):
            return reason
        reasons = ((member.scenario, member.build().inapplicable(target, samples)) for member in self.members)
        return next((f"{path}: {reason}" for path, reason in reasons if reason), None)

    def code(self) -> str:
        """Name the source of a third party's members too: their change is a change of this scenario."""
        sources = [super().code(), *[code_of(member.kind) for member in self.members]]
        return digest_json(sources) if any(sources) else ""
