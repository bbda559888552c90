"""YUV to RGB and back: matrix, range, bit depth and chroma position, on the tensor's device.

The numbers are those of ITU-T H.273; nothing here is guessed from pixel values, and no value is
clamped before it is an integer code again.
"""

import functools
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from srpipe.errors import ConfigError, PixelError
from srpipe.pixels import UNSPECIFIED, Layout, sample_type

IDENTITY, YCGCO = 0, 8

LUMA_WEIGHTS: dict[int, tuple[float, float]] = {
    1: (0.2126, 0.0722),  # BT.709
    4: (0.30, 0.11),  # FCC
    5: (0.299, 0.114),  # BT.470BG, which is BT.601 with 625 lines
    6: (0.299, 0.114),  # SMPTE 170M, which is BT.601 with 525 lines
    7: (0.212, 0.087),  # SMPTE 240M
    9: (0.2627, 0.0593),  # BT.2020, non-constant luminance
}
"""Matrix code point to (Kr, Kb), the shares of red and blue in luma; ITU-T H.273, table 4."""

RESIZE_SLOPE = -0.5  # Keys 1981, doi:10.1109/TASSP.1981.1163711: exact for straight lines


def to_rgb(planes: Sequence[Tensor], layout: Layout) -> Tensor:
    """The picture as RGB or RGBA, shape (1, 3 or 4, H, W), float32, nominally 0 to 1.

    Values outside 0 to 1 (brighter than white, more saturated than the primaries) are kept, so
    that `from_rgb` gives the same codes back. Chroma is brought to full size with a cubic that
    honours `layout.chroma_site`. Gray gives three equal channels.

    Parameters
    ----------
    planes : tensors as `srpipe.io.frames.Frame` has arrays: Y, U, V and maybe alpha, each 2-D, or
        one (H, W, C); uint8 for 8 bits, uint16 for 9 to 16, float32 for 32
    layout : what the samples mean, for which
        its matrix has to be known

    Raises
    ------
    ConfigError
        If the layout's matrix is unspecified or not one of this file's.
    PixelError
        If number, type or size of the planes do not fit the layout.
    """
    _check(planes, layout)
    if layout.family != "yuv":
        return _packed_to_rgb(planes[0], layout)
    height, width = planes[0].shape
    black, white = _luma_codes(layout)
    luma = (planes[0].float() - black).div_(white - black)
    zero, span = _chroma_codes(layout)
    chroma = torch.stack([plane.float() for plane in planes[1:3]]).sub_(zero).div_(span)
    blue, red = _upsampled(chroma, layout)[:, :height, :width]
    channels = [*_rgb_from_yuv(luma, blue, red, layout.matrix)]
    if layout.alpha:
        channels.append(planes[3].float() / (2**layout.bits - 1))
    return torch.stack(channels)[None]


def rgb_of(
    planes: Sequence[np.ndarray], layout: Layout, device: torch.device | None = None
) -> Tensor:
    """The same for arrays, which may be read-only; the result is on the device."""
    tensors = [torch.from_numpy(np.require(plane, requirements=["C", "W"])) for plane in planes]
    return to_rgb([tensor.to(device) for tensor in tensors], layout)


def from_rgb(rgb: Tensor, layout: Layout) -> tuple[Tensor, ...]:
    """The inverse of `to_rgb`: planes as the layout wants them, rounded to the nearest code.

    Codes are clamped to what the bit depth can hold, 0 to 2**bits - 1, as H.273 does; chroma is
    reduced with an antialiasing cubic at the layout's chroma position. Gray is the mean of the
    three channels. Alpha that the layout does not hold is left out; alpha that it wants and the
    picture does not have is opaque.

    Parameters
    ----------
    rgb : float tensor (1, 3 or 4, H, W),
        nominally 0 to 1
    layout : what the samples are to be, for which
        its matrix has to be known

    Raises
    ------
    ConfigError, PixelError
        As in `to_rgb`.
    """
    if rgb.dim() != 4 or rgb.shape[0] != 1 or rgb.shape[1] not in (3, 4):
        raise PixelError(f"a picture (1, 3 or 4, H, W) is wanted, not {tuple(rgb.shape)}")
    picture = rgb[0].float().contiguous()
    color = picture[:3]
    if layout.family != "yuv":
        return (_packed_from_rgb(color, _alpha(picture), layout),)
    luma, chroma = _yuv_from_rgb(color, layout.matrix)
    black, white = _luma_codes(layout)
    zero, span = _chroma_codes(layout)
    planes = [
        _codes((luma * (white - black)).add_(black), layout),
        *_codes((_downsampled(chroma, layout) * span).add_(zero), layout),
    ]
    if layout.alpha:
        planes.append(_codes(_alpha(picture) * (2**layout.bits - 1), layout))
    return tuple(planes)


def check_matrix(layout: Layout) -> None:
    """Refuse a layout that the functions above would, for its matrix.

    Raises
    ------
    ConfigError
        If the matrix of YUV is unspecified or not one of this file's.
    """
    if layout.family == "yuv" and layout.matrix not in (IDENTITY, YCGCO):
        _weights(layout.matrix)


def _check(planes: Sequence[Tensor], layout: Layout) -> None:
    """Refuse planes that are not what the layout says."""
    for plane in planes:
        if plane.dtype != sample_type(layout.bits):
            raise PixelError(
                f"{layout.bits}-bit samples are held in {sample_type(layout.bits)},"
                f" not in {plane.dtype}"
            )
    if layout.family != "yuv":
        channels = (3 if layout.family == "rgb" else 1) + layout.alpha
        if len(planes) != 1 or planes[0].dim() != 3 or planes[0].shape[2] != channels:
            shapes = [tuple(plane.shape) for plane in planes]
            raise PixelError(f"{layout.family} is one array (H, W, {channels}), not {shapes}")
        return
    if layout.bits == 32:
        raise PixelError("YUV in float32 is not handled; convert to 8 to 16 bits or to RGB")
    height, width = planes[0].shape
    small = (-(-height // layout.sub_y), -(-width // layout.sub_x))
    wanted = [(height, width), small, small] + [(height, width)] * layout.alpha
    if [tuple(plane.shape) for plane in planes] != wanted:
        shapes = [tuple(plane.shape) for plane in planes]
        raise PixelError(f"planes of {wanted} are wanted for this layout, not {shapes}")


# --- RGB and gray ------------------------------------------------------------------------------


def _packed_to_rgb(array: Tensor, layout: Layout) -> Tensor:
    channels = array.permute(2, 0, 1).float()
    if layout.bits == 32:
        unit = channels
    else:
        black, white = _luma_codes(layout)
        unit = (channels - black) / (white - black)
    if layout.alpha and layout.bits != 32:
        unit = torch.cat([unit[:-1], channels[-1:] / (2**layout.bits - 1)])
    if layout.family == "gray":
        unit = torch.cat([unit[:1].expand(3, -1, -1), unit[1:]])
    return unit[None]


def _packed_from_rgb(color: Tensor, alpha: Tensor, layout: Layout) -> Tensor:
    if layout.family == "gray":
        color = color.mean(0, keepdim=True)
    opaque = 1
    if layout.bits != 32:
        black, white = _luma_codes(layout)
        color = color * (white - black) + black
        opaque = 2**layout.bits - 1
    channels = torch.cat([color, alpha[None] * opaque]) if layout.alpha else color
    return _codes(channels, layout).permute(1, 2, 0).contiguous()


def _alpha(picture: Tensor) -> Tensor:
    return picture[3] if picture.shape[0] == 4 else torch.ones_like(picture[0])


# --- codes -------------------------------------------------------------------------------------


def _luma_codes(layout: Layout) -> tuple[int, int]:
    """The codes of black and of white."""
    if layout.full_range:
        return 0, 2**layout.bits - 1
    return 16 << (layout.bits - 8), 235 << (layout.bits - 8)


def _chroma_codes(layout: Layout) -> tuple[int, int]:
    """The code of no colour, and how many codes one unit of chroma spans."""
    if layout.matrix == IDENTITY:  # green, blue and red: none of them is a difference
        black, white = _luma_codes(layout)
        return black, white - black
    if layout.full_range:
        return 1 << (layout.bits - 1), 2**layout.bits - 1
    return 128 << (layout.bits - 8), 224 << (layout.bits - 8)


def _codes(values: Tensor, layout: Layout) -> Tensor:
    if layout.bits == 32:
        return values
    return values.clamp_(0, 2**layout.bits - 1).round_().to(sample_type(layout.bits))


# --- matrix ------------------------------------------------------------------------------------


def _rgb_from_yuv(y: Tensor, u: Tensor, v: Tensor, matrix: int) -> tuple[Tensor, Tensor, Tensor]:
    """Red, green, blue; H.273, equations 38 to 62 solved for them."""
    if matrix == IDENTITY:
        return v, y, u
    if matrix == YCGCO:
        rest = y - u
        return rest + v, y + u, rest - v
    kr, kb = _weights(matrix)
    red = y + 2 * (1 - kr) * v
    blue = y + 2 * (1 - kb) * u
    return red, (y - kr * red - kb * blue) / (1 - kr - kb), blue


def _yuv_from_rgb(color: Tensor, matrix: int) -> tuple[Tensor, Tensor]:
    """Luma, and two planes of chroma (2, H, W) at full size, nominally -0.5 to 0.5."""
    red, green, blue = color
    if matrix == IDENTITY:
        return green, torch.stack((blue, red))
    if matrix == YCGCO:
        rest = (red + blue) / 2
        return (green + rest) / 2, torch.stack(((green - rest) / 2, (red - blue) / 2))
    kr, kb = _weights(matrix)
    luma = (kr * red).add_(green, alpha=1 - kr - kb).add_(blue, alpha=kb)
    blue, red = (blue - luma).div_(2 * (1 - kb)), (red - luma).div_(2 * (1 - kr))
    return luma, torch.stack((blue, red))


def _weights(matrix: int) -> tuple[float, float]:
    if matrix in LUMA_WEIGHTS:
        return LUMA_WEIGHTS[matrix]
    if matrix == UNSPECIFIED:
        raise ConfigError("the colour matrix is unspecified; decide on one (1 is BT.709) first")
    if matrix == 10:
        raise ConfigError(
            "BT.2020 constant luminance (matrix 10) is not handled;"
            " convert the file to non-constant luminance (matrix 9) first"
        )
    known = sorted([IDENTITY, YCGCO, *LUMA_WEIGHTS])
    raise ConfigError(f"colour matrix {matrix} of ITU-T H.273 is not handled; known are {known}")


# --- chroma size -------------------------------------------------------------------------------


def _offsets(layout: Layout) -> tuple[Fraction, Fraction]:
    """Rows and columns from the first luma sample of a group to the group's chroma sample."""
    midway_y, midway_x = Fraction(layout.sub_y - 1, 2), Fraction(layout.sub_x - 1, 2)
    co_sited = Fraction(0)
    return (
        co_sited if layout.chroma_site == "topleft" else midway_y,
        midway_x if layout.chroma_site == "center" else co_sited,
    )


def _upsampled(chroma: Tensor, layout: Layout) -> Tensor:
    """Planes of chroma (2, H, W) at luma size, up to one group too large."""
    offset_y, offset_x = _offsets(layout)
    tall = _stretched(chroma, 1, layout.sub_y, offset_y)
    return _stretched(tall, 2, layout.sub_x, offset_x)


def _downsampled(chroma: Tensor, layout: Layout) -> Tensor:
    """Full-size planes (2, H, W) at the size of chroma."""
    offset_y, offset_x = _offsets(layout)
    low = _shrunk(chroma, 1, layout.sub_y, offset_y)
    return _shrunk(low, 2, layout.sub_x, offset_x)


def _stretched(planes: Tensor, axis: int, times: int, offset: Fraction) -> Tensor:
    """Planes (C, H, W) with an axis enlarged; sample j of the input sits at j * times + offset."""
    if times == 1:
        return planes
    reach, length = 2, planes.shape[axis]  # a cubic looks at two samples on either side
    held = _padded(planes, axis, reach, reach)
    answers = [
        _weighed([held.narrow(axis, tap, length) for tap in range(2 * reach + 1)], weights)
        for weights in _stretching(times, offset)
    ]
    return torch.stack(answers, axis + 1).flatten(axis, axis + 1)


def _shrunk(planes: Tensor, axis: int, times: int, offset: Fraction) -> Tensor:
    """Planes with an axis reduced to ceil(L / times), the inverse placement of `_stretched`."""
    if times == 1:
        return planes
    reach, length = 2 * times, -(-planes.shape[axis] // times)
    rest = length * times - planes.shape[axis]
    held = _padded(planes, axis, reach, reach + rest)
    held = held.unflatten(axis, (-1, times)).movedim(axis + 1, 0)
    if axis == 2:  # samples that lie apart take several times as long to read, every time
        held = held.contiguous()
    weights = _shrinking(times, offset)
    taps = [held[tap % times].narrow(axis, tap // times, length) for tap in range(len(weights))]
    return _weighed(taps, weights)


def _padded(planes: Tensor, axis: int, before: int, behind: int) -> Tensor:
    """Planes with the first and last samples of an axis repeated."""
    frame = (before, behind, 0, 0) if axis == 2 else (0, 0, before, behind)
    return F.pad(planes[None], frame, mode="replicate")[0]


def _weighed(taps: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The sum of tensors times their weights, tap by tap.

    A convolution of one channel by one takes three times as long.
    """
    (first, weight), *rest = [each for each in zip(taps, weights, strict=True) if each[1]]
    answer = first * weight
    for tap, weight in rest:
        answer.add_(tap, alpha=weight)
    return answer


@functools.cache
def _stretching(times: int, offset: Fraction) -> list[list[float]]:
    """For each of the samples that one becomes, the weights of it and of two on either side."""
    taps = torch.arange(-2, 3, dtype=torch.float64)
    phases = torch.tensor([float((p - offset) / times) for p in range(times)]).double()
    return _cubic(taps - phases[:, None]).tolist()


@functools.cache
def _shrinking(times: int, offset: Fraction) -> list[float]:
    """The weights of the samples of one group, and of two groups on either side."""
    taps = torch.arange(-2 * times, 3 * times, dtype=torch.float64)
    weights = _cubic((taps - float(offset)) / times)
    return (weights / weights.sum()).tolist()


def _cubic(distance: Tensor) -> Tensor:
    """Keys' interpolation kernel with the slope `RESIZE_SLOPE`."""
    x, a = distance.abs(), RESIZE_SLOPE
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))
