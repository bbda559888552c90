"""How a low-resolution image is made from a high-resolution one."""

import torch
from torch import Tensor

from srpipe.pixels import from_unit, to_unit
from srpipe.resample import reduce


def bicubic(image: Tensor, scale: int) -> Tensor:
    """The literature's "BI": MATLAB's bicubic reduction, rounded to 8 bits.

    Parameters
    ----------
    image : uint8 Tensor of shape (H, W, 3), sides multiples of ``scale``

    Returns
    -------
    uint8 Tensor of shape (H / scale, W / scale, 3)
    """
    unit = to_unit(image, 8).permute(2, 0, 1)[None]
    return from_unit(reduce(unit, scale), 8)[0].permute(1, 2, 0).contiguous()


def cropped(image: Tensor, scale: int) -> Tensor:
    """The top left part of an (H, W, ...) image whose sides are multiples of ``scale``."""
    height, width = image.shape[0] // scale * scale, image.shape[1] // scale * scale
    return image[:height, :width]


def as_tensor(image: Tensor) -> Tensor:
    """A uint8 (H, W, 3) image as float32 (1, 3, H, W) in [0, 1]."""
    return to_unit(image, 8).permute(2, 0, 1)[None].contiguous(memory_format=torch.channels_last)
