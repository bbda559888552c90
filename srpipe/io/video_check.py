"""Reading a finished video again, packet by packet, before anybody relies on it."""

from array import array
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from srpipe.errors import MediaError, TargetError
from srpipe.io.video_sequence import SequenceSink
from srpipe.io.video_sink import VideoSink
from srpipe.io.video_source import opened


def verify(part: Path, sink: VideoSink | SequenceSink) -> dict[str, Any]:
    """What a finished file holds: frames, duration, streams, which one is enlarged, bytes.

    Raises
    ------
    TargetError
        If a frame or a time that was written, or a stream of the source, is missing or wrong.
    """
    if isinstance(sink, SequenceSink):
        return sink.verified()
    try:
        with opened(Path(part)) as container:
            return _held(container, sink) | {"bytes": Path(part).stat().st_size}
    except (MediaError, av.FFmpegError, OSError) as error:
        raise TargetError(f"the finished file cannot be read again: {error}") from error
    except _Wrong as wrong:
        raise TargetError(
            f"{part}: the finished file is wrong: {wrong}; another container, such as .mkv, or"
            " another codec may do"
        ) from None


class _Wrong(Exception):  # noqa: N818 - named for what it says, and seen by nobody
    """What is wrong with a file."""


def _held(container: Any, sink: VideoSink) -> dict[str, Any]:
    if len(container.streams) < sink.streams:
        raise _Wrong(f"{len(container.streams)} of {sink.streams} streams are there")
    stream = container.streams[sink.video_index]
    if (stream.height, stream.width) != (sink.height, sink.width):
        raise _Wrong(f"its size is {stream.width}x{stream.height}")
    for index, shape in sink.shapes.items():
        _check_shape(container.streams[index], shape)
    counts, sizes = Counter[int](), Counter[int]()
    times = array("q")
    end = 0
    for packet in container.demux():
        if not packet.size:
            continue
        counts[packet.stream.index] += 1
        sizes[packet.stream.index] += packet.size
        if packet.stream.index == sink.video_index:
            if packet.pts is None:
                raise _Wrong("a frame has no time")
            times.append(packet.pts)
            end = max(end, packet.pts + (packet.duration or 0))
    _check_times(sorted(times), stream.time_base, sink)
    for index, copied in sink.copied.items():
        # some muxers put several packets into one, and some take what is known out of each
        if counts[index] < copied and sizes[index] < sink.copied_bytes[index]:
            raise _Wrong(f"stream {index} has {counts[index]} packets of {copied}")
    return {
        "frames": len(times),
        "duration_s": float(end * stream.time_base),
        "streams": len(container.streams),
        "video_index": sink.video_index,
    }


def _check_shape(stream: av.VideoStream, asked: Fraction) -> None:
    """A video's pixels are as wide as they were to be, to one along the longer side."""
    found, asked = stream.sample_aspect_ratio or Fraction(1), asked or Fraction(1)
    off = abs(found / asked - 1)
    if off * max(stream.width, stream.height) > 1:
        raise _Wrong(
            f"the pixels of stream {stream.index} are {found.numerator}:{found.denominator} wide"
            f" to high rather than {asked.numerator}:{asked.denominator}"
        )


def _check_times(times: list[int], base: Fraction, sink: VideoSink) -> None:
    """All frames are there, each within one tick of the output's clock of its time."""
    if len(times) != len(sink.times):
        raise _Wrong(f"it has {len(times)} frames of {len(sink.times)}")
    ours = sink.source.time_base
    here, there = base.numerator * ours.denominator, ours.numerator * base.denominator
    for number, (found, asked) in enumerate(zip(times, sink.times, strict=True)):
        if abs(found * here - asked * there) > here:
            raise _Wrong(
                f"frame {number} is at {float(found * base):.6f} s"
                f" rather than at {float(asked * ours):.6f} s"
            )
