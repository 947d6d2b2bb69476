"""A JPEG encoder and decoder without the entropy coding, which loses nothing: integers in, integers out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62), (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
_CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99), (18, 21, 26, 66, 99, 99, 99, 99), (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99), *((99,) * 8,) * 4,
)  # fmt: skip
# Every step is libjpeg's own integer arithmetic (accurate integer DCT, 4:2:0 chrominance, triangle upsampling): results
# equal a real encoder's bit for bit, and cannot depend on batch, device or rounding mode.
_BLOCK = 8
_RGB = 3
_CONSTANT_BITS, _PASS_BITS = 13, 2
_NARROW = 2  # chrominance columns up to which libjpeg repeats samples and draws no triangle

# Constants of Loeffler, Ligtenberg and Moschytz 1989 (ICASSP), times 2**13.
_C0298, _C0390, _C0541, _C0765, _C0899, _C1175 = 2446, 3196, 4433, 6270, 7373, 9633
_C1501, _C1847, _C1961, _C2053, _C2562, _C3072 = 12299, 15137, 16069, 16819, 20995, 25172


def quantisation_table(quality: int, *, chrominance: bool = False) -> Tensor:
    """Scale the standard table to a quality from 1 to 100: int32 (8, 8) from 1 to 255.

    Source: ITU-T T.81, annex K.1; the scaling is libjpeg's.
    """
    base = torch.tensor(_CHROMINANCE if chrominance else _LUMINANCE, dtype=torch.int32)
    half = 50
    scale = 5000 // quality if quality < half else 200 - 2 * quality
    return ((base * scale + 50) // 100).clamp(1, 255)


def round_trip(pixels: Tensor, quality: int) -> Tensor:
    """Compress and restore images, int32 (n, c, h, w) from 0 to 255, at a quality from 1 to 100."""
    n, channels, height, width = pixels.shape
    luminance = quantisation_table(quality).to(pixels.device)
    if channels != _RGB:
        planes = pixels.reshape(n * channels, height, width)
        return _code_plane(planes, luminance).reshape(pixels.shape)
    chrominance = quantisation_table(quality, chrominance=True).to(pixels.device)
    y, blue, red = _to_ycc(pixels)
    y = _code_plane(y, luminance)
    blue, red = (_upsample(_code_plane(_downsample(p), chrominance), height, width) for p in (blue, red))
    return _to_rgb(y, blue - 128, red - 128)


def _to_ycc(rgb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r, g, b = rgb.unbind(1)
    half, centre = 1 << 15, (128 << 16) + (1 << 15) - 1
    y = (19595 * r + 38470 * g + 7471 * b + half) >> 16
    blue = (-11059 * r - 21709 * g + 32768 * b + centre) >> 16
    red = (32768 * r - 27439 * g - 5329 * b + centre) >> 16
    return y, blue, red


def _to_rgb(y: Tensor, blue: Tensor, red: Tensor) -> Tensor:
    half = 1 << 15
    r = y + ((91881 * red + half) >> 16)
    g = y + ((-22554 * blue - 46802 * red + half) >> 16)
    b = y + ((116130 * blue + half) >> 16)
    return torch.stack([r, g, b], dim=1).clamp(0, 255)


def _repeat_edge(plane: Tensor, rows: int, columns: int) -> Tensor:
    """Repeat the last row and column of (n, h, w) up to (n, rows, columns)."""
    row = torch.arange(rows, device=plane.device).clamp(max=plane.shape[1] - 1)
    column = torch.arange(columns, device=plane.device).clamp(max=plane.shape[2] - 1)
    return plane[:, row][:, :, column]


def _downsample(plane: Tensor) -> Tensor:
    """Average 2 x 2 samples of (n, h, w), rounding down and up in turn, so that no brightness drifts.

    The answer is padded to whole blocks at the right, where libjpeg repeats the edge before it averages.
    """
    height, width = (-(-size // 2) for size in plane.shape[1:])
    columns = -(-width // _BLOCK) * _BLOCK
    padded = _repeat_edge(plane, 2 * height, 2 * columns)
    total = padded[:, ::2, ::2] + padded[:, ::2, 1::2] + padded[:, 1::2, ::2] + padded[:, 1::2, 1::2]
    return (total + 1 + torch.arange(columns, device=plane.device, dtype=torch.int32) % 2) >> 2


def _upsample(plane: Tensor, height: int, width: int) -> Tensor:
    """Double (n, h', w') to (n, height, width), each sample 3/4 of the nearer and 1/4 of the further one."""
    columns = -(-width // 2)
    plane = plane[:, :, :columns]
    if columns <= _NARROW:
        return plane.repeat_interleave(2, 1).repeat_interleave(2, 2)[:, :height, :width]
    padded = F.pad(plane.float()[:, None], (0, 0, 1, 1), mode="replicate")[:, 0].to(torch.int32)
    tall = torch.stack([3 * plane + padded[:, :-2], 3 * plane + padded[:, 2:]], dim=2).flatten(1, 2)
    edged = F.pad(tall.float()[:, None], (1, 1, 0, 0), mode="replicate")[:, 0].to(torch.int32)
    left, right = (3 * tall + edged[:, :, :-2] + 8) >> 4, (3 * tall + edged[:, :, 2:] + 7) >> 4
    return torch.stack([left, right], dim=3).flatten(2, 3)[:, :height, :width]


def _code_plane(plane: Tensor, table: Tensor) -> Tensor:
    """Transform, quantise and restore (n, h, w) from 0 to 255, edges repeated to whole blocks."""
    n, height, width = plane.shape
    rows, columns = (-(-size // _BLOCK) for size in (height, width))
    padded = _repeat_edge(plane, rows * _BLOCK, columns * _BLOCK)
    blocks = padded.reshape(n, rows, _BLOCK, columns, _BLOCK).transpose(2, 3) - 128
    coefficients = _forward(blocks)
    divisor = table << 3  # the forward transform leaves a factor of 8
    levels = coefficients.sign() * ((coefficients.abs() + divisor // 2) // divisor)
    restored = (_inverse(levels * table) + 128).clamp(0, 255)
    return restored.transpose(2, 3).reshape(n, rows * _BLOCK, columns * _BLOCK)[:, :height, :width]


def _descale(x: Tensor, bits: int) -> Tensor:
    return (x + (1 << (bits - 1))) >> bits


def _along(blocks: Tensor, dim: int, transform: Callable[[Sequence[Tensor]], list[Tensor]]) -> Tensor:
    return torch.stack(transform(blocks.unbind(dim)), dim=dim)


def _forward(blocks: Tensor) -> Tensor:
    """Discrete cosine transform of int32 (..., 8, 8), times 8, rounded."""
    rows = _along(blocks, -1, lambda d: _forward_pass(d, first=True))
    return _along(rows, -2, lambda d: _forward_pass(d, first=False))


def _forward_pass(d: Sequence[Tensor], *, first: bool) -> list[Tensor]:
    sums, differences = [d[i] + d[7 - i] for i in range(4)], [d[i] - d[7 - i] for i in range(4)]
    bits = _CONSTANT_BITS + (-_PASS_BITS if first else _PASS_BITS)
    outer, inner = sums[0] + sums[3], sums[1] + sums[2]
    far, near = sums[0] - sums[3], sums[1] - sums[2]
    even = (outer + inner, outer - inner)
    zero, four = (e << _PASS_BITS if first else _descale(e, _PASS_BITS) for e in even)
    shared = (near + far) * _C0541
    two, six = _descale(shared + far * _C0765, bits), _descale(shared - near * _C1847, bits)
    t7, t6, t5, t4 = differences
    one, three, five, seven = _odd_part(t4, t5, t6, t7)
    return [
        zero, _descale(one, bits), two, _descale(three, bits),
        four, _descale(five, bits), six, _descale(seven, bits),
    ]  # fmt: skip


def _odd_part(t4: Tensor, t5: Tensor, t6: Tensor, t7: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rotate the four odd terms; forward and inverse transform share it."""
    z3, z4 = t4 + t6, t5 + t7
    z5 = (z3 + z4) * _C1175
    z1, z2 = (t4 + t7) * -_C0899, (t5 + t6) * -_C2562
    z3, z4 = z3 * -_C1961 + z5, z4 * -_C0390 + z5
    return t7 * _C1501 + z1 + z4, t6 * _C3072 + z2 + z3, t5 * _C2053 + z2 + z4, t4 * _C0298 + z1 + z3


def _inverse(coefficients: Tensor) -> Tensor:
    """Inverse transform of int32 (..., 8, 8), rounded."""
    columns = _along(coefficients, -2, lambda d: _inverse_pass(d, _CONSTANT_BITS - _PASS_BITS))
    return _along(columns, -1, lambda d: _inverse_pass(d, _CONSTANT_BITS + _PASS_BITS + 3))


def _inverse_pass(d: Sequence[Tensor], bits: int) -> list[Tensor]:
    shared = (d[2] + d[6]) * _C0541
    low, high = shared - d[6] * _C1847, shared + d[2] * _C0765
    total, difference = (d[0] + d[4]) << _CONSTANT_BITS, (d[0] - d[4]) << _CONSTANT_BITS
    even = (total + high, difference + low, difference - low, total - high)
    odd = _odd_part(d[7], d[5], d[3], d[1])
    front = [_descale(e + o, bits) for e, o in zip(even, odd, strict=True)]
    back = [_descale(e - o, bits) for e, o in zip(even, odd, strict=True)]
    return front + back[::-1]
