"""Maps that say what a network saw and added: gradients, and whether to trust it.

Each looks at a few pixels around its own, and is made window by window when napari asks for it.
Colours are averaged: a map is one number a pixel. What needs the network is in `answers`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_sr.region import Box
from napari_sr.run import Plan, Wish
from napari_sr.stack import Stack
from srpipe import trust
from srpipe.errors import Cancelled
from srpipe.gradients import gradient_map
from srpipe.pixels import Range
from srpipe.validity import enlarged, fill, valid_of
from srpipe.windows import Rect, Span, cut, grown, scaled, spans, within

MASK = {
    1: "no measurement in the input",
    2: "saturated in the input",
    3: "beyond the network's range in the input",
    4: "clipped in the result",
    5: "not computed",
}
"""What the numbers of a validity mask mean; 0 is none of them."""

_SAMPLE = 1024  # side of what contrast limits are taken from
_SIDE = 512  # of the windows of lazy maps, in pixels of the map
_REACH = trust.REACH

Make = Callable[[tuple[int, ...], Span, Span], np.ndarray]
"""Numbers (H, W) of a map: of a plane, some rows and some columns."""


@dataclass(frozen=True)
class Pair:
    """An input and its result, plane by plane, in the numbers of the layer.

    Parameters
    ----------
    done : tiles of the result that are there
    """

    wish: Wish
    plan: Plan
    result: Stack
    done: int

    @property
    def box(self) -> Box:
        """What of the layer was enlarged."""
        return self.wish.box

    @property
    def fine(self) -> tuple[int, ...]:
        """The shape of the result, but for its colours."""
        return self.plan.shape(self.box)

    def input_gradient(self, plane: tuple[int, ...], y: Span, x: Span) -> np.ndarray:
        """The papers' gradient map of the input; counted from the box's corner."""
        at = tuple(i + start for i, start in zip(plane, self.box.start, strict=False))
        top, left = self.box.start[-2:]
        make = gradient_of(self.wish.stack, self.wish.within)
        return make(at, (y[0] + top, y[1] + top), (x[0] + left, x[1] + left))

    def output_gradient(self, plane: tuple[int, ...], y: Span, x: Span) -> np.ndarray:
        """The papers' gradient map of the result."""
        return gradient_of(self.result, self.wish.within)(plane, y, x)

    def residual(self, plane: tuple[int, ...], y: Span, x: Span) -> np.ndarray:
        """How far the result, degraded back, is above the input; in the layer's numbers."""
        low, high, inner = self._both(plane, y, x)
        return _mean(cut(trust.residual(low, high), inner))

    def added_detail(self, plane: tuple[int, ...], y: Span, x: Span) -> np.ndarray:
        """What the result has beyond bicubic; in the layer's numbers."""
        scale = self.plan.scale
        rows, columns = _covering(y, scale), _covering(x, scale)
        low, high, inner = self._both(plane, rows, columns)
        detail = cut(trust.added_detail(low, high), scaled(inner, scale))
        return _mean(cut(detail, within((*y, *x), scaled((*rows, *columns), scale))))

    def mask(self, plane: tuple[int, ...], y: Span, x: Span) -> np.ndarray:
        """Where not to trust it, and why: see `MASK`."""
        scale = self.plan.scale
        rows, columns = _covering(y, scale), _covering(x, scale)
        low, high = self._windows(plane, rows, columns)
        valid = self.wish.valid(low)
        low, high = _coloured(low), _coloured(high)
        found = np.zeros(low.shape[1:], np.uint8)
        found[((low < self.wish.within.low) | (low > self.wish.within.high)).any(0)] = 3
        limits = _limits(low.dtype)
        if limits:
            found[(low == limits[1]).any(0)] = 2
        if valid is not None:
            found[~_coloured(valid).all(0)] = 1
        fine = enlarged(found, scale)
        if limits:
            before = enlarged(np.asarray(np.isin(low, limits).any(0)), scale)
            fine[np.isin(high, limits).any(0) & ~before] = 4
        fine = cut(fine, within((*y, *x), scaled((*rows, *columns), scale)))
        return np.where(self._missing(plane, y, x), np.uint8(5), fine)

    def _missing(self, plane: tuple[int, ...], y: Span, x: Span) -> np.ndarray:
        """Which pixels of the result no tile has reached."""
        missing = np.zeros((y[1] - y[0], x[1] - x[0]), bool)
        for cell in self.plan.cells[self.done :]:
            if cell.plane == tuple(plane):
                at = within(scaled(cell.rect, self.plan.scale), (*y, *x))
                y0, y1, x0, x1 = (max(n, 0) for n in at)
                missing[y0:y1, x0:x1] = True
        return missing

    def _windows(self, plane: tuple[int, ...], y: Span, x: Span) -> tuple[np.ndarray, np.ndarray]:
        """Input and result at the same place, whose rows and columns are the input's in the box."""
        top, left = self.box.start[-2:]
        low = self.wish.window(plane, (y[0] + top, y[1] + top), (x[0] + left, x[1] + left))
        scale = self.plan.scale
        fine = tuple((start * scale, stop * scale) for start, stop in (y, x))
        return low, self.result.read(plane, *fine)

    def _both(self, plane: tuple[int, ...], y: Span, x: Span) -> tuple[Tensor, Tensor, Rect]:
        """The same with what maps must see around it, as colours in float64 without gaps."""
        height, width = self.box.shape[-2:]
        seen = grown((*y, *x), _REACH, height, width)
        low, high = (_colours(each) for each in self._windows(plane, seen[:2], seen[2:]))
        return low, high, within((*y, *x), seen)


def gradient_of(stack: Stack, ends: Range) -> Make:
    """The papers' gradient map of a stack, whose black and white are the ends of a range."""
    height, width = stack.shape[-2:]

    def make(plane: tuple[int, ...], y: Span, x: Span) -> np.ndarray:
        seen = grown((*y, *x), 1, height, width)
        bands = _colours(stack.read(plane, seen[:2], seen[2:])).numpy()
        found = gradient_map(ends.to_unit(bands)[None])[0]
        return _mean(cut(found, within((*y, *x), seen)))

    return make


def limit(
    make: Make,
    shape: tuple[int, ...],
    plane: tuple[int, ...],
    asked: Callable[[], bool] | None = None,
) -> float:
    """What nearly all numbers in the middle of a plane of a map stay below, in size.

    Raises
    ------
    Cancelled
        If `asked` said so.
    """
    y, x = (((n - min(n, _SAMPLE)) // 2, (n + min(n, _SAMPLE)) // 2) for n in shape[-2:])
    return largest(_made(make, plane, y, x, np.dtype(np.float32), asked))


def largest(found: np.ndarray) -> float:
    """What nearly all numbers of a map stay below, in size; never 0."""
    finite = np.abs(found[np.isfinite(found)])
    return float(np.percentile(finite, 99.5)) or 1e-6 if finite.size else 1e-6


def lazily(make: Make, shape: tuple[int, ...], dtype: np.dtype, side: int = _SIDE) -> Any:
    """A map as a Dask array, each part of which is made when it is looked at."""
    import dask.array as da
    from dask.array.core import normalize_chunks

    chunks = normalize_chunks((1,) * len(shape[:-2]) + (side, side), shape)

    def part(block_info: Any = None) -> np.ndarray:
        (*plane, y, x) = block_info[None]["array-location"]
        made = make(tuple(int(start) for start, _ in plane), y, x)
        return made.astype(dtype).reshape((1,) * len(plane) + made.shape)

    return da.map_blocks(part, chunks=chunks, dtype=dtype, meta=np.empty((0,) * len(shape), dtype))


def settled(
    make: Make,
    shape: tuple[int, ...],
    plane: tuple[int, ...],
    dtype: np.dtype,
    asked: Callable[[], bool] | None = None,
) -> Any:
    """One plane of a map, made now: an array of the axes that the map has, one long but for two.

    Raises
    ------
    Cancelled
        If `asked` said so.
    """
    height, width = shape[-2:]
    made = _made(make, plane, (0, height), (0, width), dtype, asked)
    return made.reshape((1,) * len(plane) + made.shape)


def _made(
    make: Make,
    plane: tuple[int, ...],
    y: Span,
    x: Span,
    dtype: np.dtype,
    asked: Callable[[], bool] | None,
) -> np.ndarray:
    """Numbers (H, W) of a large part of a map, window by window; before each it may be stopped."""
    found = np.empty((y[1] - y[0], x[1] - x[0]), dtype)
    for rows, columns in product(spans(found.shape[0], _SIDE), spans(found.shape[1], _SIDE)):
        if asked is not None and asked():
            raise Cancelled("stopped between two parts of a map")
        there = (rows[0] + y[0], rows[1] + y[0]), (columns[0] + x[0], columns[1] + x[0])
        cut(found, (*rows, *columns))[:] = make(plane, *there)
    return found


def _colours(pixels: np.ndarray) -> Tensor:
    """Numbers in float64, opacity left out."""
    return torch.from_numpy(_without_gaps(_coloured(pixels).astype(np.float64), 0.0))


def _coloured(pixels: np.ndarray) -> np.ndarray:
    """Bands without opacity."""
    return pixels[:3] if len(pixels) == 4 else pixels


def _without_gaps(pixels: np.ndarray, rest: float) -> np.ndarray:
    valid = valid_of(pixels, None)
    return pixels if valid is None else fill(pixels, valid, reach=_REACH, rest=rest)


def _mean(bands: Tensor) -> np.ndarray:
    return bands.mean(0).numpy().astype(np.float32)


def _limits(dtype: np.dtype) -> tuple[int, int] | None:
    """The least and the largest number that a type holds; None where nothing is clipped."""
    if dtype.kind == "f":
        return None
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


def _covering(span: Span, scale: int) -> Span:
    """The input's rows, or columns, that these of the result lie on."""
    return span[0] // scale, -(-span[1] // scale)
