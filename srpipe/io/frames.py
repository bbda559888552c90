"""What every format has in common: frames come out of a source and go into a sink."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np

from srpipe.pixels import Layout


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One picture as its file has it: its own sample type, planes and time.

    Parameters
    ----------
    planes : one array (H, W, C) for "rgb" and "gray", or Y, U, V (and alpha), each (H, W);
        which of the two, `layout` says
    layout : how the numbers are to be read
    pts, duration : presentation time and length in units of `time_base`; None where the file has
        none (a still picture)
    time_base : seconds per unit of `pts`
    """

    planes: tuple[np.ndarray, ...]
    layout: Layout
    pts: int | None = None
    duration: int | None = None
    time_base: Fraction | None = None

    @property
    def height(self) -> int:
        """Rows of the full-size plane."""
        return self.planes[0].shape[0]

    @property
    def width(self) -> int:
        """Columns of the full-size plane."""
        return self.planes[0].shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the pixels take."""
        return sum(plane.nbytes for plane in self.planes)


class Source(Protocol):
    """Something that yields frames in the order in which they are shown."""

    @property
    def count(self) -> int | None:
        """How many frames the file claims to hold; None where it does not say."""

    def __iter__(self) -> Iterator[Frame]: ...

    def close(self) -> None:
        """Let go of the file."""


class Sink(Protocol):
    """Something that takes frames and makes a file of them."""

    def write(self, frame: Frame) -> None:
        """Take the next frame."""

    def close(self) -> None:
        """Write what is still held back and finish the file."""

    def abort(self) -> None:
        """Stop without finishing; the file is worthless."""
