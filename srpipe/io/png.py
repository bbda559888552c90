"""PNG, 8 and 16 bit; every chunk that still holds for a larger picture goes over.

Pixels go through libpng (imagecodecs), since Pillow makes 8 bits of 16-bit colour. Palettes,
1 to 4 bit greys and transparent colours come out as 8-bit grey or RGB, with alpha where needed.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import imagecodecs

from srpipe.errors import MediaError
from srpipe.io.picture import Metadata, Picture, check_size, frame_of

KEPT = (b"cHRM", b"gAMA", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"tEXt", b"zTXt", b"iTXt", b"tIME")
TEXTS = (b"tEXt", b"zTXt", b"iTXt")
SRGB = {  # what these chunks hold where colours are those of sRGB; PNG 3, section 11.3.2.5
    b"gAMA": struct.pack(">I", 45455),
    b"cHRM": struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000),
    b"cICP": bytes((1, 13, 0, 1)),
}
PHYSICAL = struct.Struct(">IIB")  # pixels per unit across and down, and whether that is a metre
XMP = b"XML:com.adobe.xmp\0"
LEVEL = 3  # zlib effort: on photographs of Set14 as small as 6, in half the time
INCH_M = 0.0254
ICC_BYTES_MAX = 2**26  # profiles are a few MB at most; a bomb is more

Chunk = tuple[bytes, bytes]


def read(path: Path) -> Picture:
    """The picture in a PNG file.

    Raises
    ------
    MediaError
        If it is damaged, ends early, is animated, or is absurdly large.
    """
    data = path.read_bytes()
    try:
        every = list(_chunks(data))
    except struct.error:
        raise MediaError(f"{path} ends before its last line; fetch it again") from None
    damaged = [chunk for chunk in every if _is_damaged(*chunk)]
    chunks = [chunk for chunk in every if chunk not in damaged]
    named = dict(reversed(chunks))  # the first of a name wins
    width, height = struct.unpack_from(">II", named[b"IHDR"])
    check_size(height, width, path)
    if b"acTL" in named:
        raise MediaError(f"{path} is animated; turn it into a video: ffmpeg -i IN.png OUT.mkv")
    try:
        pixels = imagecodecs.png_decode(data)
    except (imagecodecs.PngError, ValueError) as error:
        raise MediaError(f"{path} is a damaged PNG ({error}); fetch it again") from error
    kept = [c for c in chunks if c[0] in KEPT and not c[1].startswith(XMP)]
    return Picture(
        frame=frame_of(pixels),
        metadata=_metadata(named, chunks),
        format="png",
        own={"chunks": kept},
        notices=tuple(
            f"{path}: its {name.decode()} chunk is damaged, and is left out"
            for name, _body in damaged
        ),
    )


def write(part: Path, picture: Picture) -> None:
    """Write a picture of 8 or 16 bits as PNG."""
    pixels = picture.frame.planes[0]
    if pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    data = imagecodecs.png_encode(pixels, level=LEVEL)
    start = 33  # signature of 8 bytes, IHDR of 25; all else may stand between it and the pixels
    extra = b"".join(_packed(*chunk) for chunk in _extra(picture))
    part.write_bytes(data[:start] + extra + data[start:])


def words(chunks: list[Chunk], *, profiled: bool) -> list[str]:
    """What chunks say that no other format has room for.

    Parameters
    ----------
    profiled : whether there is a colour profile, which says more than most of them
    """
    there = dict(reversed(chunks))
    said_better = profiled or not there.keys().isdisjoint((b"sRGB", b"cICP"))
    counting = (b"cICP",) if said_better else SRGB
    meant = [name for name in counting if there.get(name, SRGB[name]) != SRGB[name]]
    colours = ", ".join(name.decode() for name in meant)
    keys = [body.partition(b"\0")[0].decode("latin-1") for name, body in chunks if name in TEXTS]
    said = [f"what its colours mean ({colours})"] * bool(colours)
    return said + [f"its text ({', '.join(dict.fromkeys(keys))})"] * bool(keys)


def _chunks(data: bytes) -> Iterator[Chunk]:
    """Name and content of each chunk up to IEND; struct.error where the file ends before it."""
    at, name = 8, b""
    while name != b"IEND":
        length, name = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        struct.unpack_from(">I", data, at + 8 + length)
        at += 12 + length
        if name != b"IDAT":
            yield name, body


def _packed(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _is_damaged(name: bytes, body: bytes) -> bool:
    """Whether it is a chunk that speaks of the picture, and says nothing that can be understood."""
    try:
        if name == b"pHYs":
            PHYSICAL.unpack(body)
        elif name == b"iCCP":
            _profile(body)
        elif name == b"iTXt" and body.startswith(XMP):
            _text(body)
    except (IndexError, struct.error, zlib.error):
        return True
    return False


def _metadata(named: dict[bytes, bytes], chunks: list[Chunk]) -> Metadata:
    x, y, metres = PHYSICAL.unpack(named.get(b"pHYs", bytes(9)))
    unit = INCH_M if metres else 1
    return Metadata(
        icc=_profile(named[b"iCCP"]) if b"iCCP" in named else None,
        exif=named.get(b"eXIf"),
        xmp=next((_text(b) for n, b in chunks if n == b"iTXt" and b.startswith(XMP)), None),
        density=(y * unit, x * unit) if x and y else None,
        inches=bool(metres),
    )


def _profile(body: bytes) -> bytes:
    """The profile in an iCCP chunk: name, NUL, method 0, zlib."""
    return zlib.decompressobj().decompress(body.partition(b"\0")[2][1:], ICC_BYTES_MAX)


def _text(body: bytes) -> bytes:
    """The text of an iTXt chunk: keyword, compressed, method, language, translation."""
    rest = body.partition(b"\0")[2]
    text = rest[2:].split(b"\0", 2)[2]
    return zlib.decompressobj().decompress(text, ICC_BYTES_MAX) if rest[0] else text


def _extra(picture: Picture) -> Iterator[Chunk]:
    own, about = picture.own or {}, picture.metadata
    if about.icc:
        yield b"iCCP", b"ICC profile\0\0" + zlib.compress(about.icc)
    yield from own.get("chunks", ())
    if about.density:
        y, x = (round(density / (INCH_M if about.inches else 1)) for density in about.density)
        yield b"pHYs", PHYSICAL.pack(x, y, about.inches)
    if about.exif:
        yield b"eXIf", about.exif
    if about.xmp:
        yield b"iTXt", XMP + b"\0\0\0\0" + about.xmp
