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

STATES = {"clean": "before", "under_attack": "under"}
"""Key of the stored matrix to the word for it."""
_NUMBERED = 14  # classes: with more, counts are not legible and the shade alone speaks
_MATRIX = 2
_LONGEST = 10
_SHADE = 0.42  # of the accent at most, so that the counts keep their contrast in both schemes


def confusions(finding: Finding) -> list[Figure]:
    """Draw the two matrices of ``details["confusion"]``: counts (k, k), or (k, k + 1) with outputs not finite last."""
    figures = []
    stored = finding.details.get("confusion")
    for state, word in STATES.items():
        name = f"confusion-{state}-{finding.path}".replace("/", "-").replace("_", "-")
        caption = f"Confusion {word} {finding.path}: rows true, columns predicted, shade is the share of the row."
        counts = _counts(stored.get(state) if isinstance(stored, dict) else None)
        if counts is None:
            figures.append(absent(name, caption, f"{finding.path} stored no matrix of counts as {state}."))
        else:
            figures.append(_matrix(name, caption, counts, _names(finding.details.get("classes"), len(counts))))
    return figures


def attacks_with_confusion(findings: Sequence[Finding]) -> list[Finding]:
    """Choose the attacks that stored a confusion matrix, the strongest first."""
    found = [finding for finding in findings if finding.details.get("confusion")]
    return sorted(found, key=lambda finding: (2.0 if finding.score is None else finding.score.value, finding.path))


def _counts(nested: Any) -> Counts | None:  # noqa: ANN401  a detail is any JSON
    try:
        counts = np.asarray(nested, dtype=np.float64)
    except (TypeError, ValueError):  # ragged, or no numbers: the caller says so in words
        return None
    fits = counts.ndim == _MATRIX and counts.size > 0 and counts.shape[1] - counts.shape[0] in (0, 1)
    return counts if fits and bool((np.isfinite(counts) & (counts >= 0)).all()) else None


def _names(classes: Any, k: int) -> list[str]:  # noqa: ANN401  a detail is any JSON
    if isinstance(classes, list) and len(classes) == k:
        return [str(name) for name in classes]
    return [str(number) for number in range(k)]


def _matrix(name: str, caption: str, counts: Counts, names: list[str]) -> Figure:
    if counts.shape[1] > len(counts):
        counts = counts if counts[:, -1].any() else counts[:, :-1]
    (k, wide), total = counts.shape, counts.sum(axis=1, keepdims=True)
    heads = [*names, "not finite"][:wide]
    shares = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)

    def paint(axes: Axes) -> None:
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        _shade(axes, shares)
        axes.set(xlim=(-0.5, wide - 0.5), ylim=(k - 0.5, -0.5), xlabel="predicted", ylabel="true")
        if k <= _NUMBERED:
            for (true, predicted), count in np.ndenumerate(counts):
                _count(axes, true, predicted, float(count))
            short = [text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…" for text in heads]
            slant = 40 if max(map(len, short)) * wide > 40 else 0  # noqa: PLR2004  letters that fit side by side
            axes.set_xticks(
                range(wide), short, rotation=slant, ha="right" if slant else "center", rotation_mode="anchor"
            )
            axes.set_yticks(range(k), short[:k])
        axes.tick_params(length=0)

    right = float(np.trace(counts))
    caption = f"{caption} n = {counts.sum():,.0f}."
    words = f"Confusion matrix of {k} classes, {right:,.0f} of {counts.sum():,.0f} on the diagonal."
    return draw(name, caption, words, min(1.1 + 0.42 * k, 4.6), paint)


def _shade(axes: Axes, shares: Counts) -> None:
    """Lay one shaded square under each cell that holds a share of its row."""
    from matplotlib.collections import PolyCollection  # noqa: PLC0415  heavy, and only a report draws
    from matplotlib.colors import to_rgba  # noqa: PLC0415  as above

    corner = np.array([[-0.47, -0.47], [0.47, -0.47], [0.47, 0.47], [-0.47, 0.47]])
    held = [(int(true), int(predicted)) for true, predicted in np.argwhere(shares > 0.0)]
    squares = [corner + np.array((predicted, true)) for true, predicted in held]
    fills = [to_rgba(COLOURS["accent" if t == p else "bad"], _SHADE * float(shares[t, p])) for t, p in held]
    axes.add_collection(PolyCollection(squares, facecolors=fills, linewidths=0)).set_in_layout(False)


def _count(axes: Axes, true: int, predicted: int, count: float) -> None:
    weight = "bold" if true == predicted else "normal"
    text = axes.text(predicted, true, f"{count:,.0f}", ha="center", va="center", fontsize=8.5, weight=weight)
    text.set_in_layout(False)
