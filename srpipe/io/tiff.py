"""TIFF as a picture: one page, 8 or 16 bit; grey, RGB or palette, maybe with alpha.

All others are rasters; `srpipe.io.raster_formats` tells them apart.
"""

import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from srpipe.errors import MediaError
from srpipe.io.exif import CENTIMETRE, INCH, INCH_CM, NO_UNIT
from srpipe.io.picture import Metadata, Picture, check_size, frame_of

GEO = (33550, 33922, 34264, 34735, 42112, 42113)  # GeoTIFF 1.1, and what GDAL adds
SAID = (269, 270, 271, 272, 274, 285, 305, 306, 315, 316, 33432)  # who, what, when, which way up
DESCRIPTION, ORIENTATION, XMP, EXIF, GPS = 270, 274, 700, 34665, 34853
KEPT = (33723, 34377)  # IPTC and Photoshop, as they are
COLOURED = (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR, tifffile.PHOTOMETRIC.PALETTE)
GREY = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE)
TO_RGB = (6, 7, 33007, 34892)  # compressions (JPEG, all of them) whose decoder turns YCbCr to RGB
LUMA, BLACK_AND_WHITE = 529, 532
BT601 = (299, 1000, 587, 1000, 114, 1000)  # shares of red, green and blue in luma, as fractions
LOSSLESS = ("LZW", "ADOBE_DEFLATE", "DEFLATE", "PACKBITS", "ZSTD", "LZMA")
BYTE, TEXT, SHORT, LONG = 1, 2, 3, 4
STRAIGHT = 2  # opacity in ExtraSamples that colours are not multiplied by; 0 does not say
CLASSIC_BYTES_MAX = 2**32 - 2**25  # offsets have 32 bits; some room for tags


def read(path: Path) -> Picture:
    """The picture in a TIFF file that is no raster.

    Raises
    ------
    MediaError
        If it is absurdly large, or packed in a way that nothing here unpacks.
    """
    with tifffile.TiffFile(path) as file:
        page = first_page(file)
        check_size(page.imagelength, page.imagewidth, path)
        pixels = _pixels(page, path)
        tags, own, frame = page.tags, _own(page), frame_of(pixels)
        straight = own["alpha"] == STRAIGHT
        return Picture(
            frame=replace(frame, layout=replace(frame.layout, straight=straight)),
            metadata=Metadata(
                icc=page.iccprofile,
                exif=_exif(path, file, page),
                xmp=as_bytes(tags.valueof(XMP)),
                density=_density(page),
                inches=tags.valueof(296, INCH) in (INCH, CENTIMETRE),
            ),
            format="tiff",
            own=own,
        )


def write(part: Path, picture: Picture) -> None:
    """Write a picture as TIFF; one beyond 4 GiB (BigTIFF) goes without its EXIF directory."""
    own, about = picture.own or {}, picture.metadata
    pixels = picture.frame.planes[0]
    alpha = picture.frame.layout.alpha
    big = pixels.nbytes > CLASSIC_BYTES_MAX
    exif = _loaded(about.exif) if about.exif and not big else Image.Exif()
    tifffile.imwrite(
        part,
        pixels[..., 0] if pixels.shape[2] == 1 else pixels,
        bigtiff=big,
        byteorder="<",
        photometric="minisblack" if picture.frame.layout.family == "gray" else "rgb",
        planarconfig="contig" if pixels.shape[2] > 1 else None,
        extrasamples=[own.get("alpha", STRAIGHT)] if alpha else None,
        compression=own.get("compression", "ADOBE_DEFLATE"),
        predictor=own.get("predictor", True),
        tile=own.get("tile"),
        iccprofile=about.icc,
        software=False,
        metadata=None,
        extratags=list(_extra(picture, exif)),
        **_resolution(about),
    )
    if not big:
        _append_directories(part, exif)


def first_page(file: tifffile.TiffFile) -> Any:
    """The first page that is neither a smaller copy of another one nor its mask.

    Raises
    ------
    MediaError
        If there are only previews, and the picture is below them, as in a camera's raw file.
    """
    pages: Any = file.pages
    whole = (page for page in pages if not (page.is_reduced or page.is_mask))
    found = next(whole, pages.first)
    if found.is_reduced and found.subifds:
        raise MediaError(
            f"{file.filehandle.path} shows no more than a preview of its picture, as raw files of"
            " cameras do; develop it into a TIFF first"
        )
    return found


def stays_ycbcr(page: Any) -> bool:
    """Whether what is unpacked of a page is luma and chroma, and not RGB."""
    return page.photometric == tifffile.PHOTOMETRIC.YCBCR and page.compression not in TO_RGB


def _pixels(page: Any, path: Path) -> np.ndarray:
    """Pixels (H, W) or (H, W, C), black at 0, palette looked up, RGB rather than YCbCr."""
    if stays_ycbcr(page) and page.is_subsampled:
        raise MediaError(
            f"{path} has YCbCr of fewer samples of chroma without JPEG; convert it to RGB"
        )
    pixels = page.asarray()
    if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and page.samplesperpixel > 1:
        pixels = np.ascontiguousarray(np.moveaxis(pixels, 0, -1))
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
        return (page.colormap >> 8).astype(np.uint8).T[pixels]
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        grey = pixels[..., :1] if pixels.ndim == 3 else pixels
        np.subtract(np.iinfo(page.dtype).max, grey, out=grey)
    return _rgb(pixels, page) if stays_ycbcr(page) else pixels


def _rgb(ycbcr: np.ndarray, page: Any) -> np.ndarray:
    """RGB of luma and chroma, opacity as it is; TIFF 6.0, sections 20 and 21."""
    white, middle = np.iinfo(ycbcr.dtype).max, np.iinfo(ycbcr.dtype).max // 2 + 1
    usual = [value for end in (0, white, middle, white, middle, white) for value in (end, 1)]
    red, green, blue = _fractions(page, LUMA, BT601)
    low, high = _fractions(page, BLACK_AND_WHITE, usual).reshape(3, 2).T
    coding = np.array([white, white // 2, white // 2])
    y, cb, cr = np.moveaxis((ycbcr[..., :3] - low) * coding / (high - low), -1, 0)
    r, b = y + cr * (2 - 2 * red), y + cb * (2 - 2 * blue)
    rgb = np.stack([r, (y - red * r - blue * b) / green, b], -1)
    turned = ycbcr.copy()
    turned[..., :3] = np.rint(rgb).clip(0, white)
    return turned


def _fractions(page: Any, tag: int, usual: Any) -> np.ndarray:
    """The numbers of a tag that holds fractions."""
    tops, bottoms = np.reshape(page.tags.valueof(tag) or usual, (-1, 2)).T
    return np.asarray(tops / bottoms)


def _own(page: Any) -> dict[str, Any]:
    """How the file was packed, as far as packing again the same way keeps every bit."""
    name = page.compression.name
    plain = name == "NONE"
    return {
        "compression": None if plain else name if name in LOSSLESS else "ADOBE_DEFLATE",
        "predictor": None if plain or name == "PACKBITS" else page.predictor != 1,
        "tile": (page.tilelength, page.tilewidth) if page.is_tiled else None,
        "alpha": page.extrasamples[0] if page.extrasamples else STRAIGHT,
        "texts": {t.code: t.value for t in page.tags if t.code in _said(page)},
        "kept": [(t.code, t.dtype, t.count, t.value) for t in page.tags if t.code in KEPT],
    }


def _said(page: Any) -> tuple[int, ...]:
    """Which of `SAID` count: a description that is tifffile's note of a shape would be wrong."""
    return tuple(code for code in SAID if not (code == DESCRIPTION and page.is_shaped))


def _exif(path: Path, file: tifffile.TiffFile, page: Any) -> bytes | None:
    """What a page says in EXIF's terms, as EXIF of its own; None where it says nothing."""
    every, said = Image.Exif(), Image.Exif()
    every.bigtiff, every.endian = file.is_bigtiff, file.byteorder
    with path.open("rb") as opened:
        every.load_from_fp(opened, page.offset)
        for tag, value in every.items():
            if tag in _said(page):
                said[tag] = value
        for directory in (EXIF, GPS):
            if inside := every.get_ifd(directory):
                said[directory] = inside
    return said.tobytes().removeprefix(b"Exif\0\0") if len(said) else None


def _loaded(exif: bytes) -> Image.Exif:
    """EXIF with all its directories; empty where it is damaged."""
    loaded = Image.Exif()
    try:
        loaded.load(exif)
        for code in (EXIF, GPS):
            loaded.get_ifd(code)
    except Exception:  # Pillow raises what it likes over damaged bytes
        return Image.Exif()
    return loaded


def _density(page: Any) -> tuple[float, float] | None:
    x, y = page.tags.valueof(282), page.tags.valueof(283)
    unit = INCH_CM if page.tags.valueof(296) == CENTIMETRE else 1
    return (y[0] / y[1] * unit, x[0] / x[1] * unit) if x and y and x[1] and y[1] else None


def as_bytes(value: Any) -> bytes | None:
    """What a tag holds, which tifffile takes for text where its type says so."""
    return value.encode() if isinstance(value, str) else bytes(value) if value else None


def _extra(picture: Picture, exif: Image.Exif) -> Iterator[tuple[int, int, int, Any, bool]]:
    """Tags as tifffile takes them: code, type, count, value, and whether on the first page only."""
    if picture.metadata.xmp:
        yield XMP, BYTE, len(picture.metadata.xmp), picture.metadata.xmp, True
    for code, dtype, count, value in (picture.own or {}).get("kept", ()):
        yield code, dtype, count, value, True
    for code in SAID:
        value = (picture.own or {}).get("texts", exif).get(code)
        if isinstance(value, str) and value:
            yield code, TEXT, 0, value.encode(), True
        elif code == ORIENTATION and value:
            yield code, SHORT, 1, value, True
    for code in (EXIF, GPS):
        if exif.get_ifd(code):
            yield code - 1, LONG, 1, 0, True  # holds the place; tifffile writes no such tag itself


def _resolution(about: Metadata) -> dict[str, Any]:
    if not about.density:
        return {}
    y, x = about.density
    return {"resolution": (x, y), "resolutionunit": INCH if about.inches else NO_UNIT}


def _append_directories(part: Path, exif: Image.Exif) -> None:
    """Write EXIF and GPS behind the pixels, and where they are over the tags that wait for it."""
    for code in (EXIF, GPS):
        inside = exif.get_ifd(code)
        if not inside:
            continue
        directory = ImageFileDirectory_v2(b"II*\0\0\0\0\0")
        for tag, value in inside.items():
            directory[tag] = value
        with part.open("r+b") as file:
            at = file.seek(0, 2)
            at += file.write(b"\0" * (-at % 2))
            file.write(directory.tobytes(at))
        with tifffile.TiffFile(part) as written:
            first: Any = written.pages[0]
            entry = first.tags[code - 1].offset
        with part.open("r+b") as file:
            file.seek(entry)
            file.write(struct.pack("<HHII", code, LONG, 1, at))
