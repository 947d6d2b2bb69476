"""An evasion wave: an attacker probes the champion row by row, and sends what it gets wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, final

import numpy as np
import torch
from pydantic import Field

from holdfast.data import Samples
from holdfast.data.table import encode
from holdfast.drills.events.base import Batch, RowEvent, Scene, drawn, written
from holdfast.errors import DataError
from holdfast.scenarios.attacks.pgd import Pgd
from holdfast.space import Table

if TYPE_CHECKING:
    from holdfast.seeding import Noise


@final
class Evasion(RowEvent):
    """Replace a share of the rows by the trails of searches: each from a row towards one that the champion gets wrong.

    The searches know the champion (PGD, Madry et al. 2018); what is sent are ``trail`` steps of each, the last of them
    the row that was found.
    """

    share: Annotated[float, Field(gt=0, le=1)] = 0.3
    """Of all rows of the window."""
    trail: Annotated[int, Field(gt=0)] = 10
    """Rows that one search sends."""
    epsilon: Annotated[float, Field(gt=0)] = 0.3
    """How far a search goes, in the space's units."""
    categories: Annotated[int, Field(ge=0)] = 1
    """Categorical features that it may change."""

    def strike(self, batch: Batch, scene: Scene, noise: Noise) -> Batch:
        """Send the trails in place of drawn rows; each keeps the class of the row that it began at."""
        space, frame = scene.champion.space, batch.frame(self.name())
        if not isinstance(space, Table):
            raise DataError(
                "drill event evasion", found="a model of images", expected="a model of tables",
                remedy="Leave its incident out of drills.incidents.",
            )  # fmt: skip
        before = encode(frame, space, place="a drill's window")
        rows = drawn(len(batch), round(self.share * len(batch)), noise.derive("rows"))
        victims = rows[: max(1, len(rows) // self.trail)]
        held = torch.from_numpy(victims)
        x, y = before[held], torch.from_numpy(batch.truth[victims])
        right = scene.champion.predict(x) == y
        samples = Samples(x=x, y=y, ids=held, role="drill", snapshot=scene.data.digest)
        attack = Pgd(epsilon=self.epsilon, categories=self.categories)
        found = attack.strike(scene.champion, samples, right, noise.derive("search")).adversarial
        after, truth, touched = before.clone(), batch.truth.copy(), batch.touched.copy()
        for place, row in enumerate(rows):
            victim, step = place % len(victims), place // len(victims)
            part = 1.0 if step == 0 else 1.0 - 0.02 * step  # the search's last steps, hardly apart
            moved = x[victim] + part * (found[victim] - x[victim])
            after[row] = torch.where(moved.isnan(), found[victim], moved)
            truth[row], touched[row] = batch.truth[victims[victim]], True
        origin = torch.from_numpy(rows)
        order = np.arange(len(batch))
        order[rows] = victims[np.arange(len(rows)) % len(victims)]
        base = frame.iloc[order].reset_index(drop=True)
        anchor = before.clone()
        anchor[origin] = x[torch.arange(len(rows)) % len(victims)]
        after[origin] = space.project(after[origin], anchor[origin])
        return replace(batch, rows=written(base, anchor, after, space), truth=truth, told=truth.copy(), touched=touched)
