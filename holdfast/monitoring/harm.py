"""Harm: a sequential test on matured labels that may be looked at after every window."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar, final

import numpy as np
from pydantic import Field

from holdfast.monitoring._betting import REFERENCE, Betting, bet
from holdfast.monitoring.base import Reading

if TYPE_CHECKING:
    from holdfast.data.stream import Window
    from holdfast.results import Json


@final
class Harm(Betting):
    """Bet against *the champion errs no more than it did, by more than a tolerance*."""

    reference: ClassVar[str] = REFERENCE

    tolerance: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Share of rows by which errors may rise, above what they surely were, before it counts as harm."""

    def read(self, window: Window, past: Window, memory: Json) -> Reading:
        """Read the log of the wealth; the effect is the share of errors above the past's."""
        before, wrong = past.wrong.astype(np.float64), window.wrong.astype(np.float64)
        stand = bet(wrong, before, memory, self.tolerance)
        rate = float(wrong.mean()) if len(wrong) else float(before.mean())
        return Reading(
            statistic=stand.statistic,
            effect=rate - float(before.mean()),
            effect_unit="share of rows wrong, above the past",
            e_value=math.exp(min(stand.statistic, 700.0)),
            details={"errors": int(wrong.sum()), "rate": rate, "past": float(before.mean()), "bound": stand.bound},
            memory=stand.memory,
        )
