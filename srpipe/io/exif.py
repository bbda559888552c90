"""What a picture says of its own size, carried over to a larger one; pure functions of bytes.

EXIF is changed in place, entry by entry, and never written anew: maker notes hold offsets that
only their makers know. Section numbers are those of TIFF 6.0 and EXIF 2.32.
"""

import re
import struct
from collections.abc import Iterator
from fractions import Fraction

EXIF_IFD = 0x8769
ORIENTATION = 0x0112
WIDTHS, HEIGHTS = (0x0100, 0xA002), (0x0101, 0xA003)  # ImageWidth, Pixel X Dimension; and Y
ACROSS, DOWN = (0x011A, 0xA20E), (0x011B, 0xA20F)  # X and Y Resolution, on paper and on the sensor
SHORT, LONG, RATIONAL = 3, 4, 5

XMP_SIZES = re.compile(
    rb"((?:tiff:Image(?:Width|Length)|exif:Pixel[XY]Dimension)(?:=[\"']|>))(\d+)"
)
XMP_WIDTH = re.compile(rb"Width|PixelX")


def is_turned(exif: bytes) -> bool:
    """Whether the picture is shown with its sides exchanged."""
    data = bytearray(exif)
    try:
        order, entries = _read(data)
        for at in entries:
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", data, at)
            if (tag, kind) == (ORIENTATION, SHORT):
                return 5 <= value <= 8
    except (KeyError, struct.error):
        pass
    return False


def enlarged(exif: bytes, high: Fraction, wide: Fraction) -> bytes:
    """The same EXIF for a picture so many times as large and as dense.

    Orientation stays, since the pixels are not turned either. Damaged EXIF comes back as it was.
    """
    data = bytearray(exif)
    try:
        order, entries = _read(data)
        for at in entries:
            _enlarge_size(data, order, at, high, wide)
        places = [place for at in entries for place in _resolution(data, order, at)]
        for where, along in dict(places).items():
            _multiply(data, order, where, high if along in DOWN else wide)
    except (KeyError, struct.error):
        return exif
    return bytes(data)


def enlarged_xmp(xmp: bytes, high: Fraction, wide: Fraction) -> bytes:
    """The same XMP with the sizes in pixels multiplied."""

    def larger(found: re.Match[bytes]) -> bytes:
        times = wide if XMP_WIDTH.search(found[1]) else high
        return found[1] + str(round(int(found[2]) * times)).encode()

    return XMP_SIZES.sub(larger, xmp)


def _read(data: bytearray) -> tuple[str, list[int]]:
    """The byte order, and where the entries stand."""
    order = {b"II": "<", b"MM": ">"}[bytes(data[:2])]
    return order, list(_entries(data, order, struct.unpack_from(f"{order}I", data, 4)[0]))


def _entries(data: bytearray, order: str, ifd: int, *, top: bool = True) -> Iterator[int]:
    """Where each 12-byte entry of a directory stands, and of the EXIF directory in it."""
    for n in range(struct.unpack_from(f"{order}H", data, ifd)[0]):
        at = ifd + 2 + 12 * n
        tag, _, _, value = struct.unpack_from(f"{order}HHII", data, at)
        if tag == EXIF_IFD and top:
            yield from _entries(data, order, value, top=False)
        yield at


def _enlarge_size(data: bytearray, order: str, at: int, high: Fraction, wide: Fraction) -> None:
    """Multiply an entry that holds a number of pixels; SHORT becomes LONG, it may overflow."""
    tag, kind, count = struct.unpack_from(f"{order}HHI", data, at)
    if tag in WIDTHS + HEIGHTS and kind in (SHORT, LONG) and count == 1:
        value = struct.unpack_from(f"{order}{'H' if kind == SHORT else 'I'}", data, at + 8)[0]
        struct.pack_into(
            f"{order}HII", data, at + 2, LONG, 1, round(value * (wide if tag in WIDTHS else high))
        )


def _multiply(data: bytearray, order: str, where: int, times: Fraction) -> None:
    """Multiply a fraction of two numbers, where there is room for the result."""
    top, bottom = struct.unpack_from(f"{order}II", data, where)
    top, bottom = top * times.numerator, bottom * times.denominator
    if max(top, bottom) < 2**32:
        struct.pack_into(f"{order}II", data, where, top, bottom)


def _resolution(data: bytearray, order: str, at: int) -> Iterator[tuple[int, int]]:
    """Where a resolution's numbers stand, and its tag; some files keep one for both axes."""
    tag, kind, count, where = struct.unpack_from(f"{order}HHII", data, at)
    if tag in ACROSS + DOWN and kind == RATIONAL and count == 1:
        yield where, tag
