"""TIFF that is more than a picture: stacks, many bands, any number type, OME-TIFF, ImageJ's.

What comes out is an OME-TIFF, whatever kind came in: tiled, deflated, BigTIFF where it must be,
with a pyramid of area means in its SubIFDs. Every TIFF reader sees its pages; those that know OME
see axes, channels and physical sizes, too.
"""

import math
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from tifffile import COMPRESSION, PHOTOMETRIC

from srpipe.errors import ConfigError, MediaError
from srpipe.io import ome, xmp
from srpipe.io.pieces import Pieces, PieceSink, levels
from srpipe.io.raster import (
    TILE,
    Band,
    Block,
    Grid,
    Raster,
    Step,
    Window,
    World,
    check_raster,
    reading,
)
from srpipe.io.tiff import (
    BYTE,
    EXIF,
    GPS,
    KEPT,
    ORIENTATION,
    SHORT,
    TEXT,
    XMP,
    as_bytes,
    stays_ycbcr,
)

NAME = "TIFF"
KEPT_BYTES = 2**27  # of unpacked tiles, for windows that overlap
CLASSIC_BYTES_MAX = 2**32 - 2**25  # offsets have 32 bits; some room for tags
READABLE = (
    *(PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE),
    *(PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR),
)
PLAIN = ("shaped", "uniform", "generic")  # series that tifffile makes of pages no format explains
MADE = (271, 272, 315, 316, 33432)  # of tiff.SAID: camera, artist, computer, copyright
UNITS = {2: "inch", 3: "centimeter"}  # of the ResolutionUnit tag
PIXEL = "pixel"
RGBA = ("red", "green", "blue", "alpha")


class OmeTiffSource:
    """Read windows of the first image in a TIFF.

    Raises
    ------
    MediaError
        If it is damaged, its pages are of several kinds, or its pixels are classes, complex
        numbers or in other files.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._unpacked: OrderedDict[tuple[int, int], tuple] = OrderedDict()
        with reading(path, NAME):
            self._file = tifffile.TiffFile(path)
            try:
                self._file = _stacked(self._file, path)
                self._pages = _pages(self._file, path)
                self.raster = _described(self._file, self._pages, path)
            except BaseException:
                self._file.close()
                raise

    def read(self, window: Window) -> Block:
        """A part of it; NaN, infinity and what is transparent are invalid."""
        bands = self.raster.shape[1]
        pixels = np.empty(window.shape(bands), self.raster.dtype)
        samples = self._pages.samples
        with reading(self._path, NAME):
            for i, t in enumerate(range(*window.t)):
                for k, z in enumerate(range(*window.z)):
                    for c in range(bands // samples):
                        at = slice(c * samples, (c + 1) * samples)
                        pixels[i, at, k] = self._plane((t, c, z), window)
        return self.raster.block(pixels)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()
        self._unpacked.clear()

    def _plane(self, plane: tuple[int, int, int], window: Window) -> np.ndarray:
        """Part of one plane, (S, H, W)."""
        pages, y, x = self._pages, slice(*window.y), slice(*window.x)
        index = pages.index(plane)
        if pages.offset is not None:  # stored in a row, as they are: no need to unpack
            whole = np.memmap(self._path, pages.dtype, "r", pages.offset, shape=pages.shape)
            part = whole[(*index, *((y, x, ...) if pages.samples_last else (..., y, x)))]
        else:
            number = int(np.ravel_multi_index(index, pages.lead)) if pages.lead else 0
            return self._assembled(number, window)
        if pages.samples_last:
            return np.moveaxis(part, -1, 0)
        return part if part.ndim == 3 else part[None]

    def _assembled(self, number: int, window: Window) -> np.ndarray:
        key = self._pages.key
        shape = (self._pages.samples, *window.shape(1)[3:])
        out = np.zeros(shape, self.raster.dtype)
        (y0, y1), (x0, x1) = window.y, window.x
        for segment in _touched(key, window):
            data, (s, _, row, column, _), (_, height, width, depth) = self._segment(number, segment)
            top, bottom = max(row, y0), min(row + height, y1)
            left, right = max(column, x0), min(column + width, x1)
            if data is None or top >= bottom or left >= right:
                continue
            part = data[0, top - row : bottom - row, left - column : right - column]
            to = out[s : s + depth, top - y0 : bottom - y0, left - x0 : right - x0]
            to[:] = np.moveaxis(part, -1, 0)
        return out

    def _segment(self, number: int, segment: int) -> tuple:
        """One tile or strip, unpacked; the last ones are kept."""
        at = number, segment
        if at in self._unpacked:
            self._unpacked.move_to_end(at)
            return self._unpacked[at]
        page = self._pages.series.pages[number]
        if page is None:
            raise MediaError(f"{self._path} lacks plane {number} of its stack; fetch it again")
        key = self._pages.key
        offset, count = page.dataoffsets[segment], page.databytecounts[segment]
        handle = self._file.filehandle
        handle.seek(offset)
        data = handle.read(count)
        if len(data) < count:
            raise MediaError(f"{self._path} ends before plane {number} does; fetch it again")
        tables = {}
        if key.compression in (COMPRESSION.OJPEG, COMPRESSION.JPEG):
            tables = {"jpegtables": page.jpegtables}
        self._unpacked[at] = key.decode(data or None, segment, **tables)
        bound = max(2, KEPT_BYTES // max(_segment_bytes(key), 1))
        while len(self._unpacked) > bound:
            self._unpacked.popitem(last=False)
        return self._unpacked[at]


@dataclass(frozen=True)
class _Pages:
    """How the planes of a raster lie in the pages of a file.

    Parameters
    ----------
    roles : for each axis before the page's own, which of T, C and Z it is
    """

    series: Any
    roles: str
    offset: int | None
    dtype: np.dtype

    @property
    def key(self) -> Any:
        """The page that all others are like."""
        return self.series.keyframe

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array as stored."""
        return self.series.shape

    @property
    def lead(self) -> tuple[int, ...]:
        """Of the axes before the page's own."""
        return self.shape[: len(self.roles)]

    @property
    def samples(self) -> int:
        """Bands in one page."""
        axes = self.key.axes
        return self.key.shape[axes.index("S")] if "S" in axes else 1

    @property
    def samples_last(self) -> bool:
        """Whether the bands of a pixel lie together."""
        return self.key.axes.endswith("S")

    def size(self, role: str) -> int:
        """How many planes there are along T, C or Z."""
        return self.lead[self.roles.index(role)] if role in self.roles else 1

    def index(self, plane: tuple[int, int, int]) -> tuple[int, ...]:
        """Where plane t, c, z is."""
        at = dict(zip("TCZ", plane, strict=True))
        return tuple(at[role] for role in self.roles)


def check(raster: Raster) -> None:
    """See that a raster can be an OME-TIFF, without losing where it lies.

    Raises
    ------
    ConfigError
        If it cannot.
    """
    if raster.dtype.name not in ome.DTYPES:
        raise ConfigError(f"OME-TIFF has no {raster.dtype} numbers; write .ome.zarr")
    affine = raster.world.affine
    if raster.world.mapped or raster.world.turned:
        raise ConfigError("OME-TIFF cannot say where on the ground its pixels lie; write .tif")
    if affine and min(affine[0], affine[4]) <= 0:
        raise ConfigError("OME-TIFF cannot say that rows or columns run backwards; write .ome.zarr")
    if raster.nodata is not None or raster.masked:
        raise ConfigError("OME-TIFF cannot say which of its pixels are valid; write .tif")


def sink(part: Path, raster: Raster, grid: Grid, scratch: Path) -> PieceSink:
    """Write an OME-TIFF with its pyramid."""
    check(raster)
    return PieceSink(part, raster, grid, scratch, assemble)


def assemble(part: Path, raster: Raster, pixels: Pieces, mask: Pieces | None) -> None:
    """Make an OME-TIFF of pieces, level after level, in the order of its pages."""
    count = levels(*raster.shape[3:], TILE)
    samples = raster.own.get("samples", 1)
    photometric = raster.own.get("photometric") or ("rgb" if samples > 2 else "minisblack")
    extra = samples - 3 if photometric == "rgb" else samples - 1
    with tifffile.TiffWriter(
        part, bigtiff=raster.nbytes * 4 / 3 > CLASSIC_BYTES_MAX, byteorder="<", ome=False
    ) as file:
        level = pixels
        for number in range(count):
            first = number == 0
            t, c, z, y, x = level.grid.shape
            pages = (t * (c // samples) * z, y, x)
            tile = _tile(y), _tile(x)
            file.write(
                _tiles(level, tile, samples),
                shape=pages if samples == 1 else (*pages, samples),
                dtype=raster.dtype,
                tile=tile,
                photometric=photometric,
                planarconfig=None if samples == 1 else "contig",
                extrasamples=[raster.own.get("extra", 0)] * extra or None,
                compression="ADOBE_DEFLATE",
                predictor=True,
                subifds=count - 1 if first else None,
                subfiletype=0 if first else 1,
                description=ome.written(raster, samples, raster.own.get("xml")) if first else None,
                metadata=None,
                software=False,
                maxworkers=1,
                buffersize=KEPT_BYTES // 4,
                iccprofile=raster.own.get("icc") if first else None,
                extratags=list(_extra(raster)) if first else (),
                **(_resolution(raster.world) if first else {}),
            )
            if number + 1 < count:
                level = level.halved(f"level-{number + 1}", classes=raster.classes)


def _stacked(file: tifffile.TiffFile, path: Path) -> tifffile.TiffFile:
    """The file; pages that are alike are one stack in it, though they were written one by one."""
    apart = _whole(file)
    if len(apart) == 1 or apart[0].kind != "shaped":
        return file
    with tifffile.TiffFile(path, is_shaped=False) as again:
        complete = sum(s.size for s in _whole(again)) == sum(s.size for s in apart)
    if not complete:  # some of its pixels are in no page
        return file
    file.close()
    return tifffile.TiffFile(path, is_shaped=False)


def _whole(file: tifffile.TiffFile) -> list[Any]:
    """The images in it, but for smaller copies and masks of others."""
    every: Any = file.series
    whole = [s for s in every if not (s.keyframe.is_reduced or s.keyframe.is_mask)]
    return whole or every[:1]


def _pages(file: tifffile.TiffFile, path: Path) -> _Pages:
    whole = _whole(file)
    series = whole[0]
    if len(whole) > 1 and series.kind in PLAIN:
        raise MediaError(
            f"{path} has pages that differ in size, colours or number type, and a stack has one of"
            " each; split it into a file for each kind"
        )
    key = series.keyframe
    own, photometric = key.axes, key.photometric
    if photometric == PHOTOMETRIC.PALETTE:
        raise MediaError(f"{path} has a palette, which stacks may not; convert it to grey or RGB")
    if photometric not in READABLE or stays_ycbcr(key):
        raise MediaError(f"{path} holds {photometric.name}; convert it to grey or RGB")
    if key.bitspersample % 8 or key.dtype is None:
        raise MediaError(f"{path} has numbers of {key.bitspersample} bits; convert them to 8 or 16")
    if own not in ("YX", "YXS", "SYX") or not series.axes.endswith(own):
        raise MediaError(f"{path} has axes {series.axes}, of which srpipe knows T, C, Z, Y, X, S")
    roles = _roles(series.axes[: len(series.axes) - len(own)], path)
    dtype = np.dtype(series.dtype).newbyteorder(file.byteorder)
    offset = series.dataoffset
    if offset is not None and offset + series.nbytes > path.stat().st_size:
        raise MediaError(f"{path} ends before its last pixel; fetch it again")
    return _Pages(series, roles, offset, dtype)


def _roles(axes: str, path: Path) -> str:
    """Which of T, C and Z each axis is; an unnamed one (Q, I) is Z, or else T, two are T and Z."""
    unnamed = sum(axis not in "TCZ" for axis in axes)
    free = [role for role in "TZ" if role not in axes][-unnamed:]  # targets have T outside of Z
    roles = ""
    for axis in axes:
        role = axis if axis in "TCZ" else (free.pop(0) if free else "")
        if not role or role in roles:
            raise MediaError(f"{path} has axes {axes} before its planes; srpipe knows T, C and Z")
        roles += role
    return roles


def _described(file: tifffile.TiffFile, pages: _Pages, path: Path) -> Raster:
    samples, key = pages.samples, pages.key
    height, width = (key.shape[key.axes.index(axis)] for axis in "YX")
    shape = (pages.size("T"), pages.size("C") * samples, pages.size("Z"), height, width)
    root = ome.described(str(file.ome_metadata), path) if file.is_ome else None
    imagej = _imagej(file)
    bands = _bands(file, pages, root)
    world, unknown = _world(file, pages, root)
    packet = as_bytes(key.tags.valueof(XMP))
    raster = Raster(
        shape=shape,
        dtype=np.dtype(pages.dtype.name),  # in this machine's order, and of its usual type
        format="ometiff",
        axes="".join(a for a in "TCZ" if a in pages.roles or (a == "C" and samples > 1)) + "YX",
        name=ome.name(root) if root is not None else None,
        bands=bands,
        world=world,
        bits=ome.significant_bits(ome.pixels_of(root)) if root is not None else None,
        xmp=packet and xmp.bare(packet),
        own={
            "xml": file.ome_metadata if root is not None else None,
            "samples": samples if key.photometric in (PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR) else 1,
            "photometric": "miniswhite" if key.photometric == PHOTOMETRIC.MINISWHITE else None,
            "extra": int(key.extrasamples[0]) if key.extrasamples else 0,
            "description": _description(file, key, root),
            "labels": any(imagej.get("Labels", ())) and not any(band.name for band in bands),
            "calibration": "cf" in imagej,
            **_said(key),
        },
        record=ome.record(root) if root is not None else xmp.note_in(packet),
        notices=tuple(f"{path}: {words}" for words in _notices(file, root, unknown)),
    )
    unpacked = 0 if pages.offset is not None else _segment_bytes(key)
    check_raster(raster, path, segment_bytes=unpacked)
    return raster


def _notices(file: tifffile.TiffFile, root: Any, unknown: set[str]) -> Iterator[str]:
    images = len(_whole(file)) if root is None else ome.images(root)
    if images > 1:
        yield f"only the first of its {images} images is enlarged"
    drawn = _imagej(file).keys() & {"ROI", "Overlays"}
    if drawn or (root is not None and any(element.tag.endswith("}ROI") for element in root)):
        yield "its regions of interest would no longer fit, and are left out"
    for sizes in sorted(unknown):
        yield f"its {sizes} are left out; srpipe knows no such unit"


def _imagej(file: Any) -> dict[str, Any]:
    """What ImageJ says of it, where no OME-XML does."""
    return {} if file.is_ome else file.imagej_metadata or {}


def _description(file: tifffile.TiffFile, key: Any, root: Any) -> str | None:
    """What it is in somebody's words, and not in those of a format."""
    if root is not None:
        return ome.description(root)
    if said := _imagej(file):
        return said.get("Info")
    return None if key.is_shaped else key.description


def _said(key: Any) -> dict[str, Any]:
    """What tags say of how it is shown and who made it."""
    said = {"icc": key.iccprofile}
    if (way_up := key.tags.valueof(ORIENTATION)) in range(1, 9):
        said["orientation"] = way_up
    texts = {code: key.tags.valueof(code) for code in MADE}
    said["texts"] = {code: value for code, value in texts.items() if isinstance(value, str)}
    said["kept"] = [(t.code, t.dtype, t.count, t.value) for t in key.tags if t.code in KEPT]
    said["exif"] = any(key.tags.get(code) for code in (EXIF, GPS))
    return {name: value for name, value in said.items() if value}


def _bands(file: Any, pages: _Pages, root: Any) -> tuple[Band, ...]:
    channels, samples = pages.size("C"), pages.samples
    named = list(ome.channels(ome.pixels_of(root))) if root is not None else []
    if (said := _imagej(file)) and samples == 1:
        one_each = pages.size("T") * pages.size("Z") == 1  # slice for each channel
        names = [label or None for label in said.get("Labels", [])] if one_each else []
        found = zip_longest(names, _tints(said.get("LUTs", [])))
        named = [Band(name=name, tint=tint) for name, tint in found]
    named = (named + [Band()] * channels)[:channels]
    coloured = pages.key.photometric in (PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR)
    if not coloured or samples < 3:
        return tuple(band for band in named for _ in range(samples))
    colours = (*RGBA[: 4 if pages.key.extrasamples else 3], *["undefined"] * samples)[:samples]
    return tuple(
        Band(name=band.name, tint=band.tint, colour=colour) for band in named for colour in colours
    )


def _tints(tables: list[np.ndarray]) -> list[str]:
    """The brightest colour of each of ImageJ's lookup tables (3, 256)."""
    return ["".join(f"{int(v):02X}" for v in table[:, -1]) for table in tables]


def _world(file: Any, pages: _Pages, root: Any) -> tuple[World, set[str]]:
    """Where the pixels lie, and what else the file says of it, in units that nobody knows."""
    if root is not None:
        return ome.world(ome.pixels_of(root)), set()
    tags = pages.key.tags
    said = _imagej(file)
    usual = said.get("unit") or UNITS.get(tags.valueof(296), PIXEL)
    x, y = tags.valueof(282), tags.valueof(283)
    sizes = {"X": x[1] / x[0], "Y": y[1] / y[0]} if x and y and all((*x, *y)) else {}
    sizes |= {"Z": said.get("spacing"), "T": said.get("finterval")}
    steps, unknown = {}, set()
    for axis in (axis for axis in sizes if sizes[axis] and axis in f"{pages.roles}YX"):
        kind, known = ("times", ome.TIMES) if axis == "T" else ("lengths", ome.LENGTHS)
        name = str(said.get(f"{axis.lower()}unit") or ("sec" if axis == "T" else usual))
        unit = ome.unit_of(name, known)
        if unit or name in (PIXEL, f"{PIXEL}s"):
            steps[axis] = Step(size=float(sizes[axis]), unit=unit)
        else:
            unknown.add(f"{kind} in {name}")
    world = World(depth=steps.get("Z"), time=steps.get("T"))
    if {"Y", "X"} <= steps.keys() and (world.depth or steps["Y"].unit or steps["X"].unit):
        affine = (steps["X"].size, 0.0, 0.0, 0.0, steps["Y"].size, 0.0)
        world = replace(world, affine=affine, units=(steps["Y"].unit, steps["X"].unit))
    return world, unknown


def _resolution(world: World) -> dict[str, Any]:
    """Pixels per centimetre, for readers that know no OME."""
    centimetres = {"nanometer": 1e-7, "micrometer": 1e-4, "millimeter": 0.1, "centimeter": 1.0}
    centimetres["inch"] = 2.54
    with suppress(KeyError):
        y, x = (centimetres[str(unit)] for unit in world.units)
        if world.affine:
            size = world.affine[0] * x, world.affine[4] * y
            return {"resolution": (1 / size[0], 1 / size[1]), "resolutionunit": "CENTIMETER"}
    return {}


def _extra(raster: Raster) -> Iterator[tuple[int, int, int, Any, bool]]:
    """Tags as tifffile takes them: code, type, count, value, and whether on the first page only."""
    if way_up := raster.own.get("orientation"):
        yield ORIENTATION, SHORT, 1, way_up, True
    if raster.xmp:
        yield XMP, BYTE, len(raster.xmp), raster.xmp, True
    for code, text in raster.own.get("texts", {}).items():
        yield code, TEXT, 0, text.encode(), True
    for tag in raster.own.get("kept", ()):
        yield *tag, True


def _tile(length: int) -> int:
    return min(TILE, -(-length // 16) * 16)


def _tiles(level: Pieces, tile: tuple[int, int], samples: int) -> Iterator[np.ndarray]:
    """All tiles in the order of the file, those at the edges filled up with zeros."""
    t, c, z, height, width = level.grid.shape
    corners = [(y, x) for y in range(0, height, tile[0]) for x in range(0, width, tile[1])]
    for at in np.ndindex(t, c // samples, z):
        for y, x in corners:
            rows, columns = (y, min(y + tile[0], height)), (x, min(x + tile[1], width))
            window = Window((at[0], at[0] + 1), (at[2], at[2] + 1), rows, columns)
            full = np.zeros((*tile, samples), level.dtype)
            for i in range(samples):
                part = level.read(window, at[1] * samples + i)[0, 0, 0]
                full[: part.shape[0], : part.shape[1], i] = part
            yield full if samples > 1 else full[..., 0]


def _touched(key: Any, window: Window) -> Iterator[int]:
    """The tiles or strips of a page that share pixels with a window."""
    axes, ranges = key.axes, []
    sizes = (1,) * (len(axes) - len(key.chunks)) + tuple(key.chunks)  # planes have no third one
    for axis, count, size in zip(axes, key.chunked, sizes, strict=True):
        if axis == "S":
            ranges.append(range(count))
        else:
            start, stop = window.y if axis == "Y" else window.x
            ranges.append(range(start // size, min(-(-stop // size), count)))
    for at in np.ndindex(*(len(r) for r in ranges)):
        cell = [r[i] for r, i in zip(ranges, at, strict=True)]
        yield int(np.ravel_multi_index(cell, key.chunked))


def _segment_bytes(key: Any) -> int:
    return math.prod(key.chunks) * key.dtype.itemsize
