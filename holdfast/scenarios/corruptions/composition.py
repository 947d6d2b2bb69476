"""Composition: several corruptions of the same image, one after the other."""

from __future__ import annotations

from typing import Annotated, ClassVar, final

from pydantic import Field

from holdfast.scenarios.composition import Composed, Member


@final
class Composition(Composed):
    """Put corruptions in sequence; unless told otherwise, the noise of a sensor and then JPEG compression.

    Source: Hendrycks and Dietterich 2019, section 3.1 (the operations, which were published one at a time).
    """

    family: ClassVar[str] = "corruptions"
    kinds: ClassVar[frozenset[str]] = frozenset({"box"})
    reference: ClassVar[str] = "Hendrycks and Dietterich 2019, arXiv:1903.12261, section 3.1 (each member by itself)"

    members: Annotated[tuple[Member, ...], Field(min_length=1)] = (
        Member(scenario="corruptions/gaussian_noise"),
        Member(scenario="corruptions/jpeg"),
    )
