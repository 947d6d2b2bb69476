"""Reading a module as a list of layers, or saying which of its layers cannot be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from holdfast.networks import ImageEncoder
from holdfast.scenarios.certificates._layers import Convolution, Dense, Flat, Layer, Rectifier, Scale

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Shape = tuple[int, ...]

_CODE = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
"""Where torch keeps what runs beside a module's own forward."""


def obstacle(module: nn.Module) -> str | None:
    """Say which layer keeps bounds from being carried through; None where there is none.

    Only layers of exactly the known types are read: what a subclass, a hook or an own ``forward`` computes cannot be
    told, and a bound on something else would be worth nothing.
    """
    name, each, axes = "module", module, 3  # of an image: channels, height, width
    for name, each in _chain(module, "module"):
        if reason := _unread(each) or _unread_axes(each, axes):
            return f"no bounds can be proved through {name} ({type(each).__name__}): {reason}"
        axes = 1 if isinstance(each, nn.Flatten) else axes
    if not isinstance(each, nn.Linear):
        return f"no bounds can be proved of {name} ({type(each).__name__}): logits must come from a Linear"
    return None


def read(module: nn.Module, shape: Shape, device: torch.device) -> tuple[Layer, ...]:
    """Give the layers of a module without obstacle, for inputs of a shape; dropout and its like are no layers."""
    layers: list[Layer] = []
    for _, each in _chain(module, "module"):
        if (reader := _READERS[type(each)]) is not None:
            layers.append(reader(each, layers[-1].out if layers else shape, device))
    return tuple(layers)


def _chain(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """Walk through what is called one after another."""
    if type(module) is nn.Sequential and not _runs_code(module):
        for key, child in zip(module._modules, module, strict=True):  # noqa: SLF001  named_children skips what came before
            yield from _chain(child, f"{name}.{key}")
    else:
        yield name, module


def _runs_code(module: nn.Module) -> bool:
    return "forward" in vars(module) or any(vars(module).get(place) for place in _CODE)


def _unread(module: nn.Module) -> str | None:
    """Say why one layer cannot be read; None where it can."""
    if type(module) not in _READERS:
        return f"layers that can be read are {', '.join(kind.__name__ for kind in _READERS)}, one after another"
    if _runs_code(module):
        return "it has hooks, or a forward of its own"
    if any(each.dtype not in (torch.float32, torch.int64) for each in module.state_dict().values()):
        return "its numbers are not float32"
    return "it is in training mode" if module.training else _unread_settings(module)


def _unread_settings(module: nn.Module) -> str | None:
    if isinstance(module, nn.Conv2d) and module.padding_mode != "zeros":
        return f"it pads with {module.padding_mode}, and not with zeros"
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        if module.running_mean is None or module.running_var is None:
            return "it normalises by the batch"
        return "it has a negative variance" if bool(module.running_var.lt(0.0).any()) else None
    if isinstance(module, nn.AvgPool2d) and (module.ceil_mode or module.divisor_override or not _counts_all(module)):
        return "it divides by another number than its kernel's"
    if isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) != (1, -1):
        return "it leaves dimensions beside each other"
    return None


def _unread_axes(module: nn.Module, axes: int) -> str | None:
    """Say why a layer cannot be read that gets numbers with so many axes for each point: torch would take others."""
    wanted = _AXES.get(type(module), axes)
    return None if axes == wanted else f"it is read after {axes} axes of a point, and has {wanted}"


def _counts_all(pool: nn.AvgPool2d) -> bool:
    return pool.count_include_pad or _pair(pool.padding) == (0, 0)


def _dense(module: nn.Linear, _: Shape, device: torch.device) -> Layer:
    return Dense(module.weight.detach(), _detached(module.bias), device)


def _standardisation(module: ImageEncoder, shape: Shape, device: torch.device) -> Layer:
    mean, std = module.mean.to(device).double(), module.std.to(device).double()
    return Scale(shape, 1.0 / std, -mean / std, (mean / std).abs())


def _convolution(module: nn.Conv2d, shape: Shape, device: torch.device) -> Layer:
    kernel, dilation = _pair(module.kernel_size), _pair(module.dilation)
    if isinstance(module.padding, str):
        total = [d * (k - 1) if module.padding == "same" else 0 for k, d in zip(kernel, dilation, strict=True)]
        padding = (total[1] // 2, total[1] - total[1] // 2, total[0] // 2, total[0] - total[0] // 2)
    else:
        down, right = _pair(module.padding)
        padding = (right, right, down, down)
    return Convolution(
        shape, module.weight.detach(), _detached(module.bias), stride=_pair(module.stride), padding=padding,
        dilation=dilation, groups=module.groups, device=device,
    )  # fmt: skip


def _average(module: nn.AvgPool2d, shape: Shape, device: torch.device) -> Layer:
    kernel, (down, right) = _pair(module.kernel_size), _pair(module.padding)
    weight = torch.full((shape[0], 1, *kernel), 1.0 / (kernel[0] * kernel[1]), dtype=torch.float64)
    return Convolution(
        shape, weight, None, stride=_pair(module.stride), padding=(right, right, down, down), groups=shape[0],
        device=device,
    )  # fmt: skip


def _normalisation(module: nn.BatchNorm1d | nn.BatchNorm2d, shape: Shape, _: torch.device) -> Layer:
    mean, variance = module.running_mean, module.running_var
    if mean is None or variance is None:
        msg = "batch statistics are no layer"
        raise ValueError(msg)
    factor = (variance.double() + module.eps).rsqrt()
    shift = torch.zeros_like(factor)
    if module.affine:
        factor, shift = factor * module.weight.detach().double(), module.bias.detach().double()
    moved = mean.double() * factor
    along = (-1,) + (1,) * (len(shape) - 1)
    return Scale(
        shape, factor.reshape(along), (shift - moved).reshape(along), (shift.abs() + moved.abs()).reshape(along)
    )


def _detached(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.detach()


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


_READERS: dict[type[nn.Module], Callable[[Any, Shape, torch.device], Layer] | None] = {
    ImageEncoder: _standardisation,
    nn.Linear: _dense,
    nn.Conv2d: _convolution,
    nn.BatchNorm1d: _normalisation,
    nn.BatchNorm2d: _normalisation,
    nn.AvgPool2d: _average,
    nn.ReLU: lambda _, shape, __: Rectifier(shape),
    nn.Flatten: lambda _, shape, __: Flat(shape),
    nn.Identity: None,
    nn.Dropout: None,
    nn.Dropout1d: None,
    nn.Dropout2d: None,
}
"""How each known layer is read; None of what does nothing at inference."""
_AXES: dict[type[nn.Module], int] = {
    ImageEncoder: 3, nn.Conv2d: 3, nn.BatchNorm2d: 3, nn.AvgPool2d: 3, nn.Linear: 1, nn.BatchNorm1d: 1,
}  # fmt: skip
"""Axes of one point that a layer works on; torch's Linear takes any, and would mix the last alone."""
