"""EAGCL-SR: dense blocks with enhanced attention, a gradient branch, and their fusion.

The trunk follows ESRGAN's RRDB (Wang et al. 2018, arXiv:1809.00219), the gradient branch SPSR
(Ma et al. 2020, arXiv:2003.13081); the attention sits at the end of every dense block.
"""

from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srpipe.gradients import gradient_map
from srpipe.models.layers import Chain, conv, in_full, leaky_conv, sub_pixel
from srpipe.models.spec import ModelSpec
from srpipe.resample import enlarge

RESIDUAL = 0.2
"""How much of a dense block's result is added to its input (ESRGAN, section 3.1)."""

SLOPE = 0.2
"""Of every leaky ReLU (SPSR's code)."""

Mask = Literal["softmax", "sigmoid"]


class EnhancedAttention(nn.Module):
    """Weighs the channels of every pixel by what surrounds it, at a quarter of the resolution.

    With all logits equal it is the identity: the softmax over the channels is multiplied by
    their number. ``mask="sigmoid"`` is RFANet's form, for comparison.
    """

    float32 = ("stride", "grow", "scales", "expand")
    """What stays in float32 where the rest is lowered, as does what is weighed: a softmax of what
    is rounded to 8 bits is off by several percent, and blocks are added up in float32 anyway."""

    def __init__(self, width: int, mask: Mask = "softmax") -> None:
        super().__init__()
        narrow = width // 4
        self.mask = mask
        self.squeeze = nn.Conv2d(width, narrow, 1)
        self.stride = nn.Conv2d(narrow, narrow, 3, stride=2, padding=1)
        self.grow = nn.ConvTranspose2d(narrow, narrow, 4, stride=2, padding=1)
        self.scales = nn.ModuleList(
            nn.Conv2d(narrow, narrow, k, padding=k // 2, groups=narrow) for k in (1, 3, 5)
        )
        self.expand = nn.Conv2d(narrow, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, H, W) to the same, weighed."""
        return x * self.weights(x)

    def weights(self, x: Tensor) -> Tensor:
        """What (N, width, H, W) is weighed by, of the same shape."""
        y = self.stride(self.squeeze(x).to(self.stride.weight.dtype))  # (N, C / 4, H / 2, W / 2)
        y = F.max_pool2d(y, 2, 2, ceil_mode=True)  # (N, C / 4, H / 4, W / 4)
        y = self.grow(y)  # (N, C / 4, H / 2, W / 2)
        logits = self.expand(self._scaled(y))
        if self.mask == "sigmoid":
            weights = logits.sigmoid()
        else:
            # over the last axis, which in channels_last has the channels side by side: over the
            # second the kernel copies all of it into another order, and the product is slow as well
            weights = logits.movedim(1, -1).softmax(-1).movedim(-1, 1) * x.shape[1]
        # Doubled as the last step, not before the paper's two that see one pixel at a time: the
        # same for a quarter of the work. Then cropped rather than stretched, so that a pixel's
        # weight does not depend on how far away the image ends: a tile that starts on the grid of
        # 4 is the whole's equal.
        weights = F.interpolate(weights, scale_factor=2, mode="nearest")
        return weights[..., : x.shape[-2], : x.shape[-1]]

    def _scaled(self, y: Tensor) -> Tensor:
        """What the three depth-wise convolutions add up to: one by the sum of their kernels."""
        layers = [layer for layer in self.scales if isinstance(layer, nn.Conv2d)]
        kernel, bias = torch.zeros_like(layers[-1].weight), torch.zeros_like(y[0, :, 0, 0])
        for layer in layers:
            frame = (kernel.shape[-1] - layer.kernel_size[0]) // 2
            kernel = kernel + F.pad(layer.weight, (frame,) * 4)
            bias = bias if layer.bias is None else bias + layer.bias
        return F.conv2d(y, kernel, bias, padding="same", groups=y.shape[1])


class DenseBlock(nn.Module):
    """Five convolutions, each of which sees all before it; with attention, the paper's EADB."""

    def __init__(self, width: int, growth: int, attention: EnhancedAttention | None = None) -> None:
        super().__init__()
        self.grow = nn.ModuleList(conv(width + i * growth, growth) for i in range(4))
        self.last = conv(width + 4 * growth, width)
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, H, W) to the same; in the type of ``x``, which may outdo the weights'."""
        seen = x.to(self.last.weight.dtype)
        for grow in self.grow:
            assert isinstance(grow, nn.Conv2d)
            seen = torch.cat((seen, leaky_conv(seen, grow, SLOPE)), 1)
        y = self.last(seen)
        if self.attention is None:
            return torch.add(x, y, alpha=RESIDUAL)
        return torch.addcmul(x, y.to(x.dtype), self.attention.weights(y), value=RESIDUAL)


class RRDB(nn.Module):
    """Three dense blocks in a residual; with attention, the paper's EA-RRDB."""

    def __init__(self, width: int, growth: int, mask: Mask | None = None) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(
                DenseBlock(width, growth, EnhancedAttention(width, mask) if mask else None)
                for _ in range(3)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, H, W) to the same."""
        return torch.add(x, self.blocks(x), alpha=RESIDUAL)


def _enlarger(width: int, out: int, up: str) -> Chain:
    """LR features (width) to HR features (out), four times as large."""
    if up == "pixelshuffle":
        return Chain(*sub_pixel(width, out, [4], partial(nn.LeakyReLU, SLOPE)))
    steps: list[nn.Module] = []
    for inputs in (width, out):
        steps += [nn.Upsample(scale_factor=2), conv(inputs, out), nn.LeakyReLU(SLOPE)]
    return Chain(*steps)


class EAGCL(nn.Module):
    """Enlarges 4 times, guided by a gradient map that it predicts on the way.

    Parameters
    ----------
    scale : 4, the only one the paper has
    width, growth : channels of the trunk, and of each step in a dense block
    merfs : multi-level extraction blocks, each tapped by one stage of the gradient branch
    blocks, tail_blocks : EA-RRDBs in each of them, and after the last (3 gives SPSR's depth)
    grad_block : a stage of the gradient branch: "rrdb" and a convolution, or the "conv" alone
    fusion : the same choice for the fusion of both branches
    up : "upconv" (nearest neighbour and a convolution, twice) or "pixelshuffle" (in one step)
    hr_width : channels at the output's resolution; None is `width`
    mask : of the attention, "softmax" over the channels or "sigmoid"
    image_skip : add the bicubic enlargement, so that the network has to learn only the rest
    """

    float32 = ("head", "trunk_end", "grad_head", "tail")
    """What stays in float32 where the rest is lowered: what sees pixels, and what makes them.
    The trunk adds up its blocks in float32 as well, which it gets from its head."""

    def __init__(
        self,
        scale: int = 4,
        *,
        width: int = 64,
        growth: int = 32,
        merfs: int = 4,
        blocks: int = 5,
        tail_blocks: int = 0,
        grad_block: Literal["rrdb", "conv"] = "rrdb",
        fusion: Literal["rrdb", "conv"] = "rrdb",
        up: Literal["upconv", "pixelshuffle"] = "upconv",
        hr_width: int | None = None,
        mask: Mask = "softmax",
        image_skip: bool = False,
    ) -> None:
        super().__init__()
        hr = hr_width or width
        self.scale, self.image_skip = scale, image_skip
        self.head = conv(3, width)
        self.merfs = nn.ModuleList(
            nn.Sequential(*(RRDB(width, growth, mask) for _ in range(blocks))) for _ in range(merfs)
        )
        self.trunk_tail = nn.Sequential(*(RRDB(width, growth, mask) for _ in range(tail_blocks)))
        self.trunk_end = conv(width, width)
        self.up = _enlarger(width, hr, up)
        self.image = Chain(conv(hr, hr), nn.LeakyReLU(SLOPE), conv(hr, hr))

        self.grad_head = conv(3, width)
        self.grad_stages = nn.ModuleList(
            nn.Sequential(
                *([RRDB(2 * width, growth)] if grad_block == "rrdb" else []),
                conv(2 * width, width),
            )
            for _ in range(merfs)
        )
        self.grad_end = conv(width, width)
        self.grad_up = _enlarger(width, hr, up)
        self.grad_image = Chain(conv(hr, hr), nn.LeakyReLU(SLOPE), conv(hr, hr))
        self.grad_tail = nn.Conv2d(hr, 3, 1)

        self.fusion = Chain(
            *([RRDB(2 * hr, growth)] if fusion == "rrdb" else []),
            conv(2 * hr, hr),
            conv(hr, hr),
            nn.LeakyReLU(SLOPE),
        )
        self.tail = conv(hr, 3)
        _initialise(self)

    def forward(
        self, x: Tensor, *, return_gradient: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """RGB (N, 3, H, W) in [0, 1] to (N, 3, 4 H, 4 W), not clamped, always float32 or wider.

        With ``return_gradient`` also the predicted gradient map of the output, in the same shape
        and in the units of `srpipe.gradients.gradient_map`.
        """
        body = self.grad_end.weight.dtype
        start = in_full(self.head, x)  # (N, width, H, W)
        edges = edge_start = in_full(self.grad_head, gradient_map(x)).to(body)
        features = start
        for merf, stage in zip(self.merfs, self.grad_stages, strict=True):
            features = merf(features)
            edges = stage(torch.cat((edges, features.to(body)), 1))
        features = self.trunk_end(self.trunk_tail(features)) + start
        f_image = self.image(self.up(features.to(body)))  # (N, hr_width, 4 H, 4 W)
        f_grad = self.grad_image(self.grad_up(self.grad_end(edges) + edge_start))
        fused = self.fusion(torch.cat((f_grad, f_image), 1))
        y = in_full(self.tail, fused)
        if self.image_skip:
            y = y + enlarge(x, self.scale)
        if not return_gradient:
            return y
        return y, in_full(self.grad_tail, f_grad)


def _initialise(network: nn.Module) -> None:
    """Kaiming normal and no bias; a tenth of it in the dense blocks, a hundredth at the end.

    SPSR's code takes a tenth everywhere. Behind the trunk, where no residual carries the signal,
    that leaves a millionth of it: after 600 steps the lite network still gave the bicubic image.
    """
    share = {
        layer: 0.1
        for block in network.modules()
        if isinstance(block, DenseBlock)
        for layer in block.modules()
    } | {network.tail: 0.01}
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight, SLOPE)
            layer.weight.data.mul_(share.get(layer, 1.0))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def halo(
    *,
    merfs: int = 4,
    blocks: int = 5,
    tail_blocks: int = 0,
    grad_block: str = "rrdb",
    fusion: str = "rrdb",
    up: str = "upconv",
    **_: object,
) -> int:
    """Receptive radius in input pixels, walked back from an output pixel along the longest path.

    Exact for what it follows: `EnhancedAttention` sees farther to one side or the other as its
    pixel lies in the grid of 4, so both ends are walked for all four positions.
    """
    at_hr = 2 + 1 + 2 + (15 if fusion == "rrdb" else 0)  # tail and fusion; image or gradient
    stage = 1 + (15 if grad_block == "rrdb" else 0)
    reach = 0
    for pixel in range(16):  # the output pixels of a 4 x 4 block of input pixels, by their row
        low, high = pixel - at_hr, pixel + at_hr
        low, high = _through_enlarger(low, high, up)
        low, high = low - 1, high + 1  # the end of the trunk, or of the gradient branch
        low, high = low - stage, high + stage
        for _block in range(merfs * blocks * 3 + max(0, tail_blocks * 3 - stage)):
            low, high = _through_attention(low, high)
            low, high = low - 5, high + 5
        low, high = low - 2, high + 2  # head and gradient map
        reach = max(reach, pixel // 4 - low, high - pixel // 4)
    return reach


def _through_enlarger(low: int, high: int, up: str) -> tuple[int, int]:
    if up == "pixelshuffle":
        return low // 4 - 1, high // 4 + 1
    for _step in range(2):
        low, high = (low - 1) // 2, (high + 1) // 2
    return low, high


def _through_attention(low: int, high: int) -> tuple[int, int]:
    """Input rows seen through `EnhancedAttention` from output rows low to high."""
    half_low, half_high = low // 2 - 2, high // 2 + 2  # nearest neighbour, depth-wise 5 x 5
    quarter_low, quarter_high = (half_low - 1) // 2, -(-half_high // 2)  # transposed 4 x 4
    return 4 * quarter_low - 1, 4 * quarter_high + 3  # pool of 2, 3 x 3 with stride 2


SPEC = ModelSpec(
    build=EAGCL,
    scales=(4,),
    presets={
        "paper": {},
        "lite": {
            "width": 32,
            "growth": 16,
            "blocks": 1,
            "grad_block": "conv",
            "fusion": "conv",
            "up": "pixelshuffle",
            "hr_width": 8,
            "image_skip": True,
        },
    },
    halo=halo,
    alignment=4,
    gradient=True,
    compiled=DenseBlock,
    source="EAGCL-SR, on ESRGAN (arXiv:1809.00219) and SPSR (arXiv:2003.13081); own implementation",
)
