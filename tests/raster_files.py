"""Small rasters of every format, and the plainest enlargement: each pixel repeated."""

import os
import random
import shutil
from contextlib import closing

import numpy as np
import pytest

from srpipe.io.raster import Band, Block, Grid, Raster, Step, Window, World, grid_for
from srpipe.io.raster_formats import RASTERS, open_raster, open_sink
from srpipe.validity import enlarged

ENDING = {"geotiff": ".tif", "ometiff": ".ome.tif", "omezarr": ".ome.zarr"}
NEEDS = {"geotiff": "rasterio", "omezarr": "zarr"}
every_format = pytest.mark.parametrize("name", list(RASTERS))

XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"'
    b' tiff:ImageWidth="40"/></rdf:RDF></x:xmpmeta>'
)


def noise(shape, dtype):
    rng = np.random.default_rng(5)
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return (rng.standard_normal(shape) * 3).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def raster_of(pixels, name, **facts):
    axes = "".join(axis for axis, n in zip("TCZ", pixels.shape, strict=False) if n > 1) + "YX"
    world = ON_A_MAP if name == "geotiff" else World()
    facts = {"bands": (Band(),) * pixels.shape[1], "world": world} | facts
    return Raster(shape=pixels.shape, dtype=pixels.dtype, format=name, axes=axes, **facts)


def write(path, pixels, name, valid=None, side=512, **facts):
    """An array TCZYX as a file of this format; the blocks come in no order."""
    pytest.importorskip(NEEDS.get(name, "tifffile"))
    raster = raster_of(pixels, name, **facts)
    grid = Grid(pixels.shape, side, planes=2)
    sink = open_sink(name, part(path), raster, grid, scratch(path))
    sink.begin()
    windows = list(grid)
    random.Random(3).shuffle(windows)
    for window in windows:
        mask = None if valid is None else valid[window.slices]
        sink.write(window, Block(np.ascontiguousarray(pixels[window.slices]), mask))
        assert all(file.is_file() for file in sink.files(window))
    sink.close()
    os.replace(part(path), path)
    shutil.rmtree(scratch(path), ignore_errors=True)
    return path


def enlarge(source, target, scale, name=None):
    """What a job does, with a network that repeats pixels."""
    with closing(open_raster(source)) as opened:
        raster = opened.raster.enlarged(scale)
        grid = grid_for(raster.shape, scale, side=512)
        sink = open_sink(name or raster.format, part(target), raster, grid, scratch(target))
        sink.begin()
        for window in grid:
            block = opened.read(window.reduced(scale))
            valid = None if block.valid is None else enlarged(block.valid, scale)
            sink.write(window, Block(enlarged(block.pixels, scale), valid))
    sink.close()
    os.replace(part(target), target)
    shutil.rmtree(scratch(target), ignore_errors=True)
    return target


def read(path):
    """The description, the numbers TCZYX, and which are valid."""
    with closing(open_raster(path)) as source:
        block = source.read(whole(source.raster))
    return source.raster, block.pixels, block.valid


def whole(raster):
    t, _, z, y, x = raster.shape
    return Window((0, t), (0, z), (0, y), (0, x))


def corners(raster):
    """World coordinates of the four outer corners."""
    a, b, c, d, e, f = raster.world.affine
    height, width = raster.shape[3:]
    at = np.array([(0, 0), (width, 0), (0, height), (width, height)])
    return at @ np.array([(a, d), (b, e)]) + (c, f)


def part(path):
    return path.with_name(f"{path.name}.part")


def scratch(path):
    return path.with_name(f"{path.name}.pieces")


ON_A_MAP = World(affine=(2.0, 0.0, 100.0, 0.0, -2.0, 50.0))
MICROSCOPE = World(
    affine=(0.4, 0.0, 0.0, 0.0, 0.3, 0.0),
    units=("micrometer", "micrometer"),
    depth=Step(size=1.5, unit="micrometer"),
    time=Step(size=2.5, unit="second"),
)
