"""What a picture says of its own size, carried over to a larger one; pure functions of bytes.

EXIF is changed in place, entry by entry, and never written anew: maker notes hold offsets that
only their makers know. Section numbers are those of TIFF 6.0 and EXIF 2.32.
"""

import re
import struct
from collections.abc import Iterator

EXIF_IFD = 0x8769
SIZES = (0x0100, 0x0101, 0xA002, 0xA003)  # ImageWidth, ImageLength, Pixel X and Y Dimension
RESOLUTIONS = (0x011A, 0x011B, 0xA20E, 0xA20F)  # X and Y Resolution, on paper and on the sensor
SHORT, LONG, RATIONAL = 3, 4, 5

XMP_SIZES = re.compile(
    rb"((?:tiff:Image(?:Width|Length)|exif:Pixel[XY]Dimension)(?:=[\"']|>))(\d+)"
)


def enlarged(exif: bytes, scale: int) -> bytes:
    """The same EXIF for a picture ``scale`` times as large and as dense.

    Orientation stays, since the pixels are not turned either. Damaged EXIF comes back as it was.
    """
    data = bytearray(exif)
    try:
        order = {b"II": "<", b"MM": ">"}[bytes(data[:2])]
        entries = list(_entries(data, order, struct.unpack_from(f"{order}I", data, 4)[0]))
        for at in entries:
            _enlarge_size(data, order, at, scale)
        for where in {w for at in entries for w in _resolution(data, order, at)}:
            top = struct.unpack_from(f"{order}I", data, where)[0] * scale
            if top < 2**32:
                struct.pack_into(f"{order}I", data, where, top)
    except (KeyError, struct.error):
        return exif
    return bytes(data)


def enlarged_xmp(xmp: bytes, scale: int) -> bytes:
    """The same XMP with the sizes in pixels multiplied."""
    return XMP_SIZES.sub(lambda m: m[1] + str(int(m[2]) * scale).encode(), xmp)


def _entries(data: bytearray, order: str, ifd: int, *, top: bool = True) -> Iterator[int]:
    """Where each 12-byte entry of a directory stands, and of the EXIF directory in it."""
    for n in range(struct.unpack_from(f"{order}H", data, ifd)[0]):
        at = ifd + 2 + 12 * n
        tag, _, _, value = struct.unpack_from(f"{order}HHII", data, at)
        if tag == EXIF_IFD and top:
            yield from _entries(data, order, value, top=False)
        yield at


def _enlarge_size(data: bytearray, order: str, at: int, scale: int) -> None:
    """Multiply an entry that holds a number of pixels; SHORT becomes LONG, it may overflow."""
    tag, kind, count = struct.unpack_from(f"{order}HHI", data, at)
    if tag in SIZES and kind in (SHORT, LONG) and count == 1:
        value = struct.unpack_from(f"{order}{'H' if kind == SHORT else 'I'}", data, at + 8)[0]
        struct.pack_into(f"{order}HII", data, at + 2, LONG, 1, value * scale)


def _resolution(data: bytearray, order: str, at: int) -> Iterator[int]:
    """Where the numerator of a resolution stands; some files keep one for both axes."""
    tag, kind, count, where = struct.unpack_from(f"{order}HHII", data, at)
    if tag in RESOLUTIONS and kind == RATIONAL and count == 1:
        yield where
