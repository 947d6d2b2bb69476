"""Inspection: one matured window judged by rows known to be good, screened, its suspects ablated, and a verdict."""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from holdfast.integrity.base import Material
from holdfast.integrity.classifiers import classify, judge, out_of_sample
from holdfast.recovery.ablation import Ablation, Labelled, ablate, told_apart
from holdfast.recovery.screening import (
    LABEL,
    WHOLE,
    Judged,
    Screening,
    Suspect,
    belongs,
    confusion_of,
    contradicted,
    drawn_clean,
    largest,
    margins_of,
    screen,
)
from holdfast.results import Value
from holdfast.seeding import Noise
from holdfast.space import Table
from holdfast.statistics import half_brier

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from holdfast.space import Box

Array = np.ndarray[Any, np.dtype[Any]]
Kind = Literal["table", "images"]
_MOST = 3
"""Suspects that are ablated, the gravest first: columns that say the same come under suspicion together."""
_FOLDS = 3
_BINS = 10
_NAMED = 6


@dataclass(frozen=True, eq=False)
class Known:
    """Labelled rows, with how a classifier that never saw them judged their labels."""

    rows: Labelled
    judged: Judged
    statistic: float = 0.0
    """The largest that its parts came with when it was screened itself."""
    confusion: Array | None = None
    """Labels that each class is usually given (k, k), of pinned rows whose labels are facts."""

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: Array) -> Known:
        """Give some rows, by index (m,) or mask (n,)."""
        return Known(self.rows.take(rows), self.judged.take(rows))

    def beside(self, others: Known) -> Known:
        """Lay other rows after these."""
        return _beside([self, others])


class Inspection(Value):
    """What the inspection of one window found."""

    poison: bool
    suspects: tuple[Suspect, ...] = ()
    ablations: tuple[Ablation, ...] = ()
    """Of the gravest suspects, until one is poison."""
    statistic: float = 0.0
    """Largest of all parts, suspicious or not."""
    margins: str = ""
    """Margin of each row looked at, float32 little-endian in base64: what later windows are held against."""
    measure: str = "difference"
    """What a margin is, and who judged: see `measure`; once it was a difference."""
    brier: str = ""
    """Half of the Brier score of each row looked at, packed as margins are; none where labels are facts."""
    confusion: str = ""
    """Of pinned rows: packed as margins are, row by row."""
    unreadable: str = ""
    """Why the window could not be inspected, which never clears it; empty where it could."""

    @classmethod
    def of(cls, margins: Array, **found: Any) -> Inspection:  # noqa: ANN401  the other fields
        """Build one with its margins (n,) packed."""
        return cls(margins=_packed(margins), **{"poison": False, **found})

    @classmethod
    def of_known(cls, known: Known, kind: Kind) -> Inspection:
        """Write down how pinned rows were judged."""
        packed = "" if known.confusion is None else _packed(known.confusion)
        return cls.of(known.judged.margins, measure=measure(kind, facts=known.confusion is not None), confusion=packed)

    def unpack(self) -> Array:
        """Give the margins (n,)."""
        return _unpacked(self.margins)

    def scores(self) -> Array:
        """Score the quick classifier on the rows looked at (n, 2): half of their Brier scores, and what it had wrong.

        There are none (0, 2) where an older release did not keep them, or labels are facts.
        """
        brier = _unpacked(self.brier)
        return np.stack([brier, self.unpack()[: len(brier)] < 0.0], axis=1)

    def known(self, rows: Labelled, parts: dict[str, Array]) -> Known:
        """Read how rows were judged."""
        flat = _unpacked(self.confusion)
        confusion = flat.reshape(math.isqrt(len(flat)), -1) if len(flat) else None
        return Known(rows, Judged(self.unpack(), parts), self.statistic, confusion)

    def reasons(self, names: Names) -> tuple[str, ...]:
        """Say what speaks against the window."""
        if self.unreadable:
            return (f"it cannot be screened: {self.unreadable}",)
        return tuple(f"{names.told(each.suspect)}; {each.reason}" for each in self.ablations if each.poison)


@dataclass(frozen=True, eq=False)
class Names:
    """What columns, values and classes are called, and where numbers are cut."""

    space: Table | Box
    classes: tuple[str, ...]
    cuts: dict[str, Array]
    """Deciles of each number among the pinned training rows."""

    @classmethod
    def of(cls, x: Tensor, space: Table | Box, classes: tuple[str, ...]) -> Names:
        """Read the cuts off pinned training rows (n, features)."""
        numbers = space.columns("number") if isinstance(space, Table) else ()
        asked = np.arange(1, _BINS) / _BINS
        columns = {space.features[i].name: x[:, i].numpy() for i in numbers} if isinstance(space, Table) else {}
        cuts = {
            name: np.unique(np.quantile(values[~np.isnan(values)], asked)) if (~np.isnan(values)).any() else np.zeros(0)
            for name, values in columns.items()
        }
        return cls(space, classes, cuts)

    def parts(self, x: Tensor, labels: Array, settings: Screening) -> dict[str, Array]:
        """Give the codes (n,) of each screened column's values, and of the label where labels are facts."""
        found: dict[str, Array] = {LABEL: labels.astype(np.int64)} if settings.facts else {}
        if not isinstance(self.space, Table):
            return found
        for i, feature in enumerate(self.space.features):
            values = x[:, i].numpy().astype(np.float64)
            cuts = self.cuts.get(feature.name)
            if cuts is not None and not settings.numbers:
                continue
            codes = np.nan_to_num(values) if cuts is None else np.searchsorted(cuts, values, side="right")
            missing = len(feature.categories) + 1 if cuts is None else len(cuts) + 1
            found[feature.name] = np.where(np.isnan(values), missing, codes).astype(np.int64)
        return found

    def told(self, suspect: Suspect) -> str:
        """Name a suspect as a person would, with what was counted."""
        values = [self._value(suspect.column, code) for code in suspect.values[:_NAMED]]
        more = f" and {len(suspect.values) - _NAMED} more" if len(suspect.values) > _NAMED else ""
        where = suspect.column if suspect.column == WHOLE else f"{suspect.column} {', '.join(values)}{more}"
        return (
            f"{where}: {suspect.contradicted} of {suspect.rows} labels contradict rows known to be good,"
            f" {suspect.expected:.1f} expected ({suspect.excess:.1%} of the window above that,"
            f" p {suspect.p_value:.3f})"
        )

    def _value(self, column: str, code: int) -> str:
        if column == LABEL:
            return self.classes[code]
        cuts = self.cuts.get(column)
        if cuts is not None:
            if code > len(cuts):
                return "missing"
            low = "" if code == 0 else f"from {cuts[code - 1]:g}"
            high = "" if code == len(cuts) else f"below {cuts[code]:g}"
            return " ".join(part for part in (low, high) if part) or "any"
        features = self.space.features if isinstance(self.space, Table) else ()
        known = next(feature.categories for feature in features if feature.name == column)
        return str(known[code]) if code < len(known) else "missing" if code > len(known) else "other"


def pinned(rows: Labelled, parts: dict[str, Array], kind: Kind, classes: int, seed: int, *, facts: bool) -> Known:
    """Judge the pinned training rows, each by a classifier that was fitted on others (three folds)."""
    import pandas as pd  # noqa: PLC0415  params are checked without it

    n = len(rows)
    material = Material(
        frame=pd.DataFrame(index=pd.RangeIndex(n)), label=None, time=None, ids=np.arange(n), features=rows.features,
        labels=rows.labels, roles=None, kind=kind, provenance={}, seed=seed,
    )  # fmt: skip
    probabilities = out_of_sample(material, rows.labels, classes, _FOLDS, "screening")
    confusion = confusion_of(probabilities, rows.labels) if facts else None
    return Known(rows, Judged(margins_of(_usual(probabilities, confusion), rows.labels), parts), confusion=confusion)


@dataclass(frozen=True, eq=False)
class Witness:
    """What rows known to be good say of a window before anyone looks at its labels."""

    past: Known
    """Rows that the window is held against."""
    probabilities: Array
    """Of the labels that the window's rows may have (n, classes), by a quick classifier that was fitted on all of them.

    Where labels are facts, of those that such rows are usually given.
    """
    drawn: Array
    """Statistics (replays,) of clean windows of its size, drawn from the past."""
    settings: Screening
    kind: Kind
    lately: float = 0.0
    """Largest statistic that one of the last clean windows came with."""


def call(
    features: Array,
    *,
    base: Known,
    clean: Sequence[Known],
    settings: Screening,
    kind: Kind,
    classes: int,
    noise: Noise,
) -> Witness:
    """Fit a quick classifier on rows known to be good, and ask it about a window.

    Args:
        features: of the window's rows (n, d) float32.
        base: pinned training rows.
        clean: the windows before it that were found clean, the earliest first; the last of them count.
        settings: how many count, and the budget.
        kind: which classifier is the quick one.
        classes: number of classes.
        noise: source of every draw.

    Raises:
        DataError: too few rows are known to be good.
    """
    recent = tuple(clean[-settings.past :])
    past = _beside([*([base] if len(recent) < settings.past else []), *recent])
    return Witness(
        past=past, settings=settings, kind=kind, probabilities=_asked(features, base, recent, kind, classes, noise),
        drawn=drawn_clean(past.judged, len(features), settings, noise.derive("replay")),
        lately=max((each.statistic for each in recent), default=0.0),
    )  # fmt: skip


def judged_again(
    rows: Labelled,
    parts: dict[str, Array],
    *,
    base: Known,
    clean: Sequence[Known],
    kind: Kind,
    classes: int,
    noise: Noise,
) -> Known:
    """Judge a window that was found clean once more, where it was judged by another measure.

    Args:
        rows: of the window.
        parts: codes (n,) of its values by column.
        base: pinned training rows.
        clean: the clean windows before it, judged by the present measure.
        kind: which classifier is the quick one.
        classes: number of classes.
        noise: source of every draw.
    """
    told = _asked(rows.features, base, tuple(clean), kind, classes, noise)
    judged = Judged(margins_of(told, rows.labels), parts)
    return Known(rows, judged, largest(judged, base.judged, facts=base.confusion is not None))


def inspect(
    window: Labelled, parts: dict[str, Array], witness: Witness, trusted: Known | None, noise: Noise
) -> Inspection:
    """Screen a window's labels against what rows known to be good say, and ablate what is suspicious.

    Half of the past, drawn by the noise, and the rows of role trusted decide; the other half trains.

    Args:
        window: its rows.
        parts: codes (n,) of its values by column, as those of the known rows.
        witness: what rows known to be good say of these rows.
        trusted: pinned rows of role trusted; None where there are none.
        noise: source of every draw.
    """
    past, settings = witness.past, witness.settings
    judged = Judged(margins_of(witness.probabilities, window.labels), parts)
    suspects = screen(judged, past.judged, witness.drawn, settings, witness.lately)
    order = noise.derive("halves").numpy().permutation(len(past))
    half, other = past.take(order[::2]), past.take(order[1::2])
    others = other if trusted is None else other.beside(trusted)
    ablations: list[Ablation] = []
    for suspect in suspects[:_MOST]:
        if any(each.poison for each in ablations):
            break  # one is enough
        ablations.append(_ablated(suspect, window, judged, (half, others), witness, noise))
    poison = any(each.poison for each in ablations)
    brier = "" if settings.facts else _packed(half_brier(witness.probabilities, window.labels))
    return Inspection.of(
        judged.margins, brier=brier, poison=poison, suspects=suspects, ablations=tuple(ablations),
        statistic=largest(judged, past.judged, facts=settings.facts),
        measure=measure(witness.kind, facts=settings.facts),
    )  # fmt: skip


def _ablated(
    suspect: Suspect,
    window: Labelled,
    judged: Judged,
    halves: tuple[Known, Known],
    witness: Witness,
    noise: Noise,
) -> Ablation:
    """Ablate a part of columns with its rows marked; of labels, what is contradicted, as nothing marks a label.

    Where the rows themselves have moved, so may what labels follow, in some parts first: harm must be the clearer.
    Where they are like the past's and labels contradict it, little else explains that. The part itself does not say
    whether they have: who wrote its labels may have written its rows.
    """
    known, others = halves
    about_labels = suspect.column in {LABEL, WHOLE}
    part = contradicted(suspect, judged) if about_labels else belongs(suspect, judged)
    like = np.ones(len(others), dtype=bool) if about_labels else belongs(suspect, others.judged)
    rows = (known.rows, window, others.rows.take(like))
    margin = witness.settings.margin
    if not witness.settings.facts:
        rest = (known.rows.take(~belongs(suspect, known.judged)), window.take(~part))
        margin *= 2.0 ** (2.0 * told_apart(*rest, witness.kind, noise.derive("moved", suspect.column)) - 1.0)
    if not about_labels:
        marks = (belongs(suspect, known.judged), part, like[like])
        rows = (rows[0].marked(marks[0]), rows[1].marked(marks[1]), rows[2].marked(marks[2]))
    return ablate(
        suspect, known=rows[0], window=rows[1], part=part, trusted=rows[2], kind=witness.kind,
        classes=witness.probabilities.shape[1], margin=margin,
        burden="lesson" if about_labels else "harm", noise=noise.derive("ablation", suspect.column),
    )  # fmt: skip


def looked_at(window: str, rows: int, most: int) -> Array:
    """Choose the rows (most,) of a window, by its digest, that are looked at: the same for any one number of them."""
    return np.sort(Noise(0, ("screening", window)).numpy().permutation(rows)[:most])


def measure(kind: Kind, *, facts: bool) -> str:
    """Say what margins are and who judged: where labels are facts, ratios that allow for usual confusion.

    Those of another measure are not compared.
    """
    return f"{'usual ratio' if facts else 'ratio'} by {judge(kind)}"


def _asked(features: Array, base: Known, recent: tuple[Known, ...], kind: Kind, classes: int, noise: Noise) -> Array:
    """Fit the quick classifier on rows known to be good, and give the labels that others may have (n, classes)."""
    learned = _beside([base, *recent]).rows
    told = classify(kind, learned.features, learned.labels, features, classes, noise.seed & 0x7FFFFFFF)
    return _usual(told, base.confusion)


def _usual(probabilities: Array, confusion: Array | None) -> Array:
    return probabilities if confusion is None else np.asarray(probabilities @ confusion)


def _packed(values: Array) -> str:
    return base64.b64encode(values.astype("<f4").tobytes()).decode()


def _unpacked(packed: str) -> Array:
    return np.frombuffer(base64.b64decode(packed), dtype="<f4").astype(np.float64)


def _beside(known: Sequence[Known]) -> Known:
    """Lay known rows after each other."""
    margins = np.concatenate([each.judged.margins for each in known])
    names = known[0].judged.parts
    parts = {name: np.concatenate([each.judged.parts[name] for each in known]) for name in names}
    rows = Labelled(
        np.concatenate([each.rows.features for each in known]), np.concatenate([each.rows.labels for each in known])
    )
    return Known(rows, Judged(margins, parts))
