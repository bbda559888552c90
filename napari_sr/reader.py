"""Files that napari does not open as they are: video frame by frame, rasters where they lie."""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from srpipe.io.raster import Raster, RasterSource

LayerData = tuple[Any, dict[str, Any], str]
Read = Callable[[Any], list[LayerData]]

RGB = ["red", "green", "blue"]

FRAMES_KEPT = 24
"""Of a video, decoded: scrubbing back a second needs no decoding."""

CHUNK = 1024
"""Side of the windows in which rasters are read, in pixels."""

LARGE = 8192
"""Beyond this side, a raster gets coarser levels too."""


def video_reader(path: str | Sequence[str]) -> Read | None:
    """What opens a video; None for a list of files, which is a stack."""
    return _video if isinstance(path, str) else None


def raster_reader(path: str | Sequence[str]) -> Read | None:
    """What opens a GeoTIFF, an OME-TIFF or an OME-Zarr; None for pictures, which napari opens."""
    from srpipe.errors import SrpipeError
    from srpipe.io.raster_formats import raster_format

    if not isinstance(path, str):
        return None
    try:
        return _raster if raster_format(Path(path)) else None
    except SrpipeError:
        return None


def _video(path: Any) -> list[LayerData]:
    import dask.array as da
    import numpy as np

    frames = Frames(Path(path))
    first = frames.at(0)
    shape = (len(frames), *first.shape)

    def one(block_info: Any = None) -> "np.ndarray":
        return frames.at(int(block_info[None]["array-location"][0][0]))[None]

    data = da.map_blocks(
        one,
        chunks=((1,) * len(frames), *((n,) for n in first.shape)),
        dtype=first.dtype,
        meta=np.empty((0,) * len(shape), first.dtype),
    )
    about = {
        "name": Path(path).stem,
        "rgb": True,
        "axis_labels": ("t", "y", "x"),
        "scale": (1.0, *frames.pixel),
        "metadata": {"video": str(path), "times_s": frames.times_s},
    }
    return [(data, about, "image")]


class Frames:
    """The frames of a video by number, upright and in RGB, decoded when they are asked for.

    Raises
    ------
    MediaError
        If it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        from srpipe.io.video import VideoSource
        from srpipe.io.video_index import Reader, by_frames, by_packets

        self._source = VideoSource(path, allow_truncated=True, deinterlace=False)
        self._index = by_packets(self._source) or by_frames(self._source, lambda: None)
        self._reader = Reader(self._source)
        self._lock = Lock()
        weakref.finalize(self, self._reader.close)
        self.at = lru_cache(FRAMES_KEPT)(self._decoded)

    def __len__(self) -> int:
        return len(self._index.times)

    @property
    def times_s(self) -> list[float]:
        """When each is shown."""
        base = self._source.time_base
        return [float(time * base) for time in self._index.times]

    @property
    def pixel(self) -> tuple[float, float]:
        """Height and width of a pixel."""
        wide = float(self._source.sample_aspect_ratio or 1)
        return (wide, 1.0) if self._source.rotation % 180 else (1.0, wide)

    def _decoded(self, number: int) -> "np.ndarray":
        """One frame, (H, W, 3): uint8, or float32 where 8 bits do not hold it."""
        import numpy as np

        from srpipe.color import rgb_of
        from srpipe.io.video_index import Unlisted, by_frames

        with self._lock:
            try:
                frame = self._found(number)
            except Unlisted:  # the packets promised what is not there
                self._index = by_frames(self._source, lambda: None)
                frame = self._found(number)
        rgb = rgb_of(frame.planes, frame.layout)[0, :3]
        if frame.layout.bits == 8:
            rgb = (rgb.clamp(0, 1) * 255).round().byte()
        return np.rot90(rgb.movedim(0, -1).numpy(), self._source.rotation // 90)

    def _found(self, number: int) -> Any:
        key = self._index.key_for(number)
        times = [self._index.times[number]]
        # to the end: what is left amid its frames begins anew the next time
        (frame,) = self._reader.frames(number, times, key, last=False)
        return frame


def _raster(path: Any) -> list[LayerData]:
    from napari.utils.notifications import show_warning

    from napari_sr.placing import unit_notices
    from srpipe.io.raster_formats import open_raster

    opened = open_raster(Path(path))
    source, raster = _Windows(opened), opened.raster
    for notice in (*raster.notices, *unit_notices(raster.world)):
        show_warning(notice)
    stem = Path(path).name.partition(".")[0]
    axes = raster.axes.replace("C", "")
    colours = [band.colour for band in raster.bands]
    count = raster.shape[1]
    if colours in (RGB, [*RGB, "alpha"]) and raster.dtype == "uint8":
        return [_layer(source, raster, axes, range(count), {"name": stem, "rgb": True})]
    layers = []
    for i in range(count):
        band = raster.bands[i] if raster.bands else None
        one = replace(
            raster,
            shape=(raster.shape[0], 1, *raster.shape[2:]),
            bands=(band,) if band else (),
            axes=axes,
        )
        title = (band and band.name) or (f"band {i + 1}" if count > 1 else "")
        look = {"name": f"{stem}: {title}" if title else stem, **_look(band, count)}
        layers.append(_layer(source, one, axes, range(i, i + 1), look))
    return layers


def _look(band: Any, count: int) -> dict[str, Any]:
    """Colours of a band among others."""
    if count == 1:
        return {}
    colour = band.colour if band and band.colour in ("red", "green", "blue") else "gray"
    if band and band.tint:
        colour = f"#{band.tint}"
    return {"colormap": colour, "blending": "additive"}


def _layer(
    source: "_Windows", raster: "Raster", axes: str, bands: range, look: dict[str, Any]
) -> LayerData:
    from napari_sr.placing import layer_of

    rgb = look.get("rgb", False)
    data = _lazy(source, raster, axes, bands, rgb=rgb)
    levels = _levels(data, rgb=rgb)
    shown = levels if len(levels) > 1 else data
    return shown, look | layer_of(raster, axes), "image"


class _Windows:
    """A raster that several layers and threads read, and that is closed with the last of them."""

    def __init__(self, source: "RasterSource") -> None:
        self._source, self._lock = source, Lock()
        weakref.finalize(self, source.close)

    def read(self, window: Any) -> "np.ndarray":
        """Numbers TCZYX."""
        with self._lock:
            return self._source.read(window).pixels


def _lazy(source: "_Windows", raster: "Raster", axes: str, bands: range, *, rgb: bool) -> Any:
    """Some bands of a raster as a Dask array, read window by window."""
    import dask.array as da
    import numpy as np
    from dask.array.core import normalize_chunks

    from srpipe.io.raster import AXES, Window

    lengths = dict(zip(AXES, raster.shape, strict=True))
    shape = [lengths[axis] for axis in axes]
    sides = [1] * len(axes[:-2]) + [CHUNK, CHUNK]
    chunks = normalize_chunks(sides + [-1] * rgb, (*shape, len(bands)) if rgb else shape)

    def part(block_info: Any = None) -> "np.ndarray":
        place = [(int(a), int(b)) for a, b in block_info[None]["array-location"]]
        at = dict(zip(axes, place, strict=False))
        window = Window(at.get("T", (0, 1)), at.get("Z", (0, 1)), at["Y"], at["X"])
        pixels = source.read(window)[:, bands.start : bands.stop]
        made = np.moveaxis(pixels, 1, -1) if rgb else pixels[:, 0]
        return made.reshape([stop - start for start, stop in place])

    empty = np.empty((0,) * len(chunks), raster.dtype)
    return da.map_blocks(part, chunks=tuple(chunks), dtype=raster.dtype, meta=empty)


def _levels(data: Any, *, rgb: bool) -> list[Any]:
    """An array and, where it is large, ever coarser ones, each pixel the mean of four."""
    import dask.array as da
    import numpy as np

    levels, axis = [data], data.ndim - (3 if rgb else 2)
    while max(levels[-1].shape[axis : axis + 2]) > LARGE:
        halves = {axis: 2, axis + 1: 2}
        coarse = da.coarsen(np.mean, levels[-1], halves, trim_excess=True)
        levels.append(coarse.astype(data.dtype))
    return levels
