"""Between libav's pixel formats and ours: what a name means, and how planes get in and out."""

import ctypes
from collections.abc import Iterable
from dataclasses import replace

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from srpipe.errors import MediaError
from srpipe.io.frames import Frame
from srpipe.pixels import UNSPECIFIED, ChromaSite, Family, Layout

LIMITED, FULL = 1, 2  # libav's AVColorRange; 0 is unspecified
PACKED_RGB: dict[str, tuple[int, ...]] = {
    "rgb24": (0, 1, 2),
    "rgba": (0, 1, 2, 3),
    "rgb48le": (0, 1, 2),
    "rgba64le": (0, 1, 2, 3),
    "bgr0": (2, 1, 0),
    "bgra": (2, 1, 0, 3),
}
"""Where red, green, blue and alpha stand in a pixel of a single plane."""

NOT_INTEGER_CODES = ("f16", "f32", "msb", "xyz", "bayer", "vdpau", "vaapi", "cuda", "mediacodec")
CENTERED_CODECS = ("mjpeg", "mpeg1video", "h261", "h263", "flv1", "jpeg2000", "webp", "rawvideo")
BT2020 = 9

CHROMA_NAMES = {
    (1, 1): "444", (1, 2): "422", (2, 2): "420", (2, 1): "440", (1, 4): "411", (4, 4): "410",
}  # fmt: skip


def native(name: str) -> Layout | None:
    """What a pixel format's samples mean, or None where its planes cannot be taken as they are.

    Range, matrix and chroma position are not in the name, apart from the yuvj formats; the
    layout has its defaults there.
    """
    fmt = av.VideoFormat(name, 64, 64)
    parts = fmt.components
    bits = {part.bits for part in parts}
    if any(word in name for word in NOT_INTEGER_CODES) or len(bits) != 1:
        return None
    if fmt.is_bit_stream or fmt.has_palette or fmt.is_big_endian or not 8 <= max(bits) <= 16:
        return None
    apart = len({part.plane for part in parts}) == len(parts)
    if not (apart or name in PACKED_RGB or len(parts) == 2):
        return None
    family: Family = "rgb" if fmt.is_rgb else "gray" if len(parts) <= 2 else "yuv"
    chroma = parts[1] if family == "yuv" else parts[0]
    return Layout(
        family=family,
        bits=max(bits),
        alpha=parts[-1].is_alpha,
        sub_y=64 // chroma.height,
        sub_x=64 // chroma.width,
        full_range=family != "yuv" or name.startswith("yuvj"),
    )


def planar_name(name: str) -> str | None:
    """The format with the same samples that `native` takes; None where there is none."""
    if native(name) is not None:
        return name
    if any(word in name for word in NOT_INTEGER_CODES):
        return None
    fmt = av.VideoFormat(name, 64, 64)
    parts = fmt.components
    bits = max((part.bits for part in parts), default=32)
    if bits > 16:
        return None
    alpha = parts[-1].is_alpha
    swapped = name.removesuffix("be") + "le"
    if fmt.is_big_endian and is_native(swapped):
        candidate = swapped
    elif fmt.is_rgb or fmt.has_palette:
        candidate = ("rgb24", "rgba", "rgb48le", "rgba64le")[2 * (bits > 8) + alpha]
    elif len(parts) <= 2:
        candidate = "gray" if bits <= 8 else f"gray{bits}le"
    else:
        subsampling = CHROMA_NAMES.get((64 // parts[1].height, 64 // parts[1].width))
        depth = f"{bits}le" if bits > 8 else ""
        candidate = f"yuv{'a' * alpha}{subsampling}p{depth}"
    return candidate if is_native(candidate) else None


def is_native(name: str) -> bool:
    """Whether there is such a pixel format, and its planes can be taken as they are."""
    try:
        return native(name) is not None
    except ValueError:  # libav knows no such format
        return False


def written(name: str) -> Layout | None:
    """What samples we can fill a pixel format with; None where we cannot."""
    twin = f"{name.removesuffix('be')}le" if name.endswith("be") else name  # NumPy swaps bytes
    return native(twin) if is_native(twin) else None


class Planes:
    """Takes decoded pictures apart; one conversion context serves all frames of a file."""

    def __init__(self, codec: str) -> None:
        self._codec = codec
        self._reformatter = VideoReformatter()

    def taken(self, picture: av.VideoFrame) -> tuple[tuple[np.ndarray, ...], Layout]:
        """The samples, copied out of libav's buffers at their true size, and their meaning.

        Raises
        ------
        MediaError
            If the pixel format holds no integer samples of 8 to 16 bits.
        """
        name = planar_name(picture.format.name)
        if picture.format.has_palette and _shows_through(picture):
            name = "rgba"
        if name is None:
            raise MediaError(
                f"its pixel format {picture.format.name} is not handled;"
                " convert it to 8 to 16 bits YUV, RGB or gray first"
            )
        layout = native(name)
        assert layout is not None
        layout = _with_colors(layout, picture, self._codec)
        if name != picture.format.name:
            picture = self._reformatter.reformat(picture, format=name)
        return _arrays(picture, layout), layout


def _shows_through(picture: av.VideoFrame) -> bool:
    """Whether a colour that the pixels have is transparent; others of the palette may be empty."""
    indices, palette = picture.planes
    opacity = np.frombuffer(memoryview(palette), np.uint32) >> 24
    return bool(opacity[_plane(indices, np.dtype(np.uint8), 1)].min() < 255)


def _arrays(picture: av.VideoFrame, layout: Layout) -> tuple[np.ndarray, ...]:
    if layout.family == "yuv":
        return tuple(_plane(plane, layout.dtype, 1)[..., 0] for plane in picture.planes)
    if len(picture.planes) == 1:
        stand = PACKED_RGB.get(picture.format.name, (0, 1)[: len(picture.format.components)])
        samples = _plane(picture.planes[0], layout.dtype, _channels(picture.format))
        if stand == tuple(range(samples.shape[2])):
            return (samples,)
        return (np.ascontiguousarray(samples[..., list(stand)]),)
    order = [part.plane for part in picture.format.components]  # red, green, blue, alpha
    planes = [_plane(picture.planes[i], layout.dtype, 1) for i in order]
    return (np.concatenate(planes, axis=2),)


def _channels(fmt: av.VideoFormat) -> int:
    """How many samples a pixel of a single plane takes, one that means nothing included."""
    return 4 if fmt.name == "bgr0" else len(fmt.components)


def _plane(plane: av.video.plane.VideoPlane, dtype: np.dtype, channels: int) -> np.ndarray:
    """A contiguous copy (H, W, channels) without the padding of the lines."""
    stride, height = plane.line_size, plane.height
    if stride >= 0:
        buffer = np.frombuffer(memoryview(plane), np.uint8)
    else:  # stored bottom up, as some raw files are: the pointer is at the last line in memory
        start = plane.buffer_ptr + stride * (height - 1)
        buffer = np.ctypeslib.as_array((ctypes.c_uint8 * (-stride * height)).from_address(start))
    lines = buffer[: abs(stride) * height].reshape(height, abs(stride))
    lines = lines if stride >= 0 else lines[::-1]
    row = plane.width * channels * dtype.itemsize
    return np.array(lines[:, :row], order="C").view(dtype).reshape(height, -1, channels)


def _with_colors(layout: Layout, picture: av.VideoFrame, codec: str) -> Layout:
    """The layout with the picture's own colour properties, still unspecified where it has none."""
    full = layout.full_range
    if picture.color_range in (LIMITED, FULL) and not picture.format.is_rgb:
        full = picture.color_range == FULL or picture.format.name.startswith("yuvj")
    matrix = int(picture.colorspace)
    if layout.family == "yuv" and matrix == 0 and layout.sub_y * layout.sub_x > 1:
        matrix = UNSPECIFIED  # GBR cannot be subsampled: the tag is wrong
    if layout.family == "rgb":
        matrix = 0
    primaries = int(picture.color_primaries)
    return replace(
        layout,
        full_range=full,
        matrix=matrix,
        primaries=primaries,
        transfer=int(picture.color_trc),
        chroma_site=_chroma_site(codec, BT2020 in (matrix, primaries)),
    )


def _chroma_site(codec: str, wide: bool) -> ChromaSite:
    """Where the codec's standard puts chroma; PyAV does not tell what the file says."""
    if codec in CENTERED_CODECS:
        return "center"
    return "topleft" if codec == "hevc" and wide else "left"


def with_matrix(layout: Layout, height: int, width: int) -> Layout:
    """The layout with a matrix where the file names none: the one players assume at this size.

    It is written to the output, since enlarging crosses the line at which players change their
    guess: BT.709 from 720 lines (or 1280 columns), else BT.601 with 625 or 525 lines.
    """
    if layout.family != "yuv" or layout.matrix != UNSPECIFIED:
        return layout
    if height >= 720 or width >= 1280:
        return replace(layout, matrix=1)
    return replace(layout, matrix=5 if height in (288, 576) else 6)


def best_format(names: Iterable[str], want: Layout, height: int, width: int) -> str | None:
    """Which of an encoder's formats holds the most of a layout at a size, and little beside.

    The sides must be whole multiples of the chroma grid; a side of 0 stands for any.
    """

    def cost(name: str) -> tuple[int, ...]:
        has = written(name)
        assert has is not None
        lost = (
            has.family == "gray" != want.family,
            has.family != want.family,
            want.alpha and not has.alpha,
            max(0, want.bits - has.bits),
            has.sub_y > want.sub_y or has.sub_x > want.sub_x,
        )
        spare = (
            has.alpha and not want.alpha,
            want.sub_y * want.sub_x - has.sub_y * has.sub_x,
            has.bits - want.bits,
            name.startswith("yuvj"),
        )
        return (*map(int, lost), *map(int, spare))

    fitting = [name for name in names if _fits(written(name), height, width)]
    return min(fitting, key=cost, default=None)


def _fits(layout: Layout | None, height: int, width: int) -> bool:
    return layout is not None and height % layout.sub_y == 0 and width % layout.sub_x == 0


def picture(frame: Frame, name: str) -> av.VideoFrame:
    """A libav picture with a frame's samples and colours, in the format that its layout names."""
    layout = frame.layout
    made = av.VideoFrame(frame.width, frame.height, name)
    big = made.format.is_big_endian
    if layout.family == "yuv":
        for plane, samples in zip(made.planes, frame.planes, strict=True):
            _fill(plane, samples, big)
    elif len(made.planes) == 1:
        samples = frame.planes[0]
        order = PACKED_RGB.get(name, tuple(range(samples.shape[2])))
        if order != tuple(range(_channels(made.format))):
            packed = np.zeros((*samples.shape[:2], _channels(made.format)), samples.dtype)
            packed[..., list(order)] = samples
            samples = packed
        _fill(made.planes[0], samples.reshape(frame.height, -1), big)
    else:
        for channel, part in enumerate(made.format.components):
            _fill(made.planes[part.plane], frame.planes[0][..., channel], big)
    made.colorspace, made.color_range = layout.matrix, FULL if layout.full_range else LIMITED
    made.color_primaries, made.color_trc = layout.primaries, layout.transfer
    return made


def _fill(plane: av.video.plane.VideoPlane, samples: np.ndarray, big_endian: bool) -> None:
    lines = np.frombuffer(memoryview(plane), np.uint8)[: plane.line_size * plane.height]
    kind = samples.dtype.newbyteorder(">") if big_endian else samples.dtype
    lines = lines.reshape(plane.height, plane.line_size).view(kind)
    lines[:, : samples.shape[1]] = samples
