"""Confusion before and after attack: rows are the true classes, shade is the share of the row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from holdfast.reporting.canvas import COLOURS, Figure, absent, draw

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from holdfast.results import Finding

    Counts = np.ndarray[Any, np.dtype[np.float64]]

STATES = {"confusion_clean": "before", "confusion_attacked": "after"}
"""Detail of an attack finding to the word for it."""
_NUMBERED = 14  # classes: with more, counts are not legible and the shade alone speaks
_SQUARE = 2
_LONGEST = 10
_SHADE = 0.42  # of the accent at most, so that the counts keep their contrast in both schemes


def confusions(finding: Finding) -> list[Figure]:
    """Draw the two confusion matrices of one attack: nested lists of counts in its details."""
    figures = []
    for detail, word in STATES.items():
        name = f"{detail}-{finding.path}".replace("/", "-").replace("_", "-")
        caption = f"Confusion {word} {finding.path}: rows true, columns predicted, shade is the share of the row."
        counts = _counts(finding.details.get(detail))
        if counts is None:
            figures.append(absent(name, caption, f"{finding.path} stored no square matrix of counts as {detail}."))
        else:
            figures.append(_matrix(name, caption, counts, _names(finding.details.get("classes"), len(counts))))
    return figures


def attacks_with_confusion(findings: Sequence[Finding]) -> list[Finding]:
    """Choose the attacks that stored a confusion matrix, the strongest first."""
    found = [finding for finding in findings if any(detail in finding.details for detail in STATES)]
    return sorted(found, key=lambda finding: (2.0 if finding.score is None else finding.score.value, finding.path))


def _counts(nested: Any) -> Counts | None:  # noqa: ANN401  a detail is any JSON
    try:
        counts = np.asarray(nested, dtype=np.float64)
    except (TypeError, ValueError):  # ragged, or no numbers: the caller says so in words
        return None
    square = counts.ndim == _SQUARE and counts.shape[0] == counts.shape[1] and counts.size > 0
    return counts if square and bool((np.isfinite(counts) & (counts >= 0)).all()) else None


def _names(classes: Any, k: int) -> list[str]:  # noqa: ANN401  a detail is any JSON
    if isinstance(classes, list) and len(classes) == k:
        return [str(name) for name in classes]
    return [str(number) for number in range(k)]


def _matrix(name: str, caption: str, counts: Counts, names: list[str]) -> Figure:
    k, total = len(counts), counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)

    def paint(axes: Axes) -> None:
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        for true in range(k):
            for predicted in range(k):
                _cell(axes, true, predicted, float(counts[true, predicted]), float(shares[true, predicted]), k)
        axes.set(xlim=(-0.5, k - 0.5), ylim=(k - 0.5, -0.5), xlabel="predicted", ylabel="true")
        if k <= _NUMBERED:
            short = [text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…" for text in names]
            slant = 40 if max(map(len, short)) * k > 40 else 0  # noqa: PLR2004  letters that fit side by side
            axes.set_xticks(range(k), short, rotation=slant, ha="right" if slant else "center", rotation_mode="anchor")
            axes.set_yticks(range(k), short)
        axes.tick_params(length=0)

    right = float(np.trace(counts))
    caption = f"{caption} n = {counts.sum():,.0f}."
    words = f"Confusion matrix of {k} classes, {right:,.0f} of {counts.sum():,.0f} on the diagonal."
    return draw(name, caption, words, min(1.1 + 0.42 * k, 4.6), paint)


def _cell(axes: Axes, true: int, predicted: int, count: float, part: float, k: int) -> None:
    colour = COLOURS["accent" if true == predicted else "bad"]
    if part > 0.0:
        side = [predicted - 0.47, predicted + 0.47]
        axes.fill_between(side, true - 0.47, true + 0.47, color=colour, alpha=_SHADE * part, linewidth=0)
    if k <= _NUMBERED:
        weight = "bold" if true == predicted else "normal"
        axes.text(predicted, true, f"{count:,.0f}", ha="center", va="center", fontsize=8.5, weight=weight)
