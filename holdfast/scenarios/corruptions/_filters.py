"""Linear filters of images (n, c, h, w): what several corruptions are made of.

Every image is filtered by itself. What sums many terms does so in float64, and settles the last digits, since the order
of a sum may depend on the size of the batch.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor

Edge = Literal["nearest", "reflect", "mirror"]
"""What stands outside an image abc: ``nearest`` aa|abc|cc, ``reflect`` ba|abc|cb, ``mirror`` cb|abc|ba."""


def fold(index: Tensor, size: int, edge: Edge) -> Tensor:
    """Give the pixel, 0 to size - 1, that stands for any index, inside or out."""
    if edge == "nearest" or size == 1:
        return index.clamp(0, size - 1)
    period, last = (2 * size, 2 * size - 1) if edge == "reflect" else (2 * size - 2, 2 * size - 2)
    within = index % period
    return torch.minimum(within, last - within)


def resample(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Make each row of the answer a weighted sum of rows, and each column of columns; float64 matrices (out, in)."""
    return settled(rows @ (x.double() @ columns.T)).to(x.dtype)


def settled(x: Tensor) -> Tensor:
    """Round float64 values of about 1 to 2**-40, in place.

    A value that lies between two float32 numbers, as averages of few pixels do, then goes to the same one whatever its
    last digits are.
    """
    return x.mul_(2.0**40).round_().mul_(2.0**-40)


def gaussian(x: Tensor, sigma: float, edge: Edge = "nearest", truncate: float = 4.0) -> Tensor:
    """Blur by a Gaussian of a deviation in pixels, cut off at ``truncate`` deviations."""
    rows, columns = (_gaussian_weights(size, sigma, edge, truncate).to(x.device) for size in x.shape[2:])
    return resample(x, rows, columns)


def _gaussian_weights(size: int, sigma: float, edge: Edge, truncate: float) -> Tensor:
    reach = int(truncate * sigma + 0.5)
    if reach == 0:
        return torch.eye(size, dtype=torch.float64)
    step = torch.arange(-reach, reach + 1)
    weights = torch.exp(-0.5 * (step.double() / sigma).square())
    source = fold(torch.arange(size)[:, None] + step, size, edge)
    matrix = torch.zeros((size, size), dtype=torch.float64)
    return matrix.scatter_add_(1, source, (weights / weights.sum()).expand(size, -1))


def box_weights(source: int, target: int) -> Tensor:
    """Give the matrix (target, source) of Pillow's box filter: averages of whole pixels, or repetitions."""
    scale = source / target
    support = 0.5 * max(scale, 1.0)
    matrix = torch.zeros((target, source), dtype=torch.float64)
    for i in range(target):
        centre = (i + 0.5) * scale
        first, last = max(int(centre - support + 0.5), 0), min(int(centre + support + 0.5), source)
        place = torch.arange(first, last, dtype=torch.float64) - centre + 0.5
        inside = ((place > -support) & (place <= support)).double()
        matrix[i, first:last] = inside / inside.sum()
    return matrix


def convolve(x: Tensor, kernel: Tensor) -> Tensor:
    """Convolve with a symmetric kernel (k, k) of odd size, edges mirrored."""
    reach = len(kernel) // 2
    step = torch.arange(-reach, max(x.shape[2:]) + reach, device=x.device)
    row, column = (fold(step[: size + 2 * reach], size, "mirror") for size in x.shape[2:])
    padded = x.double()[:, :, row][:, :, :, column]
    size = padded.shape[2:]
    spectrum = torch.fft.rfft2(padded) * torch.fft.rfft2(kernel.to(x.device, torch.float64), s=size)
    filtered: Tensor = torch.fft.irfft2(spectrum, s=size)
    return settled(filtered[:, :, 2 * reach :, 2 * reach :]).to(x.dtype)


def disk(radius: float, alias_blur: float) -> Tensor:
    """Make the kernel of a lens out of focus: a disk of a radius in pixels, its edge blurred.

    As OpenCV blurs it: 3 x 3 weights up to radius 8, 5 x 5 above, edges of the kernel mirrored. Zeros around are cut.
    Disks that fill their frame, of radius 8 and 10, make images 1 % brighter: so they are published.
    """
    reach, half = (8, 1) if radius <= 8 else (int(radius), 2)  # noqa: PLR2004  the published code's bound
    step = torch.arange(-reach, reach + 1)
    sharp = (step.square()[:, None] + step.square() <= radius**2).double()
    weights = _gaussian_weights(len(step), alias_blur, "mirror", half / alias_blur)
    kernel = weights @ (sharp / sharp.sum()) @ weights.T
    margin = min(reach, math.ceil(radius) + half)
    return kernel[reach - margin : reach + margin + 1, reach - margin : reach + margin + 1]


def zoom(x: Tensor, factor: float) -> Tensor:
    """Enlarge the middle by a factor of at least 1 to the old size, bilinear, corners on corners."""
    (top, rows, high, down), (left, columns, wide, right) = (_zoom_cut(size, factor) for size in x.shape[2:])
    cut = x[:, :, top : top + rows, left : left + columns]
    large = F.interpolate(cut, size=(high, wide), mode="bilinear", align_corners=True)
    return large[:, :, down : down + x.shape[2], right : right + x.shape[3]]


def _zoom_cut(size: int, factor: float) -> tuple[int, int, int, int]:
    """Give start and length of the part that is enlarged, the length that it gets, and what is cut off before."""
    crop = math.ceil(size / factor)
    large = round(crop * factor)
    return (size - crop) // 2, crop, large, (large - size) // 2


def motion(x: Tensor, radius: float, sigma: float, degrees: Tensor) -> Tensor:
    """Average along a line, for each image in its own direction (n,).

    As ImageMagick does: one-sided, Gaussian weights at whole steps, each at the nearest pixel, edges repeated.
    """
    step = torch.arange(2 * int(radius) + 1, dtype=torch.float64, device=x.device)
    weights = torch.exp(-step.square() / (2.0 * sigma**2))
    angle = torch.deg2rad(degrees.double())[:, None]
    down = torch.ceil(step * torch.sin(angle) - 0.5).long()
    right = torch.ceil(step * torch.cos(angle) - 0.5).long()
    return _average(x, down, right, (weights / weights.sum()).tolist())


def _average(x: Tensor, down: Tensor, right: Tensor, weights: list[float]) -> Tensor:
    """Average pixels at offsets (n, steps) from each pixel of x (n, c, h, w), edges repeated."""
    n, channels, height, width = x.shape
    rows, columns = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
    total = torch.zeros_like(x)
    for i, weight in enumerate(weights):
        row = (rows + down[:, i, None]).clamp(0, height - 1)
        column = (columns + right[:, i, None]).clamp(0, width - 1)
        index = (row[:, :, None] * width + column[:, None, :]).reshape(n, 1, -1).expand(n, channels, -1)
        total += weight * x.flatten(2).gather(2, index).reshape(x.shape)
    return total


def sample(x: Tensor, row: Tensor, column: Tensor, edge: Literal["reflect", "mirror"]) -> Tensor:
    """Read each image at real places (n, h, w), bilinear."""
    height, width = x.shape[2:]
    if edge == "mirror":
        place = (2 * column / max(width - 1, 1) - 1, 2 * row / max(height - 1, 1) - 1)
    else:
        place = ((2 * column + 1) / width - 1, (2 * row + 1) / height - 1)
    grid = torch.stack(place, dim=3).to(x.dtype)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=edge == "mirror")
