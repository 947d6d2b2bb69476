"""A tampered artefact: the champion's weights are replaced by others of the same shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from safetensors.torch import load, save

from holdfast.drills.events.base import ArtefactEvent
from holdfast.model import WEIGHTS

if TYPE_CHECKING:
    from pathlib import Path

    from holdfast.seeding import Noise


@final
class TamperedArtefact(ArtefactEvent):
    """Turn the sign of every weight: a file that loads, and answers wrongly."""

    def damage(self, folder: Path, noise: Noise) -> None:
        """Write the other weights in place of the right ones."""
        del noise
        path = folder / WEIGHTS
        path.chmod(0o644)
        path.write_bytes(save({name: -tensor for name, tensor in load(path.read_bytes()).items()}))
