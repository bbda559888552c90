"""How far an image is from the truth; pure functions of two tensors."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from srpipe.errors import PixelError

WINDOW = 11
"""Side of the Gaussian window of `ssim`, in pixels (Wang et al. 2004)."""


def luma(rgb: Tensor) -> Tensor:
    """Y of BT.601 as MATLAB's ``rgb2ycbcr`` gives it: 16/255 for black, 235/255 for white.

    Parameters
    ----------
    rgb : Tensor of shape (N, 3, H, W), float, in [0, 1]

    Returns
    -------
    Tensor of shape (N, 1, H, W), in the input's type
    """
    weights = rgb.new_tensor([65.481, 128.553, 24.966]).view(3, 1, 1)
    return ((rgb * weights).sum(1, keepdim=True) + 16) / 255


def psnr(image: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, shape (N,), for a peak of 1; infinite when equal.

    Parameters
    ----------
    image, truth : Tensor of shape (N, C, H, W), float, in [0, 1]

    Raises
    ------
    PixelError
        If the shapes differ.
    """
    _check(image, truth, 1)
    error = (image.double() - truth.double()).square().mean((1, 2, 3))
    return -10 * error.log10()


def ssim(image: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity, shape (N,), 1 when equal; doi:10.1109/TIP.2003.819861.

    Gaussian window of 11 px with a deviation of 1.5 px, only where it lies within the image;
    K1 = 0.01 and K2 = 0.03; mean over channels.

    Parameters
    ----------
    image, truth : Tensor of shape (N, C, H, W), float, in [0, 1], sides of 11 px or more

    Raises
    ------
    PixelError
        If the shapes differ or a side is shorter than the 11 px window.
    """
    _check(image, truth, WINDOW)
    a, b = image.double(), truth.double()
    mean_a, mean_b = _blur(a), _blur(b)
    var_a, var_b = _blur(a * a) - mean_a**2, _blur(b * b) - mean_b**2
    covariance = _blur(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    top = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return (top / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean((1, 2, 3))


def _blur(x: Tensor) -> Tensor:
    line = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    window = torch.exp(-line.square() / (2 * 1.5**2))
    window = (window / window.sum()).repeat(x.shape[1], 1, 1, 1)
    x = F.conv2d(x, window, groups=x.shape[1])
    return F.conv2d(x, window.transpose(-2, -1), groups=x.shape[1])


def _check(image: Tensor, truth: Tensor, side: int) -> None:
    if image.shape != truth.shape or image.ndim != 4 or min(image.shape[-2:]) < side:
        raise PixelError(
            f"cannot compare {tuple(image.shape)} with {tuple(truth.shape)}: the shapes must be"
            f" equal, (N, C, H, W), with sides of {side} px or more"
        )


def mean(values: list[float]) -> float:
    """The mean of some measurements; not a number where there are none."""
    return math.fsum(values) / len(values) if values else math.nan
