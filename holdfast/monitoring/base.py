"""What every detector is: the subclass reads a window, the panel decides what is an alarm."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from holdfast.results import About, Json, Value

if TYPE_CHECKING:
    from holdfast.data.stream import Window

Needs = Literal["inputs", "outputs", "embeddings", "labels"]
"""What must be there before a detector can look: rows, the champion's answers, what its last layer read, or labels
that matured."""
Asks = Needs | Literal["squeezed"]
"""What the champion may be asked for: all that, and its answers to rows without their detail."""


@dataclass(frozen=True)
class Reading:
    """What a detector read off one window."""

    statistic: float
    """Larger is more alarming; the panel holds it against a threshold."""
    effect: float
    """How much moved, in the unit that ``effect_unit`` names: what a person would ask first."""
    effect_unit: str
    p_value: float | None = None
    e_value: float | None = None
    valid: bool = True
    """Whether what it supposes holds, as far as that can be checked; where it does not, nothing is an alarm."""
    details: Json = field(default_factory=dict)
    memory: Json = field(default_factory=dict)
    """What to carry to the next window: JSON, bounded, kept in a database and never in a process."""


class Detector(Value):
    """One question about a window. Instances are frozen; what must be remembered travels as JSON."""

    needs: ClassVar[Needs]
    about: ClassVar[About]
    """What an alarm means: triage reads it."""
    reference: ClassVar[str]
    """The paper, with its equation or section, that defines it."""
    sequential: ClassVar[bool] = False
    """Whether it carries memory from window to window; then windows come in order, each once.

    Clean windows of such a detector are replayed with rows that repeat: it looks at answers and labels, and never at
    distances between rows."""

    weight: ClassVar[int] = 1
    """Its part of the panel's budget of false alarms, as a multiple of most others'."""

    @classmethod
    def name(cls) -> str:
        """Give the name in ``params.yaml``, which is the file's."""
        return cls.__module__.rsplit(".", 1)[-1]

    @abstractmethod
    def read(self, window: Window, past: Window, memory: Json) -> Reading:
        """Read a window.

        Args:
            window: rows in question; with labels where ``needs`` is labels.
            past: rows of the champion's own time that it did not train on, with labels.
            memory: what the last reading left; empty at first.

        Raises:
            DataError: what it needs is not there.
        """

    def replay(self, window: Window, past: Window, memory: Json) -> Reading:
        """Read a clean window for its statistic alone; cheaper where p-values cost more than the statistic."""
        return self.read(window, past, memory)

    def threshold(self, level: float, past: Window, rows: int) -> float | None:
        """Give the statistic that a clean window passes with at most ``level``, where theory says so; else None.

        Args:
            level: probability in (0, 1).
            past: what windows are compared with.
            rows: of a window.
        """
        del level, past, rows
        return None

    def least(self, level: float) -> float:
        """Give a value that the threshold never falls below, however quiet the replayed windows were."""
        del level
        return -math.inf

    def asks(self, part: Asks) -> bool:
        """Tell whether it reads this part of a window."""
        return self.needs == part

    def applicable(self, window: Window) -> bool:
        """Whether what it needs is there."""
        part = {"labels": window.labels, "embeddings": window.embeddings}
        return self.needs not in part or part[self.needs] is not None
