"""Encoded pieces of a video: packets in a file, exactly as the encoder gave them.

Frames are encoded in cells of a fixed length, each by an encoder that knows nothing of the cell
before. A piece holds whole cells, so that what a frame becomes does not depend on where a video is
cut into pieces, nor on who encodes them. No container is used, since few keep a packet's time
exactly; what players need is written when the pieces are joined.

A piece is a line of magic, then for each packet a head, its side data and its bytes, and at the end
a head with the number of packets. Each head has the CRC-32 of all that follows it.
"""

import json
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, get_args

import av
from av.codec.context import Flags
from av.packet import PacketSideData, PktSideDataT

from srpipe.errors import PixelError, TargetError
from srpipe.io.frames import Frame
from srpipe.io.video_encoder import Encoding, started
from srpipe.io.video_formats import picture
from srpipe.io.video_source import VideoSource

CELL = 96
"""Frames that one encoder is given; its key frame costs about 1 % of the bytes at this length."""

MAX_RATE = 300  # what is faster is a clock's tick and not a frame rate

_MAGIC = b"srpipe piece 1\n"
_HEAD = struct.Struct("<I?qqII")  # CRC-32, key frame, pts, duration, bytes of side data and of data
_SIDES = ("matroska_block_additional", "new_extradata", "palette")  # alpha of VP9, for one
_END = -(2**63)  # the pts of the head that ends a piece

STORED = ("family", "bits", "alpha", "sub_y", "sub_x", "full_range", "matrix")
"""What of a layout decides how samples are stored and meant."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """What the frames of a video are encoded as.

    Parameters
    ----------
    sample_aspect_ratio : width of a pixel divided by its height; 0 where it is unknown
    """

    encoding: Encoding
    height: int
    width: int
    sample_aspect_ratio: Fraction

    def shape(self, context: Any, source: VideoSource) -> None:
        """Give an encoder that is not open yet its size, clock and pixels."""
        context.width, context.height = self.width, self.height
        context.time_base = source.time_base
        rate = source.rate
        context.framerate = rate if rate and rate <= MAX_RATE else Fraction(0)
        context.sample_aspect_ratio = self.sample_aspect_ratio

    def check(self, frame: Frame, last: int | None) -> int:
        """The frame's time; `last` is that of the frame before it.

        Raises
        ------
        PixelError
            If layout, size or time do not fit.
        """
        if (frame.height, frame.width) != (self.height, self.width):
            raise PixelError(
                f"a frame of {frame.width}x{frame.height} does not fit into a video of"
                f" {self.width}x{self.height}"
            )
        had, want = frame.layout, self.encoding.layout
        if any(getattr(had, name) != getattr(want, name) for name in STORED):
            raise PixelError(f"frames of {want} are wanted, not of {had}")
        if frame.pts is None:
            raise PixelError("a frame of a video needs a time")
        if last is not None and frame.pts <= last:
            raise PixelError(f"a frame at {frame.pts} does not come after the one before it")
        return frame.pts


class PieceSink:
    """Encodes frames into a piece; the first one must be the first of a cell.

    Raises
    ------
    TargetError
        If the file cannot be written.
    """

    def __init__(self, path: Path, source: VideoSource, target: Target) -> None:
        self.path, self._source, self._target = path, source, target
        self._context: Any = None
        self._durations: dict[int, int] = {}
        self._last: int | None = None
        self.frames = self._packets = 0
        self._file: BinaryIO = path.open("wb")
        self._file.write(_MAGIC)

    def write(self, frame: Frame) -> None:
        """Encode the next frame.

        Raises
        ------
        PixelError
            If its layout, size or time do not fit.
        TargetError
            If the encoder fails.
        """
        pts = self._target.check(frame, self._last)
        if self.frames % CELL == 0:
            self._flush()
            self._context = self._encoder()
        made = picture(frame, self._target.encoding.pix_fmt)
        made.pts, made.time_base = pts, self._source.time_base
        if frame.duration:
            self._durations[pts] = frame.duration
        self._last = pts
        self.frames += 1
        self._encode(made)

    def close(self) -> None:
        """Write what the encoder holds back."""
        self._flush()
        if self._packets != self.frames:
            raise TargetError(
                f"{self._target.encoding.codec} made {self._packets} packets of {self.frames}"
                " frames; choose another codec"
            )
        self._file.write(_head(False, _END, self._packets, b"", b""))
        self._file.close()

    def abort(self) -> None:
        """Stop without finishing; the file is gone."""
        self._context = None
        with suppress(OSError):
            self._file.close()
        self.path.unlink(missing_ok=True)

    def _encoder(self) -> Any:
        context: Any = av.CodecContext.create(self._target.encoding.codec, "w")
        self._target.shape(context, self._source)
        context.flags |= Flags.global_header  # all containers that we write keep it apart
        started(context, self._target.encoding, self._source.hdr)
        return context

    def _flush(self) -> None:
        if self._context is not None:
            self._encode(None)
            self._context = None

    def _encode(self, frame: av.VideoFrame | None) -> None:
        try:
            packets = self._context.encode(frame)
        except av.FFmpegError as error:
            codec = self._target.encoding.codec
            raise TargetError(
                f"the encoder {codec} fails after {self.frames} frames ({error.strerror})"
            ) from error
        for packet in packets:
            side = _packed(packet)
            duration = self._durations.pop(packet.pts, packet.duration or 0)
            data = bytes(packet)
            self._file.write(_head(packet.is_keyframe, packet.pts, duration, side, data))
            self._file.write(side + data)
            self._packets += 1


@dataclass(frozen=True)
class Piece:
    """A finished piece.

    Raises
    ------
    TargetError
        While iterating, if it is not as it was written.
    """

    path: Path

    def __iter__(self) -> Iterator[av.Packet]:
        """The packets in the order in which they are decoded, with no decoding time yet."""
        return self._read(with_data=True)

    def times(self) -> list[int]:
        """Of the packets, in the order in which they are decoded; their bytes are not read."""
        return [packet.pts or 0 for packet in self._read(with_data=False)]

    def _read(self, *, with_data: bool) -> Iterator[av.Packet]:
        count = 0
        with self.path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                self._refuse()
            while True:
                head = file.read(_HEAD.size)
                if len(head) < _HEAD.size:
                    self._refuse()
                crc, key, pts, duration, side_bytes, data_bytes = _HEAD.unpack(head)
                if pts == _END:
                    if duration != count or zlib.crc32(head[4:]) != crc:
                        self._refuse()
                    return
                count += 1
                if not with_data:
                    file.seek(side_bytes + data_bytes, 1)
                    packet = av.Packet()
                else:
                    body = file.read(side_bytes + data_bytes)
                    if zlib.crc32(head[4:] + body) != crc:
                        self._refuse()
                    packet = av.Packet(body[side_bytes:])
                    _unpack(packet, body[:side_bytes])
                packet.pts, packet.duration, packet.is_keyframe = pts, duration or None, key
                yield packet

    def _refuse(self) -> None:
        raise TargetError(
            f"{self.path} was damaged after it was written; check the disk, and run the same"
            " command again: it makes this piece anew"
        )


def decoding_times(pieces: list[list[int]]) -> list[int]:
    """Decoding times for packets of these presentation times, in the order of decoding.

    Each is that of the packet which is shown as many places before as the deepest reordering
    anywhere, so they increase and none is later than its packet; the first few lie before the
    first picture by as much as the reordering takes (as x264 does).
    """
    asked = [pts for piece in pieces for pts in piece]
    shown = sorted(asked)
    rank = {pts: at for at, pts in enumerate(shown)}
    depth = max((at - rank[pts] for at, pts in enumerate(asked)), default=0)
    early = shown[depth] - shown[0] if depth else 0
    return [pts - early for pts in shown[:depth]] + shown[: len(shown) - depth]


def _head(key: bool, pts: int, duration: int, side: bytes, data: bytes) -> bytes:
    head = _HEAD.pack(0, key, pts, duration, len(side), len(data))[4:]
    return struct.pack("<I", zlib.crc32(head + side + data)) + head


def _packed(packet: av.Packet) -> bytes:
    """What of a packet's side data is written to files."""
    kinds = [(side.data_type, side) for side in packet.iter_sidedata()]
    parts = [(kind, bytes(side)) for kind, side in kinds if kind in _SIDES]
    if not parts:
        return b""
    index = json.dumps([[kind, len(data)] for kind, data in parts]).encode() + b"\n"
    return index + b"".join(data for _, data in parts)


def _unpack(packet: av.Packet, side: bytes) -> None:
    if not side:
        return
    index, _, rest = side.partition(b"\n")
    for kind, length in json.loads(index):
        number = get_args(PktSideDataT).index(kind)  # as libav counts them
        made = PacketSideData(number, length)  # type: ignore[call-arg]
        made.update(rest[:length])
        packet.set_sidedata(made)
        rest = rest[length:]
