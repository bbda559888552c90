"""Which part of a layer's data is meant: integers in, integers out, nothing of napari."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from srpipe.errors import ConfigError
from srpipe.windows import Rect, Span, scaled, spans

REGIONS = ("current view", "current slice", "rectangle", "whole layer")


@dataclass(frozen=True)
class Box:
    """A part of an array: half-open ranges along each axis, rows and columns last.

    Raises
    ------
    ConfigError
        If there is nothing in it.
    """

    start: tuple[int, ...]
    stop: tuple[int, ...]

    def __post_init__(self) -> None:
        if any(stop <= start for start, stop in zip(self.start, self.stop, strict=True)):
            raise ConfigError("no pixel of the layer lies there; move the view, or choose another")

    @property
    def shape(self) -> tuple[int, ...]:
        """How many along each axis."""
        return tuple(stop - start for start, stop in zip(self.start, self.stop, strict=True))

    @property
    def planes(self) -> Iterator[tuple[int, ...]]:
        """Indices of all its planes, along the axes before rows and columns, from its own start."""
        return product(*(range(length) for length in self.shape[:-2]))


@dataclass(frozen=True)
class Cell:
    """A rectangle of one plane of a box, counted from the box's start."""

    plane: tuple[int, ...]
    y: Span
    x: Span

    @property
    def rect(self) -> Rect:
        """Its rows and columns."""
        return *self.y, *self.x

    def enlarged(self, scale: int) -> "Cell":
        """The same part of the result."""
        rect = scaled(self.rect, scale)
        return Cell(self.plane, rect[:2], rect[2:])


def whole(shape: Sequence[int]) -> Box:
    """All of an array of this shape."""
    return Box((0,) * len(shape), tuple(shape))


def at_slice(shape: Sequence[int], point: Sequence[float]) -> Box:
    """The plane of an array that is nearest to a point of it."""
    at = [min(max(round(p), 0), n - 1) for p, n in zip(point[:-2], shape[:-2], strict=True)]
    return Box((*at, 0, 0), (*(i + 1 for i in at), *shape[-2:]))


def around(box: Box, corners: Sequence[Sequence[float]]) -> Box:
    """The pixels of a box whose squares touch the rectangle around some points.

    Parameters
    ----------
    corners : rows and columns, in which whole numbers are the centres of pixels
    """
    start, stop = list(box.start), list(box.stop)
    for axis in (-2, -1):
        along = [corner[axis] for corner in corners]
        start[axis] = max(start[axis], math.floor(min(along) + 0.5))
        stop[axis] = min(stop[axis], math.ceil(max(along) + 0.5))
    return Box(tuple(start), tuple(stop))


def cells(box: Box, side: int) -> list[Cell]:
    """A box cut into squares of this side; the last ones of a row or column may be smaller."""
    height, width = box.shape[-2:]
    rows, columns = spans(height, side), spans(width, side)
    return [Cell(plane, y, x) for plane in box.planes for y in rows for x in columns]
