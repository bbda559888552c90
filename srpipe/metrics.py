"""How far an image is from the truth, and a video from steady; functions of tensors alone."""

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from srpipe.errors import PixelError
from srpipe.gradients import gradient_map
from srpipe.resample import resize

WINDOW = 11
"""Side of the Gaussian window of `ssim`, in pixels (Wang et al. 2004)."""

LEVELS = 255
"""Steps of an 8-bit sample from 0 to 1: differences of colour are given in them."""

STILL_LEVELS = 2.0
"""A place is still where the input changes by less on average; see `Flicker`."""

STILL_WINDOW = 7
"""Side of the square over which that average is taken, in pixels of the input."""


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


def color_shift(image: Tensor, truth: Tensor) -> Tensor:
    """How much brighter each channel is than the truth's on average, in 8-bit levels; (N, C).

    Parameters
    ----------
    image, truth : Tensor of shape (N, C, H, W), float, in [0, 1]

    Raises
    ------
    PixelError
        If the shapes differ.
    """
    _check(image, truth, 1)
    return (image.double() - truth.double()).mean((2, 3)) * LEVELS


def gradient_error(image: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute difference of the gradient maps, shape (N,), per two pixels; 0 when equal.

    Parameters
    ----------
    image, truth : Tensor of shape (N, C, H, W), float, in [0, 1]

    Raises
    ------
    PixelError
        If the shapes differ.
    """
    _check(image, truth, 1)
    return (gradient_map(image) - gradient_map(truth)).abs().mean((1, 2, 3))


class Flicker:
    """How restless an enlarged video is where its input rests; two frames are held at a time.

    With the input ``x``, the output ``y`` and ``B`` for bicubic enlargement to the output's size,
    clamped to [0, 1], what the enlargement added to frame t is ``a(t) = y(t) - B x(t)``, and what
    it changes beyond the input's own change is

        ``e(t) = a(t) - a(t - 1) = [y(t) - y(t - 1)] - [B x(t) - B x(t - 1)]``

    It counts where the input is still, ``S(t)``: where the mean over 7 x 7 input pixels of
    ``|x(t) - x(t - 1)|``, over all channels, is at most 2 levels of 8 bits; detail that moves
    with what it belongs to is no flicker, nor is a cut. Both figures are root mean squares over
    pixels, channels and pairs of frames, in levels of 8 bits:

    * `total`: of ``e`` over ``S``;
    * `coarse`: of ``e`` reduced to the input's size, over ``S``: the part of it that is no finer
      than the input, such as pumping brightness.

    Both are 0 for bicubic enlargement and for added detail that rests; noise of standard deviation
    ``s``, new in every frame, gives a total of ``s * sqrt(2)``. Where nothing is ever still they
    are not a number.

    Attributes
    ----------
    pairs : pairs of frames so far
    """

    def __init__(self) -> None:
        self.pairs = 0
        self._before: tuple[Tensor, Tensor] | None = None
        self._fine_sum = self._coarse_sum = 0.0
        self._fine_count = self._coarse_count = self._places = 0

    def add(self, low: Tensor, high: Tensor) -> None:
        """Take the next frame: the input's (1, C, h, w) and the output's (1, C, H, W), in [0, 1].

        Raises
        ------
        PixelError
            If the frames are of another shape than those before.
        """
        added = high - resize(low, _size(high)).clamp(0, 1)
        before, self._before = self._before, (low, added)
        if before is None:
            return
        if before[0].shape != low.shape or before[1].shape != added.shape:
            raise PixelError(
                f"frames change from {tuple(before[1].shape)} to {tuple(added.shape)} amid the"
                " video; flicker is measured on frames of one size"
            )
        still = _still(before[0], low)
        change = added - before[1]
        fine = F.interpolate(still, _size(high), mode="nearest")
        self._fine_sum += _sum(change.square() * fine)
        self._fine_count += int(fine.sum()) * change.shape[1]
        self._coarse_sum += _sum(resize(change, _size(low)).square() * still)
        self._coarse_count += int(still.sum()) * change.shape[1]
        self._places += still.numel() * change.shape[1]
        self.pairs += 1

    def forget(self) -> None:
        """Take the next frame for the first of another part of the video."""
        self._before = None

    @property
    def total(self) -> float:
        """Root mean square of the change beyond the input's, in 8-bit levels."""
        return _rms(self._fine_sum, self._fine_count)

    @property
    def coarse(self) -> float:
        """The part of it that the input's own pixels could show, in 8-bit levels."""
        return _rms(self._coarse_sum, self._coarse_count)

    @property
    def still(self) -> float:
        """Share of the pixels that were still, 0 to 1."""
        return self._coarse_count / self._places if self._places else math.nan


def flicker(frames: Iterable[tuple[Tensor, Tensor]]) -> Flicker:
    """The `Flicker` of pairs of input and output frames, taken one after the other."""
    found = Flicker()
    for low, high in frames:
        found.add(low, high)
    return found


def _still(before: Tensor, now: Tensor) -> Tensor:
    """1 where two frames (1, C, h, w) are alike and 0 elsewhere, shape (1, 1, h, w)."""
    change = (now - before).abs().mean(1, keepdim=True)
    near = F.avg_pool2d(
        change, STILL_WINDOW, stride=1, padding=STILL_WINDOW // 2, count_include_pad=False
    )
    return (near * LEVELS <= STILL_LEVELS).to(now.dtype)


def _size(x: Tensor) -> tuple[int, int]:
    return x.shape[-2], x.shape[-1]


def _sum(x: Tensor) -> float:
    return float(x.sum(dtype=torch.float64))


def _rms(total: float, count: int) -> float:
    return LEVELS * math.sqrt(total / count) if count else math.nan


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
