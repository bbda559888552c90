"""OME-Zarr: reads 0.4 and 0.5, writes 0.5 (https://ngff.openmicroscopy.org/0.5).

Each block of a target is one shard per band, so that many processes can write at once; a shard
appears under its name when it is whole. The levels above are made from level to level afterwards:
every pixel of one is the mean of the four below it, and its metadata says where it then lies, half
a pixel further. A store that leads out of its own folder, by a path or by a link, is not read.
"""

import json
import math
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore

from srpipe.errors import ConfigError, MediaError
from srpipe.io.pieces import below, halved, halved_grid, levels
from srpipe.io.raster import (
    AXES,
    RECORD,
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

NAME = "OME-Zarr"
VERSIONS = ("0.4", "0.5")
LABELS = "labels"
RGB = {"FF0000": "red", "00FF00": "green", "0000FF": "blue"}


class OmeZarrSource:
    """Read windows of the largest level of an image.

    Raises
    ------
    MediaError
        If it is damaged, no image, of another version, or says about its axes what is not so.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with reading(path, NAME):
            self._store = _Inside(path.resolve(), read_only=True)
            about = _attributes(path)
            image = _multiscale(about, path)
            arrays = [_array(self._store, str(said["path"]), path) for said in image["datasets"]]
            self._array = arrays[0]
            self._axes = _axes(image, arrays, path)
            self.raster = _described(path, about, image, self._array, self._axes)

    def read(self, window: Window) -> Block:
        """A part of it; only NaN and infinity are invalid."""
        every = dict(zip(AXES, window.slices, strict=True))
        with reading(self._path, NAME):
            part = np.asarray(self._array[tuple(every[axis] for axis in self._axes)])
        pixels = part.astype(self.raster.dtype, copy=False)
        pixels = pixels.reshape(window.shape(self.raster.shape[1]))
        return self.raster.block(pixels)

    def close(self) -> None:
        """Let go of the store."""
        self._store.close()


@dataclass(frozen=True)
class OmeZarrSink:
    """Write an image with its pyramid; blocks go straight into their shards.

    Parameters
    ----------
    part : the folder that is written
    """

    part: Path
    raster: Raster
    grid: Grid

    def begin(self) -> None:
        """Make all levels, empty, and say what they are; blocks that are there already stay.

        What a killed writer has left amid a file goes.
        """
        about = self.part / "zarr.json", *self.part.glob("*/zarr.json")
        for half in (*self.part.rglob("*.partial"), *filter(_is_torn, about)):
            half.unlink()
        grid = self.grid
        names = [axis.lower() for axis in self.raster.axes]
        store = LocalStore(self.part)
        if not (self.part / "zarr.json").exists():
            zarr.create_group(store, attributes=self._about())
        for level in range(self._levels):
            if not (self.part / str(level) / "zarr.json").exists():
                _create(store, level, self._stored(grid), self.raster.dtype, names)
            grid = halved_grid(grid)

    def write(self, window: Window, block: Block) -> tuple[Path, ...]:
        """Put a block into its shards."""
        self._put(0, window, block.pixels)
        return self.files(window)

    def files(self, window: Window) -> tuple[Path, ...]:
        """The shards of a block, one for each band."""
        starts = {"T": window.t[0], "Z": window.z[0] // self.grid.planes}
        starts |= {"Y": window.y[0] // self.grid.side, "X": window.x[0] // self.grid.side}
        folder = self.part / "0" / "c"
        paths = []
        for band in range(self.grid.shape[1]):
            at = starts | {"C": band}
            paths.append(folder.joinpath(*(str(at[axis]) for axis in self.raster.axes)))
        return tuple(paths)

    def close(self, record: str | None = None) -> None:
        """Make the levels above, each from the one below it, and note where they come from."""
        said: Any = zarr.open_group(LocalStore(self.part), mode="r+").attrs
        record = record or self.raster.record
        if record:
            said[RECORD] = json.loads(record)
        if omero := self._omero():
            said["ome"] = {**said["ome"], "omero": omero}
        grid = self.grid
        for level in range(1, self._levels):
            above = halved_grid(grid)
            for window in above:
                source = self._open(level - 1)[self._index(below(window, grid))]
                smaller = halved(np.asarray(source), classes=self.raster.classes)
                self._put(level, window, smaller)
            grid = above

    def abort(self) -> None:
        """Throw it away."""
        shutil.rmtree(self.part, ignore_errors=True)

    @property
    def _levels(self) -> int:
        return levels(*self.grid.shape[3:], TILE)

    def _open(self, level: int) -> Any:
        store = LocalStore(self.part)
        array = zarr.open_array(store, path=str(level), mode="r+", zarr_format=3)
        return array.with_config({"write_empty_chunks": True})  # a block of zeros is a block

    def _put(self, level: int, window: Window, pixels: np.ndarray) -> None:
        index = self._index(window)
        lengths = dict(zip(AXES, window.shape(self.grid.shape[1]), strict=True))
        self._open(level)[index] = pixels.reshape([lengths[axis] for axis in self.raster.axes])

    def _index(self, window: Window) -> tuple[slice, ...]:
        every = dict(zip(AXES, window.slices, strict=True))
        return tuple(every[axis] for axis in self.raster.axes)

    def _stored(self, grid: Grid) -> tuple[list[int], list[int], list[int]]:
        """Lengths, chunks and shards along the axes that are stored."""
        longest = max(grid.shape[3:])
        inner = min(math.gcd(TILE, grid.side), -(-longest // 16) * 16)
        side = min(grid.side, -(-longest // inner) * inner)  # of a block, or of all if it fits
        sizes = zip(
            AXES,
            grid.shape,
            (1, 1, 1, inner, inner),
            (1, 1, grid.planes, side, side),
            strict=True,
        )
        kept = [(n, c, s) for axis, n, c, s in sizes if axis in self.raster.axes]
        lengths, chunks, shards = (list(column) for column in zip(*kept, strict=True))
        return lengths, chunks, shards

    def _about(self) -> dict[str, Any]:
        own, world = self.raster.own, self.raster.world
        image = {
            "name": self.raster.name or self.part.name.partition(".")[0],
            "type": "mean",
            "axes": [_axis(axis, world) for axis in self.raster.axes],
            "datasets": [
                {"path": str(level), "coordinateTransformations": self._transformations(level)}
                for level in range(self._levels)
            ],
            "metadata": {
                "method": "mean of 2 x 2 pixels",
                "software": f"srpipe {version('srpipe')}",
            },
        }
        return {**own.get("attributes", {}), "ome": {"version": "0.5", "multiscales": [image]}}

    def _omero(self) -> dict[str, Any] | None:
        """How viewers show the channels: as they did before, or all that there is in each."""
        if said := self.raster.own.get("omero"):
            return {k: v for k, v in said.items() if k not in ("id", "version")}
        bands = self.raster.bands
        if not any(band.name or band.tint for band in bands):
            return None
        ends = [{"min": low, "max": high, "start": low, "end": high} for low, high in self._ends()]
        return {
            "channels": [
                {"label": band.name or str(i), "color": band.tint or "FFFFFF", "window": ends[i]}
                for i, band in enumerate(bands)
            ]
        }

    def _ends(self) -> list[tuple[float, float]]:
        """The least and the largest number of each band: of its type, or if that is float, its own.

        One number alone has an end one further, and a band without any those of 0 to 1.
        """
        count, dtype = self.grid.shape[1], self.raster.dtype
        if dtype.kind != "f":
            return [(int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))] * count
        array, low, high = self._open(0), np.full(count, np.inf), np.full(count, -np.inf)
        for window in self.grid:
            pixels = np.asarray(array[self._index(window)]).reshape(window.shape(count))
            known: dict[str, Any] = {"axis": (0, 2, 3, 4), "where": np.isfinite(pixels)}
            low = np.minimum(low, pixels.min(initial=np.inf, **known))
            high = np.maximum(high, pixels.max(initial=-np.inf, **known))
        low = np.where(low > high, 0, low)
        return list(zip(low.tolist(), np.where(high > low, high, low + 1).tolist(), strict=True))

    def _transformations(self, level: int) -> list[dict[str, Any]]:
        """Size of a pixel, and where the centre of the first one is; all levels share a corner."""
        world, times = self.raster.world, 2**level
        a, _, c, _, e, f = world.affine or (1.0, 0.0, -0.5, 0.0, 1.0, -0.5)
        depth, time = world.depth or Step(), world.time or Step()
        size = {"T": time.size, "C": 1.0, "Z": depth.size, "Y": e * times, "X": a * times}
        start = {"T": time.start, "C": 0.0, "Z": depth.start}
        start |= {"Y": f + e * times / 2, "X": c + a * times / 2}
        return [
            {"type": "scale", "scale": [float(size[axis]) for axis in self.raster.axes]},
            {"type": "translation", "translation": [float(start[x]) for x in self.raster.axes]},
        ]


class _Inside(LocalStore):
    """A store that gives only what lies in its own folder."""

    def _check(self, key: str) -> None:
        path = os.path.realpath(self.root / key)
        if path != str(self.root) and not path.startswith(f"{self.root}{os.sep}"):
            raise MediaError(f"{self.root} leads out of its own folder at {key}; it is not read")

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """As in `LocalStore`."""
        self._check(key)
        return await super().get(key, prototype, byte_range)

    def get_sync(
        self,
        key: str,
        *,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """As in `LocalStore`."""
        self._check(key)
        return super().get_sync(key, prototype=prototype, byte_range=byte_range)


def check(raster: Raster) -> None:
    """See that a raster can be an OME-Zarr, without losing where it lies.

    Raises
    ------
    ConfigError
        If it cannot.
    """
    if raster.world.mapped or raster.world.turned:
        raise ConfigError("OME-Zarr cannot say where on the ground its pixels lie; write .tif")
    if raster.nodata is not None or raster.masked:
        raise ConfigError("OME-Zarr cannot say which of its pixels are valid; write .tif")


def sink(part: Path, raster: Raster, grid: Grid, scratch: Path) -> OmeZarrSink:
    """Write an OME-Zarr; it needs no scratch."""
    check(raster)
    return OmeZarrSink(part, raster, grid)


def _create(
    store: LocalStore,
    level: int,
    sizes: tuple[list[int], list[int], list[int]],
    dtype: np.dtype,
    names: list[str],
) -> None:
    lengths, chunks, shards = sizes
    zarr.create_array(
        store,
        name=str(level),
        shape=lengths,
        chunks=tuple(chunks),
        shards=tuple(shards),
        dtype=dtype,
        dimension_names=names,
        fill_value=0,
    )


def _is_torn(about: Path) -> bool:
    """Whether a file of metadata is there and not whole."""
    try:
        json.loads(about.read_bytes())
    except FileNotFoundError:
        return False
    except ValueError:
        return True
    return False


def _attributes(path: Path) -> dict[str, Any]:
    """What the group says of itself, in the words of version 0.5 without its "ome"."""
    inside = os.path.realpath(path)
    for name, key in (("zarr.json", "attributes"), (".zattrs", None)):
        file = path / name
        if not file.exists():
            continue
        if not os.path.realpath(file).startswith(inside + os.sep):
            raise MediaError(f"{path} leads out of its own folder at {name}; it is not read")
        said = json.loads(file.read_bytes())
        return said.get(key, {}) if key else said
    raise MediaError(f"{path} is a folder without Zarr metadata; name an OME-Zarr image")


def _multiscale(about: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    said = about.get("ome", about)
    if "plate" in said or "bioformats2raw.layout" in said or "well" in said:
        wells = said.get("plate", {}).get("wells")
        first = f"{path}/{wells[0]['path']}/0" if wells else f"{path}/0"
        raise MediaError(f"{path} holds several images; name one of them, such as {first}")
    images = said.get("multiscales")
    if not images:
        raise MediaError(f"{path} is a Zarr without an OME image; name the folder of the image")
    if "image-label" in said:
        raise MediaError(
            f"{path} holds labels: its numbers are names of objects, between which there is"
            " nothing; enlarge the image that they belong to"
        )
    image = images[0]
    version = said.get("version") if "ome" in about else image.get("version")
    if version not in VERSIONS:
        raise MediaError(
            f"{path} is OME-Zarr {version or 'of no version'}, and srpipe reads"
            f" {' and '.join(VERSIONS)}; convert it"
        )
    return image


def _array(store: LocalStore, name: str, path: Path) -> Any:
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise MediaError(f"{path} leads out of its own folder at {name}; it is not read")
    return zarr.open_array(store, path=name, mode="r")


def _axes(image: Mapping[str, Any], arrays: Sequence[Any], path: Path) -> str:
    """The axes in the order of the file, as letters of `AXES`."""
    said = image.get("axes", [])
    axes = "".join(str(axis.get("name", "?")).upper()[:1] for axis in said)
    wanted = "".join(axis for axis in AXES if axis in axes)
    if axes != wanted or not axes.endswith("YX"):
        raise MediaError(f"{path} has axes {axes or 'without names'}, not t, c, z, y, x in order")
    lengths = {f"level {i}": array.ndim for i, array in enumerate(arrays)}
    for change in _changes(image):
        lengths[f"its {change['type']}"] = len(change.get(change["type"], axes))
    for what, length in lengths.items():
        if length != len(axes):
            raise MediaError(
                f"{path} disagrees with itself: {len(axes)} axes ({axes}), and {what} has {length}"
            )
    return axes


def _changes(image: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """From indices of the largest level to the world, in the order in which they apply."""
    first = image["datasets"][0].get("coordinateTransformations", [])
    return [*first, *image.get("coordinateTransformations", [])]


def _described(
    path: Path, about: Mapping[str, Any], image: Mapping[str, Any], array: Any, axes: str
) -> Raster:
    lengths = dict(zip(axes, array.shape, strict=True))
    t, c, z, y, x = (lengths.get(axis, 1) for axis in AXES)
    said = about.get("ome", about)
    ours = ("ome", "multiscales", "omero", "_creator", RECORD)
    notices = []
    if len(said["multiscales"]) > 1:
        images = len(said["multiscales"])
        notices.append(f"{path}: only the first of its {images} images is enlarged")
    if (path / LABELS).is_dir():
        notices.append(f"{path}: its labels are left out; they would no longer fit")
    raster = Raster(
        shape=(t, c, z, y, x),
        dtype=np.dtype(array.dtype).newbyteorder("="),
        format="omezarr",
        axes=axes,
        name=str(image["name"]) if image.get("name") else None,
        bands=_bands(said.get("omero", {}), c),
        world=_world(image, axes, path),
        own={
            "omero": said.get("omero"),
            "attributes": {k: v for k, v in about.items() if k not in ours},
        },
        record=json.dumps(about[RECORD]) if RECORD in about else None,
        notices=tuple(notices),
    )
    segment = math.prod(array.chunks) * raster.dtype.itemsize
    check_raster(raster, path, segment_bytes=segment)
    return raster


def _bands(omero: Mapping[str, Any], count: int) -> tuple[Band, ...]:
    said: Sequence[Any] = omero.get("channels", [])
    if len(said) != count:
        said = [{}] * count
    tints = [str(channel.get("color", "")).removeprefix("#").upper() for channel in said]
    tints = [tint if re.fullmatch("[0-9A-F]{6}", tint) else "" for tint in tints]
    names = [channel.get("label") for channel in said]
    colours = [RGB.get(tint, "undefined") if count == 3 else "undefined" for tint in tints]
    if sorted(colours) != sorted(RGB.values()):
        colours = ["undefined"] * count
    return tuple(
        Band(name=None if name is None else str(name), tint=tint or None, colour=colour)
        for name, tint, colour in zip(names, tints, colours, strict=True)
    )


def _world(image: Mapping[str, Any], axes: str, path: Path) -> World:
    size, start = np.ones(len(axes)), np.zeros(len(axes))
    for change in _changes(image):
        kind = change["type"]
        if kind not in ("scale", "translation", "identity") or "path" in change:
            raise MediaError(f"{path} is placed by {kind}; srpipe knows scale and translation")
        if kind == "scale":
            size, start = size * change["scale"], start * change["scale"]
        elif kind == "translation":
            start = start + change["translation"]
    units = [str(axis["unit"]) if axis.get("unit") else None for axis in image["axes"]]
    steps = {
        axis: Step(size=float(size[i]), start=float(start[i]), unit=units[i])
        for i, axis in enumerate(axes)
    }
    y, x = steps["Y"], steps["X"]
    return World(
        affine=(x.size, 0.0, x.start - x.size / 2, 0.0, y.size, y.start - y.size / 2),
        units=(y.unit, x.unit),
        depth=steps.get("Z"),
        time=steps.get("T"),
    )


def _axis(axis: str, world: World) -> dict[str, str]:
    kind = {"T": "time", "C": "channel"}.get(axis, "space")
    steps = {"T": world.time or Step(), "Z": world.depth or Step(), "C": Step()}
    unit = steps[axis].unit if axis in steps else world.units["YX".index(axis)]
    return {"name": axis.lower(), "type": kind} | ({"unit": unit} if unit else {})
