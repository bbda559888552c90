"""Layers into files: rasters where they lie, and time stacks as video; whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_sr.stack import Stack, shown
from srpipe.errors import ConfigError


def write_raster(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write a layer as OME-TIFF, OME-Zarr, or GeoTIFF where it came from one.

    What of it the format leaves out is told.

    Raises
    ------
    ConfigError
        If the format cannot hold it; the message names one that can.
    TargetError
        If what lies beside the file would be read together with it.
    """
    return _write(path, data, meta, classes=False)


def write_labels(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write labels as `write_raster` does where they are a map of a raster, else as napari does.

    Raises
    ------
    ConfigError, TargetError
        As `write_raster` does.
    """
    if "raster" in meta.get("metadata", {}) or path.lower().endswith(".zarr"):
        return _write(path, data, meta, classes=True)
    from napari_builtins.io import napari_write_labels

    written = napari_write_labels(path, data, meta)
    return [written] if written else []


def _write(path: str, data: Any, meta: dict[str, Any], *, classes: bool) -> list[str]:
    from napari.utils.notifications import show_warning

    from napari_sr.placing import raster_of
    from srpipe.io.beside import refuse_stale
    from srpipe.io.raster import grid_for
    from srpipe.io.raster_formats import as_held, left_out, open_sink, target_format

    target, stack = Path(path), _stack(data, meta)
    raster = replace(raster_of(stack, meta), classes=classes)
    name = target_format(target, raster)
    refuse_stale(target)
    lost, raster = left_out(raster, name), as_held(raster, name)
    with tempfile.TemporaryDirectory(prefix=".srpipe-", dir=target.absolute().parent) as folder:
        part = Path(folder) / target.name
        sink = open_sink(name, part, raster, grid_for(raster.shape, 1), Path(folder) / "pieces")
        for notice in lost:
            show_warning(notice)
        sink.begin()
        for window in sink.grid:
            pixels = _block(stack, raster.axes, raster.shape[1], window)
            sink.write(window, raster.block(pixels))
        sink.close(_record(meta))
        if target.is_dir():
            os.replace(target, Path(folder) / "replaced")
        os.replace(part, target)
    return [str(target)]


def write_video(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write a time stack as video: with the times and the sound of the one it came from.

    What of it the file cannot hold is told.

    Raises
    ------
    ConfigError
        If it is no stack of frames.
    """
    target, stack = Path(path), _stack(data, meta)
    if len(stack.shape) != 3:
        raise ConfigError(
            f"a layer with axes {stack.shape} is no video; it takes one stack of frames"
        )
    with tempfile.TemporaryDirectory(prefix=".srpipe-", dir=target.absolute().parent) as folder:
        part = Path(folder) / target.name
        _encode(part, stack, meta, Path(folder))
        os.replace(part, target)
    return [str(target)]


def _encode(part: Path, stack: Stack, meta: dict[str, Any], folder: Path) -> None:
    import torch
    from napari.utils.notifications import show_warning

    from srpipe.color import from_rgb
    from srpipe.io.frames import Frame
    from srpipe.io.video import VideoSink, VideoSource

    origin = meta.get("metadata", {}).get("video")
    source = VideoSource(Path(origin), deinterlace=False) if origin else None
    if source is None or sum(1 for _ in source) != stack.shape[0]:
        source = VideoSource(_pictures(stack, meta, folder))
    frames = (np.rot90(frame, -source.rotation // 90) for frame in _frames(stack, meta))
    height, width = stack.shape[1:]
    if source.rotation % 180:
        height, width = width, height
    sink = VideoSink(
        part,
        source,
        height=height,
        width=width,
        suffix=part.suffix.lower(),
        comment=_record(meta),
    )
    try:
        for old, pixels in zip(source, frames, strict=True):
            rgb = torch.from_numpy(pixels.copy()).movedim(-1, 0)[None].float() / 255
            planes = tuple(plane.numpy() for plane in from_rgb(rgb, sink.layout))
            frame = Frame(
                planes=planes,
                layout=sink.layout,
                pts=old.pts,
                duration=old.duration,
                time_base=old.time_base,
            )
            sink.write(frame)
        sink.close()
    except BaseException:
        sink.abort()
        raise
    for notice in sink.notices:
        show_warning(notice)


def _record(meta: dict[str, Any]) -> str | None:
    """Where a layer's numbers come from, as a file says it."""
    from napari_sr.layers import record_in
    from srpipe.jobs import provenance

    found = record_in(meta.get("metadata", {}))
    return provenance.text(found) if found else None


def _pictures(stack: Stack, meta: dict[str, Any], folder: Path) -> Path:
    """The frames as numbered pictures, which a video can be made from."""
    from PIL import Image

    for number, frame in enumerate(_frames(stack, meta)):
        Image.fromarray(frame).save(folder / f"{number:06d}.png", compress_level=1)
    return folder / "%06d.png"


def _frames(stack: Stack, meta: dict[str, Any]) -> Iterator[np.ndarray]:
    """Every frame as it is shown: (H, W, 3), uint8."""
    low, high = meta.get("contrast_limits") or (0, 255)
    for number in range(stack.shape[0]):
        bands = stack.read((number,), (0, stack.shape[1]), (0, stack.shape[2]))[:3]
        if bands.dtype != np.uint8:
            unit = (bands.astype(np.float64) - low) / (high - low)
            bands = np.rint(np.nan_to_num(unit).clip(0, 1) * 255).astype(np.uint8)
        yield shown(np.broadcast_to(bands, (3, *bands.shape[1:])), rgb=True)


def _block(stack: Stack, axes: str, bands: int, window: Any) -> np.ndarray:
    """Numbers of a window, TCZYX, from a layer with such axes."""
    lead = [axis for axis in axes[:-2] if not (axis == "C" and stack.rgb)]
    block = np.empty(window.shape(bands), stack.dtype)
    for t, c, z in np.ndindex(block.shape[0], 1 if stack.rgb else bands, block.shape[2]):
        at = {"T": window.t[0] + t, "C": c, "Z": window.z[0] + z}
        plane = stack.read([at[axis] for axis in lead], window.y, window.x)
        block[(t, slice(None) if stack.rgb else slice(c, c + 1), z)] = plane
    return block


def _stack(data: Any, meta: dict[str, Any]) -> Stack:
    several = meta.get("multiscale") or isinstance(data, list | tuple)
    return Stack.of(data, rgb=bool(meta.get("rgb")), multiscale=bool(several))
