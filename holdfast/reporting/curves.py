"""Curves: scores against budget, severity, radius or time, each with its band; certificate and attack as a bracket."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from holdfast.reporting.canvas import COLOURS, STYLES, Figure, absent, draw
from holdfast.reporting.resilience import PREFIX
from holdfast.reporting.text import percent
from holdfast.scorecard import is_certificate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from holdfast.results import Curve, Finding

GROUPS = {"budget": "Robustness", "severity": "Score", "bracket": "Certified accuracy", "axis": "Score"}
"""Kind of axis to what is drawn against it, in the order of the page."""
_LONGEST = 26


class Line(NamedTuple):
    """One curve with the label that tells it from the others of its figure."""

    label: str
    path: str
    curve: Curve


def curves(findings: Sequence[Finding]) -> list[Figure]:
    """Draw all curves: one figure for each kind of axis (and norm, for budgets), at most six lines in each.

    Certified accuracy stands with the attacks of the same norm, which bracket the truth from above.
    """
    groups: dict[tuple[str, str, str], list[Line]] = defaultdict(list)
    for finding in sorted(findings, key=lambda finding: finding.path):
        for curve in finding.curves:
            if curve.points and not finding.path.startswith(PREFIX):
                groups[_group(finding, curve)].append(Line(_label(finding, curve), finding.path, curve))
    figures = []
    for (kind, axis, norm), lines in sorted(groups.items(), key=lambda item: (list(GROUPS).index(item[0][0]), item[0])):
        size = len(STYLES)
        for part, start in enumerate(range(0, len(lines), size)):
            some = lines[start : start + size]
            if kind == "bracket":
                above = _upper(groups, norm, size - len(some))
                figures.append(_bracket(axis, norm, some, above, _points(findings), part))
            else:
                figures.append(_figure(kind, axis, norm, some, part))
    return figures or [absent("curves", "Curves", "No finding holds a curve.")]


def _group(finding: Finding, curve: Curve) -> tuple[str, str, str]:
    norm = _norm(finding)
    if is_certificate(finding):
        return ("bracket", curve.axis, norm)
    axis = curve.axis.lower()
    if "epsilon" in axis or "budget" in axis:
        return ("budget", curve.axis, norm)
    return ("severity" if "severity" in axis else "axis", curve.axis, "")


def _norm(finding: Finding) -> str:
    return str(finding.settings.get("norm", ""))


def _label(finding: Finding, curve: Curve) -> str:
    return finding.path if len(finding.curves) == 1 else f"{finding.path}: {curve.name}"


def _figure(kind: str, axis: str, norm: str, lines: list[Line], part: int) -> Figure:
    scale = _scale(axis, norm)
    caption = f"{GROUPS[kind]} against {scale}. {_origin(lines)}; bands are 95 % intervals."
    return _lines(f"curve-{kind}-{_slug(axis)}-{_slug(norm)}-{part}", caption, scale, lines)


def _upper(groups: dict[tuple[str, str, str], list[Line]], norm: str, room: int) -> list[Line]:
    """Choose the strongest attacks of one norm, as many as there is room for."""
    above = [line for (kind, _, other), found in groups.items() if kind == "budget" and other == norm for line in found]
    return sorted(above, key=lambda line: min(point.score.value for point in line.curve.points))[:room]


def _points(findings: Sequence[Finding]) -> dict[str, str]:
    """Name the points that each finding's curves were read on: known only where it read the curve on all its points."""
    return {
        finding.path: finding.per_example.points
        for finding in findings
        if finding.per_example is not None
        and all(point.score.n == finding.per_example.n for curve in finding.curves for point in curve.points)
    }


def _bracket(axis: str, norm: str, lines: list[Line], above: list[Line], points: dict[str, str], part: int) -> Figure:
    """Set the certificate below and the attacks of its norm above: the truth lies between."""
    named = ", ".join(line.label for line in above)
    read = {points.get(line.path) for line in (*lines, *above)}
    if not above:
        words = f"No attack curve of the {norm or 'same'} norm is there, so the bracket has no upper end"
    elif None in read:
        words = f"The attacks ({named}) stand above; that both ends read the same points is not recorded"
    elif len(read) == 1:
        words = f"The truth lies between the certificate and the attacks ({named}), read on the same points"
    else:
        words = f"The attacks ({named}) did not read the same set of points: the bracket holds only up to sampling"
    scale = _scale(axis, norm)
    caption = f"{GROUPS['bracket']} against {scale}. {words}. {_origin(lines)}; bands are 95 % intervals."
    return _lines(f"curve-bracket-{_slug(axis)}-{_slug(norm)}-{part}", caption, scale, [*lines, *above])


def _lines(name: str, caption: str, scale: str, lines: list[Line]) -> Figure:
    def paint(axes: Axes) -> None:
        from matplotlib.ticker import MaxNLocator  # noqa: PLC0415  heavy, and only a report draws

        for line, (colour, marker, dash) in zip(lines, STYLES, strict=False):
            _line(axes, line, COLOURS[colour], marker, dash)
        axes.set(ylim=(-0.03, 1.03), xlabel=scale)
        if scale == "queries":
            axes.set_xscale("symlog", linthresh=1.0)  # most break early, and the first mark is 0
        elif all(point.at == int(point.at) for line in lines for point in line.curve.points):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
        axes.figure.legend(loc="outside lower center", ncols=_columns(lines), handlelength=3.2)

    ends = "; ".join(
        f"{line.label} from {percent(line.curve.points[0].score.value)} at {line.curve.points[0].at:g} "
        f"to {percent(line.curve.points[-1].score.value)} at {line.curve.points[-1].at:g}"
        for line in lines
    )
    rows = -(-len(lines) // _columns(lines))
    return draw(name, caption, f"Line chart against {scale}. {ends}.", 2.7 + 0.18 * rows, paint)


def _line(axes: Axes, line: Line, colour: str, marker: str, dash: str) -> None:
    points = sorted(line.curve.points, key=lambda point: point.at)
    at = [point.at for point in points]
    low, high = [point.score.low for point in points], [point.score.high for point in points]
    axes.fill_between(at, low, high, color=colour, alpha=0.16, linewidth=0)
    value = [point.score.value for point in points]
    axes.plot(at, value, color=colour, marker=marker, linestyle=dash, label=line.label)


def _scale(axis: str, norm: str) -> str:
    return f"{axis} ({norm})" if norm and norm not in axis else axis


def _origin(lines: list[Line]) -> str:
    sizes = sorted({point.score.n for line in lines for point in line.curve.points})
    return f"n = {sizes[0]:,}" if len(sizes) == 1 else f"n = {sizes[0]:,} to {sizes[-1]:,}"


def _columns(lines: list[Line]) -> int:
    return 1 if max(len(line.label) for line in lines) > _LONGEST else 2


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
