"""Examples before and after attack: images as they were, rows with the cells that moved."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np

from holdfast.reporting.text import plain
from holdfast.results import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.results import Finding

MOST = 8
"""Examples shown for one attack."""
_GREY, _COLOUR = 2, 3
_CHANNELS = (1, 3)
_LARGEST = 128  # pixels a side: what a page below 2 MB can hold


class Cell(Value):
    """One feature of a row, before and after."""

    feature: str
    before: str
    after: str
    moved: bool


class Example(Value):
    """One input before and after attack, with its label and both predictions."""

    label: str
    clean: str
    """Prediction before attack; empty where it was not stored."""
    attacked: str
    fooled: bool
    before: str = ""
    """PNG as data address; empty for rows."""
    after: str = ""
    cells: tuple[Cell, ...] = ()


class Gallery(Value):
    """The examples of one attack, or why there are none."""

    path: str
    examples: tuple[Example, ...] = ()
    missing: str = ""


def galleries(findings: Sequence[Finding]) -> list[Gallery]:
    """Collect the examples of each attack that stored some."""
    return [gallery(finding) for finding in findings if finding.details.get("examples")]


def gallery(finding: Finding) -> Gallery:
    """Read ``details["examples"]``: images as nested uint8 (h, w), (h, w, c) or (c, h, w), or feature to value."""
    stored = finding.details.get("examples")
    entries = stored if isinstance(stored, list) else []
    read = [_example(entry) for entry in entries[:MOST]]
    shown = tuple(example for example in read if example is not None)
    if shown and len(shown) == len(read):
        return Gallery(path=finding.path, examples=shown)
    lost = f"{len(read) - len(shown)} of {len(read)} stored examples are neither images of whole numbers nor rows."
    return Gallery(path=finding.path, examples=shown, missing=lost if read else "No examples were stored.")


def _example(entry: Any) -> Example | None:  # noqa: ANN401  a detail is any JSON
    if not isinstance(entry, dict):
        return None
    label, clean = plain(entry.get("label", "?")), plain(entry.get("clean", ""))
    attacked = plain(entry.get("predicted") or "no finite output")
    facts: dict[str, Any] = {"label": label, "clean": clean, "attacked": attacked, "fooled": label != attacked}
    before, after = entry.get("before"), entry.get("after")
    if isinstance(before, dict) and isinstance(after, dict):
        return Example(**facts, cells=_cells(before, after))
    first, second = _png(before), _png(after)
    return None if first is None or second is None else Example(**facts, before=first, after=second)


def _cells(before: dict[str, Any], after: dict[str, Any]) -> tuple[Cell, ...]:
    """Pair the features, those that moved first."""
    names = [*before, *(name for name in after if name not in before)]
    cells = [
        Cell(
            feature=name,
            before=_show(before.get(name)),
            after=_show(after.get(name)),
            moved=before.get(name) != after.get(name),
        )
        for name in names
    ]
    return tuple(sorted(cells, key=lambda cell: not cell.moved))


def _show(value: Any) -> str:  # noqa: ANN401  any JSON value
    if value is None:
        return "missing"
    return f"{value:,.6g}" if isinstance(value, float) else plain(value)


def _png(nested: Any) -> str | None:  # noqa: ANN401  a detail is any JSON
    """Encode nested whole numbers in 0..255 as a PNG data address; None where they are no such image."""
    try:
        pixels = np.asarray(nested)
    except ValueError:  # ragged: the caller says so in words
        return None
    if pixels.ndim == _COLOUR and pixels.shape[2] not in _CHANNELS and pixels.shape[0] in _CHANNELS:
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim == _COLOUR and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    grey, colour = pixels.ndim == _GREY, pixels.ndim == _COLOUR and pixels.shape[2] == _COLOUR
    whole = pixels.dtype.kind in "iu" and pixels.size > 0 and pixels.min() >= 0 and pixels.max() <= 255  # noqa: PLR2004
    if not (whole and (grey or colour)):
        return None
    from PIL import Image  # noqa: PLC0415  only a report of images needs it

    picture = Image.fromarray(np.ascontiguousarray(pixels, dtype=np.uint8))
    picture.thumbnail((_LARGEST, _LARGEST))
    stream = io.BytesIO()
    picture.save(stream, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
