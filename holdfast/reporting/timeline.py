"""The stream's page: every window with its signals, what was decided and done, and which version answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from holdfast.reporting.canvas import COLOURS, Figure, absent, draw
from holdfast.reporting.page import template
from holdfast.reporting.text import percent
from holdfast.results import Value

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from matplotlib.axes import Axes

ROOM = 0.11
"""Height that the names of responses take, as a share of the axes."""
_LEVELS = 5
_QUIET = frozenset({"none", "alert"})


class Sign(Value):
    """What one detector said of a window."""

    detector: str
    about: str
    ratio: float | None
    """Statistic over threshold; None where the threshold is not above 0."""
    alarm: bool


class Moment(Value):
    """One window of the stream, and what became of it."""

    position: int
    rows: int
    version: int | None
    """Who served when it came; None where nobody did."""
    cause: str
    action: str
    outcome: str = ""
    """What the response came to; empty where nothing was done, or it is not done yet."""
    reason: str = ""
    matured: bool = False
    """Whether its labels are there."""
    wrong: float | None = None
    """Share of rows that the version had wrong; None before labels mature, and where it was not judged by them."""
    past: float | None = None
    """Share that it had wrong on its own reference rows."""
    signs: tuple[Sign, ...] = ()


class Reign(NamedTuple):
    """Windows that one version answered."""

    version: int | None
    first: int
    last: int


def reigns(moments: Sequence[Moment]) -> list[Reign]:
    """Part windows, in order, by who answered them."""
    found: list[Reign] = []
    for moment in moments:
        if found and found[-1].version == moment.version:
            found[-1] = found[-1]._replace(last=moment.position)
        else:
            found.append(Reign(moment.version, moment.position, moment.position))
    return found


def render(model: str, moments: Sequence[Moment], generated_at: datetime, rates: Sequence[str] = ()) -> str:
    """Render the stream's page as one HTML document: no script, no network, everything inline; all text is escaped.

    Args:
        model: whose stream it is.
        moments: every window that was decided on, in order.
        generated_at: when the page is written.
        rates: how often each version's panel alarms on clean windows, in a sentence each.
    """
    return template("stream.html.jinja").render(
        model=model, moments=moments, generated_at=generated_at, timeline=timeline(moments),
        signals=signals(moments), rates=rates, told=[moment for moment in moments if _worth_telling(moment)],
    )  # fmt: skip


def _worth_telling(moment: Moment) -> bool:
    return moment.action != "none" or any(sign.alarm for sign in moment.signs)


def timeline(moments: Sequence[Moment]) -> Figure:
    """Draw the share of wrong answers by window, with what was done about it and who answered."""
    caption = (
        "Share of rows answered wrongly by window, as its labels matured; the bars are what each version had wrong on"
        " its own reference rows. Upright lines are responses, triangles below them windows with an alarm."
    )
    if not moments:
        return absent("timeline", caption, "no window was decided on yet")
    judged = [moment for moment in moments if moment.wrong is not None]
    acts = [moment for moment in moments if moment.action not in _QUIET]
    alarmed = [moment.position for moment in moments if any(sign.alarm for sign in moment.signs)]
    top = max([0.1, *(moment.wrong or 0.0 for moment in judged), *(moment.past or 0.0 for moment in judged)]) * 1.35

    def paint(axes: Axes) -> None:
        from matplotlib.ticker import MaxNLocator  # noqa: PLC0415  heavy, and only a report draws

        at = [moment.position for moment in judged]
        axes.hlines(
            [moment.past or 0.0 for moment in judged], [place - 0.5 for place in at], [place + 0.5 for place in at],
            color=COLOURS["muted"], label="its own past",
        )  # fmt: skip
        axes.plot(
            at, [moment.wrong or 0.0 for moment in judged], color=COLOURS["s1"], marker="o", markersize=3,
            label="wrong answers",
        )  # fmt: skip
        axes.plot(alarmed, [-0.045 * top] * len(alarmed), color=COLOURS["bad"], marker="^", linestyle="", label="alarm")
        for step, moment in enumerate(acts):
            height = 0.55 + ROOM * (step % 3)
            axes.axvline(moment.position, ymax=height, color=COLOURS["accent"], linewidth=1.0)
            axes.annotate(
                moment.action, (moment.position, height), xycoords=("data", "axes fraction"), color=COLOURS["ink"],
                fontsize=8, ha="center", va="bottom",
            )  # fmt: skip
        for reign in reigns(moments):
            name = "nobody" if reign.version is None else f"v{reign.version}"
            axes.annotate(
                name, ((reign.first + reign.last) / 2, 0.95), xycoords=("data", "axes fraction"),
                color=COLOURS["muted"], fontsize=8, ha="center",
            )  # fmt: skip
            if reign.first:
                axes.axvline(reign.first - 0.5, color=COLOURS["grid"], linewidth=1.0)
        ends = (moments[0].position - 0.6, moments[-1].position + 0.6)
        axes.set(xlim=ends, ylim=(-0.08 * top, top), xlabel="window", ylabel="wrong answers")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
        axes.figure.legend(loc="outside lower center", ncols=3, handlelength=3.0)

    done = ", ".join(f"{moment.action} at window {moment.position}" for moment in acts) or "nothing was done"
    ends = (
        f"from {percent(judged[0].wrong or 0.0)} to {percent(judged[-1].wrong or 0.0)}" if judged else "not known yet"
    )
    return draw("timeline", caption, f"Wrong answers {ends} over {len(moments)} windows; {done}.", 3.3, paint)


def signals(moments: Sequence[Moment]) -> Figure:
    """Draw every detector's statistic against its threshold, by window: where the stream drifted, and who noticed."""
    caption = (
        "Signals by window: a dot grows with the statistic as a share of its threshold, a cross is an alarm. Detectors"
        " of labels speak of a window when its labels have matured."
    )
    names = sorted({sign.detector for moment in moments for sign in moment.signs}, reverse=True)
    if not names:
        return absent("signals", caption, "no detector has looked yet")
    seen = [(m.position, names.index(s.detector), s) for m in moments for s in m.signs]

    def paint(axes: Axes) -> None:
        from matplotlib.ticker import MaxNLocator  # noqa: PLC0415  as above

        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        for level in range(_LEVELS):  # one marker for each size: the drawing stays small
            dots = [(at, row) for at, row, sign in seen if not sign.alarm and _level(sign) == level]
            axes.plot(*_columns(dots), linestyle="", marker="o", color=COLOURS["s1"], markersize=1.0 + level)
        crosses = [(at, row) for at, row, sign in seen if sign.alarm]
        axes.plot(*_columns(crosses), linestyle="", marker="x", color=COLOURS["bad"], markersize=4.5)
        axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
        axes.set(xlabel="window", ylim=(-0.6, len(names) - 0.4))

    counts = {name: sum(1 for _, row, sign in seen if sign.alarm and names[row] == name) for name in reversed(names)}
    told = ", ".join(f"{name} {count}" for name, count in counts.items() if count) or "no alarm"
    return draw("signals", caption, f"Alarms by detector: {told}.", max(1.8, 0.9 + 0.24 * len(names)), paint)


def _level(sign: Sign) -> int:
    return min(_LEVELS - 1, int(_LEVELS * min(max(sign.ratio or 0.0, 0.0), 1.0)))


def _columns(points: Sequence[tuple[int, int]]) -> tuple[list[int], list[int]]:
    return [at for at, _ in points], [row for _, row in points]
