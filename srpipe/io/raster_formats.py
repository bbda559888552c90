"""Which files are rasters rather than pictures, and what reads and writes them.

A TIFF is a picture if it is one page of 8 or 16 bits, grey, RGB or palette, maybe with alpha, that
fits into memory. It is a raster if its tags or a file beside it put it on a map (GeoTIFF), or its
tags under a microscope (OME, ImageJ), or if it has more pages, more bands, other numbers, or more
pixels than a picture.
"""

import os
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import tifffile

from srpipe.errors import ConfigError, MediaError
from srpipe.io.beside import sidecars
from srpipe.io.picture import PIXELS_MAX
from srpipe.io.raster import Grid, Raster, RasterSink, RasterSource, reading
from srpipe.io.tiff import COLOURED, GEO, GREY, first_page

RPC = 50844
ZARR = ("zarr.json", ".zattrs", ".zgroup", ".zarray")
PICTURE_SUFFIXES = (".tif", ".tiff")
UNTOLD = {"AREA_OR_POINT", "TIFFTAG_SOFTWARE"}  # tags of GDAL that are about the old file alone
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@dataclass(frozen=True, kw_only=True)
class RasterFormat:
    """What can be said of a raster format before a file of it is opened.

    Parameters
    ----------
    title : its name
    suffixes : how its files are named; the first one is the usual one
    module, source : what reads it; the module's `sink` writes it, and its `check` refuses
    extra : what brings the package it needs, and how that is called
    origin : whether it can say where the first pixel lies, and that planes run backwards
    xmp : whether it has room for an XMP packet
    meaning : whether it can say what a number means, by its scale, offset and unit
    """

    title: str
    suffixes: tuple[str, ...]
    module: str
    source: str
    extra: tuple[str, str] | None = None
    origin: bool = True
    xmp: bool = True
    meaning: bool = False


RASTERS: dict[str, RasterFormat] = {
    "ometiff": RasterFormat(
        title="OME-TIFF",
        suffixes=(".ome.tif", ".ome.tiff", ".tif", ".tiff"),
        module="ometiff",
        source="OmeTiffSource",
        origin=False,
    ),
    "geotiff": RasterFormat(
        title="GeoTIFF",
        suffixes=(".tif", ".tiff"),
        module="geotiff",
        source="GeoTiffSource",
        extra=("geo", "rasterio"),
        meaning=True,
    ),
    "omezarr": RasterFormat(
        title="OME-Zarr",
        suffixes=(".ome.zarr", ".zarr"),
        module="omezarr",
        source="OmeZarrSource",
        extra=("bio", "zarr"),
        xmp=False,
    ),
}


def raster_format(path: Path) -> str | None:
    """The name in `RASTERS` of the format that a file has; None if it is no raster.

    Raises
    ------
    MediaError
        If it is a damaged TIFF, or a Zarr in a ZIP.
    """
    if os.path.isdir(path):  # no errors, unlike Path
        zarr = any(os.path.exists(path / name) for name in ZARR) or path.suffix == ".zarr"
        return "omezarr" if zarr else None
    if path.name.endswith((".zarr.zip", ".ozx")):
        raise MediaError(f"{path} is a Zarr in a ZIP; unzip it first")
    if not _is_tiff(path):
        return None
    with reading(path, "TIFF"), tifffile.TiffFile(path) as tiff:
        return _tiff_format(tiff, path)


def names_a_raster(target: Path) -> bool:
    """Whether a file of this name holds a raster, even where what goes into it is a picture."""
    endings = (s for known in RASTERS.values() for s in known.suffixes)
    return target.name.lower().endswith(tuple(s for s in endings if s not in PICTURE_SUFFIXES))


def target_format(target: Path, raster: Raster) -> str:
    """The name in `RASTERS` of the format in which a raster goes into a file of this name.

    A ``.tif`` is a GeoTIFF if the raster came from one, and an OME-TIFF else.

    Raises
    ------
    ConfigError
        If no raster is named so.
    """
    name = target.name.lower()
    named = [key for key, known in RASTERS.items() if name.endswith(known.suffixes)]
    if not named:
        suffixes = ", ".join(dict.fromkeys(known.suffixes[0] for known in RASTERS.values()))
        raise ConfigError(f"{target} is no name for a raster; end it in {suffixes}")
    if raster.format in named and not name.endswith((".ome.tif", ".ome.tiff")):
        return raster.format
    return named[0]


def as_held(raster: Raster, name: str) -> Raster:
    """A raster on its way into a format, without what that cannot say; see `left_out`."""
    held = raster.converted(name)
    return held if RASTERS[name].origin else replace(held, world=held.world.at_zero)


def left_out(raster: Raster, name: str) -> list[str]:
    """Notices of what a format cannot say of a raster that can do without it."""
    words = {"icc": "its colour profile", "orientation": "which way up it is shown"}
    words |= {"description": "its description", "texts": "who made it, and with what,"}
    words |= {"kept": "its IPTC or Photoshop record", "white_at_0": "that its 0 is white"}
    words |= {"attributes": "what its other attributes say"}
    lost = [words[key] for key in words if raster.own.get(key) and name != raster.format]
    never = {"exif": "its EXIF", "labels": "how its slices are labelled"}
    never |= {"calibration": "what its numbers mean (calibration)"}
    lost += [never[key] for key in never if raster.own.get(key)]
    spaces = raster.own.get("tags", {}), *(band.own for band in raster.bands)
    tags = {tag for each in spaces for said in each.values() for tag in said}
    if name != raster.format and tags - UNTOLD:
        lost.append("what its tags say")
    if raster.xmp and not RASTERS[name].xmp:
        lost.append("its XMP")
    if not RASTERS[name].meaning and any(band.scaled for band in raster.bands):
        lost.append("what its numbers mean (scale, offset, unit)")
    world = raster.world
    a, _, x, _, e, y = world.affine or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    steps = [step for step in (world.depth, world.time) if step]
    starts = [step.start for step in steps]
    usual = (x, y) in ((0, 0), (-a / 2, -e / 2)) and not any(starts)  # a corner or centre at 0
    if not (RASTERS[name].origin or usual):
        lost.append(f"where its first pixel lies (x {x:g}, y {y:g})")
    if not RASTERS[name].origin and any(step.size < 0 for step in steps):
        lost.append("that its planes run backwards")
    return [f"{what} is left out of {RASTERS[name].title}" for what in lost]


def raster_suffix(path: Path) -> str:
    """The ending of a raster's name as it is written there, such as ``.ome.tif``.

    That of its format where it has none of a raster.
    """
    name = path.name.lower()
    suffixes = [s for known in RASTERS.values() for s in known.suffixes if name.endswith(s)]
    if suffixes:
        return path.name[-max(map(len, suffixes)) :]
    found = raster_format(path)
    return RASTERS[found].suffixes[0] if found else path.suffix


def open_raster(path: Path) -> RasterSource:
    """Open a raster, to be read in windows; a TIFF that is a picture is one of one plane here.

    Raises
    ------
    MediaError
        If it is none, or damaged.
    ConfigError
        If a package is missing.
    """
    name = raster_format(path) or ("ometiff" if _is_tiff(path) else None)
    if name is None:
        raise MediaError(f"{path} is no raster; {_titles()} are")
    source: RasterSource = getattr(_module(name), RASTERS[name].source)(path)
    return source


def open_sink(name: str, part: Path, raster: Raster, grid: Grid, scratch: Path) -> RasterSink:
    """What takes the blocks of a raster and makes a file of this format of them.

    Parameters
    ----------
    part : what is written; it gets its final name from the caller
    raster, grid : of the target
    scratch : a folder beside it for what must wait

    Raises
    ------
    ConfigError
        If the format cannot hold the raster, or a package is missing.
    """
    sink: RasterSink = _module(name).sink(part, raster.converted(name), grid, scratch)
    return sink


def _module(name: str) -> Any:
    known = RASTERS[name]
    try:
        return import_module(f"srpipe.io.{known.module}")
    except ImportError as error:
        if known.extra is None or error.name != known.extra[1]:
            raise
        extra, package = known.extra
        raise ConfigError(
            f"{known.title} needs {package}, which is not installed; pip install 'srpipe[{extra}]'"
        ) from error


def _titles() -> str:
    return ", ".join(known.title for known in RASTERS.values())


def _is_tiff(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) in TIFF_STARTS
    except OSError as error:
        raise MediaError(
            f"{path} cannot be read: {error.strerror}; check its name and rights"
        ) from error


def _tiff_format(file: tifffile.TiffFile, path: Path) -> str | None:
    pages: Any = file.pages
    if not len(pages):
        raise ValueError("it ends before its first page")
    first = first_page(file)
    if any(first.tags.get(tag) for tag in (*GEO, RPC)) or any(sidecars(path)):
        return "geotiff"
    if file.is_ome or file.is_imagej:
        return "ometiff"
    whole = 0
    for page in pages:
        if page.is_mask:
            return "geotiff"  # GDAL knows what it hides
        whole += not page.is_reduced
        if whole > 1:
            return "ometiff"
    return None if _is_picture(first) else "ometiff"


def _is_picture(page: Any) -> bool:
    palette = page.photometric == tifffile.PHOTOMETRIC.PALETTE
    colours = 1 if page.photometric in GREY or palette else 3
    plain = (page.dtype, page.bitspersample) in (("uint8", 8), ("uint16", 16))
    return (
        (plain or palette)
        and page.photometric in (*COLOURED, *GREY)
        and page.samplesperpixel - colours in (0, 1)
        and page.imagelength * page.imagewidth <= PIXELS_MAX
    )
