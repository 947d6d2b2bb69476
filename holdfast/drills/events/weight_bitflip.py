"""Bits of the stored weights turn over, as from failing memory or disks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, final

from pydantic import Field

from holdfast.drills.events.base import ArtefactEvent
from holdfast.model import WEIGHTS

if TYPE_CHECKING:
    from pathlib import Path

    from holdfast.seeding import Noise

_HEADER = 8
"""Bytes of a safetensors file that say how long its description is."""


@final
class WeightBitflip(ArtefactEvent):
    """Flip single bits, drawn evenly over all bytes of the weights."""

    bits: Annotated[int, Field(gt=0)] = 8

    def damage(self, folder: Path, noise: Noise) -> None:
        """Flip them in the file; its description stays whole."""
        path = folder / WEIGHTS
        body = bytearray(path.read_bytes())
        start = _HEADER + int.from_bytes(body[:_HEADER], "little")
        draws = noise.numpy()
        for place in draws.choice(len(body) - start, size=self.bits, replace=False):
            body[start + int(place)] ^= 1 << int(draws.integers(8))
        path.chmod(0o644)
        path.write_bytes(bytes(body))
