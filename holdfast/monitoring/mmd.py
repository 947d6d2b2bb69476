"""Maximum mean discrepancy: whether rows come from another distribution, in all features together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, final

import numpy as np
import torch
from pydantic import Field

from holdfast.monitoring._features import standardised
from holdfast.monitoring.base import Detector, Needs, Reading
from holdfast.seeding import Noise

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.data.stream import Window
    from holdfast.results import About, Json


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
        found = _discrepancy(kernel, torch.arange(len(kernel)) < m)
        noise = Noise(0, ("mmd", window.id))
        orders = noise.uniform(torch.arange(self.permutations), (len(kernel),)).argsort(1)
        moved = torch.stack([_discrepancy(kernel, order < m) for order in orders])
        p_value = float((1 + int((moved >= found).sum())) / (1 + self.permutations))
        return self._reading(float(found), p_value, memory)

    def replay(self, window: Window, past: Window, memory: Json) -> Reading:
        """Read the discrepancy without its permutations."""
        kernel, m = self._kernel(window, past)
        return self._reading(float(_discrepancy(kernel, torch.arange(len(kernel)) < m)), None, memory)

    def _reading(self, found: float, p_value: float | None, memory: Json) -> Reading:
        return Reading(
            statistic=found, effect=float(np.sqrt(max(found, 0.0))), effect_unit="distance of kernel means",
            p_value=p_value, memory=memory,
        )  # fmt: skip

    def _kernel(self, window: Window, past: Window) -> tuple[Tensor, int]:
        """Give the kernel matrix of both samples (m + n, m + n), and m."""
        now, before = (each.resample(min(self.rows, len(each)), Noise(0, ("mmd", each.id))) for each in (window, past))
        x = torch.cat([standardised(each, past) for each in (now, before)])
        distances = torch.cdist(x, x).square()
        own = distances[len(now) :, len(now) :]
        width = own[own > 0].median() if bool((own > 0).any()) else torch.tensor(1.0)
        return torch.exp(-distances / width).double(), len(now)


def _discrepancy(kernel: Tensor, first: Tensor) -> Tensor:
    """Give the unbiased squared discrepancy between the rows marked (m + n,) and the others."""
    a, b = first.double(), (~first).double()
    m, n = a.sum(), b.sum()
    within = (a @ kernel @ a - a @ kernel.diagonal()) / (m * (m - 1)) + (b @ kernel @ b - b @ kernel.diagonal()) / (
        n * (n - 1)
    )
    return within - 2 * (a @ kernel @ b) / (m * n)
