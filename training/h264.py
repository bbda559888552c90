"""Pictures as frames of videos that x264 made: each of a short clip that pans over it."""

import torch
from torch import Generator, Tensor

from srpipe.codecs import h264
from srpipe.pixels import from_unit, to_unit
from training.degrade import REDUCTIONS, noisy

REVISION = 1
"""Of what `filmed` does: frames that were kept in a file by others are made anew."""

FRAMES = 6
"""Of a clip; which of them is the picture is drawn, so that it may be an I, a P or a B frame."""

PAN = 3
"""How far a clip moves in one frame at most, down and to the side, in low-resolution pixels."""


def filmed(
    image: Tensor,
    scale: int,
    reduction: str,
    *,
    factors: tuple[int, int],
    noise: tuple[float, float],
    chance: Generator,
) -> Tensor:
    """A picture in low resolution, as it is in a video.

    Parameters
    ----------
    image : uint8 Tensor of shape (H, W, 3), sides multiples of ``scale``, on any device
    reduction : a name in `REDUCTIONS`
    factors : range of x264's constant rate factor, from which one is drawn
    noise : range of the deviation of the noise in each frame before it is encoded, in 8-bit levels
    chance : draws these, the clip's motion, and the picture's place in it

    Returns
    -------
    uint8 Tensor of shape (H / scale, W / scale, 3)
    """
    least, most = factors
    factor = int(torch.randint(least, most + 1, (), generator=chance))
    place = int(torch.randint(FRAMES, (), generator=chance))
    pan = (2 * torch.rand(2, generator=chance) - 1) * PAN * scale
    ways = [(pan * (i - place)).round().int().tolist() for i in range(FRAMES)]
    lows = torch.stack([REDUCTIONS[reduction](_moved(image, *way), scale) for way in ways])
    frames = to_unit(lows, 8).permute(0, 3, 1, 2)
    if noise[1]:
        level = float(noise[0] + (noise[1] - noise[0]) * torch.rand((), generator=chance))
        frames = noisy(frames, (level, level), chance)
    found = list(h264(frames.split(1), factor))[place]
    return from_unit(found, 8)[0].permute(1, 2, 0)


def _moved(image: Tensor, down: int, right: int) -> Tensor:
    """A picture moved by whole pixels; its border is continued."""
    height, width = image.shape[:2]
    rows = (torch.arange(height, device=image.device) - down).clamp(0, height - 1)
    columns = (torch.arange(width, device=image.device) - right).clamp(0, width - 1)
    return image[rows][:, columns]
