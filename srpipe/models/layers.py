"""Layers that several networks share."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from srpipe.gradients import full_precision


def _one_step() -> Callable[..., Tensor] | None:
    """The convolution with an activation of oneDNN, if this PyTorch has it and this CPU bf16."""
    names = "_is_mkldnn_bf16_supported", "_convolution_pointwise"  # private: may go any time
    serves, found = (getattr(torch.ops.mkldnn, name, None) for name in names)
    return found if serves is not None and serves() else None


_ONE_STEP = _one_step()


def conv(inputs: int, outputs: int, kernel: int = 3) -> nn.Conv2d:
    """A convolution that keeps the size."""
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)


def in_full(layer: nn.Module, x: Tensor) -> Tensor:
    """A layer in its weights' own precision, whatever the autocast state."""
    with full_precision(x):
        return layer(x.to(next(layer.parameters()).dtype))


def leaky_conv(x: Tensor, layer: nn.Conv2d, slope: float) -> Tensor:
    """A convolution and a leaky ReLU, in one step where `in_one_step` says so."""
    if _ONE_STEP is None or not in_one_step(x, layer):
        return F.leaky_relu(layer(x), slope)
    given = layer.weight, layer.bias, layer.padding, layer.stride, layer.dilation, layer.groups
    return _ONE_STEP(x, *given, "leaky_relu", [slope], "")


def in_one_step(x: Tensor, layer: nn.Conv2d) -> bool:
    """Whether a convolution and the activation behind it read and write memory once, not twice.

    oneDNN does so in bfloat16 on a CPU, without a graph, and rounds once as well.
    """
    low = x.dtype == layer.weight.dtype == torch.bfloat16
    return bool(_ONE_STEP and low and x.device.type == "cpu" and not torch.is_grad_enabled())


def learns_on_cpu(x: Tensor) -> bool:
    """Whether a backward pass of our own, with fewer passes over memory, is worth its while."""
    return x.device.type == "cpu" and torch.is_grad_enabled()


class Chain(nn.Sequential):
    """Layers in a row, where a leaky ReLU is part of the convolution before it: see `leaky_conv`.

    A sub-pixel layer may stand between the two: which pixel a number belongs to is all one to it.
    """

    def forward(self, x: Tensor) -> Tensor:
        """What the last layer makes of what the others make of it."""
        layers = list(self)
        while layers:
            layer = layers.pop(0)
            behind = 1 if layers and isinstance(layers[0], nn.PixelShuffle) else 0
            slope = _slope(layers[behind]) if len(layers) > behind else None
            if slope is not None and isinstance(layer, nn.Conv2d) and in_one_step(x, layer):
                x = leaky_conv(x, layer, float(slope))
                layers.pop(behind)
            else:
                x = layer(x)
        return x


class PReLU(nn.PReLU):
    """PyTorch's with one slope for all channels; backward in a third of the time on a CPU."""

    def __init__(self) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """The same shape; what is negative times the slope."""
        if learns_on_cpu(x):
            return _Bent.apply(x, self.weight)
        return super().forward(x)


class _Bent(torch.autograd.Function):
    """A leaky ReLU that learns its slope; PyTorch's own walks through both of its gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(x, slope)
        return F.leaky_relu(x, slope.item())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor, Tensor]:
        x, slope = ctx.saved_tensors
        down = torch.ops.aten.leaky_relu_backward(given, x, slope.item(), False)
        return down, (given * x.clamp(max=0)).sum(dtype=slope.dtype)[None]


class PixelShuffle(nn.PixelShuffle):
    """PyTorch's; backward in less than half of the time on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C step^2, H, W) to (N, C, step H, step W)."""
        if learns_on_cpu(x):
            return _Shuffled.apply(x, self.upscale_factor)
        return super().forward(x)


class _Shuffled(torch.autograd.Function):
    """A pixel shuffle, back from which all channels of ``step`` pixels are moved at once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: int) -> Tensor:
        ctx.step = step
        return F.pixel_shuffle(x, step)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor, None]:
        step = ctx.step
        n, c, height, width = given.shape
        h, w = height // step, width // step
        lines = given.movedim(1, -1).reshape(n, h, step, w, step * c)
        cells = lines.transpose(2, 3).reshape(n * h * w, step**2, c)
        return cells.transpose(1, 2).reshape(n, h, w, c * step**2).movedim(-1, 1), None


def _slope(layer: nn.Module) -> float | Tensor | None:
    """What a layer multiplies negative numbers by, if that is all it does."""
    if isinstance(layer, nn.LeakyReLU):
        return layer.negative_slope
    if isinstance(layer, nn.PReLU) and layer.weight.numel() == 1:
        return layer.weight  # not yet read, for which a GPU would have to be waited
    return 0.0 if isinstance(layer, nn.ReLU) else None


def sub_pixel(
    inputs: int, outputs: int, steps: Sequence[int], activation: Callable[[], nn.Module]
) -> list[nn.Module]:
    """For each step, a convolution whose channels become pixels, that many along each side.

    Shi et al. 2016, arXiv:1609.05158.
    """
    layers: list[nn.Module] = []
    for step in steps:
        layers += [conv(inputs, outputs * step**2), PixelShuffle(step), activation()]
        inputs = outputs
    return layers


def near_zero(layer: nn.Conv2d) -> nn.Conv2d:
    """A last convolution that begins small: beside a bicubic base, next to the bicubic image."""
    layer.weight.data.mul_(0.1)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
