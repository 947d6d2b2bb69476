"""Embedding drift: whether the champion makes something else of its inputs, whatever the inputs are."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, ClassVar, NamedTuple, final

import torch
from pydantic import Field

from holdfast.errors import DataError
from holdfast.monitoring._features import squared_distances
from holdfast.monitoring.base import Detector, Needs, Reading
from holdfast.monitoring.evidently import embedding_score
from holdfast.seeding import Noise

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.data.stream import Window
    from holdfast.results import About, Json


@final
class EmbeddingDrift(Detector):
    """Compare what the champion's last layer reads with what it read of the past, by a Gaussian kernel.

    The one view of images and text that Evidently has beside their statistics; pixels apart say little. The score is
    Evidently's, the threshold that of replayed windows.
    """

    needs: ClassVar[Needs] = "embeddings"
    about: ClassVar[About] = "shift"
    reference: ClassVar[str] = (
        "Gretton et al. 2012, JMLR 13, lemma 6; Rabanser et al. 2019, arXiv:1810.11953, section 3"
    )

    rows: Annotated[int, Field(ge=20, le=1000)] = 500
    """Rows of each sample that are compared at most, chosen by their ids."""

    def read(self, window: Window, past: Window, memory: Json) -> Reading:
        """Read the squared discrepancy of kernel means, 0 where its unbiased estimate is negative."""
        return self._reading(embedding_score(_sample(window, self.rows), _known(past, self.rows).points), memory)

    def replay(self, window: Window, past: Window, memory: Json) -> Reading:
        """Read the same without Evidently's tables."""
        now, known = _sample(window, self.rows).double(), _known(past, self.rows)
        across = squared_distances(now, known.points)
        width = across.sqrt().flatten().quantile(0.5) ** 2
        m, n = across.shape
        within = [
            (torch.exp(-squared / width).sum() - size) / (size * (size - 1))
            for squared, size in ((squared_distances(now, now).fill_diagonal_(0.0), m), (known.squared, n))
        ]
        found = float(sum(within) - 2.0 * torch.exp(-across / width).mean())
        return self._reading(max(found, 0.0), memory)

    @staticmethod
    def _reading(found: float, memory: Json) -> Reading:
        return Reading(statistic=found, effect=found**0.5, effect_unit="distance of kernel means", memory=memory)


class _Known(NamedTuple):
    """What the past brings into every comparison."""

    points: Tensor
    squared: Tensor
    """Squared distances of the points from each other."""


@lru_cache(maxsize=4)  # a window is known by its identity: hundreds of windows are held against one past
def _known(past: Window, rows: int) -> _Known:
    points = _sample(past, rows).double()
    return _Known(points, squared_distances(points, points).fill_diagonal_(0.0))


def _sample(window: Window, rows: int) -> Tensor:
    if window.embeddings is None:
        raise DataError(
            f"window {window.position}", found="no embeddings", expected="what the champion's last layer read",
            remedy="Ask the champion for them when the window is built.",
        )  # fmt: skip
    order = Noise(0, ("embeddings",)).uniform(torch.from_numpy(window.ids)).argsort()
    return window.embeddings[order[:rows]]
