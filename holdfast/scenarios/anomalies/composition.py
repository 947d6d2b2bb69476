"""Composition: several faults of a feed in the same rows, one after the other."""

from __future__ import annotations

from typing import Annotated, ClassVar, final

from pydantic import Field

from holdfast.scenarios.composition import Composed, Member


@final
class Composition(Composed):
    """Put table anomalies in sequence; unless told otherwise, a unit slip and then missing values.

    Source: Abdelaal, Hammacher and Schoening 2023, REIN, EDBT (tables with several types of error at once).
    """

    family: ClassVar[str] = "anomalies"
    kinds: ClassVar[frozenset[str]] = frozenset({"table"})
    reference: ClassVar[str] = "Abdelaal, Hammacher and Schoening 2023, REIN, EDBT 2023 (several types of error)"

    members: Annotated[tuple[Member, ...], Field(min_length=1)] = (
        Member(scenario="anomalies/unit_slip"),
        Member(scenario="anomalies/missing_values"),
    )
