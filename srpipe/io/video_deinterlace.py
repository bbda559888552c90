"""One whole picture out of each interlaced one, by libavfilter's bwdif; others pass untouched."""

from collections import deque
from collections.abc import Iterator
from fractions import Fraction

import av
from av.filter import Graph
from av.video.reformatter import VideoReformatter

from srpipe.errors import TruncatedError
from srpipe.io.video_formats import planar_name

REACH = 1
"""Pictures before and after one that it is made of; without them it comes out otherwise."""

_DONE = (av.error.BlockingIOError, av.error.EOFError)


def deinterlaced(pictures: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """As many pictures, at the same times; those flagged as interlaced are made progressive.

    The missing lines of the second field are filled in from both its neighbours in time, so a
    picture follows when the one after it was decoded.
    """
    woven: _Weaver | None = None
    before: av.VideoFrame | None = None
    try:
        for picture in pictures:
            if woven is not None and not woven.takes(picture):
                yield from woven.rest()
                woven = before = None
            if woven is None and picture.interlaced_frame:
                woven = _Weaver(picture, before)
            before = picture
            if woven is None:
                yield picture
            else:
                yield from woven.given(picture)
    except TruncatedError:  # what was decoded up to the damage is good
        if woven is not None:
            yield from woven.rest()
        raise
    if woven is not None:
        yield from woven.rest()


class _Weaver:
    """A filter graph for pictures of one size and format."""

    def __init__(self, first: av.VideoFrame, before: av.VideoFrame | None) -> None:
        self._kind = _kind(first)
        self._format = planar_name(first.format.name) or first.format.name
        self._reformatter = VideoReformatter()
        self._times: deque[av.VideoFrame | None] = deque()
        self._graph = Graph()
        source = self._graph.add_buffer(
            width=first.width,
            height=first.height,
            format=av.VideoFormat(self._format),
            time_base=Fraction(1, av.time_base),
        )
        filled = self._graph.add("bwdif", "mode=send_frame:deint=interlaced")
        self._graph.link_nodes(source, filled, self._graph.add("buffersink")).configure()
        if before is not None and _kind(before) == self._kind:
            self._push(first, None)  # bwdif does without neighbours for the first that it changes
            self._push(before, None)

    def takes(self, picture: av.VideoFrame) -> bool:
        """Whether the picture is of the size and format that this one began with."""
        return _kind(picture) == self._kind

    def given(self, picture: av.VideoFrame) -> Iterator[av.VideoFrame]:
        """Add a picture; what is ready comes out."""
        self._push(picture, picture)
        yield from self._pulled()

    def rest(self) -> Iterator[av.VideoFrame]:
        """What is still held back."""
        self._graph.push(None)
        yield from self._pulled()

    def _push(self, picture: av.VideoFrame, timed: av.VideoFrame | None) -> None:
        self._times.append(timed)
        if picture.format.name != self._format:  # a filter that did it would change the matrix
            picture = self._reformatter.reformat(picture, format=self._format)
        self._graph.push(picture)

    def _pulled(self) -> Iterator[av.VideoFrame]:
        while True:
            try:
                made = self._graph.vpull()
            except _DONE:
                return
            like = self._times.popleft()
            if like is None:  # it was there for the next one's sake
                continue
            made.pts, made.dts, made.duration = like.pts, like.dts, like.duration
            made.time_base = like.time_base
            yield made


def _kind(picture: av.VideoFrame) -> tuple[str, int, int]:
    return picture.format.name, picture.height, picture.width
