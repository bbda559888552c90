"""GeoTIFF through GDAL (rasterio): reads any, writes cloud-optimised ones (COG).

A COG is a GeoTIFF whose tiles and overviews lie in the order in which they are looked at. It can
only be written with all pixels at hand: so the pieces become a tiled BigTIFF first, and that a COG.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
import tifffile
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import RasterioError
from rasterio.rpc import RPC

from srpipe.errors import ConfigError, MediaError, TargetError
from srpipe.io import xmp
from srpipe.io.beside import gdals_own, names_classes
from srpipe.io.pieces import Pieces, PieceSink, levels
from srpipe.io.raster import (
    RECORD,
    TILE,
    Band,
    Block,
    Grid,
    GroundPoint,
    Raster,
    Window,
    World,
    check_raster,
    reading,
)
from srpipe.validity import holds

NAME = "GeoTIFF"
CACHE_BYTES = 2**26  # GDAL would take 5 % of the memory, in each process
GDAL_METADATA, GDAL_NODATA, XMP, TIE_POINTS = 42112, 42113, 700, 33922
WIDE = ("int64", "uint64")
XMP_SPACE = "xml:XMP"
ROOM = "srpipe_room"
GEO_KEYS, MODEL, KEYS_OF_CRS = 34735, 1024, (2048, 3072, 4096)
PAST = ("STATISTICS_",)
PRINT = {"TIFFTAG_XRESOLUTION": "width", "TIFFTAG_YRESOLUTION": "height"}
"""Pixels along an inch or a centimetre, and the side that says how many there are in all."""

MASKS = (MaskFlags.all_valid, MaskFlags.per_dataset, MaskFlags.alpha, MaskFlags.nodata)
OF_THE_FILE = ("IMAGE_STRUCTURE", "DERIVED_SUBDATASETS", "SUBDATASETS", "RPC", "rio_creation_kwds")
DTYPES = (
    *("uint8", "uint16", "uint32", "uint64", "float32"),
    *("int8", "int16", "int32", "int64", "float64"),
)


class GeoTiffSource:
    """Read windows of a GeoTIFF.

    Raises
    ------
    MediaError
        If it is damaged, or has what a larger raster cannot: a palette, several subdatasets,
        geolocation arrays, complex numbers.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with reading(path, NAME), _environment():
            self._file = rasterio.open(path, driver="GTiff")
            try:
                self.raster = _described(self._file, path)
            except BaseException:
                self._file.close()
                raise

    def read(self, window: Window) -> Block:
        """A part of it; what is transparent or masked is as invalid as nodata."""
        at = _place(window)
        with reading(self._path, NAME), _environment():
            pixels = self._file.read(window=at)
            mask = self._file.read_masks(1, window=at) if self.raster.masked else None
        block = self.raster.block(pixels[None, :, None])
        if mask is None or mask.all():
            return block
        valid = np.ones(block.pixels.shape, bool) if block.valid is None else block.valid
        return Block(block.pixels, valid & (mask != 0))

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def check(raster: Raster) -> None:
    """See that a raster can be a GeoTIFF.

    Raises
    ------
    ConfigError
        If it cannot.
    """
    t, _, z, _, _ = raster.shape
    if t * z > 1:
        raise ConfigError(
            f"GeoTIFF has no stacks, and this one has {t * z} planes; write .ome.zarr or .ome.tif"
        )
    if any(raster.world.units):
        raise ConfigError(
            f"GeoTIFF cannot say how many {raster.world.units[1]}s a pixel has; write .ome.zarr or"
            " .ome.tif"
        )
    if raster.dtype.name not in DTYPES:
        raise ConfigError(f"GeoTIFF has no {raster.dtype} numbers; write .ome.zarr")
    for crs in filter(None, (raster.world.crs, raster.world.points_crs)):
        if not _has_keys(crs):
            raise ConfigError(
                f"GeoTIFF has no tags for this coordinate system, {crs.partition(',')[0]}]; warp"
                " the raster into another one first (gdalwarp -t_srs EPSG:...)"
            )


def sink(part: Path, raster: Raster, grid: Grid, scratch: Path) -> PieceSink:
    """Write a COG."""
    check(raster)
    return PieceSink(part, raster, grid, scratch, assemble)


def assemble(part: Path, raster: Raster, pixels: Pieces, mask: Pieces | None) -> None:
    """Make a COG of pieces: a tiled file of the same numbers, then its reordered copy.

    A copy by GDAL (3.10) loses the tags of bands or those in other name spaces. So it gets some
    room among its tags, and then all of them into it.
    """
    whole = pixels.folder / "whole.tif"
    _, bands, _, height, width = raster.shape
    count = levels(height, width, TILE)
    coloured = [band.colour for band in raster.bands[:3]] == ["red", "green", "blue"]
    packed: dict[str, Any] = {"tiled": True, "blockxsize": TILE, "blockysize": TILE}
    grey = "miniswhite" if raster.own.get("white_at_0") else "minisblack"
    packed["photometric"] = "rgb" if coloured else grey  # GDAL would guess from the count
    if raster.own.get("premultiplied"):
        packed["alpha"] = "premultiplied"
    nodata, wide = _nodata(raster), raster.dtype.name in WIDE
    with _writing(part), _environment():
        with rasterio.open(
            *(whole, "w"),
            driver="GTiff",
            height=height,
            width=width,
            count=bands,
            dtype=raster.dtype.name,
            nodata=0 if wide and nodata is not None else nodata,  # see `_retell_nodata`
            bigtiff="yes",
            **packed,
        ) as file:
            _tell(file, raster)
            for window in pixels.grid:
                file.write(pixels.read(window)[0, :, 0], window=_place(window))
                if mask:
                    file.write_mask(mask.read(window)[0, 0, 0], window=_place(window))
        if wide and nodata is not None:
            _retell_nodata(whole, int(nodata))
        said = _metadata(whole)
        with rasterio.open(whole, "r+") as file:
            if said:
                file.update_tags(**{ROOM: " " * len(said)})
            if count > 1:
                file.build_overviews([2**i for i in range(1, count)], _resampling(raster))
        rasterio.shutil.copy(
            *(whole, part),
            driver="GTiff",
            copy_src_overviews=True,
            compress="deflate",
            predictor=3 if raster.dtype.kind == "f" else 2,
            bigtiff="if_safer",
            **packed,
        )
        _retell(part, said, raster)
    whole.unlink()


def _has_keys(crs: str) -> bool:
    """Whether GDAL finds a coordinate system, as WKT, again in the tags that it writes for it."""
    wanted = rasterio.CRS.from_wkt(crs)
    shape: dict[str, Any] = {"width": 1, "height": 1, "count": 1, "dtype": "uint8"}
    with (
        warnings.catch_warnings(action="ignore"),
        rasterio.Env(GDAL_PAM_ENABLED=False),  # nothing beside the file, which nobody would see
        rasterio.MemoryFile() as memory,
    ):
        with memory.open(driver="GTiff", crs=wanted, **shape):
            pass
        with memory.open() as file:
            found = file.crs
    return bool(found) and _is_local(found) == _is_local(wanted)


def _is_local(crs: rasterio.CRS) -> bool:
    """Whether it is no more than a name and a unit, as which GDAL writes some that it has not."""
    return bool(crs.to_wkt().startswith("LOCAL_CS"))


def _environment() -> AbstractContextManager[Any]:
    return rasterio.Env(
        GDAL_CACHEMAX=CACHE_BYTES, GDAL_TIFF_INTERNAL_MASK=True, GDAL_PAM_ENABLED=True
    )


@contextmanager
def _writing(part: Path) -> Iterator[None]:
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except RasterioError as error:
        raise TargetError(
            f"{part} cannot be written: {error.__cause__ or error}; make room, or use -o"
        ) from error


def _place(window: Window) -> Any:
    return rasterio.windows.Window.from_slices(window.y, window.x)


def _described(file: Any, path: Path) -> Raster:
    dtypes = set(file.dtypes)
    if len(dtypes) > 1:
        raise MediaError(f"{path} has bands of {', '.join(sorted(dtypes))}; save them apart")
    _refuse(file, path)
    bands = tuple(_band(file, i) for i in file.indexes)
    flags = file.mask_flag_enums[0]
    left = sorted(space for space in file.tag_namespaces() if _is_xml(space))
    packet = file.tags(ns=XMP_SPACE).get(XMP_SPACE, "").encode()
    raster = Raster(
        shape=(1, file.count, 1, file.height, file.width),
        dtype=np.dtype(file.dtypes[0].replace("complex_int16", "complex64")),
        format="geotiff",
        axes="CYX" if file.count > 1 else "YX",
        bands=bands,
        world=_world(file, path),
        nodata=_nodata_in(file, path),
        masked=MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags,
        bits=_bits(file),
        xmp=xmp.bare(packet) or None,
        own={
            "tags": _tags(file),
            "white_at_0": _white_at_0(file),
            "premultiplied": any(b.colour == "alpha" for b in bands) and _premultiplied(path),
            "print": _print(file),
        },
        record=file.tags().get(RECORD) or xmp.note_in(packet),
        notices=tuple(f"{space}, which lies beside the file, is left out" for space in left),
    )
    height, width = file.block_shapes[0]
    together = file.count if file.interleaving.value == "PIXEL" else 1
    segment = height * width * together * raster.dtype.itemsize
    check_raster(raster, path, segment_bytes=segment)
    return raster


def _refuse(file: Any, path: Path) -> None:
    if file.subdatasets:
        raise MediaError(
            f"{path} holds {len(file.subdatasets)} rasters; split it, such as with gdal_translate"
        )
    if "GEOLOCATION" in file.tag_namespaces():
        raise MediaError(
            f"{path} is placed by geolocation arrays, which would not fit a larger raster; warp it"
            " first (gdalwarp -geoloc)"
        )
    if any(ColorInterp.palette == colour for colour in _colours(file)):
        raise MediaError(
            f"{path} has a palette: its numbers are names of classes, between which there is"
            " nothing; expand it first (rio convert, gdal_translate -expand rgb)"
        )
    if names_classes(path):
        raise MediaError(
            f"{gdals_own(path)} names classes: the numbers of {path.name} are their numbers,"
            " between which there is nothing; remove it if they are measurements"
        )
    numbers = {None if n is None else float(n) for n in file.nodatavals}
    if len(numbers) > 1 and not all(n is not None and np.isnan(n) for n in numbers):
        listed = ", ".join("none" if n is None else f"{n:g}" for n in file.nodatavals)
        raise MediaError(
            f"{path} has another nodata number for each band ({listed}), and a GeoTIFF holds one;"
            " give all bands one, or save them apart (gdal_translate -b)"
        )
    if not all(any(flag in MASKS for flag in flags) for flags in file.mask_flag_enums):
        raise MediaError(
            f"{path} has a mask for each band, and srpipe keeps one for all; save them apart"
            " (gdal_translate -b)"
        )


def _band(file: Any, i: int) -> Band:
    return Band(
        name=file.descriptions[i - 1],
        colour=_colours(file)[i - 1].name,
        scale=file.scales[i - 1],
        offset=file.offsets[i - 1],
        unit=file.units[i - 1] or None,
        own=_tags(file, i),
    )


def _white_at_0(file: Any) -> bool:
    return bool(file.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES")


def _colours(file: Any) -> list[ColorInterp]:
    """Of the bands; up to 8 bits GDAL takes grey whose 0 is white for a palette."""
    colours = list(file.colorinterp)
    return [ColorInterp.gray, *colours[1:]] if _white_at_0(file) else colours


def _bits(file: Any) -> int | None:
    bits = file.tags(1, ns="IMAGE_STRUCTURE").get("NBITS")
    return int(bits) if bits else None


def _tags(file: Any, band: int = 0) -> dict[str, dict[str, str]]:
    """Tags of the file, or of a band, by name space, "" first."""
    apart = ("", XMP_SPACE, *OF_THE_FILE)
    spaces = [s for s in file.tag_namespaces(band) if s not in apart and not _is_xml(s)]
    plain = {k: v for k, v in file.tags(band).items() if not k.startswith((*PAST, *PRINT))}
    if not band:
        plain.pop(RECORD, None)
    return {"": plain, **{space: file.tags(band, ns=space) for space in spaces}}


def _print(file: Any) -> dict[str, float]:
    """The share that each pixel has in how many there are along an inch or a centimetre."""
    said = {tag: file.tags()[tag] for tag in PRINT if tag in file.tags()}
    return {tag: float(each) / getattr(file, PRINT[tag]) for tag, each in said.items()}


def _is_xml(space: str) -> bool:
    """Whether a name space holds XML of its own, such as ArcGIS writes beside a file."""
    return space.startswith("xml:") and space != XMP_SPACE


def _world(file: Any, path: Path) -> World:
    affine = tuple(file.transform)[:6]
    points, points_crs = file.gcps
    crs = file.crs
    readable = points_crs or (crs and not _is_local(crs))
    if not readable and _claims_crs(path):
        raise MediaError(
            f"{path} names a coordinate system that GDAL cannot read; assign one first"
            " (rio edit-info --crs EPSG:...)"
        )
    return World(
        affine=None if file.transform.is_identity or points else affine,
        crs=crs.to_wkt() if crs else None,
        points=tuple(
            GroundPoint(row=p.row, column=p.col, x=p.x, y=p.y, z=p.z, name=p.id, info=p.info)
            for p in points
        ),
        points_crs=points_crs.to_wkt() if points_crs else None,
        rpc=_rpc(file.rpcs),
    )


def _rpc(rpc: RPC | None) -> dict[str, Any] | None:
    if rpc is None:
        return None
    values = rpc.to_dict()
    return {key: value for key, value in values.items() if value is not None}


def _claims_crs(path: Path) -> bool:
    """Whether the tags of the file refer to a coordinate system, readable or not."""
    with tifffile.TiffFile(path) as file:
        page: Any = file.pages[0]
        keys = page.tags.valueof(GEO_KEYS) or ()
    known = dict(zip(keys[4::4], keys[7::4], strict=True))
    return known.get(MODEL) in (1, 2, 3) and any(known.get(key) for key in KEYS_OF_CRS)


def _premultiplied(path: Path) -> bool:
    """Whether colours are multiplied by their opacity, which GDAL does not tell."""
    with tifffile.TiffFile(path) as file:
        page: Any = file.pages[0]
        return tifffile.EXTRASAMPLE.ASSOCALPHA in page.extrasamples


def _metadata(path: Path) -> str:
    """All tags of a file, as GDAL's XML; "" where there are none."""
    with tifffile.TiffFile(path) as file:
        page: Any = file.pages[0]
        return str(page.tags.valueof(GDAL_METADATA) or "")


def _retell(path: Path, metadata: str, raster: Raster) -> None:
    """Write tags over those of a file that take up more room, and others as GDAL does not.

    GDAL gives XMP a key, and moves the points of pixels that point to their middle with each copy.
    """
    with tifffile.TiffFile(path, mode="r+") as file:
        page: Any = file.pages[0]
        if metadata:
            tag = page.tags[GDAL_METADATA]
            tag.overwrite(metadata.encode().ljust(tag.count - 1) + b"\0")
        if raster.xmp:
            tag = page.tags[XMP]
            tag.overwrite(raster.xmp.ljust(tag.count))
        if raster.world.points:
            page.tags[TIE_POINTS].overwrite(_tie_points(raster))


def _retell_nodata(path: Path, nodata: int) -> None:
    """Write all digits of a number for nodata, over a 0: rasterio gives GDAL a float."""
    with tifffile.TiffFile(path, mode="r+") as file:
        page: Any = file.pages[0]
        page.tags[GDAL_NODATA].overwrite(str(nodata))


def _resampling(raster: Raster) -> Resampling:
    """How overviews are made: a mean of GDAL's compares floats, and would not know such nodata."""
    nodata = _nodata(raster)
    if raster.classes:
        return Resampling.nearest
    exact = not isinstance(nodata, int) or int(float(nodata)) == nodata
    return Resampling.average if exact else Resampling.nearest


def _tie_points(raster: Raster) -> list[float]:
    """The ground control points as GeoTIFF has them: column, row, 0 and x, y, z of each."""
    tags = raster.own.get("tags", {}).get("", {})
    zero = 0.5 if tags.get("AREA_OR_POINT") == "Point" else 0.0  # where the file has its 0, 0
    return [
        value
        for p in raster.world.points
        for value in (p.column - zero, p.row - zero, 0.0, p.x, p.y, p.z or 0.0)
    ]


def _nodata_in(file: Any, path: Path) -> float | None:
    """The number for nodata; one of 64 bits as the file spells it, since GDAL gives a float."""
    if file.dtypes[0] not in WIDE:
        return file.nodata
    with tifffile.TiffFile(path) as opened:
        page: Any = opened.pages[0]
        text = page.tags.valueof(GDAL_NODATA)
    if text is None and MaskFlags.nodata in file.mask_flag_enums[0]:
        raise MediaError(
            f"{path} has its nodata number in another file, where srpipe cannot see all its digits;"
            " write it into this one (gdal_translate)"
        )
    try:
        return None if text is None else int(text)
    except ValueError:  # GDAL before 3.5 knew no other numbers
        return float(text)


def _nodata(raster: Raster) -> float | None:
    """The number for nodata, if one of this type can be it: others never meant anything."""
    value = raster.nodata
    return value if value is not None and holds(raster.dtype, value) else None


def _tell(file: Any, raster: Raster) -> None:
    """Write all that is known of a raster, before its numbers."""
    world = raster.world
    if world.affine:
        file.transform = rasterio.Affine(*world.affine)
    if world.crs:
        file.crs = rasterio.CRS.from_wkt(world.crs)
    if world.points:
        crs = rasterio.CRS.from_wkt(world.points_crs) if world.points_crs else None
        file.gcps = [_point(point) for point in world.points], crs
    if world.rpc:
        file.rpcs = RPC(**world.rpc)
    _tell_bands(file, raster.bands)
    for tag, each in raster.own.get("print", {}).items():
        file.update_tags(**{tag: f"{each * getattr(file, PRINT[tag]):.9g}"})
    _tell_tags(file, raster.own.get("tags", {}))
    if raster.xmp:
        file.update_tags(ns=XMP_SPACE, **{XMP_SPACE: raster.xmp.decode(errors="replace")})
    if raster.record:
        file.update_tags(**{RECORD: raster.record})


def _tell_bands(file: Any, bands: Sequence[Band]) -> None:
    file.colorinterp = [ColorInterp[band.colour] for band in bands]
    file.scales, file.offsets = [b.scale for b in bands], [b.offset for b in bands]
    file.units = [band.unit or "" for band in bands]
    for i, band in enumerate(bands, 1):
        if band.name:
            file.set_band_description(i, band.name)
        _tell_tags(file, band.own, i)


def _tell_tags(file: Any, spaces: Mapping[str, Mapping[str, str]], band: int = 0) -> None:
    for space, tags in spaces.items():
        file.update_tags(band, ns=space or None, **tags)


def _point(point: GroundPoint) -> GroundControlPoint:
    said: Mapping[str, Any] = asdict(point)
    return GroundControlPoint(
        row=said["row"],
        col=said["column"],
        x=said["x"],
        y=said["y"],
        z=said["z"],
        id=said["name"],
        info=said["info"],
    )
