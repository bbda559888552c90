"""The shape of pixels in Matroska and WebM, which PyAV has no way to give to libav's muxer.

The muxer leaves room between the list of what is where and the rest of a file's head. What comes
after the room up to the tracks is moved into it by as much as the tracks grow, so that nothing
behind them moves (RFC 9559; for the elements' own form RFC 8794).
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from mmap import mmap
from pathlib import Path

from srpipe.errors import TargetError
from srpipe.io.video_claims import ebml_size

_CHECKSUM, _VOID = b"\xbf", b"\xec"
_SEEK_HEAD, _SEEK, _SEEK_POSITION = b"\x11\x4d\x9b\x74", b"\x4d\xbb", b"\x53\xac"
_TRACKS, _TRACK, _VIDEO = b"\x16\x54\xae\x6b", b"\xae", b"\xe0"
_WIDTH, _HEIGHT = b"\xb0", b"\xba"
_SHOWN_WIDTH, _SHOWN_HEIGHT, _SHOWN_UNIT = b"\x54\xb0", b"\x54\xba", b"\x54\xb2"
_RATIO = 3  # the unit in which a width and a height only say the picture's shape

_LEAST_VOID = 9  # bytes of one whose size is written in eight
_SUM_BYTES = 6  # of a checksum with its name and size


@dataclass(frozen=True)
class _Element:
    """Where an element starts, where what it holds does, and where that ends."""

    name: bytes
    start: int
    body: int
    end: int


def shape_pixels(path: Path, shapes: Sequence[Fraction], *, ratio: bool) -> None:
    """Write into a finished file, which does not say it yet, how wide its pixels are.

    Parameters
    ----------
    shapes : width of a pixel divided by its height, of each track; 0 where nothing is to be said
    ratio : whether the shape of the whole picture is written, which is exact; WebM knows only
        whole pixels, to which its longer side is brought

    Raises
    ------
    TargetError
        If there is no room for it.
    """
    with path.open("r+b") as file, mmap(file.fileno(), 0) as data:
        head = _head(data)
        listed, room, tracks = head[_SEEK_HEAD], head[_VOID], head[_TRACKS]
        shaped = _shaped(data, tracks, shapes, ratio=ratio)
        grown = len(shaped) - (tracks.end - tracks.start)
        left = room.end - room.start - grown
        if left < _LEAST_VOID:
            raise TargetError(
                f"{path}: the file's head has no room for the shape of the pixels of all its"
                " videos; name an output that ends in .mp4"
            )
        void = _made(_VOID, bytes(left - _LEAST_VOID), size_bytes=8)
        data[room.start : tracks.end] = void + data[room.end : tracks.start] + shaped
        moved = range(room.end - head[b""].body, tracks.end - head[b""].body)
        data[listed.start : listed.end] = _listed(data, listed, moved, grown)


def _head(data: mmap) -> dict[bytes, _Element]:
    """The elements of a file's head up to its tracks; the one without a name holds them all."""
    _, segment = _elements(data, 0, len(data))
    head = {b"": segment}
    for element in _elements(data, segment.body, segment.end):
        head[element.name] = element
        if element.name == _TRACKS:
            break
    return head


def _shaped(data: mmap, tracks: _Element, shapes: Sequence[Fraction], *, ratio: bool) -> bytes:
    """All tracks anew."""
    given = iter(shapes)
    parts = [
        _track(data, each, next(given), ratio=ratio)
        if each.name == _TRACK
        else data[each.start : each.end]
        for each in _elements(data, tracks.body, tracks.end)
    ]
    return _anew(tracks, b"".join(parts))


def _track(data: mmap, track: _Element, shape: Fraction, *, ratio: bool) -> bytes:
    parts = [
        _video(data, each, shape, ratio=ratio)
        if each.name == _VIDEO and shape
        else data[each.start : each.end]
        for each in _elements(data, track.body, track.end)
    ]
    return _anew(track, b"".join(parts))


def _video(data: mmap, video: _Element, shape: Fraction, *, ratio: bool) -> bytes:
    """What is said of a track's pictures, with how large they are shown."""
    held = list(_elements(data, video.body, video.end))
    numbers = {each.name: _number(data, each) for each in held}
    width = numbers.get(_SHOWN_WIDTH, numbers[_WIDTH])  # the former is of one view of a 3D video
    height = numbers.get(_SHOWN_HEIGHT, numbers[_HEIGHT])
    if ratio:
        wide, high = (shape * width / height).as_integer_ratio()
    elif shape > 1:
        wide, high = round(width * shape), height
    else:
        wide, high = width, round(height / shape)
    shown = {_SHOWN_WIDTH: wide, _SHOWN_HEIGHT: high} | ({_SHOWN_UNIT: _RATIO} if ratio else {})
    kept = [data[e.start : e.end] for e in held if e.name not in (*shown, _SHOWN_UNIT)]
    told = [_made(name, value.to_bytes(8).lstrip(b"\0")) for name, value in shown.items()]
    return _anew(video, b"".join([*kept, *told]))


def _listed(data: mmap, listed: _Element, moved: range, by: int) -> bytes:
    """The list of what is where, of which some lies earlier now."""
    body = bytearray(data[listed.body : listed.end])
    for seek in _elements(data, listed.body, listed.end):
        for each in _elements(data, seek.body, seek.end) if seek.name == _SEEK else ():
            if each.name == _SEEK_POSITION and _number(data, each) in moved:
                place = slice(each.body - listed.body, each.end - listed.body)
                body[place] = (_number(data, each) - by).to_bytes(each.end - each.body)
    return _anew(listed, bytes(body))


def _elements(data: mmap, start: int, stop: int) -> Iterator[_Element]:
    while start < stop:
        named = start + 9 - data[start].bit_length()
        size, body = ebml_size(data, named)
        yield _Element(data[start:named], start, body, body + size)
        start = body + size


def _number(data: mmap, element: _Element) -> int:
    return int.from_bytes(data[element.body : element.end])


def _anew(element: _Element, body: bytes) -> bytes:
    """An element that holds something else, its checksum set right, its size no shorter.

    It never shrinks then, so that what lies before it comes no later, at a place that may take
    more bytes to write.
    """
    if body.startswith(_CHECKSUM):  # which comes first where there is one
        summed = body[_SUM_BYTES:]
        body = _made(_CHECKSUM, zlib.crc32(summed).to_bytes(4, "little")) + summed
    return _made(element.name, body, size_bytes=element.body - element.start - len(element.name))


def _made(name: bytes, body: bytes, *, size_bytes: int = 1) -> bytes:
    """An element whose size is written in so many bytes, or in as many as it takes."""
    length = next(n for n in range(size_bytes, 9) if len(body) < (1 << 7 * n) - 1)
    return name + (len(body) | 1 << 7 * length).to_bytes(length) + body
