"""RDAM: residual blocks with double attention, over channels and over space.

The attention is CBAM without its batch norm (Woo et al. 2018, arXiv:1807.06521), the frame EDSR's
(Lim et al. 2017, arXiv:1707.02921): features at the input's resolution, a sub-pixel layer at the
end.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from srpipe.models.layers import (
    Chain,
    PReLU,
    conv,
    in_full,
    learns_on_cpu,
    near_zero,
    sub_pixel,
)
from srpipe.models.pooling import ChannelGate
from srpipe.models.spec import ModelSpec
from srpipe.resample import enlarge


class SpatialGate(nn.Module):
    """Weighs the pixels by the mean and the maximum of their channels, and of those around them."""

    float32 = ("conv",)
    """What stays in float32 where the rest is lowered."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same, weighed."""
        if learns_on_cpu(x) and not self.conv._forward_hooks:
            return _Weighed.apply(x, self.conv.weight)
        seen = torch.cat((x.amax(1, keepdim=True), x.mean(1, keepdim=True)), 1)
        return x * torch.sigmoid(self.conv(seen))


class _Weighed(torch.autograd.Function):
    """What `SpatialGate` does; backward it goes over all channels four times, PyTorch's own ten.

    Where channels share a maximum, the first of them gets its gradient.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor) -> Tensor:
        largest, where = x.max(1, keepdim=True)
        seen = torch.cat((largest, x.mean(1, keepdim=True)), 1)
        weights = torch.sigmoid(F.conv2d(seen, kernel, padding=kernel.shape[-1] // 2))
        ctx.save_for_backward(x, kernel, where, seen, weights)
        return x * weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor, Tensor]:
        x, kernel, where, seen, weights = ctx.saved_tensors
        slope = (given * x).sum(1, keepdim=True) * weights * (1 - weights)
        frame, once = [kernel.shape[-1] // 2] * 2, [1, 1]
        to_seen, to_kernel, _bias = torch.ops.aten.convolution_backward(
            slope, seen, kernel, None, once, frame, once, False, [0, 0], 1, [True, True, False]
        )
        to_largest, to_mean = to_seen.split(1, 1)  # (N, 1, H, W) each
        to_x = (given * weights).add_(to_mean / x.shape[1])
        return to_x.scatter_add_(1, where, to_largest), to_kernel


class Block(nn.Module):
    """Two convolutions and both gates, added to the input."""

    def __init__(self, width: int, reduction: int) -> None:
        super().__init__()
        self.body = Chain(
            conv(width, width),
            PReLU(),
            conv(width, width),
            ChannelGate(width, reduction, maximum=True),
            SpatialGate(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, H, W) to the same; in the type of ``x``, which may outdo the weights'."""
        return x + self.body(x.to(next(self.body.parameters()).dtype))


class RDAM(nn.Module):
    """Enlarges 2, 3 or 4 times.

    Parameters
    ----------
    scale : output pixels per input pixel, along each side
    width, blocks : channels of the trunk, and how many blocks it has
    reduction : how many times narrower the channel gate is inside
    hr_width : channels at the output's resolution, made in one step; None is the paper's `width`,
        at a scale of 4 in two steps
    image_skip : add the bicubic enlargement, so that the network has to learn only the rest
    """

    float32 = ("head", "trunk_end", "tail")
    """What stays in float32 where the rest is lowered. The trunk adds up its blocks in float32 as
    well, which it gets from its head."""

    grows = ("head", "trunk", "trunk_end")
    """Of what a network may take a narrower one's weights as those of its first channels."""

    def __init__(
        self,
        scale: int = 4,
        *,
        width: int = 64,
        blocks: int = 16,
        reduction: int = 16,
        hr_width: int | None = None,
        image_skip: bool = False,
    ) -> None:
        super().__init__()
        self.scale, self.image_skip = scale, image_skip
        hr, steps = (hr_width, [scale]) if hr_width else (width, [2, 2] if scale == 4 else [scale])
        self.head = nn.Sequential(conv(3, width), PReLU())
        self.trunk = nn.Sequential(*(Block(width, reduction) for _ in range(blocks)))
        self.trunk_end = conv(width, width)
        self.up = Chain(*sub_pixel(width, hr, steps, PReLU))
        self.tail = near_zero(conv(hr, 3)) if image_skip else conv(hr, 3)

    def forward(self, x: Tensor) -> Tensor:
        """RGB (N, 3, H, W) in [0, 1] to (N, 3, scale H, scale W), not clamped, float32 or wider."""
        body = next(self.up.parameters()).dtype
        start = in_full(self.head, x)  # (N, width, H, W)
        features = self.trunk_end(self.trunk(start)) + start
        y = in_full(self.tail, self.up(features.to(body)))
        return y + enlarge(x, self.scale) if self.image_skip else y


def halo(*, blocks: int = 16, **_: object) -> int:
    """Receptive radius in input pixels, apart from what the channel gates know of the whole.

    Two for the tail and the sub-pixel layer (the second of its two steps, at a scale of 4, sees no
    farther than the tail's last input pixel), one for the trunk's end, five for each block (two
    convolutions, then the 7 x 7 of the spatial gate), one for the head.
    """
    return 2 + 1 + 5 * blocks + 1


SPEC = ModelSpec(
    build=RDAM,
    scales=(2, 3, 4),
    presets={
        "paper": {},
        "lite": {"width": 48, "blocks": 8, "reduction": 12, "hr_width": 16, "image_skip": True},
    },
    halo=halo,
    statistics="global",
    compiled=Block,
    source="RDAM, on EDSR (arXiv:1707.02921) and CBAM (arXiv:1807.06521); own implementation",
)
