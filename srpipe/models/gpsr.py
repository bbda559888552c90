"""GPSR: a U-shaped network whose decoders are guided by gradient maps, from coarse to fine.

The frame is DRN's (Guo et al. 2020, arXiv:2003.07018): the bicubic enlargement is encoded down to
the input's resolution and decoded back. The blocks follow RFANet (Liu et al. 2020, CVPR, "Residual
Feature Aggregation Network for Image Super-Resolution"): each hands its residual to a gate at the
end of its group, and weighs it by a spatial attention first.
"""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srpipe.gradients import gradient_map
from srpipe.models.layers import Chain, SubPixel, conv, in_full, near_zero
from srpipe.models.spec import ModelSpec
from srpipe.resample import enlarge

SLOPE = 0.2
"""Of the leaky ReLUs, which only the encoder has (DRN's code)."""

WidthRule = Literal["drn", "unet"]
Mask = Literal["spatial", "channels"]

Attention = tuple[int, int, Mask]
"""Options of `LRSAM` but for its width: reduction, excitations, mask."""


class Rule(NamedTuple):
    """The choices that the paper leaves open, as they meet its figures together.

    Parameters
    ----------
    share : how many times the width of a part the next decoder has
    reduction : how many times narrower the attention is inside
    excitations : convolutions of the attention behind its pooling
    halving : kernel of the convolution that halves a gradient branch's channels
    """

    share: int
    reduction: int
    excitations: int
    halving: int


RULES: dict[WidthRule, Rule] = {"drn": Rule(2, 8, 2, 1), "unet": Rule(1, 2, 1, 3)}

PUBLISHED: dict[int, WidthRule] = {4: "drn", 8: "unet"}
"""By scale, the rule with which parameters and operations are within 1 % of the paper's."""

WIDTHS: dict[tuple[int, WidthRule], int] = {
    (4, "drn"): 96,
    (4, "unet"): 100,
    (8, "drn"): 120,
    (8, "unet"): 128,
}
"""By scale and rule, the width with which the parameters are the paper's."""


class LRSAM(nn.Module):
    """Weighs every pixel by what surrounds it, seen at a third of the resolution."""

    float32 = ("stride", "excite", "expand")
    """What stays in float32 where the rest is lowered: small, and seen by all channels."""

    def __init__(self, width: int, reduction: int, excitations: int, mask: Mask) -> None:
        super().__init__()
        narrow = max(1, width // reduction)
        self.squeeze = nn.Conv2d(width, narrow, 1)
        self.stride = nn.Conv2d(narrow, narrow, 3, stride=3)
        self.excite = nn.Sequential(
            *(layer for _ in range(excitations) for layer in (conv(narrow, narrow), nn.ReLU()))
        )
        self.expand = conv(narrow, 9) if mask == "spatial" else conv(narrow, 9 * width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, H, W) to the same, weighed."""
        height, width = x.shape[-2:]
        y = F.pad(self.squeeze(x), (0, -width % 3, 0, -height % 3)).to(self.stride.weight.dtype)
        y = F.max_pool2d(self.stride(y), (7, 1), stride=1, padding=(3, 0))  # down, then across:
        y = F.max_pool2d(y, (1, 7), stride=1, padding=(0, 3))  # (N, narrow, H / 3, W / 3)
        y = F.pixel_shuffle(self.expand(self.excite(y)), 3)  # (N, 1 or width, H, W) and a border
        return (x * torch.sigmoid(y[..., :height, :width])).to(x.dtype)


class Group(nn.Module):
    """Residual blocks in a row, whose residuals also meet in a gate: the paper's RS3AM-SR."""

    def __init__(self, width: int, blocks: int, attention: Attention) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Chain(conv(width, width), nn.ReLU(), conv(width, width), LRSAM(width, *attention))
            for _ in range(blocks)
        )
        self.gate = nn.Conv2d(blocks * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, H, W) to the same; in the type of ``x``, which may outdo the weights'."""
        y = x.to(self.gate.weight.dtype)
        residuals: list[Tensor] = []
        for block in self.blocks:
            y = y + residuals[-1] if residuals else y
            residuals.append(block(y))
        return x + self.gate(torch.cat(residuals, 1))


class Decoder(nn.Module):
    """Groups in a row, all of whose results are kept."""

    def __init__(self, width: int, groups: int, blocks: int, attention: Attention) -> None:
        super().__init__()
        self.groups = nn.ModuleList(Group(width, blocks, attention) for _ in range(groups))

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, width, H, W) to as many of the same as there are groups, in the type of ``x``."""
        found = [x]
        for group in self.groups:
            found.append(group(found[-1]))
        return found[1:]


class Guide(nn.Module):
    """The gradient branch beside a decoder, a block for each of its groups: the paper's RS3AM-G."""

    def __init__(
        self, seen: int, width: int, groups: int, attention: Attention, halving: int
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Chain(conv(width, width), nn.ReLU(), conv(width, width)) for _ in range(groups)
        )
        self.mixes = nn.ModuleList(
            nn.Sequential(LRSAM(seen + width, *attention), conv(seen + width, width, halving))
            for _ in range(groups)
        )
        self.gate = nn.Conv2d(groups * width, width, 1)

    def forward(self, x: Tensor, features: list[Tensor]) -> Tensor:
        """(N, width, H, W), and the groups' (N, seen, H, W), to the former's shape and type."""
        body = self.gate.weight.dtype
        y = x.to(body)
        residuals: list[Tensor] = []
        for block, mix, group in zip(self.blocks, self.mixes, features, strict=True):
            y = y + residuals[-1] if residuals else y
            residuals.append(mix(torch.cat((group.to(body), block(y)), 1)))
        return x + self.gate(torch.cat(residuals, 1))


def _encoder(width: int) -> Chain:
    """Features (N, width, H, W) to (N, 2 width, H / 2, W / 2)."""
    return Chain(
        nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False),
        nn.LeakyReLU(SLOPE),
        nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
    )


def _enlarger(width: int, part: int, rule: WidthRule) -> nn.Sequential:
    """Features (N, width, H, W) to (N, part, 2 H, 2 W)."""
    if rule == "drn":
        return nn.Sequential(SubPixel(width, width, 2), nn.Identity(), conv(width, part))
    return nn.Sequential(SubPixel(width, part, 2), nn.Identity(), conv(part, part, 1))


class GPSR(nn.Module):
    """Enlarges 4 or 8 times, level by level, guided by the gradient map of each.

    Parameters
    ----------
    scale : output pixels per input pixel, along each side
    width : channels of the first decoder, at the input's resolution, a multiple of the scale; the
        output's resolution has `width / scale`, the paper's n_f. None is the published width
    width_rule : how wide the decoders after the first are: "drn", twice what the decoder before
        gives, or "unet", just that; it brings its own `Rule` along. None is the published one
    groups : of residual blocks in each decoder
    blocks : in each group
    reduction, excitations, halving : see `Rule`; None is the rule's
    merge : "conv" narrows what a decoder gets from the one before, from the encoder and from the
        gradient branch to its own width; "concat" takes it as it comes
    mask : of the attention, one for all channels ("spatial") or each its own ("channels")
    image_skip : add the bicubic enlargement, so that the network has to learn only the rest
    """

    float32 = ("head", "grad_head", "tail")
    """What stays in float32 where the rest is lowered: what sees pixels, and what makes them.
    Decoders and guides add up their blocks in float32 as well."""

    def __init__(
        self,
        scale: int = 4,
        *,
        width: int | None = None,
        width_rule: WidthRule | None = None,
        groups: int = 4,
        blocks: int = 4,
        reduction: int | None = None,
        excitations: int | None = None,
        halving: int | None = None,
        merge: Literal["conv", "concat"] = "conv",
        mask: Mask = "spatial",
        image_skip: bool = False,
    ) -> None:
        super().__init__()
        self.scale, self.image_skip = scale, image_skip
        name = width_rule or PUBLISHED[scale]
        rule = RULES[name]
        width = width or WIDTHS[scale, name]
        attention = reduction or rule.reduction, excitations or rule.excitations, mask
        # Lists begin at the input's resolution, so that what was trained at one scale fits another.
        parts = [width >> level for level in range(1, scale.bit_length())]  # the paper's p_j
        share = 3 if merge == "concat" else rule.share
        widths = [width, *(share * part for part in parts[:-1])]  # its w_j
        slim = [width, *parts[:-1]]  # of the gradient branch

        self.head = conv(3, parts[-1])
        self.encoders = nn.ModuleList(_encoder(part) for part in parts)
        self.decoders = nn.ModuleList(Decoder(width, groups, blocks, attention) for width in widths)
        self.ups = nn.ModuleList(
            _enlarger(width, part, name) for width, part in zip(widths, parts, strict=True)
        )
        self.merges = nn.ModuleList(
            nn.Identity() if merge == "concat" else nn.Conv2d(3 * part, after, 1)
            for part, after in zip(parts[:-1], widths[1:], strict=True)
        )
        self.grad_head = conv(3, width)
        self.guides = nn.ModuleList(
            Guide(seen, width, groups, attention, halving or rule.halving)
            for seen, width in zip(widths, slim, strict=True)
        )
        self.grad_ups = nn.ModuleList(
            _enlarger(width, part, name) for width, part in zip(slim, parts, strict=True)
        )
        self.grad_tails = nn.ModuleList(conv(part, 3) for part in parts)
        tail = conv(3 * parts[-1], 3)
        self.tail = near_zero(tail) if image_skip else tail

    def forward(
        self, x: Tensor, *, return_gradient: bool = False
    ) -> Tensor | tuple[Tensor, tuple[Tensor, ...]]:
        """RGB (N, 3, H, W) in [0, 1] to (N, 3, scale H, scale W), not clamped, float32 or wider.

        With ``return_gradient`` also the predicted gradient maps of the output at 2, 4, ... scale
        times the input's resolution, in the units of `srpipe.gradients.gradient_map`.
        """
        full, body = self.tail.weight.dtype, next(self.decoders.parameters()).dtype
        large = enlarge(x, self.scale)
        encoded = [in_full(self.head, large)]  # (N, n_f, scale H, scale W)
        edges = in_full(self.grad_head, gradient_map(x))  # (N, width, H, W)
        for encoder in reversed(self.encoders):
            encoded.append(encoder(encoded[-1].to(body)))
        features, maps = encoded.pop(), []  # (N, width, H, W)
        merges = [*self.merges, nn.Identity()]
        for level, decoder in enumerate(self.decoders):
            found = decoder(features.to(full))
            edges = self.guides[level](edges.to(full), found)
            edges = self.grad_ups[level](edges.to(body))
            image = self.ups[level](found[-1].to(body))  # twice the size
            seen = encoded.pop()
            parts = seen, image.to(seen.dtype), edges.to(seen.dtype)  # mixed, joining is slow
            features = merges[level](torch.cat(parts, 1))
            maps.append(edges)
        y = in_full(self.tail, features)
        if self.image_skip:
            y = y + large
        if not return_gradient:
            return y
        tails = zip(self.grad_tails, maps, strict=True)
        return y, tuple(in_full(tail, edges) for tail, edges in tails)


Rows = tuple[int, int]
"""The first and the last of the rows that something sees."""


def halo(
    *,
    scale: int = 4,
    width_rule: WidthRule | None = None,
    groups: int = 4,
    blocks: int = 4,
    excitations: int | None = None,
    halving: int | None = None,
    mask: Mask = "spatial",
    **_: object,
) -> int:
    """Receptive radius in input pixels, walked back from an output pixel through every level.

    Exact for what it follows: `LRSAM` sees farther to one side or the other as its pixel lies in
    the grid of 3, so both ends are walked for all pixels of three input pixels. What skips a
    decoder sees no farther than what goes through it.
    """
    name, levels = width_rule or PUBLISHED[scale], scale.bit_length() - 1
    rule = RULES[name]
    coarse = 3 + (excitations or rule.excitations) + (mask == "spatial")  # reach of an attention
    reach = 0
    for pixel in range(3 * scale):
        image = edges = _around((pixel, pixel), 1)  # the tail
        for _level in range(levels):
            edges = _both(image, edges)  # the next level's features are made of them too
            image, edges = _before_enlarger(image, name), _before_enlarger(edges, name)
            for _group in range(groups):  # the last one first
                mixed = _before_attention(_around(edges, (halving or rule.halving) // 2), coarse)
                image, edges = _both(image, mixed), _around(mixed, 2)
                for _block in range(blocks):
                    image = _around(_before_attention(image, coarse), 2)
        low, high = _both(_before_encoders(image, scale), _around(edges, 2))  # head, gradient map
        reach = max(reach, pixel // scale - low, high - pixel // scale)
    return reach


def _before_attention(rows: Rows, coarse: int) -> Rows:
    """What `LRSAM` sees, with a reach of so many rows at a third of the resolution."""
    low, high = _around((rows[0] // 3, rows[1] // 3), coarse)
    return 3 * low, 3 * high + 2


def _before_enlarger(rows: Rows, rule: WidthRule) -> Rows:
    low, high = _around(rows, 1) if rule == "drn" else rows
    return _around((low // 2, high // 2), 1)


def _before_encoders(rows: Rows, scale: int) -> Rows:
    """Input rows that make these rows of the first decoder's features."""
    for _level in range(1, scale.bit_length()):
        low, high = _around(rows, 1)
        rows = 2 * low - 1, 2 * high + 1
    low, high = _around(rows, 1)  # the head
    low, high = ((2 * row + 1 - scale) // (2 * scale) for row in (low, high))
    return low - 1, high + 2  # a cubic's four pixels


def _around(rows: Rows, reach: int) -> Rows:
    return rows[0] - reach, rows[1] + reach


def _both(a: Rows, b: Rows) -> Rows:
    return min(a[0], b[0]), max(a[1], b[1])


SPEC = ModelSpec(
    build=GPSR,
    scales=(4, 8),
    presets={
        "paper": {},
        "lite": {
            "width": 48,
            "width_rule": "unet",
            "groups": 2,
            "blocks": 2,
            "reduction": 4,
            "halving": 1,
            "image_skip": True,
        },
    },
    halo=halo,
    alignment=3,
    gradient=True,
    source="GPSR, on DRN (arXiv:2003.07018) and RFANet (CVPR 2020); own implementation",
)
