"""Layers that bounds can be carried through: intervals forward, linear functions backward, all in float64."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple, final

import torch
import torch.nn.functional as F
from torch import Tensor

UNIT = 2.0**-24
"""Unit roundoff of float32, in which the model computes."""
LARGEST = 1e38
"""Beyond it float32 may overflow, and nothing is certified."""
SMALLEST = 2.0**-126
"""Below it float32 has fewer digits, or none: what each product of a sum may lose beside its relative error."""


class Interval(NamedTuple):
    """What a layer's input may be: bounds (n, *shape) in exact arithmetic, and how far float32 may be from it."""

    low: Tensor
    high: Tensor
    error: Tensor

    def take(self, rows: Tensor) -> Interval:
        """Select points."""
        return Interval(self.low[rows], self.high[rows], self.error[rows])


class Rows(NamedTuple):
    """Linear functions of some layer's input, one for each row; a lower bound of a number each is to be proved for.

    Far from the image's edges, and as long as nothing dense was passed, a row looks at a window only.
    """

    owner: Tensor
    """Which point each row is about (m,)."""
    coefficients: Tensor
    """(m, features), or (m, channels, height, width) over the whole layer or a window of it."""
    constant: Tensor
    """(m,)."""
    corner: Tensor | None = None
    """Where the window begins (m, 2), outside of the layer perhaps; None for the whole layer."""

    def negated(self) -> Rows:
        """Ask for the upper bounds' negatives."""
        return self._replace(coefficients=-self.coefficients, constant=-self.constant)

    def gather(self, values: Tensor) -> Tensor:
        """Give each row its own point's values (m, ...) of (n, ...), in the row's window; outside of the layer any."""
        if self.corner is None:
            return values[self.owner]
        height, width = self.coefficients.shape[-2:]
        down = _span(self.corner[:, 0], height).clamp(0, values.shape[-2] - 1)
        right = _span(self.corner[:, 1], width).clamp(0, values.shape[-1] - 1)
        last = values.movedim(-3, -1)  # channels lie side by side: one look-up for all
        return last[self.owner[:, None, None], down[:, :, None], right[:, None, :]].movedim(-1, -3)

    def inside(self, height: int, width: int) -> Rows:
        """Drop what lies outside of the layer: padding, which is 0 whatever the input."""
        if self.corner is None:
            return self
        down = _span(self.corner[:, 0], self.coefficients.shape[-2])
        right = _span(self.corner[:, 1], self.coefficients.shape[-1])
        kept = ((down >= 0) & (down < height))[:, :, None] & ((right >= 0) & (right < width))[:, None, :]
        return self._replace(coefficients=self.coefficients * kept[:, None])


def _span(start: Tensor, length: int) -> Tensor:
    return start[:, None] + torch.arange(length, device=start.device)


class Linear(ABC):
    """A layer y = W x + b, given by what W and its absolute values do."""

    shape: tuple[int, ...]
    """Of one input."""
    out: tuple[int, ...]
    """Of one output."""
    bias: Tensor
    """Broadcasts over (n, *out)."""
    bulk: Tensor
    """Sizes of the numbers that float32 adds the bias up from: as large as |b|, or larger where they cancel."""
    roundings: float
    """Bound of float32's relative error in a sum of size |W| |x| + bulk, in whichever order it is added."""
    terms: int
    """Numbers that it adds up."""

    @abstractmethod
    def times(self, x: Tensor, *, absolute: bool = False) -> Tensor:
        """Multiply (n, *shape) by W, or by its absolute values."""

    @abstractmethod
    def transposed(self, rows: Rows) -> Rows:
        """Put linear functions of the output on the input; the bias is done with."""

    @final
    def forward(self, given: Interval) -> Interval:
        """Bound the outputs; Higham 2002, section 3.1, for what float32 adds to the error of the inputs."""
        middle, radius = (given.high + given.low) / 2, (given.high - given.low) / 2
        centre, spread = self.times(middle) + self.bias, self.times(radius, absolute=True)
        size = torch.maximum(given.low.abs(), given.high.abs()) + given.error
        total = self.times(size, absolute=True) + self.bulk
        error = self.times(given.error, absolute=True) + self.roundings * total + 2 * self.terms * SMALLEST
        return Interval(centre - spread, centre + spread, torch.where(total < LARGEST, error, torch.inf))

    @final
    def backward(self, rows: Rows) -> Rows:
        """Put linear functions of the output on the input."""
        shift = (rows.coefficients * self.bias).flatten(1).sum(1)
        return self.transposed(rows._replace(constant=rows.constant + shift))


@final
class Dense(Linear):
    """Every input with every output."""

    def __init__(self, weight: Tensor, bias: Tensor | None, device: torch.device) -> None:
        self.out, self.shape = (weight.shape[0],), (weight.shape[1],)
        self.weight = weight.to(device, torch.float64)
        self.bias = torch.zeros(1, dtype=torch.float64, device=device) if bias is None else bias.to(device).double()
        self.bulk = self.bias.abs()
        self.terms = weight.shape[1] + 1
        self.roundings = rounding(self.terms, device)

    def times(self, x: Tensor, *, absolute: bool = False) -> Tensor:
        """Multiply (n, inputs)."""
        return x @ (self.weight.abs() if absolute else self.weight).T

    def transposed(self, rows: Rows) -> Rows:
        """Multiply by W from the left."""
        return rows._replace(coefficients=rows.coefficients @ self.weight)


@final
class Convolution(Linear):
    """A convolution in two dimensions with zeros around, strided, dilated or in groups; average pooling is one too."""

    def __init__(
        self,
        shape: tuple[int, ...],
        weight: Tensor,
        bias: Tensor | None,
        *,
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int, int, int] = (0, 0, 0, 0),
        dilation: tuple[int, int] = (1, 1),
        groups: int = 1,
        device: torch.device,
    ) -> None:
        self.shape, self.stride, self.dilation, self.groups = shape, stride, dilation, groups
        self.padding = padding
        """Left, right, above, below: as torch's ``pad`` has them."""
        self.weight = weight.to(device, torch.float64)
        self.bias = torch.zeros(1, dtype=torch.float64, device=device)
        if bias is not None:
            self.bias = bias.to(device).double().reshape(-1, 1, 1)
        self.bulk = self.bias.abs()
        self.terms = weight[0].numel() + 1
        self.roundings = rounding(self.terms, device)
        self.out = tuple(self.times(torch.zeros((1, *shape), dtype=torch.float64, device=device)).shape[1:])

    def times(self, x: Tensor, *, absolute: bool = False) -> Tensor:
        """Convolve (n, channels, height, width)."""
        weight = self.weight.abs() if absolute else self.weight
        return F.conv2d(F.pad(x, self.padding), weight, stride=self.stride, dilation=self.dilation, groups=self.groups)

    def window(self, seen: tuple[int, int]) -> tuple[int, int]:
        """Give height and width of what a window of the output reads."""
        kernels = (d * (k - 1) for d, k in zip(self.dilation, self.weight.shape[2:], strict=True))
        tall, wide = ((n - 1) * s + k + 1 for n, s, k in zip(seen, self.stride, kernels, strict=True))
        return tall, wide

    def transposed(self, rows: Rows) -> Rows:
        """Convolve backwards: a window grows by the kernel, and its corner moves by stride and padding."""
        grown = F.conv_transpose2d(
            rows.coefficients, self.weight, stride=self.stride, dilation=self.dilation, groups=self.groups
        )
        left, _, above, _ = self.padding
        (height, width), (_, tall, wide) = grown.shape[-2:], self.shape
        if rows.corner is None:
            fitted = F.pad(grown, (-left, wide + left - width, -above, tall + above - height))
            return rows._replace(coefficients=fitted)
        corner = rows.corner * rows.corner.new_tensor(self.stride) - rows.corner.new_tensor([above, left])
        return rows._replace(coefficients=grown, corner=corner).inside(tall, wide)


@final
class Scale(Linear):
    """A factor and a shift for each channel: standardisation, and batch normalisation at inference."""

    def __init__(self, shape: tuple[int, ...], factor: Tensor, shift: Tensor, bulk: Tensor) -> None:
        self.shape = self.out = shape
        self.factor, self.bias, self.bulk = factor, shift, bulk
        self.terms = 8
        self.roundings = rounding(self.terms, factor.device)

    def times(self, x: Tensor, *, absolute: bool = False) -> Tensor:
        """Multiply (n, channels, ...)."""
        return x * (self.factor.abs() if absolute else self.factor)

    def transposed(self, rows: Rows) -> Rows:
        """Multiply alike."""
        return rows._replace(coefficients=rows.coefficients * self.factor)


@final
class Flat:
    """All numbers of a point in a row."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape, self.out = shape, (int(torch.Size(shape).numel()),)

    def forward(self, given: Interval) -> Interval:
        """Reshape."""
        return Interval(*(each.flatten(1) for each in given))

    def backward(self, rows: Rows) -> Rows:
        """Reshape back."""
        return rows._replace(coefficients=rows.coefficients.reshape(-1, *self.shape))


class Relaxation(NamedTuple):
    """Two lines that enclose max(z, 0) between bounds of z: ``under`` z below, ``over`` z + ``lift`` above."""

    under: Tensor
    over: Tensor
    lift: Tensor


@final
class Rectifier:
    """max(z, 0)."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = self.out = shape

    def forward(self, given: Interval) -> Interval:
        """Cut at 0; an error grows no larger, and goes where 0 comes out anyway."""
        error = torch.where(given.high + given.error < 0, 0.0, given.error)
        return Interval(given.low.clamp(min=0.0), given.high.clamp(min=0.0), error)

    @staticmethod
    def relax(given: Interval) -> Relaxation:
        """Enclose: the chord above; below it 0 or z, whichever leaves less area (CROWN, section 3.3)."""
        low, high = given.low, given.high
        chord = high / (high - low).clamp(min=1e-300)
        zero, one = torch.zeros_like(low), torch.ones_like(low)
        over = torch.where(low >= 0, one, torch.where(high <= 0, zero, chord))
        lift = torch.where((low >= 0) | (high <= 0), zero, -chord * low)
        under = torch.where(low >= 0, one, torch.where((high <= 0) | (high < -low), zero, one))
        return Relaxation(under, over, lift)

    @staticmethod
    def backward(rows: Rows, lines: Relaxation) -> Rows:
        """Replace each output by the line that keeps a lower bound one."""
        under, over, lift = rows.gather(torch.cat(lines, dim=1)).chunk(3, dim=1)
        up, down = rows.coefficients.clamp(min=0.0), rows.coefficients.clamp(max=0.0)
        constant = rows.constant + (down * lift).flatten(1).sum(1)
        return rows._replace(coefficients=up * under + down * over, constant=constant)


Layer = Linear | Flat | Rectifier
"""What bounds can be carried through."""


def rounding(terms: int, device: torch.device) -> float:
    """Bound float32's relative error of a sum of products; coarser where products may be of fewer bits.

    Factors are taken to be cut off, not rounded, where their bits are fewer.

    Source: Higham 2002, Accuracy and Stability of Numerical Algorithms, section 3.1: n u / (1 - n u).
    """
    backends, cpu = torch.backends, torch.backends.mkldnn
    told = {each.fp32_precision for each in (backends, cpu, cpu.conv, cpu.matmul)}  # type: ignore[attr-defined]
    product = 0.0
    if "bf16" in told:
        product = 2.0**-6  # bfloat16: 7 bits
    elif device.type != "cpu" or told - {"none", "ieee"}:
        product = 2.0**-9  # TensorFloat-32, 10 bits: graphics cards convolve in it unless told otherwise
    return product + terms * UNIT / (1.0 - terms * UNIT)
