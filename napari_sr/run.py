"""A run: part of a layer, tile by tile, in a thread of its own; knows nothing of napari."""

import os
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_sr.keep import Memory, Pyramid, fits
from napari_sr.region import Box, Cell, cells
from napari_sr.stack import Stack
from srpipe.blocks import Blocks, Counts, Numbers, Shared
from srpipe.errors import Cancelled
from srpipe.jobs.engine import Engine
from srpipe.pixels import Range
from srpipe.settings import RunSettings
from srpipe.validity import valid_of
from srpipe.windows import Rect, Span, within

_SIDES = {"cpu": 256, "cuda": 1024, "mps": 512}
"""Of a tile, in input pixels: done in a second or a few, so that one sees it go on."""

_HALOS = 8  # in a tile's side; what is computed twice then stays below a half


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is to be enlarged, and how.

    Parameters
    ----------
    within : what is 0 and 1 to the network
    nodata : the number that stands for "nothing was measured here"
    labels : what the layer calls its axes
    folder : for results that memory does not hold; None is the system's temporary folder
    """

    stack: Stack
    box: Box
    within: Range
    settings: RunSettings
    nodata: float | None = None
    labels: tuple[str, ...] = ()
    folder: Path | None = None

    @property
    def bits(self) -> int:
        """Of the numbers, as the choice of precision asks for them."""
        return 8 * self.stack.dtype.itemsize

    @property
    def numbers(self) -> Numbers:
        """What they mean to the network."""
        return Numbers.of(
            self.stack.dtype, self.stack.colours, within=self.within, nodata=self.nodata
        )

    def window(self, plane: tuple[int, ...], y: Span, x: Span) -> np.ndarray:
        """Part of a plane of the box, (C, H, W); rows and columns count from the layer's edge."""
        at = tuple(a + b for a, b in zip(plane, self.box.start, strict=False))
        return self.stack.read(at, y, x)

    def valid(self, pixels: np.ndarray) -> np.ndarray | None:
        """Which numbers of (C, H, W) are measurements; None if all are."""
        return valid_of(pixels, self.nodata, self.numbers.nearest)


@dataclass(frozen=True)
class Plan:
    """How a run is cut, and how large its result is."""

    scale: int
    side: int
    in_memory: bool
    cells: list[Cell]

    def shape(self, box: Box) -> tuple[int, ...]:
        """Of the result, but for its colours."""
        return enlarged(box.shape, self.scale)


@dataclass(frozen=True)
class Began:
    """The network is there, on a device in a precision, and so is a place for the result."""

    keep: Memory | Pyramid
    device: str
    precision: str


@dataclass(frozen=True)
class Tile:
    """So many tiles are done."""

    done: int
    of: int


@dataclass(frozen=True)
class Outcome:
    """What came of a run; it is complete unless it was stopped."""

    done: int
    of: int
    counts: Counts

    @property
    def complete(self) -> bool:
        """Whether all tiles are there."""
        return self.done == self.of


def planned(wish: Wish) -> Plan:
    """How a run will be cut.

    Raises
    ------
    ConfigError
        If there is no such network.
    """
    from srpipe import zoo
    from srpipe.device import found

    settings = wish.settings
    entry = zoo.find(settings.model, scale=settings.scale, folder=settings.weights)
    shape = enlarged(wish.box.shape, entry.scale)
    in_memory = fits(shape, len(wish.stack.colours), wish.stack.dtype, lazy=wish.stack.is_lazy)
    if settings.tile == "auto":
        side = max(_SIDES[found(settings.device).type], _HALOS * entry.halo)
    else:
        side = int(settings.tile)
    if not in_memory:  # levels of a pyramid halve a tile, again and again
        side = 1 << max(side - 1, 127).bit_length()
    return Plan(entry.scale, side, in_memory, cells(wish.box, side))


def run(
    wish: Wish, plan: Plan, engine: Engine, cancelled: Callable[[], bool]
) -> Generator[Began | Tile, None, Outcome]:
    """Enlarge; what is done is told, and how it ended is returned.

    Raises
    ------
    SrpipeError
        Whatever the network, the device or the data say.
    """
    calm()
    upscaler = engine.upscaler(wish.settings, perception=wish.settings.perception, bits=wish.bits)
    blocks = Blocks(upscaler, wish.numbers)
    keep = place(wish, plan)
    yield Began(keep, str(upscaler.device), upscaler.precision)
    counts, done = Counts(), 0
    try:
        for cell, seen in windows(wish, plan, blocks, cancelled):
            made = blocks.enlarged(
                seen.pixels, seen.valid, seen.inner, statistics=seen.shared, cancelled=cancelled
            )
            keep.put(cell.enlarged(plan.scale), made.pixels)
            counts, done = counts + made.counts, done + 1
            yield Tile(done, len(plan.cells))
    except Cancelled:
        pass
    return Outcome(done, len(plan.cells), counts)


@dataclass(frozen=True)
class Seen:
    """A cell with what the network must see around it, and what it is to take for the whole."""

    pixels: np.ndarray
    valid: np.ndarray | None
    inner: Rect
    shared: Shared | None


def windows(
    wish: Wish, plan: Plan, blocks: Blocks, cancelled: Callable[[], bool]
) -> Iterator[tuple[Cell, Seen]]:
    """Every cell of the box, with the layer's pixels around it, beyond the box too.

    Raises
    ------
    Cancelled
        If `cancelled` said so.
    """
    height, width = wish.stack.shape[-2:]
    top, left = wish.box.start[-2:]
    plane: tuple[int, ...] | None = None
    shared: Shared | None = None
    for cell in plan.cells:
        if cancelled():
            raise Cancelled("stopped between two tiles")
        if cell.plane != plane:
            plane, shared = cell.plane, _statistics(wish, plan, blocks, cell.plane, cancelled)
        here = (cell.y[0] + top, cell.y[1] + top, cell.x[0] + left, cell.x[1] + left)
        seen = blocks.read_for(here, height, width)
        pixels = wish.window(cell.plane, seen[:2], seen[2:])
        yield cell, Seen(pixels, wish.valid(pixels), within(here, seen), shared)


def _statistics(
    wish: Wish, plan: Plan, blocks: Blocks, plane: tuple[int, ...], cancelled: Callable[[], bool]
) -> Shared | None:
    """What all tiles of a plane of the box are to take for the whole; None if it is one tile."""
    height, width = wish.box.shape[-2:]
    top, left = wish.box.start[-2:]
    if max(height, width) <= plan.side:
        return None

    def part(_: int, y: Span, x: Span) -> tuple[np.ndarray, np.ndarray | None]:
        pixels = wish.window(plane, (y[0] + top, y[1] + top), (x[0] + left, x[1] + left))
        return pixels, wish.valid(pixels)

    return blocks.statistics(part, blocks.sample(height, width), cancelled=cancelled)


def place(wish: Wish, plan: Plan) -> Memory | Pyramid:
    """An empty result."""
    stack, shape = wish.stack, plan.shape(wish.box)
    bands = len(stack.colours)
    if plan.in_memory:
        return Memory(shape, bands, stack.dtype, rgb=stack.rgb)
    return Pyramid(
        shape,
        bands,
        stack.dtype,
        rgb=stack.rgb,
        side=plan.side * plan.scale,
        folder=wish.folder,
        labels=wish.labels,
    )


def enlarged(shape: tuple[int, ...], scale: int) -> tuple[int, ...]:
    """A shape with so many times the rows and columns."""
    return (*shape[:-2], shape[-2] * scale, shape[-1] * scale)


def calm() -> None:
    """Leave a core to the window, which must stay alive."""
    import torch

    torch.set_num_threads(max(1, _cores() - 1))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
