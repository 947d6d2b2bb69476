"""Maximum mean discrepancy: whether rows come from another distribution, in all features together."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, ClassVar, NamedTuple, final

import numpy as np
import torch
from pydantic import Field

from holdfast.monitoring._features import squared_distances, standardised
from holdfast.monitoring.base import Detector, Needs, Reading
from holdfast.seeding import Noise

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.data.stream import Window
    from holdfast.results import About, Json


_COPIES = 1e-9
"""Squared distance up to which rows are copies of each other: products of matrices lose that much."""


@final
class Mmd(Detector):
    """Compare two samples by the mean of a Gaussian kernel, its width the median distance of the past.

    The p-value is that of a permutation test: rows of both samples change places.
    """

    needs: ClassVar[Needs] = "inputs"
    about: ClassVar[About] = "shift"
    reference: ClassVar[str] = "Gretton et al. 2012, JMLR 13, lemma 6 and section 5"

    rows: Annotated[int, Field(ge=20)] = 500
    """Rows of each sample that are compared at most, chosen by their ids."""
    permutations: Annotated[int, Field(ge=99)] = 199

    def read(self, window: Window, past: Window, memory: Json) -> Reading:
        """Read the unbiased squared discrepancy and its permutation p-value."""
        kernel, m = self._kernel(window, past)
        noise, n = Noise(0, ("mmd", window.id)), len(kernel)
        orders = noise.uniform(torch.arange(self.permutations), (n,)).argsort(1)
        orders = torch.cat([torch.arange(n)[None], orders])  # as they came, and as they might have come
        found = _discrepancies(kernel, (orders < m).double())
        p_value = float((1 + int((found[1:] >= found[0]).sum())) / (1 + self.permutations))
        return self._reading(float(found[0]), p_value, memory)

    def replay(self, window: Window, past: Window, memory: Json) -> Reading:
        """Read the discrepancy without its permutations."""
        known = _known(past, self.rows)
        within, across = self._kernels(window, past)
        m, n = across.shape
        now = (within.sum() - within.diagonal().sum()) / (m * (m - 1))
        found = float(now + (known.total - n) / (n * (n - 1)) - 2.0 * across.mean())
        return self._reading(found, None, memory)

    def _reading(self, found: float, p_value: float | None, memory: Json) -> Reading:
        return Reading(
            statistic=found, effect=float(np.sqrt(max(found, 0.0))), effect_unit="distance of kernel means",
            p_value=p_value, memory=memory,
        )  # fmt: skip

    def _kernel(self, window: Window, past: Window) -> tuple[Tensor, int]:
        """Give the kernel matrix of both samples (m + n, m + n), and m."""
        within, across = self._kernels(window, past)
        known = _known(past, self.rows).kernel
        return torch.cat([torch.cat([within, across], 1), torch.cat([across.T, known], 1)]), len(within)

    def _kernels(self, window: Window, past: Window) -> tuple[Tensor, Tensor]:
        """Give the kernel of the window's sample with itself (m, m), and with the past's (m, n)."""
        known = _known(past, self.rows)
        now = standardised(window.resample(min(self.rows, len(window)), Noise(0, ("mmd", window.id))), past)
        within, across = squared_distances(now, now), squared_distances(now, known.points)
        return within.fill_diagonal_(0.0).div_(-known.width).exp_(), across.div_(-known.width).exp_()


class _Known(NamedTuple):
    """What the past brings into every comparison."""

    points: Tensor
    width: Tensor
    kernel: Tensor
    total: Tensor


@lru_cache(maxsize=4)  # a window is known by its identity: hundreds of windows are held against one past
def _known(past: Window, rows: int) -> _Known:
    points = standardised(past.resample(min(rows, len(past)), Noise(0, ("mmd", past.id))), past)
    squared = squared_distances(points, points).fill_diagonal_(0.0)
    apart = squared[squared > _COPIES]
    width = apart.median() if len(apart) else torch.ones((), dtype=torch.float64)
    kernel = torch.exp(-squared / width)
    return _Known(points, width, kernel, kernel.sum())


def _discrepancies(kernel: Tensor, first: Tensor) -> Tensor:
    """Give the unbiased squared discrepancies (k,) between the rows marked by ones (k, m + n) and the others."""
    m = first.sum(1)
    n = len(kernel) - m
    rows, diagonal, total = kernel.sum(1), kernel.diagonal(), kernel.sum()
    inside = ((first @ kernel) * first).sum(1)  # a' K a
    across = first @ rows - inside  # a' K b, since a + b = 1
    others = total - inside - 2.0 * across  # b' K b
    own = first @ diagonal
    return (inside - own) / (m * (m - 1)) + (others - (diagonal.sum() - own)) / (n * (n - 1)) - 2.0 * across / (m * n)
