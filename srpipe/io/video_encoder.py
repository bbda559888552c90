"""Which encoder, pixel format and options hold a video best, and how an encoder is started."""

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

import av
import torch

from srpipe.errors import ConfigError
from srpipe.io.video_formats import FULL, LIMITED, best_format, with_matrix, written
from srpipe.io.video_source import VideoSource
from srpipe.pixels import UNSPECIFIED, Layout
from srpipe.settings import nearest

HDR_TRANSFERS = (16, 18)  # PQ and HLG, ITU-T H.273
LOSSLESS = (
    "ffv1",
    "huffyuv",
    "ffvhuff",
    "utvideo",
    "png",
    "tiff",
    "qtrle",
    "rawvideo",
    "libx264rgb",
)
EVEN_SIDES_ONLY = ("libx264", "libx264rgb", "libx265", "h264_nvenc", "hevc_nvenc", "libsvtav1")
SEQUENCES = {".png": "png", ".tif": "tiff", ".tiff": "tiff"}
"""Encoders of numbered pictures."""

ROUNDING = 2  # columns by which a size that was brought to even sides may miss its shape
SIDE_MAX = 65535
"""Pixels along a side in the heads of MP4 and VP9, which have 16 bits for it."""

PIXELS_MAX = (2**31 - 1) // 8  # libavutil/imgutils.c, with 128 more along each side
SIDES_MAX = {"libx264": 16384, "libx264rgb": 16384}  # x264's MAX_RESOLUTION
X265_LEAST_SIDE = 16  # it refuses smaller pictures

DEFAULTS: dict[str, dict[str, str]] = {
    "libx264": {"crf": "16", "preset": "medium"},
    "libx265": {"crf": "18", "preset": "medium"},
    "libvpx-vp9": {"crf": "24", "b": "0", "row-mt": "1", "cpu-used": "2"},
    "libsvtav1": {"crf": "18", "preset": "6"},
}
"""Quality that hides nothing a model added; the cost is encoder time, which the user may change."""


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """What was decided on: the encoder, its options, and the layout of the frames it is given."""

    codec: str
    pix_fmt: str
    layout: Layout
    options: Mapping[str, str]


def chosen(
    source: Layout,
    *,
    height: int,
    width: int,
    suffix: str,
    codec: str | None,
    pix_fmt: str | None,
    options: Mapping[str, str],
) -> Encoding:
    """The encoder and format for a picture of this size that lose the least of a source.

    Raises
    ------
    ConfigError
        If there is no such encoder, or it does not take the pixel format or the size.
    """
    name = _encoder(codec or _default_codec(source, suffix, min(height, width))).name
    _check_size(name, height, width)
    offered = _formats(name, pix_fmt)
    want = _wanted(source, lossless=name in LOSSLESS)
    even = name in EVEN_SIDES_ONLY
    found = best_format(offered, want, height if even else 0, width if even else 0)
    if found is None:
        raise ConfigError(
            f"{name} takes no {pix_fmt or 'pixel format'} of {width}x{height};"
            " choose even sides, another pixel format or another codec"
        )
    return Encoding(
        codec=name,
        pix_fmt=found,
        layout=_layout(found, want),
        options=DEFAULTS.get(name, {}) | dict(options),
    )


def losses(source: Layout, made: Encoding, hdr: Mapping[str, bytes]) -> list[str]:
    """Plain sentences on what the encoding cannot hold of the source's samples, and of HDR10."""
    has, texts = made.layout, []
    if hdr and made.codec != "libx265":
        texts.append(
            f"what HDR10 says of the mastering display and the light is left out: {made.codec}"
            " does not write it; codec libx265 does"
        )
    if source.alpha and not has.alpha:
        texts.append(
            f"transparency is not kept: {made.codec} has no place for it;"
            " codec ffv1 in .mkv, prores_ks in .mov, or .webm, has"
        )
    if source.bits > has.bits:
        texts.append(f"{source.bits} bits per sample become {has.bits}, the most {made.codec} has")
    if source.family == has.family == "yuv" and (source.sub_y, source.sub_x) != (
        has.sub_y,
        has.sub_x,
    ):
        texts.append(
            f"chroma is stored as {made.pix_fmt}: {made.codec} takes the source's own format"
            " only at other sizes, or not at all"
        )
    return texts


def pixel_shape(source: VideoSource, height: int, width: int) -> tuple[Fraction, list[str]]:
    """The pixels' shape with which the picture keeps its own at a new size, and what to say of it.

    0 is unknown, and stays so.
    """
    high, wide = Fraction(height, source.height), Fraction(width, source.width)
    known = source.sample_aspect_ratio
    if abs(width - source.width * high) < ROUNDING:
        return known or Fraction(0), []
    shape = (known or 1) * high / wide
    if shape == 1:
        return shape, []
    return shape, [
        f"{width}x{height} is of another shape than the source; the picture keeps its own by"
        f" pixels that are {shape.numerator}:{shape.denominator} wide to high"
    ]


def as_options(crf: float | None, options: Mapping[str, str] | None) -> dict[str, str]:
    """Options of an encoder by libav's names."""
    made = {key: str(value) for key, value in (options or {}).items()}
    return made if crf is None else {"crf": f"{crf:g}"} | made


def started(context: av.VideoCodecContext, made: Encoding, hdr: Mapping[str, bytes]) -> None:
    """Open an encoder whose size, time base and pixel shape are set.

    Raises
    ------
    ConfigError
        If an option does not exist, or the encoder does not start with these values.
    """
    layout = made.layout
    context.pix_fmt = made.pix_fmt
    context.color_range = FULL if layout.full_range else LIMITED
    context.colorspace, context.color_primaries = layout.matrix, layout.primaries
    context.color_trc = layout.transfer
    options = dict(made.options)
    if layout.sub_y * layout.sub_x > 1 and layout.chroma_site != "left":
        options["chroma_sample_location"] = layout.chroma_site
    if made.codec.startswith("libx264") and torch.backends.cpu.get_cpu_capability() == "AVX512":
        # x264's own code for AVX-512 makes other packets of the same frames in most runs (2 of 3
        # for 100 frames of 352 x 288 px); that for AVX2 is as fast. A resumed run shows it.
        _put_first(options, "x264-params", ["asm=avx2"])
    if made.codec == "libx265":
        _put_first(options, "x265-params", ["log-level=error", *_hdr_parameters(hdr)])
    if made.codec == "libsvtav1":  # it writes to the standard error by itself: errors will do
        os.environ.setdefault("SVT_LOG", "1")
    context.options = options
    try:
        context.open()
    except (av.FFmpegError, ValueError) as error:
        listed = ", ".join(f"{key}={value}" for key, value in options.items())
        given = f" and {listed}" if listed else ""
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"the encoder {made.codec} does not start with {made.pix_fmt}"
            f" {context.width}x{context.height}{given} ({reason}); change one of these"
        ) from None
    for key in context.options:  # what the encoder did not take
        known = context.supported_options
        names = [option.name for option in (*known.private, *known.generic)]
        hint = nearest(key, names, otherwise="; leave it out, or look it up in FFmpeg's pages")
        raise ConfigError(f"the encoder {made.codec} has no option {key}{hint}")


def _put_first(options: dict[str, str], key: str, parameters: list[str]) -> None:
    """Give an encoder parameters of its own before those that the user gave, which win."""
    options[key] = ":".join([*parameters, *([options[key]] if key in options else [])])


def _default_codec(layout: Layout, suffix: str, side: int) -> str:
    if suffix in SEQUENCES:
        return SEQUENCES[suffix]
    if suffix == ".webm":
        return "libvpx-vp9"
    if suffix == ".mov" and layout.alpha:
        return "prores_ks"
    deep = layout.bits > 10 and layout.family == "yuv"
    wide = deep or layout.transfer in HDR_TRANSFERS
    return "libx265" if wide and side >= X265_LEAST_SIDE else "libx264"


def _check_size(name: str, height: int, width: int) -> None:
    most = SIDES_MAX.get(name, SIDE_MAX)
    if max(height, width) > most:
        limit = f"{name} holds sides of up to {most} px"
    elif (height + 128) * (width + 128) >= PIXELS_MAX:
        limit = f"FFmpeg takes frames of up to {PIXELS_MAX // 10**6} million pixels"
    else:
        return
    raise ConfigError(
        f"{limit}, and the video would be {width}x{height}; take a smaller scale or size"
    )


def _formats(name: str, asked: str | None) -> list[str]:
    """The pixel formats to choose from, those among an encoder's whose planes we can fill."""
    codec = _encoder(name)
    offered = [form.name for form in codec.video_formats or []]
    if name.startswith("libvpx") or name == "libx265":  # they start with fewer than they list
        known = ["yuva420p"] if name.startswith("libvpx") else []
        offered = [form for form in offered if form in known or not _has_alpha(form)]
    offered = [form for form in offered or [asked or "yuv420p"] if written(form)]
    if asked is None:
        return offered
    if asked not in offered:
        raise ConfigError(
            f"{name} takes no pixel format {asked}{nearest(asked, offered, otherwise=';')}"
            f" It takes {', '.join(offered)}"
        )
    return [asked]


def _has_alpha(form: str) -> bool:
    layout = written(form)
    return layout is not None and layout.alpha


def _encoder(name: str) -> av.Codec:
    try:
        codec = av.Codec(name, "w")
        if codec.type == "video":
            return codec
    except (av.FFmpegError, ValueError):
        pass
    known = [other for other in sorted(av.codecs_available) if _is_video_encoder(other)]
    raise ConfigError(
        f"there is no video encoder {name}{nearest(name, known, otherwise=';')}"
        " The usual ones are libx264, libx265, libvpx-vp9 and ffv1"
    )


def _is_video_encoder(name: str) -> bool:
    try:
        return av.Codec(name, "w").type == "video"
    except (av.FFmpegError, ValueError):
        return False


def _wanted(layout: Layout, *, lossless: bool) -> Layout:
    """The layout to look for: YUV for lossy codecs, which are made for it and played as such."""
    if layout.family == "yuv" or lossless:
        return layout
    grid = 2 if layout.family == "gray" else 1
    stated = layout.primaries != UNSPECIFIED or layout.transfer != UNSPECIFIED
    return replace(
        layout,
        family="yuv",
        sub_y=grid,
        sub_x=grid,
        full_range=False,
        matrix=1,
        primaries=layout.primaries if stated else 1,
        transfer=layout.transfer if stated else 1,
    )


def _layout(name: str, want: Layout) -> Layout:
    """What the frames are to be, given the format found for what was wanted."""
    has = written(name)
    assert has is not None
    made = replace(
        want, family=has.family, bits=has.bits, alpha=has.alpha, sub_y=has.sub_y, sub_x=has.sub_x
    )
    if has.family != "yuv":
        return replace(made, full_range=True, matrix=0 if has.family == "rgb" else made.matrix)
    if name.startswith("yuvj"):
        made = replace(made, full_range=True)
    if made.matrix in (UNSPECIFIED, 0):  # from RGB into YUV: BT.709, as for any large picture
        made = with_matrix(replace(made, matrix=UNSPECIFIED), 1080, 1920)
    return made


def _hdr_parameters(records: Mapping[str, bytes]) -> list[str]:
    """HDR records (libavutil/mastering_display_metadata.h) as options of x265."""
    made = []
    mastering = records.get("MASTERING_DISPLAY_METADATA", b"")
    if mastering:
        *numbers, has_primaries, has_luminance = struct.unpack("=20i2i", mastering[:88])
        values = [Fraction(n, d or 1) for n, d in zip(numbers[::2], numbers[1::2], strict=True)]
        red, green, blue, white = (
            f"({round(x * 50000)},{round(y * 50000)})"  # x265 counts in 1/50000
            for x, y in zip(values[0:8:2], values[1:8:2], strict=True)
        )
        light = f"({round(values[9] * 10000)},{round(values[8] * 10000)})"  # 1/10000 cd/m2
        if has_primaries and has_luminance:
            made.append(f"master-display=G{green}B{blue}R{red}WP{white}L{light}")
    light_level = records.get("CONTENT_LIGHT_LEVEL", b"")
    if light_level:
        made.append("max-cll={},{}".format(*struct.unpack("=2I", light_level[:8])))
    return made
