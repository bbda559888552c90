"""When every frame of a video is shown and where its decoder can begin; any part of it, exactly."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Any, cast

import av

from srpipe.errors import SrpipeError
from srpipe.io.frames import Frame
from srpipe.io.video_deinterlace import REACH
from srpipe.io.video_source import PATCHED, VideoSource, demuxed

SEEKABLE = ("mov", "matroska")
"""Containers whose own index leads to the key frame shown at a time, and never past it."""


class Unlisted(SrpipeError):  # noqa: N818 - a message to the job, which then counts anew
    """The frames of a video are not those that its packets promise; `by_frames` tells the truth."""


@dataclass(frozen=True)
class Key:
    """A frame that needs none before it: its number, and the time by which it is found."""

    number: int
    at: int


@dataclass(frozen=True)
class Index:
    """What was found of a video.

    Parameters
    ----------
    times : of all frames in the order shown, in units of the source's time base
    keys : where decoding can begin, in the same order; none where only the start is sure
    noted : what was odd, where all was decoded to know it; see `notices_of`
    truncated : whether the file is damaged
    """

    times: Sequence[int]
    keys: tuple[Key, ...] = ()
    noted: Mapping[str, int] = field(default_factory=dict)
    truncated: bool = False

    def to_dict(self) -> dict[str, Any]:
        """An index without keys, in plain values."""
        times, noted = list(self.times), dict(self.noted)
        return {"times": times, "noted": noted, "truncated": self.truncated}

    def key_for(self, number: int) -> Key | None:
        """The last place from which a frame can be decoded; None is the start of the file."""
        found = next((key for key in reversed(self.keys) if key.number <= number), None)
        return found if found and found.number else None


def by_packets(source: VideoSource) -> Index | None:
    """The index, read without decoding; None where the packets do not tell it plainly.

    Raises
    ------
    MediaError
        If the file cannot be opened, or has streams that were not found then.
    """
    times, keys, count = array("q"), [], 0
    seekable = any(name in source.format for name in SEEKABLE)
    try:
        with source.opened() as container:
            for packet in demuxed(container, [container.streams[source.index]], source.path):
                if not packet.size:
                    continue
                count += 1
                if packet.pts is None or packet.is_corrupt:
                    return None
                if packet.is_discard:  # hidden by an edit list
                    seekable = False
                    continue
                times.append(packet.pts)
                if packet.is_keyframe:
                    keys.append(packet.pts)
            if "avi" in source.format or not source.is_whole(container, count):
                return None
    except av.FFmpegError:
        return None
    # a recording may begin amid pictures, which are not shown before one that needs no other
    times = array("q", sorted(pts for pts in times if not keys or pts >= keys[0]))
    numbers = {pts: number for number, pts in enumerate(times)}
    if len(numbers) < len(times) or not times:
        return None
    return Index(times, tuple(Key(numbers[pts], pts) for pts in sorted(keys) if seekable))


def near(source: VideoSource, apart_s: Fraction) -> bool:
    """Whether a file's own list of frames, which stands in its head, has two less apart than that.

    Only MOV and MP4 have one. It holds the times of decoding, so it is but a reason to read on.
    """
    if "mov" not in source.format:
        return False
    with source.opened() as container:
        entries = cast(Any, container.streams[source.index]).index_entries
        times = [each.timestamp for each in entries if not each.is_discard]
    return any((after - time) * source.time_base < apart_s for time, after in pairwise(times))


def by_frames(source: VideoSource, look: Callable[[], None]) -> Index:
    """The index by decoding all.

    Parameters
    ----------
    look : called before each frame, and may raise to stop

    Raises
    ------
    MediaError
        As iterating does.
    """
    times = array("q")
    for frame in source:
        look()
        times.append(frame.pts or 0)
    return Index(times, noted=source.noted, truncated=source.truncated)


class Reader:
    """Frames of any part of a video, exactly; it goes on from where it is if that is nearer."""

    def __init__(self, source: VideoSource) -> None:
        self.source = source
        self._live: Iterator[Frame] | None = None
        self._next = 0  # number of the frame that comes next
        self._whole = True  # whether it was read from the start
        self._before: Counter[str] = Counter()  # what was noted before the part

    def frames(
        self, first: int, times: Sequence[int], key: Key | None, *, last: bool
    ) -> Iterator[Frame]:
        """The frames from number `first` on that are shown at these times.

        Parameters
        ----------
        key : from which they can be decoded; None is the start of the file
        last : whether there are to be none after them

        Raises
        ------
        Unlisted
            If there are others.
        MediaError
            As iterating a source does.
        """
        try:
            live = self._placed(first, key)
            least = times[0] if first else None
            for time in times:
                frame = self._following(live, least)
                if frame is None or frame.pts != time:
                    raise Unlisted(f"{self.source.path}: no frame is shown at {time}")
                if not self._whole and PATCHED in self.source.noted:
                    raise Unlisted(f"{self.source.path}: what is damaged shows on from earlier")
                self._next += 1
                yield frame
                del frame
            if last and next(live, None) is not None:
                raise Unlisted(f"{self.source.path}: a frame is shown after {times[-1]}")
        except BaseException:
            self.close()
            raise

    @property
    def noted(self) -> dict[str, int]:
        """What is odd about the frames of the part that came so far; see `notices_of`."""
        now, before = self.source.noted, self._before
        return {text: n - before[text] for text, n in now.items() if n > before[text] or not n}

    def close(self) -> None:
        """Let go of the file; by the thread that reads, or after it has ended."""
        live, self._live = self._live, None
        if live is not None:
            with suppress(ValueError):  # it is at work in a thread that was left behind
                live.close()  # type: ignore[attr-defined]

    def _placed(self, first: int, key: Key | None) -> Iterator[Frame]:
        self._before = self.source.noted
        if self._live is None or self._next > first or (key and key.number > self._next):
            self.close()
            self._before.clear()
            where = (key.at, key.number) if key else (None, 0)
            self._whole = key is None
            self._live = self.source.frames(*where)
        self._next = first
        return self._live

    def _following(self, live: Iterator[Frame], least: int | None) -> Frame | None:
        """The next frame that is not before the part."""
        for frame in live:
            if least is None or (frame.pts is not None and frame.pts >= least):
                return frame
            self._before = self.source.noted
        return None


def lead(source: VideoSource) -> int:
    """Frames to decode before a part, for the sake of its first one."""
    return 2 * REACH if source.deinterlace else 0
