"""Where to cut: integers only, nothing about pixels or networks.

A tile that touches the image's edge ends exactly there, so that a network pads it as it would pad
the whole image. Everywhere else a tile carries a halo that is read and then thrown away.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from srpipe.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """How to cut.

    Parameters
    ----------
    size : longest side that a tile may have, in input pixels, halos included
    halo : pixels that a kept pixel needs around it, unless the image ends before
    alignment : tile starts are multiples of this
    fade : pixels over which neighbouring tiles are mixed; 0 where they only touch
    """

    size: int
    halo: int
    alignment: int = 1
    fade: int = 0


@dataclass(frozen=True)
class Span:
    """One tile along one axis: what is read, what is kept, and how much of that is mixed.

    The first `fade_in` kept pixels are shared with the tile before, the last `fade_out` with the
    next.
    """

    read_from: int
    read_to: int
    keep_from: int
    keep_to: int
    fade_in: int = 0
    fade_out: int = 0


@dataclass(frozen=True)
class Tile:
    """One tile of a plane."""

    y: Span
    x: Span


def grid(height: int, width: int, tiles: Tiles) -> list[Tile]:
    """Cut a plane into tiles of one shape, row by row; see `spans`.

    Raises
    ------
    ConfigError
        If a tile has no room for its halos; the message names the smallest that has.
    """
    fits = smallest(height, width, tiles)
    if tiles.size < fits:
        mixed = f" and {tiles.fade} px to mix with its neighbour" if tiles.fade else ""
        raise ConfigError(
            f"a tile of {tiles.size} px has no room for a halo of {tiles.halo} px on both"
            f" sides{mixed}; use a tile of {fits} px or more"
        )
    rows, columns = spans(height, tiles), spans(width, tiles)
    return [Tile(y, x) for y in rows for x in columns]


def smallest(height: int, width: int, tiles: Tiles) -> int:
    """The smallest size with which a plane can be cut, whatever ``tiles.size`` is."""
    return max(_smallest(length, tiles) for length in (height, width))


def spans(length: int, tiles: Tiles) -> list[Span]:
    """Cut ``[0, length)`` into equally long spans; without a fade their kept parts just touch.

    As few spans as the size allows, no longer than so many need, spread evenly. Starts are
    multiples of the alignment and the last span ends at `length`: so all are as long as `length`
    modulo the alignment. The size must be at least `smallest`.
    """
    size, starts = _starts(length, tiles)
    steps = [after - before for before, after in pairwise(starts)]
    fade = min([tiles.fade, *steps])  # mixing zones must not run into each other
    seams = [(before + after + size) // 2 for before, after in pairwise(starts)]
    keep_from = [0, *(seam - fade // 2 for seam in seams)]
    keep_to = [*(seam - fade // 2 + fade for seam in seams), length]
    fades = [0, *(fade for _ in seams), 0]
    return [
        Span(start, start + size, keep_from[i], keep_to[i], fades[i], fades[i + 1])
        for i, start in enumerate(starts)
    ]


def window(span: Span, scale: int) -> np.ndarray:
    """Weights of the kept pixels of a span in the enlarged image; over all spans they sum to 1.

    Hann's raised cosine where tiles are mixed, 1 elsewhere; float32, length (kept * scale,).
    """
    weights = np.ones((span.keep_to - span.keep_from) * scale)
    rise = _rise(span.fade_in * scale)
    fall = _rise(span.fade_out * scale)[::-1]
    weights[: len(rise)] *= rise
    weights[len(weights) - len(fall) :] *= fall
    return weights.astype(np.float32)


def _starts(length: int, tiles: Tiles) -> tuple[int, list[int]]:
    """The common length of the spans, and where each starts."""
    if length <= tiles.size:
        return length, [0]
    unit = tiles.alignment
    size = tiles.size - (tiles.size - length) % unit  # so that the last one starts aligned
    way = (length - size) // unit  # from the first start to the last, in units
    step = (size - 2 * tiles.halo - tiles.fade) // unit  # the longest that leaves no gap
    steps = -(-way // step)
    shorter = (steps * step - way) // (steps + 1)  # each unit less lengthens the way by one
    size, way = size - shorter * unit, way + shorter
    return size, [i * way // steps * unit for i in range(steps + 1)]


def _smallest(length: int, tiles: Tiles) -> int:
    size = 2 * tiles.halo + tiles.fade + tiles.alignment
    size += (length - size) % tiles.alignment
    return min(size, length)


def _rise(length: int) -> np.ndarray:
    return np.sin(np.pi / 2 * (np.arange(length) + 0.5) / max(length, 1)) ** 2
