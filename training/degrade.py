"""How a low-resolution image is made from a high-resolution one."""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from srpipe.pixels import from_unit, rounded, to_unit
from srpipe.resample import low_resolution
from training.jpeg import MCU, compressed
from training.replay import sent

BLUR_SIDE, BLUR_DEVIATION = 7, 1.6
"""The Gaussian of the literature's "BD", in high-resolution pixels (Zhang et al. 2018, RDN)."""

REVISION = 2
"""Of what `REDUCTIONS` do: low resolution that was kept in a file by others is made anew."""


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
    return from_unit(low_resolution(unit, scale), 8)[0].permute(1, 2, 0).contiguous()


def blurred(image: Tensor, scale: int) -> Tensor:
    """The literature's "BD": a Gaussian, and of the blurred picture one pixel in ``scale``.

    The Gaussian lies in the middle of the output pixel, as `bicubic`'s kernel does, so that nothing
    shifts. At odd scales, such as the literature's 3, that is on a pixel, and its 7 pixels are
    taken; at even ones it is between two, and 8 are.
    """
    side = BLUR_SIDE + (scale - BLUR_SIDE) % 2
    line = torch.arange(side, device=image.device) - (side - 1) / 2
    line = torch.exp(-line.square() / (2 * BLUR_DEVIATION**2))
    window = (line / line.sum()).repeat(3, 1, 1, 1)  # (3, 1, 1, side)
    x = to_unit(image, 8).permute(2, 0, 1)[None]
    x = F.pad(x, ((side - scale) // 2,) * 4, mode="replicate")
    x = F.conv2d(x, window, groups=3, stride=(1, scale))
    x = F.conv2d(x, window.transpose(-2, -1), groups=3, stride=(scale, 1))
    return from_unit(x, 8)[0].permute(1, 2, 0).contiguous()


REDUCTIONS = {"bicubic": bicubic, "blur": blurred}
"""How an image gets smaller, by name; (H, W, 3) to (H / scale, W / scale, 3), uint8."""


def noisy(low: Tensor, levels: tuple[float, float], chance: Generator) -> Tensor:
    """Gaussian noise whose deviation, in 8-bit levels, is drawn for each image from a range."""
    least, most = levels
    deviation = least + (most - least) * torch.rand(len(low), 1, 1, 1, generator=chance)
    noise = torch.randn(low.shape, generator=chance) * (deviation / 255)
    return rounded(low + sent(noise, low.device), 8)


def recompressed(low: Tensor, qualities: tuple[int, int], chance: Generator) -> Tensor:
    """JPEG of a quality that is drawn for each image from a range, rounded to 8 bits.

    The blocks begin anywhere, the same for the whole batch, as in squares cut from a larger
    picture; past its border an image is continued by its last pixels.
    """
    least, most = qualities
    quality = torch.randint(least, most + 1, (len(low),), generator=chance)
    top, left = torch.randint(MCU, (2,), generator=chance).tolist()
    height, width = low.shape[-2:]
    below, right = -(top + height) % MCU, -(left + width) % MCU
    x = F.pad(low, (left, right, top, below), mode="replicate")
    x = compressed(x, sent(quality, low.device))[..., top : top + height, left : left + width]
    return rounded(x, 8)


def cropped(image: Tensor, scale: int) -> Tensor:
    """The top left part of an (H, W, ...) image whose sides are multiples of ``scale``."""
    height, width = image.shape[0] // scale * scale, image.shape[1] // scale * scale
    return image[:height, :width]


def as_tensor(image: Tensor) -> Tensor:
    """A uint8 (H, W, 3) image as float32 (1, 3, H, W) in [0, 1]."""
    return to_unit(image, 8).permute(2, 0, 1)[None].contiguous(memory_format=torch.channels_last)
