"""Files in and files out; `FORMATS` says which, and `format_of` which one a file is.

What a file starts with decides, not its name: a JPEG named .png is read as a JPEG. Only where JPEGs
follow one another the name decides too: Motion JPEG is nothing but that.
"""

import mmap
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from srpipe.errors import ConfigError, MediaError
from srpipe.io.sequence import is_sequence, numbers


@dataclass(frozen=True, kw_only=True)
class Format:
    """What can be said of a format before its file is opened.

    Parameters
    ----------
    kind : whether its files go the way of pictures, of videos or of rasters
    suffixes : how such files are named; the first one is the usual one
    starts : whether a file with these first 16 bytes is one
    side_max : the longest side it can hold, in pixels
    bits : the sample widths it can hold
    alpha, gray : whether it can hold opacity, and a single channel
    """

    kind: Literal["picture", "video", "raster"]
    suffixes: tuple[str, ...]
    starts: Callable[[bytes], bool]
    side_max: int = 2**31 - 1
    bits: tuple[int, ...] = (8,)
    alpha: bool = True
    gray: bool = True


FORMATS: dict[str, Format] = {
    "png": Format(
        kind="picture",
        suffixes=(".png",),
        starts=lambda head: head.startswith(b"\x89PNG\r\n\x1a\n"),
        bits=(8, 16),
    ),
    "jpeg": Format(
        kind="picture",
        suffixes=(".jpg", ".jpeg", ".jpe", ".jfif"),
        starts=lambda head: head.startswith(b"\xff\xd8\xff"),
        side_max=65500,  # JPEG_MAX_DIMENSION of libjpeg
        alpha=False,
    ),
    "webp": Format(
        kind="picture",
        suffixes=(".webp",),
        starts=lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP",
        side_max=16383,  # 14 bits; RFC 9649, section 2.5
        gray=False,
    ),
    "tiff": Format(
        kind="picture",
        suffixes=(".tif", ".tiff"),
        starts=lambda head: head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
        bits=(8, 16, 32),
    ),
    "raster": Format(  # and every TIFF that is no picture; io/raster_formats.py tells them apart
        kind="raster",
        suffixes=(".zarr",),
        starts=lambda head: False,
    ),
    "video": Format(  # every container that FFmpeg knows; io/video.py says what it cannot read
        kind="video",
        suffixes=(".mp4", ".mkv", ".mov", ".webm", ".m4v", ".avi", ".ts", ".gif"),
        starts=lambda head: False,
    ),
}

OTHER_PICTURES = (
    *(".avif", ".bmp", ".cr2", ".dng", ".exr", ".heic", ".heif", ".jp2", ".jxl", ".nef"),
    *(".pbm", ".pgm", ".ppm", ".psd", ".svg", ".tga"),
)
"""Pictures that FFmpeg might take for a video of one frame, and not give back as they were."""


# markers that a length follows, and the end; ISO 10918-1, table B.1
_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])", re.S)
_JPEG_START, _JPEG_END, _APP2 = b"\xff\xd8\xff", b"\xd9", b"\xe2"


def format_of(path: Path) -> str:
    """The name in `FORMATS` of the format that this file has.

    Raises
    ------
    MediaError
        If there is no such file, or it is a picture that is not what its name says.
    """
    if is_sequence(path):
        numbers(path)  # or the pictures are not there
        return "video"
    if is_raster(path):
        return "raster"
    head = _head(path)
    for name, known in FORMATS.items():
        if known.starts(head):
            return "video" if name == "jpeg" and _is_motion_jpeg(path) else name
    suffix = path.suffix.lower()
    claimed = format_for(suffix)
    if FORMATS[claimed].kind == "picture":
        raise MediaError(f"{path} is not the {claimed.upper()} file its name says; check the file")
    if suffix in OTHER_PICTURES:
        raise MediaError(f"{path}: {suffix} pictures are not read; convert it to PNG or TIFF")
    return "video"


def is_raster(path: Path) -> bool:
    """Whether it is one of `srpipe.io.raster_formats`; False if it cannot be read at all.

    Raises
    ------
    MediaError
        If it is a damaged TIFF, or a Zarr in a ZIP.
    """
    from srpipe.io.raster_formats import raster_format

    there = os.path.isfile(path) or os.path.isdir(path)  # no errors, unlike Path
    return there and raster_format(path) is not None


def format_for(suffix: str) -> str:
    """The name in `FORMATS` of the format that files named so have; "video" for unknown ones."""
    wanted = suffix.lower()
    return next((n for n, known in FORMATS.items() if wanted in known.suffixes), "video")


def picture_format(path: Path) -> str:
    """The picture format in which a target of this name is written.

    Raises
    ------
    ConfigError
        If no picture format is named so.
    """
    name = format_for(path.suffix)
    if FORMATS[name].kind != "picture":
        suffixes = [f.suffixes[0] for f in FORMATS.values() if f.kind == "picture"]
        raise ConfigError(f"{path} is no name for a picture; end it in {', '.join(suffixes)}")
    return name


def _is_motion_jpeg(path: Path) -> bool:
    """Whether a file that starts as a JPEG is not named so, and holds one right after the other.

    So do several views in one file (MPO), which says so and is a picture.
    """
    if path.suffix.lower() in FORMATS["jpeg"].suffixes:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = len(_JPEG_START) - 1
        while found := _MARKER.search(data, at):
            at = found.end()
            if found[1] == _JPEG_END:
                return data[at : at + len(_JPEG_START)] == _JPEG_START
            if found[1] == _APP2 and data[at + 2 : at + 6] == b"MPF\0":
                return False
            at += int.from_bytes(data[at : at + 2], "big")
    return False


def _head(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise MediaError(f"{path} is a directory; name the files in it")
        if not path.is_file():
            state = "is not a regular file" if path.exists() else "does not exist"
            raise MediaError(f"{path} {state}; check the name")
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise MediaError(
            f"{path} cannot be read: {error.strerror}; check its name and rights"
        ) from error
    if not head:
        raise MediaError(f"{path} is empty; fetch it again")
    return head
