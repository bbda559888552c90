"""Frames that repeat, as in animation and screen recordings, are not computed again."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from srpipe.io.frames import Frame


class Repeats:
    """Gives a frame that equals the one before it that one's result, at its own time.

    Equal means all samples and how they are to be read; nothing that is merely alike counts.

    Parameters
    ----------
    transform : gives equal results for equal frames
    look : whether to look for them at all

    Attributes
    ----------
    count : how many frames were not computed
    """

    def __init__(self, transform: Callable[[Frame], Frame], *, look: bool = True) -> None:
        self._transform, self._look = transform, look
        self._last: tuple[Frame, Frame] | None = None
        self.count = 0

    def forget(self) -> None:
        """Compute the next frame in any case."""
        self._last = None

    def __call__(self, frame: Frame) -> Frame:
        """The frame, transformed."""
        if not self._look:
            return self._transform(frame)
        if self._last is None or not _equal(frame, self._last[0]):
            self._last = None  # before the next result needs the room
            result = self._transform(frame)
        else:
            result = replace(frame, planes=self._last[1].planes, layout=self._last[1].layout)
            self.count += 1
        self._last = frame, result
        return result


def _equal(one: Frame, other: Frame) -> bool:
    return one.layout == other.layout and all(map(np.array_equal, one.planes, other.planes))
