"""The resilience curve of an incident: quality by window in three arms, with onset and the responses in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdfast.reporting.canvas import COLOURS, STYLES, Figure, draw
from holdfast.reporting.text import percent, quantity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from holdfast.results import Curve, Finding

PREFIX = "drills/"
ROOM = 0.12
"""Height that the names of responses take, as a share of the axes."""


def resilience_curves(findings: Sequence[Finding]) -> list[Figure]:
    """Draw one figure for each drilled incident, in the order given; none where nothing was drilled."""
    return [_figure(finding) for finding in findings if finding.path.startswith(PREFIX) and finding.curves]


def _figure(finding: Finding) -> Figure:
    onset = int(finding.settings["onset"])
    acts = responses(finding)
    seeds = finding.curves[0].points[0].score.n
    title = str(finding.settings["title"])

    def paint(axes: Axes) -> None:
        from matplotlib.ticker import MaxNLocator  # noqa: PLC0415  heavy, and only a report draws

        axes.axvline(onset, color=COLOURS["muted"], linestyle=":", linewidth=1.2)
        axes.annotate("onset", (onset, 0.02), color=COLOURS["muted"], fontsize=8, rotation=90, ha="right", va="bottom")
        for curve, (colour, marker, dash) in zip(finding.curves, STYLES, strict=False):
            _line(axes, curve, COLOURS[colour], marker, dash)
        for step, (place, words) in enumerate(acts):
            height = 0.30 + ROOM * (step % 4)
            axes.axvline(place, ymax=height, color=COLOURS["accent"], linewidth=1.0)
            axes.annotate(words, (place + 0.08, height - 0.05), color=COLOURS["ink"], fontsize=8)
        axes.set(ylim=(-0.03, 1.06), xlabel="window", ylabel="quality")
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.figure.legend(loc="outside lower center", ncols=3, handlelength=3.2)

    ends = "; ".join(
        f"{c.name} from {percent(c.points[0].score.value)} to {percent(c.points[-1].score.value)}"
        for c in finding.curves
    )
    told = ", ".join(f"{words} at window {place}" for place, words in acts) or "nothing was done"
    caption = (
        f"{title}: {finding.settings['about']} Quality on all rows of each window, mean of {seeds} seeds, band from the"
        f" lowest to the highest; responses of the first seed: {told}.{_beside(finding)}"
    )
    name = finding.path.replace("/", "-").replace("_", "-")
    return draw(f"resilience-{name}", caption, f"Resilience curve. {ends}. {told}.", 3.1, paint)


def _beside(finding: Finding) -> str:
    """Say what the drawing must not be read without: quiet windows, what forgetting is of, rows that were known."""
    found = {measure.name: measure for measure in finding.measures}
    told = ""
    if quiet := found.get("quiet_windows_left_alone"):
        told += f" Quiet windows left alone: {quantity(quiet)}."
    if "forgetting_clean" in found:
        told += " Forgetting is of clean answers alone: robust is not measured, the gate has no attack."
    if (again := found.get("rows_seen_before")) and again.value:
        told += f" {percent(again.value)} of the rows from onset on came in an earlier window too."
    return told


def responses(finding: Finding) -> list[tuple[int, str]]:
    """List what was done in the first seed: the window with which it was done, and the action."""
    course: dict[str, Any] = next(iter(finding.details.get("courses", ())), {})
    taken = course.get("responses", ())
    return [(int(each["at"]), str(each["action"])) for each in taken if each["action"] not in {"none", "alert"}]


def _line(axes: Axes, curve: Curve, colour: str, marker: str, dash: str) -> None:
    at = [point.at for point in curve.points]
    low, high = [point.score.low for point in curve.points], [point.score.high for point in curve.points]
    axes.fill_between(at, low, high, color=colour, alpha=0.16, linewidth=0)
    value = [point.score.value for point in curve.points]
    axes.plot(at, value, color=colour, marker=marker, linestyle=dash, label=curve.name)
