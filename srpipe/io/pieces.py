"""Blocks of a raster as files of their own, until one writer makes a target of them.

A TIFF has one writer, and blocks have many. So each block is first a small file in a folder beside
the target, complete from the moment it has its name; the writer then reads what it needs of them,
never more than one block at a time.
"""

import os
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from srpipe.errors import TargetError
from srpipe.io.raster import Block, Grid, Raster, Window


@dataclass(frozen=True)
class Pieces:
    """The blocks of one array TCZYX, each a file in NumPy's format."""

    folder: Path
    grid: Grid
    dtype: np.dtype

    def path(self, window: Window) -> Path:
        """Where a block of the grid lies."""
        starts = "-".join(str(at[0]) for at in (window.t, window.z, window.y, window.x))
        return self.folder / f"{starts}.npy"

    def write(self, window: Window, pixels: np.ndarray) -> Path:
        """Put a block into its file, which survives a power cut once this returns."""
        if pixels.shape != window.shape(self.grid.shape[1]) or pixels.dtype != self.dtype:
            raise TargetError(f"{pixels.shape} of {pixels.dtype} is no block for {window}")
        path = self.path(window)
        part = path.with_name(f"{path.stem}.{uuid.uuid4().hex[:8]}.part")
        try:
            with part.open("wb") as file:
                np.save(file, pixels, allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
        return path

    def read(self, window: Window, band: int | None = None) -> np.ndarray:
        """Any part of the array, of all bands or of one.

        Raises
        ------
        TargetError
            If a block that it needs is not there.
        """
        bands = slice(None) if band is None else slice(band, band + 1)
        count = self.grid.shape[1] if band is None else 1
        whole = np.empty(window.shape(count), self.dtype)
        for block in self.grid.touching(window):
            there, here = _overlap(block, window)
            try:
                piece = np.load(self.path(block), mmap_mode="r", allow_pickle=False)
                whole[here] = piece[there][:, bands]
            except (OSError, ValueError) as error:
                raise TargetError(
                    f"the block {self.path(block)} is missing or torn; run the job again"
                ) from error
        return whole

    def halved(self, name: str, *, classes: bool) -> "Pieces":
        """The next level of the pyramid; see `halved`."""
        above = Pieces(self.folder / name, halved_grid(self.grid), self.dtype)
        above.folder.mkdir(exist_ok=True)
        for window in above.grid:
            above.write(window, halved(self.read(below(window, self.grid)), classes=classes))
        return above


@dataclass(frozen=True)
class PieceSink:
    """Takes blocks as pieces, and has them assembled at the end.

    Parameters
    ----------
    part : the file that is written when all blocks are there
    scratch : a folder for the pieces
    assemble : writes `part`; told what to write, and the pieces of it and of its mask
    """

    part: Path
    raster: Raster
    grid: Grid
    scratch: Path
    assemble: "Callable[[Path, Raster, Pieces, Pieces | None], None]"

    @cached_property
    def pixels(self) -> Pieces:
        """The numbers."""
        return Pieces(self.scratch / "pixels", self.grid, self.raster.dtype)

    @cached_property
    def mask(self) -> Pieces | None:
        """Which pixels are valid, for a raster that says so apart from its numbers."""
        if not self.raster.masked:
            return None
        t, _, z, y, x = self.grid.shape
        one = replace(self.grid, shape=(t, 1, z, y, x))
        return Pieces(self.scratch / "mask", one, np.dtype(bool))

    def begin(self) -> None:
        """Make the folders."""
        for pieces in filter(None, (self.pixels, self.mask)):
            pieces.folder.mkdir(parents=True, exist_ok=True)

    def write(self, window: Window, block: Block) -> tuple[Path, ...]:
        """Put a block into its files, the numbers last."""
        if self.mask:
            shape = window.shape(1)
            valid = block.valid
            shown = np.ones(shape, bool)
            if valid is not None:
                valid.any(1, keepdims=True, out=shown)
            self.mask.write(window, shown)
        self.pixels.write(window, block.pixels)
        return self.files(window)

    def files(self, window: Window) -> tuple[Path, ...]:
        """Where a block lies once it was written."""
        return tuple(p.path(window) for p in (self.pixels, self.mask) if p)

    def close(self, record: str | None = None) -> None:
        """Make the target of the pieces; they stay for as long as that has not its name."""
        raster = self.raster if record is None else replace(self.raster, record=record)
        self.assemble(self.part, raster, self.pixels, self.mask)

    def abort(self) -> None:
        """Throw away pieces and target."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.part.unlink(missing_ok=True)


def levels(height: int, width: int, smallest: int) -> int:
    """How many levels a pyramid has whose top fits into a square."""
    count = 1
    while max(height, width) > smallest:
        height, width, count = -(-height // 2), -(-width // 2), count + 1
    return count


def halved_grid(grid: Grid) -> Grid:
    """The blocks of the next level; an odd last row or column is half outside."""
    t, c, z, y, x = grid.shape
    return replace(grid, shape=(t, c, z, -(-y // 2), -(-x // 2)))


def below(window: Window, grid: Grid) -> Window:
    """What a window of the next level is made of."""
    larger = window.enlarged(2)
    y, x = grid.shape[3:]
    return replace(
        larger, y=(larger.y[0], min(larger.y[1], y)), x=(larger.x[0], min(larger.x[1], x))
    )


def halved(block: np.ndarray, *, classes: bool) -> np.ndarray:
    """Half as many pixels along Y and X: means of four, or of names of classes one of four."""
    return np.ascontiguousarray(block[..., ::2, ::2]) if classes else area_mean(block)


def area_mean(block: np.ndarray) -> np.ndarray:
    """Half as many pixels along Y and X, each the mean of the four (at odd edges two or one) below.

    Values that are no numbers do not count. Integers are rounded to nearest.
    """
    rows, columns = (-(-length // 2) for length in block.shape[-2:])
    total = np.zeros((*block.shape[:-2], rows, columns))
    count = np.zeros_like(total)
    for dy in (0, 1):
        for dx in (0, 1):
            part = block[..., dy::2, dx::2].astype(np.float64)
            known = ~np.isnan(part)
            at = (..., slice(part.shape[-2]), slice(part.shape[-1]))
            total[at] += np.where(known, part, 0)
            count[at] += known
    mean = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    if block.dtype.kind == "f":
        return mean.astype(block.dtype)
    return np.rint(mean).astype(block.dtype)


def _overlap(block: Window, window: Window) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """What a block and a window share, as an index of each."""
    there, here = [], []
    for name in ("t", "z", "y", "x"):
        (b0, b1), (w0, w1) = getattr(block, name), getattr(window, name)
        start, stop = max(b0, w0), min(b1, w1)
        there.append(slice(start - b0, stop - b0))
        here.append(slice(start - w0, stop - w0))
    every = slice(None)
    return (there[0], every, *there[1:]), (here[0], every, *here[1:])
