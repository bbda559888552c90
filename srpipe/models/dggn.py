"""DGGN: multi-scale residual units with squeeze and excitation, guided by a gradient branch.

The two branches and their fusion follow SPSR (Ma et al. 2020, arXiv:2003.13081); the attention is
squeeze and excitation (Hu et al. 2018, arXiv:1709.01507).
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from srpipe.gradients import gradient_map
from srpipe.models.layers import Chain, conv, in_full, sub_pixel
from srpipe.models.pooling import ChannelGate
from srpipe.models.spec import ModelSpec
from srpipe.resample import enlarge

SLOPE = 0.2
"""Of every leaky ReLU (SPSR's code)."""

KERNELS = (3, 3, 5, 5)
"""Of the branches of a unit."""


class MSRU(nn.Module):
    """Four branches that look 3 and 5 pixels wide, mixed, weighed by channel, added to the input.

    Parameters
    ----------
    branch_width : channels inside a branch; None is the paper's `width`
    """

    def __init__(self, width: int, reduction: int, branch_width: int | None = None) -> None:
        super().__init__()
        inner = branch_width or width
        self.branches = nn.ModuleList(
            Chain(
                *(conv(width, inner, 1), nn.LeakyReLU(SLOPE)),
                *(conv(inner, inner, kernel), nn.LeakyReLU(SLOPE)),
                *(conv(inner, inner, 1), nn.LeakyReLU(SLOPE)),
            )
            for kernel in KERNELS
        )
        self.mix = conv(inner * len(KERNELS), width, 1)
        self.gate = ChannelGate(width, reduction)

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, H, W) to the same; in the type of ``x``, which may outdo the weights'."""
        y = x.to(self.mix.weight.dtype)
        y = self.gate(self.mix(torch.cat([branch(y) for branch in self.branches], 1)))
        return (x + y).to(x.dtype)


def _enlarger(width: int, hr: int, steps: Sequence[int]) -> Chain:
    """LR features (width) to HR features (hr), four times as large."""
    leaky = partial(nn.LeakyReLU, SLOPE)
    return Chain(*sub_pixel(width, hr, steps, leaky), conv(hr, hr))


class DGGN(nn.Module):
    """Enlarges 4 times, guided by a gradient map that it predicts on the way.

    Parameters
    ----------
    scale : 4, the only one the paper has
    width : channels of both branches
    units : of the trunk, a multiple of 4; each quarter is tapped by one stage of the gradient
        branch
    grad_units, hr_units : units in each of these stages, and at the output's resolution
    branch_width : channels inside the branches of a unit; None is `width`
    reduction : how many times narrower the attention is inside
    hr_width : channels at the output's resolution, made in one step; None is the paper's `width`,
        in two steps
    image_skip : add the bicubic enlargement, so that the network has to learn only the rest
    """

    float32 = ("head", "trunk_end", "grad_head", "tail")
    """What stays in float32 where the rest is lowered: what sees pixels, and what makes them.
    The trunk adds up its units in float32 as well, which it gets from its head."""

    def __init__(
        self,
        scale: int = 4,
        *,
        width: int = 64,
        units: int = 32,
        grad_units: int = 2,
        hr_units: int = 1,
        branch_width: int | None = None,
        reduction: int = 16,
        hr_width: int | None = None,
        image_skip: bool = False,
    ) -> None:
        super().__init__()
        hr, steps = (hr_width, [4]) if hr_width else (width, [2, 2])
        self.scale, self.image_skip = scale, image_skip

        def chain(channels: int, count: int) -> list[nn.Module]:
            return [MSRU(channels, reduction, branch_width) for _ in range(count)]

        self.head = conv(3, width)
        self.stages = nn.ModuleList(nn.Sequential(*chain(width, units // 4)) for _ in range(4))
        self.trunk_end = conv(width, width)
        self.up = _enlarger(width, hr, steps)

        self.grad_head = conv(3, width)
        self.grad_stages = nn.ModuleList(
            nn.Sequential(conv(2 * width, width), *chain(width, grad_units)) for _ in range(4)
        )
        self.grad_end = conv(width, width)
        self.grad_up = _enlarger(width, hr, steps)
        self.grad_tail = nn.Conv2d(hr, 3, 1)

        self.fusion = Chain(
            conv(2 * hr, hr), *chain(hr, hr_units), conv(hr, hr), nn.LeakyReLU(SLOPE)
        )
        self.tail = conv(hr, 3)
        self._initialise()

    def forward(
        self, x: Tensor, *, return_gradient: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """RGB (N, 3, H, W) in [0, 1] to (N, 3, 4 H, 4 W), not clamped, always float32 or wider.

        With ``return_gradient`` also the predicted gradient map of the output, in the same shape
        and in the units of `srpipe.gradients.gradient_map`.
        """
        body = self.grad_end.weight.dtype
        features = start = in_full(self.head, x)  # (N, width, H, W)
        edges = edge_start = in_full(self.grad_head, gradient_map(x))
        for stage, grad_stage in zip(self.stages, self.grad_stages, strict=True):
            features = stage(features)
            edges = grad_stage(torch.cat((edges.to(body), features.to(body)), 1))
        features = self.trunk_end(features) + start
        f_image = self.up(features.to(body))  # (N, hr_width, 4 H, 4 W)
        f_grad = self.grad_up((self.grad_end(edges.to(body)) + edge_start).to(body))
        y = in_full(self.tail, self.fusion(torch.cat((f_grad, f_image), 1)))
        if self.image_skip:
            y = y + enlarge(x, self.scale)
        return (y, in_full(self.grad_tail, f_grad)) if return_gradient else y

    def _initialise(self) -> None:
        """Kaiming normal and no bias; a tenth of it where a unit ends, a hundredth at the end.

        SPSR's code takes a tenth everywhere, which leaves next to nothing of the signal behind the
        trunk, where no residual carries it. The gates are left as they are.
        """
        units = [part for part in self.modules() if isinstance(part, MSRU)]
        share = {unit.mix: 0.1 for unit in units} | {self.tail: 0.01}
        gates = {layer for unit in units for layer in unit.gate.modules()}
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d) and layer not in gates:
                nn.init.kaiming_normal_(layer.weight, SLOPE)
                layer.weight.data.mul_(share.get(layer, 1.0))
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)


def halo(
    *,
    units: int = 32,
    grad_units: int = 2,
    hr_units: int = 1,
    hr_width: int | None = None,
    **_: object,
) -> int:
    """Receptive radius in input pixels, apart from what the attention knows of the whole.

    Walked back from the output along the longest path: tail and fusion, with two for each unit, the
    sub-pixel layers, the end of the branch, then the gradient branch down to a trunk of whose units
    it has seen a quarter after each stage, or the trunk itself; two for head and gradient map.
    """
    at_hr = 1 + 1 + 2 * hr_units + 1 + 1  # tail, fusion, the end of the enlarger
    reach = 0
    for pixel in range(4):  # the rows of one input pixel in the output
        low, high = pixel - at_hr, pixel + at_hr
        for step in (2, 2) if hr_width is None else (4,):
            low, high = low // step - 1, high // step + 1
        reach = max(reach, -low, high)
    stage = 1 + 2 * grad_units
    through_trunk = 1 + 2 * units
    tapped = (1 + (4 - tap) * stage + 2 * (tap * units // 4) + 1 for tap in range(1, 5))
    through_branch = max(1 + 4 * stage + 2, *(stage + each for each in tapped))
    return reach + max(through_trunk + 1, through_branch)


SPEC = ModelSpec(
    build=DGGN,
    scales=(4,),
    presets={
        "paper": {},
        "lite": {
            "width": 32,
            "units": 12,
            "grad_units": 1,
            "hr_units": 0,
            "branch_width": 16,
            "reduction": 8,
            "hr_width": 8,
            "image_skip": True,
        },
    },
    halo=halo,
    statistics="global",
    gradient=True,
    source="DGGN, on SPSR (arXiv:2003.13081) and squeeze and excitation (arXiv:1709.01507);"
    " own implementation",
)
