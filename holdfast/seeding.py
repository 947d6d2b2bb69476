"""Randomness by name: every draw is a pure function of (run seed, path, example), never of batch or order."""

from __future__ import annotations

import hashlib
import math
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

_ALONE = threading.RLock()
"""Held by whoever builds or trains: torch's own generators, autocast's cache and Fabric's flags are the process's."""
_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift; torch's is arithmetic for int64."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    """Finalise 64-bit words as SplitMix64 does (Steele, Lea and Flood 2014, OOPSLA)."""
    x = (x ^ _shift(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shift(x, 31)


@dataclass(frozen=True)
class Noise:
    """A named source of randomness without state.

    Equal (seed, path, id, shape) give equal numbers on every device, in any batch, in any order, and
    the global generators are never touched. A second draw needs a second name: ``noise.derive("restart", 1)``.
    """

    seed: int
    path: tuple[str, ...] = ()

    def derive(self, *parts: object) -> Noise:
        """Name a substream."""
        return Noise(self.seed, (*self.path, *map(str, parts)))

    @property
    def key(self) -> int:
        """The 64-bit key of this stream, signed."""
        name = "\0".join((str(self.seed), *self.path))
        return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)

    def _words(self, ids: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Draw int64 words (n, *shape), one stream for each id (n,)."""
        count = math.prod(shape)
        stream = _mix(ids.to(torch.int64) ^ self.key)
        counter = torch.arange(1, count + 1, device=ids.device, dtype=torch.int64) * _GOLDEN
        return _mix(stream[:, None] + counter[None, :]).reshape(len(ids), *shape)

    def uniform(self, ids: Tensor, shape: tuple[int, ...] = (), low: float = 0.0, high: float = 1.0) -> Tensor:
        """Draw float32 (n, *shape), uniform on [low, high), one stream for each id (n,) int64."""
        unit = _shift(self._words(ids, shape), 40).to(torch.float32) * 2.0**-24
        return low + (high - low) * unit

    def normal(self, ids: Tensor, shape: tuple[int, ...] = ()) -> Tensor:
        """Draw float32 (n, *shape), standard normal (Box and Muller 1958)."""
        words = self._words(ids, (*shape, 2))
        unit = (_shift(words, 11).to(torch.float64) + 0.5) * 2.0**-53
        radius, angle = torch.sqrt(-2.0 * torch.log(unit[..., 0])), 2.0 * math.pi * unit[..., 1]
        return (radius * torch.cos(angle)).to(torch.float32)

    def integers(self, ids: Tensor, high: int, shape: tuple[int, ...] = ()) -> Tensor:
        """Draw int64 (n, *shape), uniform on {0, ..., high - 1}; the bias is below high / 2**53."""
        unit = _shift(self._words(ids, shape), 11).to(torch.float64) * 2.0**-53
        return (unit * high).floor().to(torch.int64).clamp_(0, high - 1)

    def generator(self) -> torch.Generator:
        """Make a CPU generator of this name, for draws that belong to no example (shuffles, initial weights)."""
        return torch.Generator().manual_seed(self.key & ((1 << 63) - 1))

    def numpy(self) -> np.random.Generator:
        """Make a NumPy generator of this name."""
        return np.random.default_rng(self.key & ((1 << 63) - 1))


@contextmanager
def drawing(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed torch's own generators for code that draws from nothing else, and give them back as they were.

    Beside the CPU's these are those of every GPU, or of ``device`` alone: a step need not wake the others.

    One thread at a time: two would draw from each other's seeds, and may wait for each other without end, one with the
    generator for the interpreter and the other with the interpreter for the generator.
    """
    every = range(torch.cuda.device_count())
    own = every if device is None else [device] if device.type == "cuda" else []
    with _ALONE, torch.random.fork_rng(devices=own):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every GPU, and only these come back
        for each in own:
            with torch.cuda.device(each):
                torch.cuda.manual_seed(seed)
        yield
