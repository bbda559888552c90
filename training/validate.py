"""How good a run's averaged weights are on pictures that it is not trained on."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srpipe.gradients import gradient_map
from srpipe.metrics import luma, mean, psnr, ssim
from srpipe.pixels import rounded
from srpipe.precision import whole_float32
from training.generator import enlarged

SHOWN, SHOWN_SIDE = 4, 192
"""How many pictures are shown, and how many rows and columns from the middle of each at most."""

EDGES_GAIN = 2.0
"""How many times brighter gradient maps are shown than they are."""


class Findings(NamedTuple):
    """PSNR and SSIM of luma, without a border of ``scale`` pixels, and a picture (3, H, W)."""

    psnr: float
    ssim: float
    picture: Tensor


@torch.inference_mode()
def validate(
    network: nn.Module, held: Sequence[tuple[Tensor, Tensor]], scale: int, *, edges: bool
) -> Findings:
    """Mean figures over images, low and high; and low, result, truth and gradient maps of some.

    Parameters
    ----------
    edges : whether the network predicts gradient maps
    """
    device = next(network.parameters()).device
    side = min([SHOWN_SIDE, *(min(high.shape[-2:]) for _low, high in held)]) // scale
    psnrs, ssims = [], []
    rows: list[Tensor] = []
    for low, high in ((low.cpu(), high.cpu()) for low, high in held):
        with whole_float32(device):
            image, maps = enlarged(network, low.to(device), edges=edges)
        result = rounded(image, 8).cpu()
        inner = (..., slice(scale, -scale), slice(scale, -scale))
        a, b = luma(result)[inner], luma(high)[inner]
        psnrs.append(float(psnr(a, b)))
        ssims.append(float(ssim(a, b)))
        if len(rows) < SHOWN:
            large = F.interpolate(low, scale_factor=scale)
            shown = [each.cpu() * EDGES_GAIN for each in maps[-1:]]
            shown += [gradient_map(each) * EDGES_GAIN for each in (result, high)]
            panels = [large, result, high, *shown]
            rows.append(torch.cat([_middle(each, side * scale) for each in panels], -1))
    return Findings(mean(psnrs), mean(ssims), rounded(torch.cat(rows, -2)[0], 8))


def _middle(image: Tensor, side: int) -> Tensor:
    top, left = ((length - side) // 2 for length in image.shape[-2:])
    return image[..., top : top + side, left : left + side]
