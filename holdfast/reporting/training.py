"""The training curve: loss, and what chose the epoch on validation rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.reporting.canvas import COLOURS, Figure, absent, draw

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from holdfast.reporting.content import Epoch


def training_curve(epochs: Sequence[Epoch], measure: str) -> Figure:
    """Draw the loss (left scale) and, where it was read, its measure on validation (right scale)."""
    caption = f"Training: mean loss (left, solid) and {measure} on validation rows (right, dashed) by epoch."
    if not epochs:
        return absent("training", caption, "No training history was recorded for this version.")
    read = [(epoch.epoch, epoch.validation) for epoch in epochs if epoch.validation is not None]

    def paint(axes: Axes) -> None:
        from matplotlib.ticker import MaxNLocator  # noqa: PLC0415  heavy, and only a report draws

        at, loss = [epoch.epoch for epoch in epochs], [epoch.loss for epoch in epochs]
        axes.plot(at, loss, color=COLOURS["s1"], marker="o", label="loss")
        axes.set(xlabel="epoch", ylabel="loss")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if read:
            other = axes.twinx()
            other.spines[["top", "left"]].set_visible(False)
            other.grid(visible=False)
            label = f"validation {measure}"
            other.plot(*zip(*read, strict=True), color=COLOURS["s2"], marker="s", linestyle="--", label=label)
            other.set_ylabel(label)
        axes.figure.legend(loc="outside lower center", ncols=2, handlelength=3.2)

    words = f"Line chart of {len(epochs)} epochs: loss from {epochs[0].loss:.4g} to {epochs[-1].loss:.4g}"
    if read:
        words += f", {measure} on validation from {read[0][1]:.4g} to {read[-1][1]:.4g}"
    return draw("training", caption, f"{words}.", 2.8, paint)
