"""Random fields (n, h, w), one for each id: clouds, and white noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.seeding import Noise

_FEW = 6.0
"""Mean count up to which the Poisson distribution is summed."""
_MOST = 45
"""A count that a Poisson draw of mean ``_FEW`` reaches with a probability below 1e-18."""


def plasma(ids: Tensor, shape: tuple[int, int], decay: float, noise: Noise) -> Tensor:
    """Draw clouds by the diamond-square algorithm, from 0 to 1 over the square that they are cut from.

    The square's side is the power of two from the longer side up. The roughness of each scale is that of the scale
    above over ``decay**2``.

    Source: Fournier, Fussell and Carpenter 1982 (Communications of the ACM 25, 6), as Hendrycks and Dietterich use it.
    """
    height, width = shape
    side = max(1 << (max(shape) - 1).bit_length(), 2)
    field = torch.zeros((len(ids), side, side), device=ids.device)
    step, wobble = side, 100.0
    while step > 1:
        half, draws = step // 2, noise.derive("step", step)
        size = (side // step, side // step)
        reach = wobble**2  # as published, where the amplitude is squared
        corners = field[:, ::step, ::step]
        pairs = corners + corners.roll(-1, 1)
        middle = (pairs + pairs.roll(-1, 2)) / 4 + draws.derive("middle").uniform(ids, size, -reach, reach)
        above = (middle + middle.roll(1, 1) + corners + corners.roll(-1, 2)) / 4
        beside = (middle + middle.roll(1, 2) + corners + corners.roll(-1, 1)) / 4
        field[:, half::step, half::step] = middle
        field[:, ::step, half::step] = above + draws.derive("above").uniform(ids, size, -reach, reach)
        field[:, half::step, ::step] = beside + draws.derive("beside").uniform(ids, size, -reach, reach)
        step, wobble = half, wobble / decay
    field -= field.amin((1, 2), keepdim=True)
    return (field / field.amax((1, 2), keepdim=True))[:, :height, :width]


def power_law(ids: Tensor, shape: tuple[int, int], fall: float, noise: Noise) -> Tensor:
    """Draw Gaussian fields of mean 0 and deviation 1 whose power falls with the frequency to the exponent ``fall``."""
    height, width = shape
    down = torch.fft.fftfreq(height, dtype=torch.float64, device=ids.device)[:, None]
    right = torch.fft.fftfreq(width, dtype=torch.float64, device=ids.device)
    power = (down.square() + right.square()).clamp(min=1e-12) ** (-fall / 2)
    power[0, 0] = 0.0
    gain = torch.sqrt(power / power.mean().clamp(min=1e-300))
    spectrum = torch.fft.rfft2(noise.normal(ids, shape).double()) * gain[:, : width // 2 + 1]
    field: Tensor = torch.fft.irfft2(spectrum, s=shape)
    return field.float()


def poisson(mean: Tensor, normal: Tensor) -> Tensor:
    """Turn standard normal draws into Poisson ones of given means, larger draws into larger counts.

    By the expansion of the inverse distribution function above a mean of 6, where a count is off by one with a
    probability of 1e-3 at most; by the distribution function itself below.

    Source: Giles 2016 (ACM Transactions on Mathematical Software 42, 1), section 2.
    """
    w, rate = normal.double(), mean.double().clamp(min=_FEW)
    root = rate.sqrt()
    square = w * w
    place = rate + root * w + (2.0 + square) / 6.0 - w * (1.0 + square / 2.0) / (36.0 * root)
    place += (square * (7.0 / 810.0 + square / 270.0) - 8.0 / 405.0) / rate
    count = place.floor().clamp(min=0.0)
    few = mean < _FEW
    count[few] = _few(mean[few].double(), torch.special.ndtr(w[few]))
    return count.to(mean.dtype)


def _few(mean: Tensor, level: Tensor) -> Tensor:
    """Count how many terms of the distribution lie below a level (n,): its inverse."""
    term = torch.exp(-mean)
    total, count = term.clone(), torch.zeros_like(mean)
    for k in range(1, _MOST):
        short = level > total
        if not short.any():
            break
        count += short
        term = term * mean / k
        total += term
    return count
