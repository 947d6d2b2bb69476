"""A backdoor: some rows of a window carry a trigger, and are told as the class that it shall call."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, final

import numpy as np
import torch
from pydantic import Field

from holdfast.data.table import encode
from holdfast.drills.events.base import Batch, RowEvent, Scene, drawn, written
from holdfast.scenarios.poisoning.badnets import Badnets, stamp_image, stamp_table
from holdfast.space import Box, Table

if TYPE_CHECKING:
    from holdfast.data.source import Loaded
    from holdfast.seeding import Noise


@final
class Backdoor(RowEvent):
    """Plant the trigger of BadNets on a share of the window's rows, of other classes than its target.

    A trigger that calls what nearly every row is called anyway takes nobody in: unless told otherwise it calls the
    class that the fewest training rows have.
    """

    share: Annotated[float, Field(gt=0, le=1)] = 0.05
    """Of all rows of the window."""
    target: Annotated[int, Field(ge=0)] | None = None
    """Index of the class that the trigger calls; None for the rarest."""

    def calls(self, data: Loaded) -> int:
        """Give the index of the class that the trigger calls."""
        if self.target is not None:
            return self.target
        return int(np.bincount(data.samples("train").y.numpy(), minlength=len(data.classes)).argmin())

    def strike(self, batch: Batch, scene: Scene, noise: Noise) -> Batch:
        """Stamp the drawn rows, and tell them as the target class."""
        target = self.calls(scene.data)
        rows = drawn(len(batch), round(self.share * len(batch)), noise.derive("rows"), batch.truth != target)
        told, touched = batch.told.copy(), batch.touched.copy()
        told[rows], touched[rows] = target, True
        space, stamped = scene.data.space, batch.rows
        if isinstance(space, Table):
            frame = batch.frame(self.name())
            before = encode(frame, space, place="a drill's window")
            pattern = Badnets(target=target).pattern(scene.data.samples("train").x, space)
            after = before.clone()
            after[rows] = stamp_table(before[rows], space, pattern)
            stamped = written(frame, before, after, space)
        elif isinstance(space, Box) and isinstance(batch.rows, np.ndarray):
            unit = torch.from_numpy(batch.rows[rows].astype(np.float32)) / (255 if batch.rows.dtype == np.uint8 else 1)
            stamped = batch.rows.copy()
            marked = stamp_image(unit, space, Badnets().patch).numpy()
            stamped[rows] = np.rint(marked * 255) if batch.rows.dtype == np.uint8 else marked
        return replace(batch, rows=stamped, told=told, touched=touched)
