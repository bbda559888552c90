"""Where a result grows, tile by tile: in memory, or as a pyramid on disk if that is too small."""

import math
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from napari_sr.region import Cell
from napari_sr.stack import shown
from srpipe.errors import ConfigError

MEMORY_BYTES = 2**28
"""The largest result that is held in memory."""

LAZY_BYTES = 2**26
"""The same, where the input is on disk too."""


class Keep(Protocol):
    """A result that grows."""

    @property
    def data(self) -> Any:
        """What napari shows while it grows: an array, or a list of levels."""

    @property
    def multiscale(self) -> bool:
        """Whether that is a list of levels."""

    def put(self, cell: Cell, bands: np.ndarray) -> None:
        """Take a tile: array (C, H, W)."""

    def finished(self) -> Any:
        """What napari shows afterwards."""


class Memory:
    """A result in memory."""

    multiscale = False

    def __init__(self, shape: Sequence[int], bands: int, dtype: np.dtype, *, rgb: bool) -> None:
        self._rgb = rgb
        self.data = np.zeros((*shape, bands) if rgb else tuple(shape), dtype)

    def put(self, cell: Cell, bands: np.ndarray) -> None:
        """Take a tile."""
        at: Any = (*cell.plane, slice(*cell.y), slice(*cell.x))
        self.data[at] = shown(bands, rgb=self._rgb)

    def finished(self) -> np.ndarray:
        """The same array."""
        return self.data


class Pyramid:
    """A result as an OME-Zarr whose levels grow together; deleted once nobody can read them.

    Parameters
    ----------
    shape : of the result; its last two axes are rows and columns
    side : of the tiles that will come; halves evenly, as often as there are levels
    folder : in which it is made; None is the system's temporary folder
    labels : what the layer calls its axes

    Raises
    ------
    ConfigError
        If it has more axes than T, C, Z, Y and X.
    """

    multiscale = True

    def __init__(
        self,
        shape: Sequence[int],
        bands: int,
        dtype: np.dtype,
        *,
        rgb: bool,
        side: int,
        folder: Path | None = None,
        labels: Sequence[str] = (),
    ) -> None:
        from zarr.storage import LocalStore

        from srpipe.io.omezarr import OmeZarrSink
        from srpipe.io.pieces import levels
        from srpipe.io.raster import AXES, Grid, Raster

        leading = letters(len(shape) - 2, labels[: len(shape) - 2], rgb=rgb)
        lengths = dict(zip((*leading, "Y", "X"), shape, strict=True)) | (
            {"C": bands} if rgb else {}
        )
        self._axes = "".join(axis for axis in AXES if axis in lengths)
        full = tuple(lengths.get(axis, 1) for axis in AXES)
        assert len(full) == 5
        above = tempfile.mkdtemp(prefix="srpipe-", suffix=".ome.zarr", dir=folder)
        self.path = Path(above) / "result.ome.zarr"
        self._store = LocalStore(self.path)
        # arrays hold the store, and those of a copied layer may outlive this object
        weakref.finalize(self._store, shutil.rmtree, above, ignore_errors=True)
        raster = Raster(shape=full, dtype=dtype, format="omezarr", axes=self._axes)
        OmeZarrSink(self.path, raster, Grid(full, side)).begin()
        self._count = levels(*full[3:], smallest=512)
        self._colours = self._axes.index("C") if rgb else None

    @cached_property
    def _arrays(self) -> list[Any]:
        import zarr

        return [
            zarr.open_array(self._store, path=str(level), mode="r+").with_config(
                {"write_empty_chunks": True}
            )
            for level in range(self._count)
        ]

    @cached_property
    def data(self) -> list["Level"]:
        """Views of all levels, which never remember what was not there yet."""
        return [Level(array, self._colours) for array in self._arrays]

    def put(self, cell: Cell, bands: np.ndarray) -> None:
        """Take a tile into every level; each pixel above is the mean of the four below it."""
        from srpipe.io.pieces import area_mean

        (top, _), (left, _) = cell.y, cell.x
        for array in self._arrays:
            at: list[Any] = [*cell.plane]
            if self._colours is not None:
                at.insert(self._colours, slice(None))
            rows, columns = bands.shape[-2:]
            index = (*at, slice(top, top + rows), slice(left, left + columns))
            array[index] = bands if self._colours is not None else bands[0]
            bands, top, left = area_mean(bands), top // 2, left // 2

    def finished(self) -> list[Any]:
        """The levels as Dask arrays, for others to go on with."""
        import dask.array as da

        found = [da.from_zarr(array) for array in self._arrays]
        if self._colours is None:
            return found
        return [da.moveaxis(array, self._colours, -1) for array in found]


@dataclass(frozen=True)
class Level:
    """An array of a Zarr as a layer wants it: colours last."""

    array: Any
    colours: int | None

    @property
    def dtype(self) -> np.dtype:
        """Of its numbers."""
        return np.dtype(self.array.dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """With the colours last."""
        shape = list(self.array.shape)
        if self.colours is not None:
            shape.append(shape.pop(self.colours))
        return tuple(shape)

    @property
    def ndim(self) -> int:
        """How many axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """How many numbers."""
        return math.prod(self.shape)

    def __getitem__(self, index: Any) -> np.ndarray:
        index = index if isinstance(index, tuple) else (index,)
        if Ellipsis in index:
            at = index.index(Ellipsis)
            fill = (slice(None),) * (self.ndim - len(index) + 1)
            index = (*index[:at], *fill, *index[at + 1 :])
        index = (*index, *(slice(None),) * (self.ndim - len(index)))
        if self.colours is None:
            return np.asarray(self.array[index])
        *rest, colour = index
        before = sum(isinstance(i, slice) for i in rest[: self.colours])
        rest.insert(self.colours, slice(None))
        part = np.moveaxis(np.asarray(self.array[tuple(rest)]), before, -1)
        return part[..., colour]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[()], dtype)


def fits(shape: Sequence[int], bands: int, dtype: np.dtype, *, lazy: bool) -> bool:
    """Whether a result of this size is held in memory.

    Parameters
    ----------
    lazy : whether its input is not
    """
    nbytes = math.prod(shape) * bands * dtype.itemsize
    return nbytes <= (LAZY_BYTES if lazy else MEMORY_BYTES)


def letters(count: int, labels: Sequence[str], *, rgb: bool) -> str:
    """The axes before rows and columns as letters of OME-Zarr.

    Those that all labels begin with, where they are in its order; else as many as there are.
    """
    named = initials(labels)
    allowed = "TZ" if rgb else "TCZ"
    if len(named) == count and named == "".join(axis for axis in allowed if axis in named):
        return named
    if count > len(allowed):
        raise ConfigError(
            f"a result with {count} axes before rows and columns is too large for memory, and"
            f" OME-Zarr has {len(allowed)}; take the current slice"
        )
    return {0: "", 1: "Z", 2: "TZ", 3: "TCZ"}[count]


def initials(labels: Sequence[str]) -> str:
    """What labels begin with, in capitals."""
    return "".join(label[:1].upper() for label in labels)
