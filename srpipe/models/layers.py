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
    if not in_one_step(x, layer):
        return F.leaky_relu(layer(x), slope)
    if isinstance(layer, SubPixel):
        return layer.bent(x, slope)
    return _convolved(x, layer, layer.weight, layer.bias, slope)


def _convolved(
    x: Tensor, layer: nn.Conv2d, weight: Tensor, bias: Tensor | None, slope: float | None
) -> Tensor:
    """A convolution like a layer's, with these weights; with a slope, and a leaky ReLU in one."""
    padding, stride, others = layer.padding, layer.stride, (layer.dilation, layer.groups)
    if slope is None:
        return F.conv2d(x, weight, bias, stride, padding, *others)
    assert _ONE_STEP is not None
    return _ONE_STEP(x, weight, bias, padding, stride, *others, "leaky_relu", [slope], "")


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
    """Layers in a row; a leaky ReLU is part of the convolution before it, see `leaky_conv`."""

    def forward(self, x: Tensor) -> Tensor:
        """What the last layer makes of what the others make of it."""
        layers = [layer for layer in self if not isinstance(layer, nn.Identity)]
        while layers:
            layer = layers.pop(0)
            slope = _slope(layers[0]) if layers else None
            if slope is not None and isinstance(layer, nn.Conv2d) and in_one_step(x, layer):
                x = leaky_conv(x, layer, float(slope))
                layers.pop(0)
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
        return down, x.clamp(max=0).mul_(given).sum(dtype=slope.dtype)[None]


class SubPixel(nn.Conv2d):
    """A convolution of 3 x 3 whose channels become ``step`` x ``step`` pixels.

    Shi et al. 2016, arXiv:1609.05158. On a CPU in channels_last the channels are made in the order
    in which whole lines of them can be moved to their pixels, and back from there.
    """

    def __init__(self, inputs: int, outputs: int, step: int) -> None:
        super().__init__(inputs, outputs * step**2, 3, padding=1)
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, step H, step W)."""
        return self.bent(x, None)

    def bent(self, x: Tensor, slope: float | None) -> Tensor:
        """The same with a leaky ReLU of this slope, if any, as `leaky_conv` does it."""
        in_lines = x.device.type == "cpu" and x.is_contiguous(memory_format=torch.channels_last)
        if not in_lines:
            return F.pixel_shuffle(_convolved(x, self, self.weight, self.bias, slope), self.step)
        assert self.bias is not None
        kernels = self._by_pixel(self.weight.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        made = _convolved(x, self, kernels, self._by_pixel(self.bias), slope)
        lines = made.permute(0, 2, 3, 1)  # (N, H, W, step step outputs)
        lines = lines.unflatten(-1, (self.step, -1)).transpose(2, 3)  # (N, H, step, W, ...)
        n, h, down, w, _line = lines.shape
        return lines.reshape(n, h * down, w * self.step, -1).permute(0, 3, 1, 2)

    def _by_pixel(self, each: Tensor) -> Tensor:
        """What there is for every channel, those of a pixel side by side."""
        return each.unflatten(0, (-1, self.step**2)).transpose(0, 1).flatten(0, 1)


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
    """For each step, a sub-pixel layer and an activation.

    What does nothing between the two is counted in the names of weights: in files of others a pixel
    shuffle stands there.
    """
    layers: list[nn.Module] = []
    for step in steps:
        layers += [SubPixel(inputs, outputs, step), nn.Identity(), activation()]
        inputs = outputs
    return layers


def near_zero(layer: nn.Conv2d) -> nn.Conv2d:
    """A last convolution that begins small: beside a bicubic base, next to the bicubic image."""
    layer.weight.data.mul_(0.1)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
