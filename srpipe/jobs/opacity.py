"""Colours under wholly transparent pixels, which nobody sees and which change no colour that is.

Before the network they become like the visible ones around them. Afterwards they are what they
were, wherever the result is wholly transparent, too.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from srpipe.pixels import Layout, rounded


def visible(picture: Tensor, layout: Layout) -> Tensor:
    """Red, green and blue of a picture (1, 3 or 4, H, W), as the network is to see them.

    Where colours are multiplied by their opacity they are all visible: black is none.
    """
    rgb, alpha = picture[:, :3], picture[:, 3:]
    if not layout.alpha or not layout.straight:
        return rgb
    seen = alpha > 0
    return _spread(rgb, seen) if seen.any() else torch.zeros_like(rgb)


def hidden_again(rgb: Tensor, alpha: Tensor, picture: Tensor, layout: Layout) -> Tensor:
    """A result with the colours of a picture where both are wholly transparent.

    Where pixels share their chroma, a hidden one would change its neighbours; it stays as it is.

    Parameters
    ----------
    rgb, alpha : of the result, (1, 3, H, W) and (1, 1, H, W)
    picture : (1, 4, h, w)
    layout : how the result is to be laid out
    """
    if not layout.straight or layout.sub_y * layout.sub_x > 1 or (picture[:, 3:] > 0).all():
        return rgb
    repeated = F.interpolate(picture, rgb.shape[-2:], mode="nearest-exact")
    hidden = (repeated[:, 3:] <= 0) & (rounded(alpha, layout.bits) <= 0)
    return torch.where(hidden, repeated[:, :3], rgb)


def _spread(rgb: Tensor, known: Tensor) -> Tensor:
    """Colours (1, 3, H, W) with those that are not known made of the nearest known ones.

    Next to known pixels it is their mean among 3 x 3, and farther away that of the same picture at
    half its size. It takes no longer where the gaps are wide.
    """
    if known.all():
        return rgb
    near, touched = _means(rgb, known, lambda x: F.avg_pool2d(x, 3, stride=1, padding=1))
    rgb, known = torch.where(known, rgb, near), touched
    half = _spread(*_means(rgb, known, lambda x: F.avg_pool2d(x, 2, ceil_mode=True)))
    height, width = rgb.shape[-2:]
    far = half.repeat_interleave(2, -2).repeat_interleave(2, -1)[..., :height, :width]
    return torch.where(known, rgb, far)


def _means(rgb: Tensor, known: Tensor, mean: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Means of known colours alone, and where there are any."""
    share = mean(known.to(rgb.dtype))
    found = share > 0
    return mean(torch.where(known, rgb, 0)) / torch.where(found, share, 1), found
