"""The drawing surface of every figure: SVG without dates, without global settings, in the page's own colours."""

from __future__ import annotations

import io
import re
import threading
import warnings
from html import escape
from typing import TYPE_CHECKING, Any

from holdfast.results import Value

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes

# Stand-ins that no figure uses otherwise; the page's style sheet says what they look like in light, dark and print.
COLOURS = {
    "ink": "#0a0b01",
    "muted": "#0a0b02",
    "grid": "#0a0b03",
    "paper": "#0a0b04",
    "accent": "#0a0b05",
    "bad": "#0a0b06",
    "s1": "#0a0b11",
    "s2": "#0a0b12",
    "s3": "#0a0b13",
    "s4": "#0a0b14",
    "s5": "#0a0b15",
    "s6": "#0a0b16",
}
STYLES = (("s1", "o", "-"), ("s2", "s", "--"), ("s3", "^", "-."), ("s4", "D", ":"), ("s5", "v", "-"), ("s6", "P", "--"))
"""Colour, marker and dash of each line: two lines never differ by colour alone."""
WIDTH = 5.0  # inches of 72 units: one unit is one pixel on a phone
_LOCK = threading.Lock()  # matplotlib's settings are global while a figure is drawn
_NOISE = re.compile(r"<!--.*?-->|<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>|<style.*?</style>", re.DOTALL)
_REFERENCE = re.compile(r'(?:url\(#|href="#)([^)"]+)')
_TAG = re.compile(r"<[^>]*>")
_FAMILY = re.compile(r"font-family: [^;\"]*;? ?")  # the family is the page's
_IDENTIFIER = re.compile(r' id="([^"]+)"')


class Figure(Value):
    """A figure, ready to be set into the page."""

    name: str
    """Unique on its page."""
    caption: str
    description: str
    """What the figure shows, for those who cannot see it."""
    svg: str
    """Inline markup, escaped; empty where there was nothing to draw."""
    missing: str = ""
    """Why there is no drawing."""

    def alone(self, style: str) -> str:
        """Give the drawing as an SVG file of its own, with the colours of a style sheet; empty where none was drawn."""
        if not self.svg:
            return ""
        head = f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" style="{style}"'
        return self.svg.replace("<svg", head, 1)


def absent(name: str, caption: str, reason: str) -> Figure:
    """Stand in for a figure whose data are not there, in words."""
    return Figure(name=name, caption=caption, description="", svg="", missing=reason)


def draw(name: str, caption: str, description: str, height: float, paint: Callable[[Axes], None]) -> Figure:
    """Draw one pair of axes, `WIDTH` inches wide, as SVG for inlining.

    The same calls give the same bytes; settings of the process or of the user's own matplotlib change nothing.

    Args:
        name: unique on the page.
        caption: below the figure.
        description: what it shows, in words.
        height: inches.
        paint: draws on the axes with colours from `COLOURS`.
    """
    import matplotlib as mpl  # noqa: PLC0415  heavy, and only a report draws
    from matplotlib.backends.backend_svg import FigureCanvasSVG  # noqa: PLC0415  as above
    from matplotlib.figure import Figure as Drawing  # noqa: PLC0415  as above

    settings: Any = {key: item for key, item in mpl.rcParamsDefault.items() if not key.startswith("backend")}
    settings |= _settings(name)
    with _LOCK, mpl.rc_context(settings), warnings.catch_warnings():
        # The reader's browser has fonts for other scripts; only the measuring of widths lacks them here.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        drawing = Drawing(figsize=(WIDTH, height), layout="constrained")
        axes = drawing.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        paint(axes)
        stream = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        canvas: Any = FigureCanvasSVG(drawing)  # its methods have no types
        canvas.print_svg(stream, metadata=nothing)  # print_figure would draw everything twice
    return Figure(name=name, caption=caption, description=description, svg=_inline(stream.getvalue(), description))


def _settings(name: str) -> dict[str, Any]:
    ink, muted, grid = COLOURS["ink"], COLOURS["muted"], COLOURS["grid"]
    return {
        "svg.fonttype": "none", "svg.hashsalt": name, "text.parse_math": False, "axes.formatter.useoffset": False,
        "font.size": 10.0,
        "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none", "legend.frameon": False,
        "axes.edgecolor": muted, "axes.labelcolor": ink, "text.color": ink, "xtick.color": muted, "ytick.color": muted,
        "xtick.labelcolor": ink, "ytick.labelcolor": ink, "grid.color": grid, "grid.linewidth": 0.8, "axes.grid": True,
        "axes.axisbelow": True, "lines.linewidth": 1.6, "lines.markersize": 4.5, "xtick.labelsize": 9.0,
        "ytick.labelsize": 9.0, "legend.fontsize": 9.0, "axes.titlesize": 10.0,
    }  # fmt: skip


def _inline(svg: str, description: str) -> str:
    """Make a stand-alone SVG fit for HTML: no prologue, no unused ids, no addresses, colours as variables."""
    svg = _NOISE.sub("", svg)
    used = set(_REFERENCE.findall(svg))

    def mend(tag: re.Match[str]) -> str:
        words = _IDENTIFIER.sub(lambda found: found.group(0) if found.group(1) in used else "", tag.group(0))
        for name, code in COLOURS.items():
            words = words.replace(code, f"var(--{name})")
        return _FAMILY.sub("", words)

    svg = _TAG.sub(mend, svg)  # never the text between tags, which is the user's
    box = re.search(r'viewBox="([^"]+)"', svg)
    view = box.group(1) if box else "0 0 360 216"
    head = f'<svg viewBox="{view}" role="img" aria-label="{escape(description)}">'
    svg = re.sub(r"<svg [^>]*>", lambda _: head, svg, count=1)
    return re.sub(r"\s*\n\s*", "\n", svg).strip()
