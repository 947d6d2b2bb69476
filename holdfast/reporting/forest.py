"""The forest plot: every score with its interval on one scale, what is unscored in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.reporting.canvas import COLOURS, Figure, absent, draw
from holdfast.reporting.text import ordered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from holdfast.results import Finding

MARKERS = {"measured": "o", "upper_bound": "<", "lower_bound": ">"}
"""The point shows where the truth lies: at it, at or below it, at or above it."""
_ROW = 0.23  # inches
_LONGEST = 34


def forest(findings: Sequence[Finding], name: str = "forest") -> Figure:
    """Draw every finding's score and 95 % interval, grouped by dimension, weakest first."""
    caption = "Scores with 95 % intervals. ● measured, ◀ upper bound, ▶ lower bound; hollow: a validity check failed."
    if not findings:
        return absent(name, caption, "No scenario was run.")
    rows = ordered(findings)

    def paint(axes: Axes) -> None:
        for place, finding in enumerate(rows):
            _row(axes, place, finding)
        axes.set(xlim=(0, 1), ylim=(len(rows) - 0.4, -0.6), xlabel="share, larger is safer")
        axes.set_yticks(range(len(rows)), [_label(finding.path) for finding in rows])
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        for place in range(1, len(rows)):
            if rows[place].dimension != rows[place - 1].dimension:
                axes.axhline(place - 0.5, color=COLOURS["muted"], linewidth=0.8)

    words = f"Forest plot of {len(rows)} findings, the same numbers as the table of findings."
    return draw(name, caption, words, 0.65 + _ROW * len(rows), paint)


def _row(axes: Axes, place: int, finding: Finding) -> None:
    score = finding.score
    if score is None:
        axes.barh(place, 1.0, height=0.6, color="none", edgecolor=COLOURS["grid"], hatch="////", linewidth=0)
        axes.text(0.5, place, "unscored", ha="center", va="center", fontsize=9, color=COLOURS["ink"])
        return
    colour = COLOURS["accent" if finding.valid else "bad"]
    axes.plot([score.low, score.high], [place, place], color=colour, linewidth=2.2, solid_capstyle="round")
    fill = colour if finding.valid else COLOURS["paper"]
    marker = MARKERS[score.kind]
    axes.plot([score.value], [place], marker, color=colour, markerfacecolor=fill, markersize=6, clip_on=False)


def _label(path: str) -> str:
    return path if len(path) <= _LONGEST else f"{path[: _LONGEST - 1]}…"
