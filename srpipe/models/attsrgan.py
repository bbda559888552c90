"""Attention SRGAN: SRGAN's generator with group norm and channel attention in every block.

The frame is SRGAN (Ledig et al. 2017, arXiv:1609.04802), the norm Wu and He 2018
(arXiv:1803.08494), the attention RCAN's (Zhang et al. 2018, arXiv:1807.02758).
"""

from typing import Literal

from torch import Tensor, nn

from srpipe.models.layers import Chain, PReLU, conv, in_full, near_zero, sub_pixel
from srpipe.models.pooling import ChannelGate, GroupNorm
from srpipe.models.spec import ModelSpec
from srpipe.resample import enlarge


class Block(nn.Module):
    """Three normalised convolutions and channel attention, added to the input."""

    def __init__(self, width: int, groups: int, reduction: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _step in range(3):
            layers += [conv(width, width), GroupNorm(groups, width), PReLU()]
        self.body = nn.Sequential(*layers[:-1], ChannelGate(width, reduction))

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, H, W) to the same; in the type of ``x``, which may outdo the weights'."""
        return x + self.body(x.to(next(self.body.parameters()).dtype))


class AttSRGAN(nn.Module):
    """Enlarges 4 times.

    Parameters
    ----------
    scale : 4, the only one the paper has
    width, blocks : channels of the trunk, and how many blocks it has
    groups : of every group norm; fewer keep more contrast
    reduction : how many times narrower the attention is inside
    hr_width : channels at the output's resolution, made in one step; None is the paper's `width`,
        in two steps
    tail_kernel : side of the last convolution
    output : "tanh" gives (tanh + 1) / 2 as the paper does; "linear" what the last convolution gives
    image_skip : add the bicubic enlargement, so that the network has to learn only the rest
    """

    float32 = ("head", "tail")
    """What stays in float32 where the rest is lowered. The trunk adds up its blocks in float32 as
    well, which it gets from its head."""

    def __init__(
        self,
        scale: int = 4,
        *,
        width: int = 64,
        blocks: int = 5,
        groups: int = 32,
        reduction: int = 16,
        hr_width: int | None = None,
        tail_kernel: int = 9,
        output: Literal["tanh", "linear"] = "tanh",
        image_skip: bool = False,
    ) -> None:
        super().__init__()
        self.scale, self.output, self.image_skip = scale, output, image_skip
        hr, steps = (hr_width, [4]) if hr_width else (width, [2, 2])
        self.head = nn.Sequential(conv(3, width, 9), PReLU())
        self.trunk = nn.Sequential(*(Block(width, groups, reduction) for _ in range(blocks)))
        self.trunk_end = nn.Sequential(conv(width, width), GroupNorm(groups, width))
        self.up = Chain(*sub_pixel(width, hr, steps, PReLU))
        tail = conv(hr, 3, tail_kernel)
        self.tail = near_zero(tail) if image_skip else tail

    def forward(self, x: Tensor) -> Tensor:
        """RGB (N, 3, H, W) in [0, 1] to (N, 3, 4 H, 4 W), always float32 or wider.

        In (0, 1) where the output is "tanh", else not clamped.
        """
        body = next(self.trunk_end.parameters()).dtype
        start = in_full(self.head, x)  # (N, width, H, W)
        features = self.trunk_end(self.trunk(start).to(body)) + start
        y = in_full(self.tail, self.up(features.to(body)))
        if self.output == "tanh":
            y = (y.tanh() + 1) / 2
        return y + enlarge(x, self.scale) if self.image_skip else y


def halo(*, blocks: int = 5, hr_width: int | None = None, tail_kernel: int = 9, **_: object) -> int:
    """Receptive radius in input pixels, apart from what norms and attention know of the whole.

    Walked back from the tail through the sub-pixel layers, then one for the trunk's end, three for
    each block and four for the head.
    """
    reach = 0
    for pixel in range(4):  # the rows of one input pixel in the output
        low, high = pixel - tail_kernel // 2, pixel + tail_kernel // 2
        for step in (2, 2) if hr_width is None else (4,):
            low, high = low // step - 1, high // step + 1
        reach = max(reach, -low, high)
    return reach + 1 + 3 * blocks + 4


SPEC = ModelSpec(
    build=AttSRGAN,
    scales=(4,),
    presets={
        "paper": {},
        "lite": {
            "width": 48,
            "groups": 8,
            "reduction": 12,
            "hr_width": 16,
            "tail_kernel": 3,
            "output": "linear",
            "image_skip": True,
        },
    },
    halo=halo,
    statistics="global",
    compiled=Block,
    source="Attention SRGAN, on SRGAN (arXiv:1609.04802), group norm (arXiv:1803.08494) and RCAN"
    " (arXiv:1807.02758); own implementation",
)
