"""Layers that several networks share."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from srpipe.gradients import full_precision


def conv(inputs: int, outputs: int, kernel: int = 3) -> nn.Conv2d:
    """A convolution that keeps the size."""
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)


def in_full(layer: nn.Module, x: Tensor) -> Tensor:
    """A layer in its weights' own precision, whatever the autocast state."""
    with full_precision(x):
        return layer(x.to(next(layer.parameters()).dtype))


def sub_pixel(
    inputs: int, outputs: int, steps: Sequence[int], activation: Callable[[], nn.Module]
) -> list[nn.Module]:
    """For each step, a convolution whose channels become pixels, that many along each side.

    Shi et al. 2016, arXiv:1609.05158.
    """
    layers: list[nn.Module] = []
    for step in steps:
        layers += [conv(inputs, outputs * step**2), nn.PixelShuffle(step), activation()]
        inputs = outputs
    return layers


def near_zero(layer: nn.Conv2d) -> nn.Conv2d:
    """A last convolution that begins small: beside a bicubic base, next to the bicubic image."""
    layer.weight.data.mul_(0.1)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
