"""Bicubic resampling as MATLAB's ``imresize`` does it: a = -0.5, antialiased, mirrored borders.

This is the kernel that the literature's low-resolution images are made with, and the baseline
that every enlargement is compared to. Keys 1981, doi:10.1109/TASSP.1981.1163711.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from srpipe.errors import PixelError
from srpipe.pixels import rounded

REACH = 4
"""Border pixels, at the smaller of the two sizes, that mirroring must supply."""


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resample to ``size`` rows and columns; values may overshoot the input's range a little.

    Equal to ``imresize`` everywhere where each side grows or shrinks by a whole number. Elsewhere
    it differs from it in the outermost pixels, whose weights are renormalised and not mirrored.

    Parameters
    ----------
    x : Tensor of shape (N, C, H, W), float; half precision is computed in float32
    size : rows and columns of the result, 1 or more

    Raises
    ------
    PixelError
        If the tensor is not a floating (N, C, H, W), or a side of it or of the result is empty.
    """
    if x.ndim != 4 or not x.is_floating_point() or min(*x.shape[-2:], *size) < 1:
        raise PixelError(
            f"resampling takes a float tensor (N, C, H, W) with pixels in it, not"
            f" {tuple(x.shape)} of {x.dtype} to {tuple(size)}"
        )
    if tuple(x.shape[-2:]) == tuple(size):
        return x.clone()
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    wide = wide.contiguous()  # in channels_last it takes up to twice as long
    (in_y, out_y), (in_x, out_x) = _pads(x.shape[-2], size[0]), _pads(x.shape[-1], size[1])
    padded = _mirror(_mirror(wide, in_y, -2), in_x, -1)
    grown = (size[0] + 2 * out_y, size[1] + 2 * out_x)
    y = F.interpolate(padded, grown, mode="bicubic", antialias=True, align_corners=False)
    return y[..., out_y : out_y + size[0], out_x : out_x + size[1]].to(x.dtype)


def enlarge(x: Tensor, scale: int) -> Tensor:
    """`resize` to ``scale`` times as many rows and columns."""
    return resize(x, (x.shape[-2] * scale, x.shape[-1] * scale))


def reduce(x: Tensor, scale: int) -> Tensor:
    """`resize` to one ``scale``-th of the rows and columns, which must divide evenly.

    Raises
    ------
    PixelError
        If a side is not a multiple of ``scale``.
    """
    if x.shape[-2] % scale or x.shape[-1] % scale:
        raise PixelError(
            f"{x.shape[-2]} x {x.shape[-1]} px cannot be reduced by {scale}; crop to a multiple"
        )
    return resize(x, (x.shape[-2] // scale, x.shape[-1] // scale))


def low_resolution(truth: Tensor, scale: int) -> Tensor:
    """The literature's "BI" degradation: `reduce`, on the levels of 8 bits.

    Parameters
    ----------
    truth : Tensor of shape (N, C, H, W), float, in [0, 1], sides multiples of ``scale``
    """
    return rounded(reduce(truth, scale), 8)


def _pads(length: int, target: int) -> tuple[int, int]:
    """Border to mirror before, and to cut off after, one axis is resampled."""
    if target % length == 0:
        return REACH, REACH * target // length
    if length % target == 0:
        return REACH * length // target, REACH
    return 0, 0


def _mirror(x: Tensor, pad: int, axis: int) -> Tensor:
    """Continue an axis by its mirror image, the edge repeated, as often as the border needs."""
    while pad:
        length = x.shape[axis]
        step = min(pad, length)
        before, after = x.narrow(axis, 0, step), x.narrow(axis, length - step, step)
        x = torch.cat((before.flip(axis), x, after.flip(axis)), axis)
        pad -= step
    return x
