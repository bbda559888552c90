"""What all rasters have in common: images of any size and number type, with bands, planes, a place.

Every raster is shown as one array of five axes, T, C, Z, Y and X; those that its file has not are
one long. Nobody ever holds it whole: a source reads windows, a sink takes blocks, and each block
is written where no other block writes.
"""

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from srpipe.errors import ConfigError, MediaError, SrpipeError
from srpipe.io.exif import enlarged_xmp
from srpipe.validity import valid_of

AXES = "TCZYX"
RECORD = "srpipe"
"""What `Raster.record` is called in a file."""

TILE = 512
"""Side of the squares in which targets are stored; sides of blocks are multiples of it."""

SAMPLES_MAX = 2**44
"""More numbers than that are a damaged header: 2 000 000 px square, four bands."""

SEGMENT_BYTES_MAX = 2**30
"""What must be decoded in one piece (tile, strip, chunk) may be no larger, to bound the memory."""

Shape = tuple[int, int, int, int, int]
Affine = tuple[float, float, float, float, float, float]
Range = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """Part of a raster: half-open ranges along T, Z, Y and X, and all of C."""

    t: Range
    z: Range
    y: Range
    x: Range

    @property
    def slices(self) -> tuple[slice, slice, slice, slice, slice]:
        """The window as an index of an array TCZYX."""
        return (slice(*self.t), slice(None), slice(*self.z), slice(*self.y), slice(*self.x))

    def shape(self, bands: int) -> Shape:
        """How large a block of it is."""
        t, z, y, x = (stop - start for start, stop in (self.t, self.z, self.y, self.x))
        return t, bands, z, y, x

    def enlarged(self, scale: int) -> "Window":
        """The same part of the raster with ``scale`` times the pixels along Y and X."""
        return self._sides(lambda start, stop: (start * scale, stop * scale))

    def reduced(self, scale: int) -> "Window":
        """The window that `enlarged` makes this one of.

        Raises
        ------
        ConfigError
            If there is none.
        """
        if any(edge % scale for edge in (*self.y, *self.x)):
            raise ConfigError(f"a block {self.y} x {self.x} does not divide by {scale}")
        return self._sides(lambda start, stop: (start // scale, stop // scale))

    def grown(self, margin: int, shape: Shape) -> "Window":
        """With so many more pixels on each side, as far as the raster goes."""
        (y0, y1), (x0, x1) = self.y, self.x
        y = max(y0 - margin, 0), min(y1 + margin, shape[3])
        return replace(self, y=y, x=(max(x0 - margin, 0), min(x1 + margin, shape[4])))

    def _sides(self, change: Any) -> "Window":
        return replace(self, y=change(*self.y), x=change(*self.x))


@dataclass(frozen=True)
class Grid:
    """How a raster is cut into blocks; each is some whole planes of one square.

    Parameters
    ----------
    shape : of the raster
    side : of the square, in pixels
    planes : how many Z planes share a block
    """

    shape: Shape
    side: int
    planes: int = 1

    def __iter__(self) -> Iterator[Window]:
        """All blocks, row after row, plane after plane."""
        t, _, z, y, x = self.shape
        for at in range(t):
            for planes in _cut(0, z, z, self.planes):
                for rows in _cut(0, y, y, self.side):
                    for columns in _cut(0, x, x, self.side):
                        yield Window((at, at + 1), planes, rows, columns)

    def __len__(self) -> int:
        t, _, z, y, x = self.shape
        return t * -(-z // self.planes) * -(-y // self.side) * -(-x // self.side)

    def touching(self, window: Window) -> Iterator[Window]:
        """The blocks that share pixels with a window."""
        _, _, z, y, x = self.shape
        for at in range(*window.t):
            for planes in _cut(*window.z, z, self.planes):
                for rows in _cut(*window.y, y, self.side):
                    for columns in _cut(*window.x, x, self.side):
                        yield Window((at, at + 1), planes, rows, columns)


def grid_for(shape: Shape, scale: int, side: int = 2 * TILE) -> Grid:
    """Blocks of a target that is ``scale`` times its source, each made of whole source pixels.

    Parameters
    ----------
    side : about how large, in pixels of the target
    """
    unit = math.lcm(TILE, scale)
    square = max(round(side / unit), 1) * unit
    plane = max(shape[3] * shape[4], 1)
    return Grid(shape, square, planes=max(1, min(shape[2], square * square // plane)))


@dataclass(frozen=True, kw_only=True)
class Step:
    """How far apart the planes along one axis are, and where the first one is."""

    size: float = 1.0
    start: float = 0.0
    unit: str | None = None


@dataclass(frozen=True, kw_only=True)
class GroundPoint:
    """A point that is known both in the raster, measured from its corner, and on the ground."""

    row: float
    column: float
    x: float
    y: float
    z: float | None = None
    name: str | None = None
    info: str | None = None


@dataclass(frozen=True, kw_only=True)
class World:
    """Where the pixels lie.

    Parameters
    ----------
    affine : a, b, c, d, e, f with ``x = a * column + b * row + c`` and ``y = d * column + e * row
        + f``; 0, 0 is the outer corner of the first pixel and 0.5, 0.5 its centre. None where the
        file does not say.
    units : of y and x, as OME-Zarr spells them ("micrometer")
    depth, time : along Z and T
    crs : coordinate reference system, as WKT
    points, points_crs : ground control points, and what their coordinates refer to
    rpc : rational polynomial coefficients, by the names that GDAL gives them
    """

    affine: Affine | None = None
    units: tuple[str | None, str | None] = (None, None)
    depth: Step | None = None
    time: Step | None = None
    crs: str | None = None
    points: tuple[GroundPoint, ...] = ()
    points_crs: str | None = None
    rpc: Mapping[str, Any] | None = None

    @property
    def turned(self) -> bool:
        """Whether rows and columns do not run along the axes of the world."""
        return self.affine is not None and bool(self.affine[1] or self.affine[3])

    @property
    def mapped(self) -> bool:
        """Whether it refers to the ground."""
        return bool(self.crs or self.points or self.rpc)

    @property
    def at_zero(self) -> "World":
        """The same sizes, with the outer corner of the first pixel of the first plane at 0.

        Planes that run backwards run forwards.
        """
        affine = self.affine
        if affine:
            affine = (*affine[:2], 0.0, *affine[3:5], 0.0)
        depth, time = (
            step and replace(step, size=abs(step.size), start=0.0)
            for step in (self.depth, self.time)
        )
        return replace(self, affine=affine, depth=depth, time=time)

    def enlarged(self, scale: int) -> "World":
        """The same place for ``scale`` times the pixels along Y and X: all corners stay."""
        affine = self.affine
        if affine:
            a, b, c, d, e, f = affine
            affine = (a / scale, b / scale, c, d / scale, e / scale, f)
        points = [replace(p, row=p.row * scale, column=p.column * scale) for p in self.points]
        rpc = self.rpc and _rpc_enlarged(self.rpc, scale)
        return replace(self, affine=affine, points=tuple(points), rpc=rpc)


@dataclass(frozen=True, kw_only=True)
class Band:
    """One channel.

    Parameters
    ----------
    name : what the file calls it
    colour : "red", "green", "blue", "alpha", "gray" or "undefined", as GDAL names them
    tint : the colour in which it is shown, RRGGBB
    scale, offset, unit : what a number means, ``number * scale + offset``; never applied here
    own : what only this format knows, as its source leaves it for its sink
    """

    name: str | None = None
    colour: str = "undefined"
    tint: str | None = None
    scale: float = 1.0
    offset: float = 0.0
    unit: str | None = None
    own: Mapping[str, Any] = field(default_factory=dict)

    @property
    def scaled(self) -> bool:
        """Whether a number means another than itself, or has a unit."""
        return (self.scale, self.offset, self.unit) != (1, 0, None)


@dataclass(frozen=True, kw_only=True)
class Raster:
    """What is known of a raster before any of its pixels is read.

    Parameters
    ----------
    shape : along T, C, Z, Y, X
    dtype : of its numbers
    format : a name in `RASTERS`
    axes : those of the five that the file has
    name : what the file calls it
    bands : one for each of C
    nodata : the number that stands for "nothing was measured here"
    masked : whether the file says pixel by pixel which ones are valid, apart from their numbers
    bits : that are in use, where the file says that the type has more
    classes : whether its numbers are names, between which there is nothing: smaller levels hold
        some of them, and no means
    xmp : XMP packet, without srpipe's note
    own : what only this format knows, as its source leaves it for its sink
    record : where its numbers come from, as JSON, if srpipe made them
    notices : what a user should know about reading it
    """

    shape: Shape
    dtype: np.dtype
    format: str
    axes: str = AXES
    name: str | None = None
    bands: tuple[Band, ...] = ()
    world: World = World()
    nodata: float | None = None
    masked: bool = False
    bits: int | None = None
    classes: bool = False
    xmp: bytes | None = None
    own: Mapping[str, Any] = field(default_factory=dict)
    record: str | None = None
    notices: tuple[str, ...] = ()

    @property
    def nbytes(self) -> int:
        """What all its numbers take, unpacked."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def opacity(self) -> tuple[int, ...]:
        """Which bands say how opaque the others are."""
        return tuple(i for i, band in enumerate(self.bands) if band.colour == "alpha")

    def block(self, pixels: np.ndarray) -> "Block":
        """Numbers of a window, TCZYX, with which of them its nodata and its opacity leave valid."""
        valid = valid_of(pixels.swapaxes(1, 2), self.nodata, self.opacity)
        return Block(pixels, None if valid is None else valid.swapaxes(1, 2))

    def enlarged(self, scale: int) -> "Raster":
        """The same with ``scale`` times the pixels along Y and X."""
        t, c, z, y, x = self.shape
        shape = (t, c, z, y * scale, x * scale)
        world = self.world.enlarged(scale)
        xmp = self.xmp and enlarged_xmp(self.xmp, Fraction(scale), Fraction(scale))
        return replace(self, shape=shape, world=world, xmp=xmp, record=None, notices=())

    def converted(self, name: str) -> "Raster":
        """The same on its way into another format; what only its own one knows stays behind."""
        if name == self.format:
            return self
        bands = tuple(replace(band, own={}) for band in self.bands)
        return replace(self, format=name, own={}, bands=bands)


@dataclass(frozen=True)
class Block:
    """Numbers of a window, TCZYX, and which are valid; None where all are."""

    pixels: np.ndarray
    valid: np.ndarray | None = None


class RasterSource(Protocol):
    """A raster that can be read in parts, in any order."""

    @property
    def raster(self) -> Raster:
        """What it is."""

    def read(self, window: Window) -> Block:
        """A part of it.

        Raises
        ------
        MediaError
            If the file is damaged there.
        """

    def close(self) -> None:
        """Let go of the file."""


class RasterSink(Protocol):
    """A raster that grows block by block; it can be sent to the processes that make the blocks."""

    @property
    def grid(self) -> Grid:
        """The blocks; each is written once, whole, by whoever made it."""

    def begin(self) -> None:
        """Make the place for the blocks; what is there already stays."""

    def write(self, window: Window, block: Block) -> tuple[Path, ...]:
        """Put a block into its place, for good; where it is then."""

    def files(self, window: Window) -> tuple[Path, ...]:
        """Where a block is once it was written."""

    def close(self, record: str | None = None) -> None:
        """All blocks are there: finish the target.

        Parameters
        ----------
        record : where the numbers come from, as JSON; by default what `Raster` says
        """

    def abort(self) -> None:
        """Throw away all that was written."""


@contextmanager
def reading(path: Path, name: str) -> Iterator[None]:
    """Whatever a library raises or says over damaged bytes becomes one clear line.

    Raises
    ------
    MediaError
        Of any error that is not one of srpipe's own.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except SrpipeError:
        raise
    except MemoryError as error:
        raise MediaError(f"{path} does not fit into memory where it is packed") from error
    except Exception as error:
        lines = str(error.__cause__ or error).strip().splitlines()
        reason = lines[0] if lines else type(error).__name__
        raise MediaError(f"{path} is a damaged {name} ({reason}); fetch it again") from error


def check_raster(raster: Raster, path: Path, *, segment_bytes: int) -> None:
    """Refuse what is no image, what no memory holds, and what has no order.

    Raises
    ------
    MediaError
        In one line that says which.
    """
    kind, (_, _, _, height, width) = raster.dtype.kind, raster.shape
    if kind == "c":
        raise MediaError(
            f"{path} has complex numbers, which have no order; enlarge their amplitude instead"
        )
    if kind not in "uif":
        raise MediaError(f"{path} holds {raster.dtype} and no plain numbers; convert them first")
    if min(raster.shape) < 1:
        raise MediaError(f"{path} is empty ({width} x {height} px); fetch it again")
    if math.prod(raster.shape) > SAMPLES_MAX:
        raise MediaError(
            f"{path} claims an absurd {width} x {height} px, {math.prod(raster.shape[:3])} times;"
            " its header is damaged, or it is a decompression bomb"
        )
    if segment_bytes > SEGMENT_BYTES_MAX:
        raise MediaError(
            f"{path} is packed in pieces of {segment_bytes / 2**30:.1f} GiB, which must be"
            f" unpacked whole; store it in tiles of {TILE} px"
        )


def _cut(start: int, stop: int, length: int, side: int) -> Iterator[Range]:
    """The cells of ``[0, length)`` that share something with ``[start, stop)``."""
    for at in range(start // side * side, stop, side):
        yield at, min(at + side, length)


def _rpc_enlarged(rpc: Mapping[str, Any], scale: int) -> dict[str, Any]:
    """Coefficients for ``scale`` times the pixels; in their numbers pixel 0 has its centre at 0."""
    moved = {key: (rpc[key] + 0.5) * scale - 0.5 for key in ("line_off", "samp_off")}
    spread = {key: rpc[key] * scale for key in ("line_scale", "samp_scale")}
    return {**rpc, **moved, **spread}
