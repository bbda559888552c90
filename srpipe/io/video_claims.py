"""What a video file says of its own length: frames, seconds, and bytes, by which a cut is seen."""

import struct
from collections.abc import Callable
from mmap import mmap
from pathlib import Path
from typing import Any, BinaryIO

import av
from av.container import InputContainer

HEAD_BYTES = 4096
"""Of a file's beginning, in which a container says how long it is."""

OGG_PAGE_BYTES = 27 + 255 + 255 * 255
"""The most that a page of Ogg has."""


PACK_BYTES = 2**20
"""More than from one pack of an MPEG program stream to the next, which are at most 0.7 s apart."""

PACK = b"\0\0\1\xba"


def claimed_frames(stream: av.VideoStream, form: str) -> int | None:
    """Frames to be shown; in MOV and MP4 those that an edit list hides are not counted."""
    if "mov" in form and len(stream.index_entries):
        return len(stream.index_entries) - sum(e.is_discard for e in stream.index_entries)
    return stream.frames or None


def claimed_seconds(container: InputContainer, stream: av.VideoStream) -> float | None:
    """How long the video is, or else the file; None where neither says."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration else None


def claimed_bytes(path: Path, stream: av.VideoStream) -> int:
    """How long a file must be at least to be whole; 0 where it does not say."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        for magic, claimed in CLAIMS.items():
            if head.startswith(magic):
                return claimed(head, file, stream)
    return 0


def _riff(head: bytes, _file: BinaryIO, _stream: Any) -> int:
    return 8 + int.from_bytes(head[4:8], "little")


def _ebml(head: bytes, _file: BinaryIO, _stream: Any) -> int:
    """Of Matroska and WebM: the end of the segment."""
    size, start = ebml_size(head, 4)
    segment = start + size
    if head[segment : segment + 4] != b"\x18\x53\x80\x67":
        return 0
    size, start = ebml_size(head, segment + 4)
    return start + size


def ebml_size(head: bytes | mmap, at: int) -> tuple[int, int]:
    """A variable-length size (RFC 8794, section 4) and the place after it; 0 where unknown."""
    length = 9 - head[at].bit_length()
    value = int.from_bytes(head[at : at + length], "big") & ((1 << 7 * length) - 1)
    unknown = value == (1 << 7 * length) - 1
    return (-(1 << 62) if unknown else value), at + length


def _flv(head: bytes, _file: BinaryIO, _stream: Any) -> int:
    """The file size among the metadata, a number of type 0 (AMF 0)."""
    value = head.partition(b"\0\x08filesize\0")[2]
    size = struct.unpack(">d", value[:8])[0] if len(value) >= 8 else 0
    return int(size) if 0 < size < 1 << 62 else 0


def _asf(head: bytes, _file: BinaryIO, _stream: Any) -> int:
    """The file size in the file properties, which holds unless it was made live."""
    at = head.find(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"))
    live = int.from_bytes(head[at + 88 : at + 89]) & 1
    return 0 if at < 0 or live else int.from_bytes(head[at + 40 : at + 48], "little")


def _mxf(head: bytes, _file: BinaryIO, _stream: Any) -> int:
    """Beyond where the footer begins (SMPTE ST 377-1, partition pack); 0 while it is open."""
    at = 17 + (head[16] & 0x7F if head[16] & 0x80 else 0)  # past the length of the pack
    footer = int.from_bytes(head[at + 24 : at + 32], "big")
    return footer and footer + 1


def _gif(head: bytes, file: BinaryIO, _stream: Any) -> int:
    """One byte more than there is, where the file ends amid its blocks."""
    file.seek(13 + _gif_colours(head[10]))
    while (kind := file.read(1)) in (b"!", b","):
        if kind == b",":
            file.seek(_gif_colours(int.from_bytes(file.read(9)[8:])), 1)
        file.seek(1, 1)
        while (size := file.read(1)) > b"\0":
            file.seek(size[0], 1)
    return 0 if kind else file.seek(0, 2) + 1


def _gif_colours(flags: int) -> int:
    """Bytes of a colour table."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _y4m(head: bytes, file: BinaryIO, stream: Any) -> int:
    """The end of the last picture, which is of the size of all others."""
    components = stream.codec_context.format.components
    picture = sum(part.width * part.height * -(-part.bits // 8) for part in components)
    end = head.index(b"\n") + 1
    file.seek(end)
    while file.readline(HEAD_BYTES):  # FRAME
        end = file.seek(picture, 1)
    return end


def _ogg(_head: bytes, file: BinaryIO, _stream: Any) -> int:
    """The end of the last page (RFC 3533, section 6), at least that of its own head."""
    size = file.seek(0, 2)
    file.seek(max(0, size - OGG_PAGE_BYTES))
    page = b"OggS" + file.read().rpartition(b"OggS")[2]
    head_bytes = 27 + (page[26] if len(page) > 26 else 255)
    return size - len(page) + head_bytes + sum(page[27:head_bytes])


def _mpegts(head: bytes, file: BinaryIO, _stream: Any) -> int:
    """The end of the last packet, which all are of one size; 0 where they are not found."""
    for packet, before in ((188, 0), (192, 4), (204, 0)):  # plain, with a clock, with a checksum
        if set(head[before::packet]) == {0x47}:
            last = file.seek(0, 2) // packet * packet
            file.seek(last + before)
            return last + packet if file.read(1) == b"\x47" else 0
    return 0


def _mpegps(_head: bytes, file: BinaryIO, _stream: Any) -> int:
    """The end of the last packet (ISO/IEC 13818-1, section 2.5.3); 0 where there is none."""
    start = max(0, file.seek(0, 2) - PACK_BYTES)
    file.seek(start)
    tail = file.read()
    pack = tail.find(PACK)
    while pack >= 0:
        if end := _packets_end(tail, pack):
            return start + end
        pack = tail.find(PACK, pack + 1)  # that was one by chance, within a packet
    return 0


def _packets_end(tail: bytes, at: int) -> int:
    """Where packets end that begin here, each where the one before it ends; 0 if not so."""
    while at < len(tail):
        head = tail[at : at + 14]
        if not head.startswith(PACK[:3]):
            return 0
        if head[3:4] == b"\xb9":  # the end of the stream
            at += 4
        elif head.startswith(PACK):
            at += 12 if head[4:5] < b"\x40" else 14 + (head[13:] or b"\0")[0] % 8  # of MPEG-1, -2
        else:
            at += 6 + int.from_bytes(head[4:6].ljust(2, b"\0"), "big")
    return at


CLAIMS: dict[bytes, Callable[[bytes, BinaryIO, Any], int]] = {
    b"RIFF": _riff,
    b"\x1a\x45\xdf\xa3": _ebml,
    b"FLV": _flv,
    bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"): _asf,
    bytes.fromhex("060e2b34020501010d01020101"): _mxf,
    b"GIF8": _gif,
    b"YUV4MPEG2": _y4m,
    b"OggS": _ogg,
    PACK: _mpegps,
    b"": _mpegts,  # which begins with a clock, or with a byte that GIF begins with, too
}
"""Which claim is in a file, by how it begins."""
