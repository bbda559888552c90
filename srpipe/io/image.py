"""Still pictures of every format: read, write, and see that what was written can be read.

JPEG and WebP are here; they go through Pillow. PNG and TIFF have a file each.
"""

import struct
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from srpipe.errors import MediaError, TargetError
from srpipe.io import exif, format_of, png, tiff
from srpipe.io.picture import Metadata, Picture, check_size, frame_of

QUALITY = 95  # of JPEG and lossy WebP; JPEG then errs by 2 levels on average, 22 at most, on Set14
EXIF_MARK = b"Exif\0\0"
EXAMPLE_SUM = 3688
"""Of the steps in the table for luma in ITU-T T.81, Annex K.1."""

JFIF_DENSITY_AT, JFIF_DENSITY_MAX = 13, 65535  # unit and two shorts; ITU-T T.871, 10.1
JFIF_INCHES = {1: 1.0, 2: exif.INCH_CM}  # what a unit counts to; the other one has no name
KEPT, KEPT_MARK = "APP13", b"\xff\xed"  # IPTC and Photoshop, as they are
JPEG_XMP_BYTES_MAX = 65504  # one segment of 16 bits, less its length and what it starts with


def read(path: Path) -> Picture:
    """The picture in a file, whatever its name says it is.

    Raises
    ------
    MediaError
        If it is no picture that srpipe reads, is damaged, animated or absurdly large.
    """
    name = format_of(path)
    if name not in READERS:
        found = "holds numbers, not a picture" if name == "raster" else "is not a picture"
        raise MediaError(f"{path} {found}; the pictures read are {', '.join(READERS).upper()}")
    try:
        with _silence():
            picture = READERS[name](path)
            return replace(picture, metadata=picture.metadata.complete)
    except MediaError:
        raise
    except MemoryError as error:
        raise MediaError(f"{path} does not fit into memory; cut it into pieces") from error
    except Exception as error:  # decoders raise what they like over damaged bytes
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise MediaError(
            f"{path} is a damaged {name.upper()} ({reason}); fetch it again"
        ) from error


def write(part: Path, picture: Picture) -> None:
    """Write a picture in its format; `part` may have any name.

    Raises
    ------
    TargetError
        If the format cannot hold it.
    """
    with _silence():
        WRITERS[picture.format](part, picture)


def verify(part: Path, picture: Picture) -> None:
    """See that a file that was just written holds this picture.

    Raises
    ------
    TargetError
        If it cannot be read back, or a lossless one gives other pixels.
    """
    try:
        with _silence():
            back = READERS[picture.format](part)
    except Exception as error:
        raise TargetError(f"{part} was written and cannot be read back ({error})") from error
    wrote, read_back = _stored(picture), back.frame.planes[0]
    same = wrote.shape == read_back.shape and wrote.dtype == read_back.dtype
    if not same or (picture.lossless and not np.array_equal(wrote, read_back)):
        raise TargetError(f"{part} was written and gives other pixels back; try again")


def left_out(picture: Picture) -> tuple[str, ...]:
    """What its format has no room for, in words."""
    density = picture.metadata.density
    if picture.format != "jpeg" or density is None or _jfif_density(picture.metadata):
        return ()
    return (f"JPEG has no room for {max(density):.0f} pixels per inch, which are left out",)


def stays_behind(picture: Picture, name: str) -> tuple[str, ...]:
    """What its file says and a file of another format will not, in words."""
    own, lost = picture.own or {}, []
    if name == picture.format:
        return ()
    if own.get("chunks"):
        lost += png.words(own["chunks"], profiled=bool(picture.metadata.icc))
    if own.get("comment"):
        lost.append("its comment")
    if own.get("kept"):
        lost.append("its IPTC or Photoshop record")
    return tuple(f"{what} is left out of {name.upper()}" for what in lost)


def _stored(picture: Picture) -> np.ndarray:
    """The pixels (H, W, C) that the file holds: WebP has no opacity where all of it is full."""
    pixels, layout = picture.frame.planes[0], picture.frame.layout
    bare = picture.format == "webp" and layout.alpha and bool((pixels[..., -1] == 255).all())
    return pixels[..., :-1] if bare else pixels


def _silence() -> AbstractContextManager[Any]:
    """No warnings of sizes, which are checked here, nor of odd tags, which are kept as they are."""
    return warnings.catch_warnings(action="ignore")


def _read_with_pillow(path: Path) -> Picture:
    try:
        image = Image.open(path)
    except Image.DecompressionBombError as error:
        raise MediaError(f"{path} is absurdly large ({error}); cut it into pieces") from error
    with image:
        check_size(image.height, image.width, path)
        notices = _refuse_or_note(image, path)
        pixels = np.array(_plain(image, path))
        about = _metadata(image)
    name = "webp" if image.format == "WEBP" else "jpeg"
    return Picture(
        frame=frame_of(pixels),
        metadata=about,
        format=name,
        lossless=name == "webp" and _is_lossless(path),
        own={
            "comment": image.info.get("comment"),
            "kept": [body for name, body in getattr(image, "applist", ()) if name == KEPT],
        },
        notices=notices,
        quality=_quality(image),
    )


def _quality(image: Image.Image) -> float | None:
    """By how much the luma's table is T.81's example, Annex K.1, which libjpeg scales."""
    tables = getattr(image, "quantization", None)
    if not tables:
        return None
    share = 100 * sum(tables[min(tables)]) / EXAMPLE_SUM
    return (200 - share) / 2 if share <= 100 else 5000 / share


def _refuse_or_note(image: Image.Image, path: Path) -> tuple[str, ...]:
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format == "MPO":
        return (f"{path}: only the first of its {frames} pictures is enlarged",)
    if frames > 1:
        raise MediaError(f"{path} is animated; turn it into a video, such as .mkv, and try again")
    return ()


def _plain(image: Image.Image, path: Path) -> Image.Image:
    """The same picture in mode L, RGB or RGBA."""
    if image.mode in ("CMYK", "YCCK"):
        raise MediaError(
            f"{path} holds printing inks (CMYK), which only its colour profile can turn into RGB;"
            " convert it to RGB first"
        )
    return image if image.mode in ("L", "RGB", "RGBA") else image.convert("RGB")


def _metadata(image: Image.Image) -> Metadata:
    info = image.info
    said = info.get("exif")
    density, inches = _density(info)
    return Metadata(
        icc=info.get("icc_profile"),
        exif=said.removeprefix(EXIF_MARK) if said else None,
        xmp=info.get("xmp"),
        density=density,
        inches=inches,
    )


def _density(info: Mapping[Any, Any]) -> tuple[tuple[float, float] | None, bool]:
    """What JFIF says of it, and whether that is per inch; Pillow's own answer may be invented."""
    unit, (x, y) = info.get("jfif_unit"), info.get("jfif_density", (0, 0))
    if unit in JFIF_INCHES and x and y:
        return (y * JFIF_INCHES[unit], x * JFIF_INCHES[unit]), True
    return ((float(y), float(x)), False) if x and y and x != y else (None, True)


def _is_lossless(path: Path) -> bool:
    """Whether a WebP file holds its picture in a VP8L chunk; RFC 9649, section 2."""
    data = path.read_bytes()
    at = 12
    while at + 8 <= len(data):
        if data[at : at + 4] == b"VP8L":
            return True
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + length + length % 2
    return False


def _write_jpeg(part: Path, picture: Picture) -> None:
    own = picture.own or {}
    kept = (KEPT_MARK + struct.pack(">H", len(body) + 2) + body for body in own.get("kept", ()))
    options = {"quality": QUALITY, "subsampling": "4:4:4", "extra": b"".join(kept)}
    if own.get("comment"):
        options["comment"] = own["comment"]
    _write_with_pillow(part, picture, "JPEG", options)
    density = _jfif_density(picture.metadata)
    if density:
        with part.open("r+b") as file:
            file.seek(JFIF_DENSITY_AT)
            file.write(density)


def _jfif_density(about: Metadata) -> bytes | None:
    """The density as JFIF holds it; None where there is none, or it has no room."""
    if about.density is None:
        return None
    y, x = about.density
    if not about.inches:  # then it is a ratio, which smaller numbers say as well
        y, x = Fraction(y / x).limit_denominator(JFIF_DENSITY_MAX).as_integer_ratio()
    unit, down, across = int(about.inches), round(y), round(x)
    fits = min(down, across) > 0 and max(down, across) <= JFIF_DENSITY_MAX
    return struct.pack(">BHH", unit, across, down) if fits else None


def _write_webp(part: Path, picture: Picture) -> None:
    # exact: the colours under transparent pixels are pixels, too
    options = {"lossless": picture.lossless, "quality": QUALITY, "exact": picture.lossless}
    about = picture.metadata
    if about.density:  # which only EXIF can tell here
        told = exif.with_density(about.exif, *about.density, inches=about.inches)
        picture = replace(picture, metadata=replace(about, exif=told))
    _write_with_pillow(part, picture, "WEBP", options)


def _write_with_pillow(part: Path, picture: Picture, name: str, options: dict[str, Any]) -> None:
    about = picture.metadata
    if about.icc:
        options["icc_profile"] = about.icc
    if about.exif:
        options["exif"] = EXIF_MARK + about.exif
    if about.xmp:
        options["xmp"] = about.xmp
    pixels = _stored(picture)
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    try:
        with part.open("wb") as file:
            image.save(file, name, **options)
    except ValueError as error:  # such as EXIF beyond the 64 KiB of a JPEG segment
        raise TargetError(
            f"{name} cannot hold this picture ({error}); write PNG or TIFF"
        ) from error


READERS: dict[str, Callable[[Path], Picture]] = {
    "png": png.read,
    "jpeg": _read_with_pillow,
    "webp": _read_with_pillow,
    "tiff": tiff.read,
}
WRITERS: dict[str, Callable[[Path, Picture], None]] = {
    "png": png.write,
    "jpeg": _write_jpeg,
    "webp": _write_webp,
    "tiff": tiff.write,
}
