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
UNIT = 0x0128  # of the resolution on paper
SHORT, LONG, RATIONAL = 3, 4, 5
NO_UNIT, INCH, CENTIMETRE = 1, 2, 3
INCH_CM = 2.54

_NOTHING = b"II*\0" + struct.pack("<IHI", 8, 0, 0)  # one directory without entries

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


def density(exif: bytes) -> tuple[tuple[float, float], bool] | None:
    """Pixels per inch on paper, vertical and horizontal, or else per a unit without a name.

    The second value says whether it is inches; None where the EXIF says nothing of it.
    """
    data, found = bytearray(exif), {UNIT: float(INCH)}
    try:
        order, entries = _read(data)
        for at in entries:
            tag, kind, _, where = struct.unpack_from(f"{order}HHII", data, at)
            if tag in (ACROSS[0], DOWN[0]) and kind == RATIONAL:
                top, bottom = struct.unpack_from(f"{order}II", data, where)
                found[tag] = top / bottom
            elif (tag, kind) == (UNIT, SHORT):
                found[tag] = struct.unpack_from(f"{order}H", data, at + 8)[0]
        times = INCH_CM if found[UNIT] == CENTIMETRE else 1
        down, across = found[DOWN[0]] * times, found[ACROSS[0]] * times
    except (KeyError, struct.error, ZeroDivisionError):
        return None
    return ((down, across), found[UNIT] != NO_UNIT) if down and across else None


def with_density(exif: bytes | None, down: float, across: float, *, inches: bool) -> bytes:
    """The EXIF with this density on paper, in a new first directory behind all that is there.

    Nothing else moves, so all offsets still hold. Damaged EXIF comes back as it was.
    """
    data = bytearray(exif or _NOTHING)
    if density(bytes(data)) == ((down, across), inches):
        return bytes(data)
    at = len(data) + len(data) % 2
    fractions = [Fraction(number).limit_denominator(1000) for number in (across, down)]
    unit = INCH if inches else NO_UNIT
    try:
        order, _ = _read(data)
        kept, after = _first_directory(data, order)
        values = b"".join(struct.pack(f"{order}II", *n.as_integer_ratio()) for n in fractions)
        kept[ACROSS[0]] = struct.pack(f"{order}HHII", ACROSS[0], RATIONAL, 1, at)
        kept[DOWN[0]] = struct.pack(f"{order}HHII", DOWN[0], RATIONAL, 1, at + 8)
        kept[UNIT] = struct.pack(f"{order}HHIHH", UNIT, SHORT, 1, unit, 0)
    except (KeyError, struct.error):
        return bytes(data)
    struct.pack_into(f"{order}I", data, 4, at + len(values))
    directory = struct.pack(f"{order}H", len(kept)) + b"".join(kept[tag] for tag in sorted(kept))
    return bytes(data.ljust(at, b"\0") + values + directory + after)


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


def _first_directory(data: bytearray, order: str) -> tuple[dict[int, bytes], bytes]:
    """The entries of the first directory by their tags, and where the next directory stands."""
    ifd = struct.unpack_from(f"{order}I", data, 4)[0]
    count = struct.unpack_from(f"{order}H", data, ifd)[0]
    end = ifd + 2 + 12 * count
    struct.unpack_from("4s", data, end)  # or it is cut
    entries = [bytes(data[at : at + 12]) for at in range(ifd + 2, end, 12)]
    tags = (struct.unpack_from(f"{order}H", entry)[0] for entry in entries)
    return dict(zip(tags, entries, strict=True)), bytes(data[end : end + 4])


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
