"""What every integrity check is: frozen settings, faults found in the material, and a verdict by policy."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, final

import numpy as np

from holdfast.errors import DataError
from holdfast.results import IntegrityFinding, Measure, Share, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence, Sized

    import pandas as pd

Array = np.ndarray[Any, np.dtype[Any]]
Verdict = Literal["pass", "quarantine", "block"]
SHOWN = 1000
"""Rows that a blocking finding lists at most: the whole snapshot is refused, the rows only say why."""


def say_nothing(_: str) -> None:
    """Keep progress to oneself."""


@dataclass(frozen=True, eq=False)
class Material:
    """What a check may look at: one snapshot, every row at the same position in every part.

    Raises:
        DataError: parts differ in length, ids repeat, or features are not finite.
    """

    frame: pd.DataFrame
    """The table as it was read, or the statistics of each image; its index is the row's position."""
    label: str | None
    """Column of ``frame`` that holds the label, where one does."""
    time: str | None
    """Column of ``frame`` that holds the time, where one does."""
    ids: Array
    """Row ids (n,) int64, unique: the content digest with the row's number among its equals."""
    features: Array
    """Encoded features (n, d) float32, finite: pixels in [0, 1], or standardised numbers and one-hot categories."""
    labels: Array
    """Class indices (n,) int64."""
    roles: Array | None
    """Role of each row (n,) str, where the snapshot has been split."""
    kind: Literal["table", "images"]
    provenance: Mapping[str, str]
    """Where the bytes come from: ``md5`` as found, ``expected_md5`` as pinned."""
    seed: int
    progress: Callable[[str], None] = say_nothing
    """Hears a line before each step of a check that takes long; no result may depend on it."""

    def __post_init__(self) -> None:
        import pandas as pd  # noqa: PLC0415  params are checked without it

        parts: dict[str, Sized] = {"frame": self.frame, "features": self.features, "labels": self.labels}
        parts |= {} if self.roles is None else {"roles": self.roles}
        for name, part in parts.items():
            if len(part) != len(self.ids):
                raise _unsound(f"{len(part)} rows in {name}", f"{len(self.ids)}, one for each id")
        if len(np.unique(self.ids)) != len(self.ids):
            raise _unsound("row ids that repeat", "one id for each row")
        if not self.frame.index.equals(pd.RangeIndex(len(self.ids))):
            raise _unsound("a frame with an index of its own", "row positions as the index")
        if not np.isfinite(self.features).all():
            raise _unsound("features that are not finite", "imputed, finite features")

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Faults:
    """What a check found, before any policy: faults of rows by position, and faults of the whole."""

    rows: Mapping[int, str] = field(default_factory=dict)
    """Row position to reason."""
    whole: tuple[str, ...] = ()
    """Faults that no choice of rows would mend."""
    measures: tuple[Measure, ...] = ()
    note: str = ""
    """What was looked at, for the reader of a pass."""


class IntegrityCheck(Value):
    """One question about a snapshot. The subclass finds faults; the policy, here, decides what they mean.

    Faults of the whole block. Faulty rows are quarantined, or block where ``on_fault`` says so, or where they are
    more than ``max_quarantined`` of all rows: what is broken at that rate was not broken row by row.
    """

    reference: ClassVar[str] = ""
    """The paper that defines it, where one does."""
    about_origin: ClassVar[bool] = False
    """Whether it asks where the bytes come from: its own bytes cannot tell, so it is asked anew each time."""
    on_fault: Literal["quarantine", "block"] = "quarantine"
    max_quarantined: Share = 0.05
    """Largest share of rows that may be quarantined."""

    @classmethod
    def name(cls) -> str:
        """Give the name in ``params.yaml``, which is the file's."""
        return cls.__module__.rsplit(".", 1)[-1]

    @abstractmethod
    def look(self, material: Material) -> Faults:
        """Find faults; judge none, change nothing, draw only from ``material.seed``.

        Raises:
            IntegrityError: the check could not be carried out, which is never a pass.
        """

    @final
    def examine(self, material: Material) -> IntegrityFinding:
        """Find faults and judge them by policy.

        Returns:
            A finding whose rows are the ids to quarantine; a blocking one lists the first thousand only.

        Raises:
            IntegrityError: the check could not be carried out, which is never a pass.
        """
        faults = self.look(material)
        positions = sorted(faults.rows)
        verdict, reason = self._judge(faults, len(material))
        shown = positions[:SHOWN] if verdict == "block" else positions
        ids = [int(material.ids[position]) for position in shown]
        return IntegrityFinding(
            check=self.name(),
            verdict=verdict,
            reason=reason,
            examined=len(material),
            rows=tuple(ids),
            reasons={str(row): faults.rows[position] for row, position in zip(ids, shown, strict=True)},
            measures=(
                *faults.measures,
                measure("faulty_rows", len(positions), "rows", "lower", len(material)),
            ),
        )

    def _judge(self, faults: Faults, n: int) -> tuple[Verdict, str]:
        bad = len(faults.rows)
        if faults.whole:
            return "block", "; ".join(faults.whole)
        if bad == 0:
            return "pass", faults.note or "no fault found"
        found = f"{bad} of {n} rows are faulty: {_common(list(faults.rows.values()))}"
        if self.on_fault == "block":
            return "block", found
        if bad > self.max_quarantined * n:
            limit = f"integrity.{self.name()}.max_quarantined"
            return "block", f"{found}; more than the {self.max_quarantined:.2%} that may be quarantined ({limit})"
        return "quarantine", found


def measure(
    name: str, value: float, unit: str, better: Literal["higher", "lower", "neither"], n: int | None = None
) -> Measure:
    """Build a measure from a plain number."""
    return Measure(name=name, value=float(value), unit=unit, better=better, n=n)


def run_checks(checks: Sequence[IntegrityCheck], material: Material) -> tuple[IntegrityFinding, ...]:
    """Put one snapshot through every check, in order.

    Raises:
        IntegrityError: a check could not be carried out.
    """
    return tuple(check.examine(material) for check in checks)


def verdict(findings: Sequence[IntegrityFinding]) -> Verdict:
    """Give the gravest verdict: one block blocks, else one quarantine quarantines; no finding at all blocks."""
    said = {finding.verdict for finding in findings}
    if not said or "block" in said:
        return "block"
    return "quarantine" if "quarantine" in said else "pass"


def _common(reasons: list[str]) -> str:
    """Name the most frequent reasons, values left out."""
    kinds = Counter(re.sub(r" \(.*\)$", "", piece) for reason in reasons for piece in reason.split("; "))
    named = [f"{kind} ({count})" for kind, count in kinds.most_common(5)]
    return ", ".join(named) + (", ..." if len(kinds) > len(named) else "")


def _unsound(found: str, expected: str) -> DataError:
    return DataError(
        "material of the integrity checks", found=found, expected=expected, remedy="Mend the data source that built it."
    )
