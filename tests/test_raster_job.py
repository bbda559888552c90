"""Rasters from file to file: numbers, places and gaps as they were, whatever becomes of the run."""

import hashlib
import json
import logging
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import toy as toy_script
from PIL import Image
from raster_files import (
    ENDING,
    MICROSCOPE,
    ON_A_MAP,
    XMP,
    corners,
    every_format,
    noise,
    raster_of,
    read,
    write,
)
from test_bad_input import started
from test_jobs import names

from srpipe import jobs, trust
from srpipe.errors import Cancelled, ConfigError, DeviceError, MediaError, TargetError
from srpipe.io import image
from srpipe.io.picture import Metadata, Picture, frame_of
from srpipe.io.raster import Band, GroundPoint, Step, World
from srpipe.io.raster_formats import left_out
from srpipe.jobs import raster, raster_range, spread
from srpipe.jobs.journal import RECEIPTS, receipts
from srpipe.jobs.target import part_of
from srpipe.models import MODELS
from srpipe.settings import RunSettings
from srpipe.validity import enlarged

SHARED = Path(__file__).parents[2] / "shared" / "data" / "science"


@pytest.fixture
def settings(toy):
    return lambda **values: RunSettings(**{"model": "toy", "weights": toy} | values)


@pytest.fixture
def small(monkeypatch):
    """Blocks as small as can be."""
    monkeypatch.setattr("srpipe.jobs.raster_plan._BLOCK_BYTES", 1)


@pytest.fixture
def scene(tmp_path, small):
    """A raster of nine blocks."""
    return write(tmp_path / "in.ome.tif", noise((1, 1, 1, 520, 700), "uint16"), "ometiff")


class Power(BaseException):
    """Stands for a power cut."""


def cut_off(monkeypatch, after):
    """Let no more than so many blocks be written; which ones were, is counted."""
    real, written = raster.RasterWorker._enlarged, []

    def counted(self, window, cancelled):
        if len(written) >= after:
            raise Power
        written.append(window)
        return real(self, window, cancelled)

    monkeypatch.setattr(raster.RasterWorker, "_enlarged", counted)
    return written


def digest(path):
    """A hash of a file, or of all in a folder."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


# --- formats, numbers and places ---------------------------------------------------------------


@every_format
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32"])
def test_every_number_comes_through(tmp_path, settings, small, name, dtype):
    pixels = noise((1, 4, 1, 300, 270), dtype)
    if dtype == "float32":
        pixels[0, 1, 0, 5, 5:9], pixels[0, 2, 0, 7, 7] = np.nan, 1e20
    source = write(tmp_path / f"in{ENDING[name]}", pixels, name)
    result = jobs.upscale(source, None, settings())
    assert result.target.name == f"in_toy_x2{ENDING[name]}"
    found, numbers, _ = read(result.target)
    assert numbers.tobytes() == enlarged(pixels, 2).tobytes()
    assert found.format == name
    assert (result.size_before, result.size_after) == ((300, 270), (600, 540))
    assert result.numbers["blocks"] == 4
    assert (result.clipped, result.perception) == (0, 0.0)


@pytest.mark.parametrize("ending", [".ome.tif", ".ome.zarr"])
@pytest.mark.parametrize("shape", [(40, 60), (40, 60, 3)])
def test_a_tiff_that_is_a_picture_goes_into_a_raster_where_that_is_asked_for(
    tmp_path, settings, ending, shape
):
    if ending == ".ome.zarr":
        pytest.importorskip("zarr")
    pixels = noise(shape, "uint16")
    photometric = "minisblack" if len(shape) == 2 else "rgb"
    tifffile.imwrite(tmp_path / "in.tif", pixels, photometric=photometric)
    result = jobs.upscale(tmp_path / "in.tif", tmp_path / f"out{ending}", settings())
    _, numbers, _ = read(result.target)
    bands = pixels[None] if len(shape) == 2 else np.moveaxis(pixels, -1, 0)
    assert np.array_equal(numbers, enlarged(bands[None, :, None], 2))


@pytest.mark.parametrize("name", ["ometiff", "omezarr"])
def test_all_planes_of_a_stack_are_enlarged_where_they_are(tmp_path, settings, name):
    pixels = noise((2, 3, 5, 40, 60), "uint16")
    source = write(tmp_path / f"in{ENDING[name]}", pixels, name, world=MICROSCOPE)
    result = jobs.upscale(source, tmp_path / f"out{ENDING[name]}", settings())
    found, numbers, _ = read(result.target)
    assert np.array_equal(numbers, enlarged(pixels, 2))
    assert found.world.units == MICROSCOPE.units
    assert found.world.depth == MICROSCOPE.depth
    assert np.allclose(found.world.affine, MICROSCOPE.enlarged(2).affine)
    assert result.frames == 10


@pytest.mark.parametrize("affine", [(2, 0, 100, 0, -2, 50), (1.2, 0.5, 7, 0.4, -1.1, 9)])
def test_a_position_stays_where_it_is(tmp_path, settings, affine):
    """The pixels say where they are; those of the result say where theirs lie."""
    a, b, c, d, e, f = affine
    rows, columns = np.mgrid[:40, :60] + 0.5
    place = np.stack([a * columns + b * rows + c, d * columns + e * rows + f])
    pixels = place[None, :, None].astype(np.float32)
    world = World(affine=affine, crs=wkt(32633))
    source = write(tmp_path / "in.tif", pixels, "geotiff", world=world)
    result = jobs.upscale(source, None, settings())
    found, numbers, _ = read(result.target)
    before, _, _ = read(source)
    assert np.allclose(corners(found), corners(before), rtol=1e-12)
    assert "33N" in found.world.crs
    a, b, c, d, e, f = found.world.affine
    rows, columns = np.mgrid[:80, :120] + 0.5
    there = np.stack([a * columns + b * rows + c, d * columns + e * rows + f])
    centre = there.reshape(2, 40, 2, 60, 2).mean((2, 4))
    assert np.allclose(centre, numbers[0, :, 0, ::2, ::2], rtol=1e-6)


def wkt(code):
    rasterio = pytest.importorskip("rasterio")
    return rasterio.CRS.from_epsg(code).to_wkt()


def test_gaps_masks_scales_and_names_stay(tmp_path, settings):
    pixels = noise((1, 2, 1, 50, 50), "int16")
    pixels[0, :, 0, 10:20, 10:30] = -9999
    bands = (
        Band(name="red edge", scale=0.0001, offset=-0.1, unit="1"),
        Band(name="swir", scale=0.0002),
    )
    source = write(tmp_path / "in.tif", pixels, "geotiff", bands=bands, nodata=-9999)
    result = jobs.upscale(source, None, settings())
    found, numbers, valid = read(result.target)
    assert [(b.name, b.scale, b.offset) for b in found.bands] == [
        ("red edge", 0.0001, -0.1),
        ("swir", 0.0002, 0.0),
    ]
    assert found.nodata == -9999
    assert np.array_equal(valid, enlarged(pixels, 2) != -9999)
    assert result.numbers["invalid"] == (pixels == -9999).sum()
    mask = np.ones((1, 1, 1, 50, 50), bool)
    mask[..., 5:9, 3:44] = False
    free = np.abs(pixels // 2)
    masked = write(tmp_path / "masked.tif", free, "geotiff", valid=mask.repeat(2, 1), masked=True)
    found, numbers, valid = read(jobs.upscale(masked, None, settings()).target)
    assert found.masked
    assert np.array_equal(valid, enlarged(mask, 2).repeat(2, 1))
    assert np.array_equal(numbers, enlarged(free, 2))


POINTS = tuple(GroundPoint(row=r, column=c, x=c, y=r) for r in (0, 9) for c in (0, 9))


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ({"nodata": 7.0}, "its nodata number"),
        ({"nodata": np.nan}, "its nodata number"),
        ({"masked": True}, "its mask"),
        ({"world": World(affine=(9, 0, 0, 0, 9, 0))}, "its place"),
        ({"world": replace(ON_A_MAP, crs="a system")}, "its coordinate system"),
        ({"world": replace(ON_A_MAP, points=POINTS)}, "its ground control points"),
        ({"world": replace(ON_A_MAP, rpc={"line_off": 7.5})}, "its polynomials"),
    ],
)
def test_whatever_a_finished_file_does_not_say_is_a_bug_and_no_result(tmp_path, said, what):
    path = write(tmp_path / "in.tif", noise((1, 1, 1, 9, 9), "float32"), "geotiff")
    found = read(path)[0]
    raster._checked(path, found)
    with pytest.raises(TargetError, match=rf"not what was written to it \({what}\); report"):
        raster._checked(path, replace(found, **said))


def test_nodata_that_the_type_has_not_and_that_was_left_out_is_no_bug(tmp_path):
    path = write(tmp_path / "in.tif", noise((1, 1, 1, 9, 9), "uint8"), "geotiff")
    raster._checked(path, replace(read(path)[0], nodata=-9999.0))


def test_it_is_a_cog_without_warnings_and_its_overviews_are_means(tmp_path, settings):
    pytest.importorskip("rio_cogeo")
    from rio_cogeo import cog_validate

    source = write(tmp_path / "in.tif", noise((1, 1, 1, 600, 500), "uint16"), "geotiff")
    target = jobs.upscale(source, None, settings()).target
    assert cog_validate(target, strict=True)[:3] == (True, [], [])
    import rasterio

    with rasterio.open(target) as file, rasterio.open(target, overview_level=0) as half:
        means = file.read(1).reshape(600, 2, 500, 2).mean((1, 3))
        assert np.abs(half.read(1) - means).max() <= 1


def test_an_ome_zarr_is_valid_and_a_chunk_is_a_block(tmp_path, settings):
    models = pytest.importorskip("ome_zarr_models.v05.image")
    import zarr

    source = write(
        tmp_path / "in.ome.zarr", noise((1, 2, 1, 700, 600), "uint8"), "omezarr", world=MICROSCOPE
    )
    target = jobs.upscale(source, None, settings()).target
    models.Image.from_zarr(zarr.open_group(target, mode="r"))
    levels = [zarr.open_array(target / str(i), mode="r") for i in range(3)]
    assert [array.shape[-2:] for array in levels] == [(1400, 1200), (700, 600), (350, 300)]
    assert levels[0].shards[-2:] == (1024, 1024)


def test_the_name_of_the_target_says_what_it_becomes(tmp_path, settings):
    pixels = noise((1, 3, 1, 30, 40), "uint16")
    source = write(tmp_path / "in.ome.tif", pixels, "ometiff", world=MICROSCOPE)
    target = tmp_path / "deep" / "x.ome.zarr"
    target.parent.mkdir()
    for _ in range(2):  # the second time over the first
        result = jobs.upscale(source, target, settings(overwrite=True))
        found, numbers, _ = read(result.target)
        assert found.format == "omezarr"
        assert np.array_equal(numbers, enlarged(pixels, 2))
        assert names(target.parent) == ["x.ome.zarr"]
    assert jobs.upscale(source, target, settings()).status == "skipped"
    back = jobs.upscale(target, f"{tmp_path}/", settings())
    assert back.target == tmp_path / "x_toy_x2.ome.zarr"
    assert np.array_equal(read(back.target)[1], enlarged(pixels, 4))


def test_opacity_is_repeated_and_colours_go_together(tmp_path, settings):
    colours = ["red", "green", "blue", "alpha"]
    bands = tuple(Band(colour=colour) for colour in colours)
    pixels = noise((1, 4, 1, 20, 20), "uint16")
    source = write(tmp_path / "in.tif", pixels, "geotiff", bands=bands)
    result = jobs.upscale(source, None, settings(perception=1.0))
    _, numbers, _ = read(result.target)
    assert np.array_equal(numbers[:, 3], enlarged(pixels, 2)[:, 3])
    assert not np.array_equal(numbers[:, 0], enlarged(pixels, 2)[:, 0])
    assert result.numbers["groups"] == [[0, 1, 2]]
    assert any(trust.WARNING in notice for notice in result.notices)


# --- what numbers mean -------------------------------------------------------------------------


def test_numbers_beyond_the_range_are_kept_and_told(tmp_path, settings):
    pixels = noise((1, 1, 1, 20, 20), "float32") * 100
    source = write(tmp_path / "in.ome.tif", pixels, "ometiff")
    result = jobs.upscale(source, None, settings())
    assert np.array_equal(read(result.target)[1], enlarged(pixels, 2))
    assert any("not between 0 and 1" in notice for notice in result.notices)


@pytest.mark.parametrize(
    ("asked", "range_"),
    [(None, [0, 65535]), ("100,200", [100, 200]), ("p0,p100", [7, 399]), ("-3,9.5", [-3, 9.5])],
)
def test_the_range_is_the_declared_one_or_what_was_asked_for(tmp_path, settings, asked, range_):
    pixels = np.arange(400, dtype=np.uint16).reshape(1, 1, 1, 20, 20)
    pixels[0, 0, 0, 0, :7] = 9999
    source = write(tmp_path / "in.tif", pixels, "geotiff", nodata=9999)
    result = jobs.upscale(source, None, settings(range=asked))
    assert result.numbers["range"] == range_
    assert np.array_equal(read(result.target)[1], enlarged(pixels, 2))


@pytest.mark.parametrize("dtype", ["int32", "uint32", "int64", "uint64"])
def test_numbers_of_wide_types_do_not_drown_in_all_that_the_type_holds(
    tmp_path, settings, small, dtype
):
    pixels = (np.add.outer(np.arange(300), np.arange(270)) * 2 + 20).astype(dtype)
    pixels[:9, :9] = 1
    source = write(tmp_path / "in.tif", pixels[None, None, None], "geotiff", nodata=1)
    result = jobs.upscale(source, None, settings())
    assert np.array_equal(read(result.target)[1][0, 0, 0], enlarged(pixels, 2))
    assert result.numbers["range"] == [20 + 2 * 9, 20 + 2 * 568]
    assert "the least and the largest number, 38 and 1156" in " ".join(result.notices)


def test_numbers_of_wide_types_that_are_all_the_same_stay_so(tmp_path, settings):
    pixels = np.full((1, 1, 1, 20, 20), 2**30 + 5, np.int32)
    source = write(tmp_path / "in.tif", pixels, "geotiff")
    assert np.array_equal(
        read(jobs.upscale(source, None, settings()).target)[1], enlarged(pixels, 2)
    )


def test_a_range_that_was_looked_up_for_another_is_not_taken(tmp_path, settings, monkeypatch):
    pixels = np.arange(400, dtype=np.uint16).reshape(1, 1, 1, 20, 20)
    source = write(tmp_path / "in.tif", pixels, "geotiff")
    with monkeypatch.context() as patch:
        cut_off(patch, after=0)
        with pytest.raises(Power):
            jobs.upscale(source, None, settings(range="p10,p90"))
    with pytest.raises(ConfigError, match="another setting range"):
        jobs.upscale(source, None, settings(range="p0,p100"))
    monkeypatch.setattr(raster_range, "_found", lambda *_: 1 / 0)  # not looked up anew
    result = jobs.upscale(source, None, settings(range="p10,p90"))
    assert result.numbers["range"] == pytest.approx([39.9, 359.1])


def test_what_is_clipped_is_counted(tmp_path, settings, monkeypatch):
    monkeypatch.setitem(toy_script.GAINS, "fidelity", 2.0)
    weights = toy_script.install(tmp_path / "weights")
    pixels = np.full((1, 1, 1, 9, 9), 200, np.uint8)
    pixels[..., 0] = 3
    source = write(tmp_path / "in.ome.zarr", pixels, "omezarr")
    result = jobs.upscale(source, None, settings(weights=weights))
    assert result.clipped == result.numbers["clipped"] == 4 * 72
    assert set(np.unique(read(result.target)[1])) == {6, 255}


@pytest.mark.parametrize(
    ("asked", "most", "bits", "clipped"), [(None, 4095, 12, 320), ("0,65535", 6000, None, 0)]
)
def test_a_result_keeps_to_the_bits_in_use_or_says_nothing_of_them(
    tmp_path, settings, monkeypatch, asked, most, bits, clipped
):
    """A file said 12 bits and held 5434."""
    monkeypatch.setitem(toy_script.GAINS, "fidelity", 2.0)
    weights = toy_script.install(tmp_path / "weights")
    pixels = np.full((2, 9, 9), 1000, np.uint16)
    pixels[:, :5, :8] = 3000
    about = {"axes": "ZYX", "SignificantBits": 12}
    path = tmp_path / "in.ome.tif"
    tifffile.imwrite(path, pixels, metadata=about, photometric="minisblack")
    result = jobs.upscale(path, None, settings(weights=weights, range=asked))
    found, numbers, _ = read(result.target)
    assert (numbers.max(), found.bits, result.clipped) == (most, bits, clipped)


def test_numbers_beyond_the_bits_that_a_file_says_are_in_use_are_told_of(tmp_path, settings):
    pixels = np.full((2, 9, 9), 5000, np.uint16)
    about = {"axes": "ZYX", "SignificantBits": 12}
    path = tmp_path / "in.ome.tif"
    tifffile.imwrite(path, pixels, metadata=about, photometric="minisblack")
    result = jobs.upscale(path, None, settings())
    assert "says that 12 bits are in use, so numbers above 4095" in " ".join(result.notices)
    result = jobs.upscale(path, None, settings(range="0,65535", overwrite=True))
    assert "bits are in use" not in " ".join(result.notices)
    assert (read(result.target)[1] == 5000).all()


def test_half_floats_do_not_become_infinite(tmp_path, settings, monkeypatch):
    monkeypatch.setitem(toy_script.GAINS, "fidelity", 2.0)
    weights = toy_script.install(tmp_path / "weights")
    pixels = np.full((1, 1, 1, 9, 9), 40000, np.float16)
    source = write(tmp_path / "in.ome.zarr", pixels, "omezarr")
    result = jobs.upscale(source, None, settings(weights=weights, range="0,65504"))
    assert (read(result.target)[1] == 65504).all()
    assert result.clipped == 4 * 81


def test_bands_are_seen_together_as_they_are_named(tmp_path, settings):
    source = write(tmp_path / "in.tif", noise((1, 5, 1, 20, 20), "uint16"), "geotiff")
    result = jobs.upscale(source, None, settings(bands="4,2,0;1"))
    assert result.numbers["groups"] == [[1], [3], [4, 2, 0]]


# --- statistics of the whole -------------------------------------------------------------------


def test_blocks_of_a_network_that_looks_at_the_whole_share_what_it_sees(
    tmp_path, settings, small, monkeypatch
):
    monkeypatch.setitem(MODELS, "toy", replace(toy_script.SPEC, statistics="global"))
    weights = toy_script.install(tmp_path / "weights", gated=True)
    rows = np.linspace(0, 60000, 600).astype(np.uint16)
    pixels = np.ascontiguousarray(np.broadcast_to(rows[:, None], (1, 1, 1, 600, 300)))
    source = write(tmp_path / "in.ome.tif", pixels, "ometiff")
    chosen = settings(weights=weights)
    first = read(jobs.upscale(source, tmp_path / "a.ome.tif", chosen).target)[1]
    with monkeypatch.context() as patch:
        written = cut_off(patch, after=2)
        with pytest.raises(Power):
            jobs.upscale(source, tmp_path / "b.ome.tif", chosen)
        assert {r.unit for r in receipts(part_of(tmp_path / "b.ome.tif"))} >= {raster.STATISTICS}
    monkeypatch.setattr(raster.RasterWorker, "_gathered", lambda *_: 1 / 0)  # not found anew
    second = read(jobs.upscale(source, tmp_path / "b.ome.tif", chosen).target)[1]
    assert np.array_equal(first, second)
    # one gate for all: what comes out is in proportion to what went in, across all blocks
    share = first[0, 0, 0, 200:, 0] / enlarged(pixels, 2)[0, 0, 0, 200:, 0]
    assert np.ptp(share) < 1e-3
    assert len(written) == 2


# --- what becomes of a run ---------------------------------------------------------------------


@every_format
@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_a_run_that_was_cut_off_goes_on_where_it_was(
    tmp_path, settings, small, monkeypatch, name, share
):
    pixels = noise((1, 1, 1, 520, 700), "uint16")
    source = write(tmp_path / f"in{ENDING[name]}", pixels, name)
    whole = jobs.upscale(source, tmp_path / f"same{ENDING[name]}", settings()).target
    expected = digest(whole)
    whole.rename(tmp_path / "expected")
    with monkeypatch.context() as patch:
        first = cut_off(patch, after=int(9 * share))
        with pytest.raises(Power):
            jobs.upscale(source, whole, settings())
    assert not whole.exists()
    then = cut_off(monkeypatch, after=9)
    jobs.upscale(source, whole, settings())
    assert len(first) + len(then) == 9
    assert set(map(str, first)).isdisjoint(map(str, then))
    assert digest(whole) == expected


@pytest.mark.parametrize("ending", [".ome.tif", ".ome.zarr"])
def test_a_raster_that_was_whole_when_it_was_killed_is_not_made_again(
    tmp_path, scene, settings, monkeypatch, ending
):
    """All of an OME-Zarr was thrown away if that was before it had its name, as amid a report."""
    if ending == ".ome.zarr":
        pytest.importorskip("zarr")
    target = tmp_path / f"out{ending}"
    for at in ("_checked", "synced"):
        with monkeypatch.context() as patch:
            where = raster if at == "_checked" else jobs.target
            patch.setattr(where, at, killed)
            cut_off(patch, after=9 if at == "_checked" else 0)
            with pytest.raises(Power):
                jobs.upscale(scene, target, settings())
    then = cut_off(monkeypatch, after=9)
    jobs.upscale(scene, target, settings())
    assert not then
    assert np.array_equal(read(target)[1], enlarged(read(scene)[1], 2))
    assert names(tmp_path) == ["in.ome.tif", f"out{ending}"]


def killed(*_):
    raise Power


def test_what_a_killed_writer_left_amid_a_file_is_no_part_of_an_ome_zarr(
    tmp_path, scene, settings, monkeypatch
):
    """Half a chunk under a name of Zarr's own was published; half a zarr.json ended every run."""
    pytest.importorskip("zarr")
    expected = jobs.upscale(scene, tmp_path / "one.ome.zarr", settings()).target
    target = tmp_path / "two.ome.zarr"
    with monkeypatch.context() as patch:
        cut_off(patch, after=4)
        with pytest.raises(Power):
            jobs.upscale(scene, target, settings())
    growing = part_of(target) / target.name
    (growing / "0" / "c" / "0" / f"1.{'0' * 32}.partial").write_bytes(b"half")
    for torn in (growing / "zarr.json", growing / "1" / "zarr.json"):
        torn.write_bytes(torn.read_bytes()[:20])
    then = cut_off(monkeypatch, after=9)
    jobs.upscale(scene, target, settings())
    assert len(then) == 5
    assert np.array_equal(read(target)[1], enlarged(read(scene)[1], 2))
    assert within(target) == within(expected)


def within(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_all_of_an_ome_zarr_is_on_the_disk_before_it_has_its_name(
    tmp_path, scene, settings, monkeypatch
):
    """Its smaller levels and what it says of itself were not; a power cut could tear them."""
    pytest.importorskip("zarr")
    real, reached = os.fsync, set()

    def noted(file):
        reached.add(os.fstat(file).st_ino)
        real(file)

    monkeypatch.setattr(os, "fsync", noted)
    target = jobs.upscale(scene, tmp_path / "out.ome.zarr", settings()).target
    files = list(target.rglob("*"))
    assert [path for path in files if path.stat().st_ino not in reached] == []


def test_a_disk_without_room_is_found_before_a_block_is_computed(
    tmp_path, scene, settings, monkeypatch
):
    needed, target = 4 * 520 * 700 * 2, tmp_path / "out.ome.tif"

    def free(size):
        usage = SimpleNamespace(free=size)
        monkeypatch.setattr("srpipe.jobs.target.shutil.disk_usage", lambda path: usage)

    free(needed - 1)
    with pytest.raises(TargetError, match=r"needs 0\.0 GiB more .* free; make room, or use -o"):
        jobs.upscale(scene, target, settings())
    assert names(tmp_path) == ["in.ome.tif"]
    free(needed)
    with monkeypatch.context() as patch:
        cut_off(patch, after=4)
        with pytest.raises(Power):
            jobs.upscale(scene, target, settings())
    free(needed - 2 * 512 * 512)  # the first block alone has as much
    jobs.upscale(scene, target, settings())
    free(0)
    jobs.upscale(scene, tmp_path / "out.ome.zarr", settings())  # compressed, nobody knows how far


def test_a_damaged_block_is_made_anew(tmp_path, scene, settings, monkeypatch):
    target = tmp_path / "out.ome.tif"
    with monkeypatch.context() as patch:
        cut_off(patch, after=5)
        with pytest.raises(Power):
            jobs.upscale(scene, target, settings())
    piece = sorted(part_of(target).rglob("*.npy"))[2]
    data = bytearray(piece.read_bytes())
    data[len(data) // 2] ^= 1
    piece.write_bytes(data)
    then = cut_off(monkeypatch, after=9)
    jobs.upscale(scene, target, settings())
    assert len(then) == 9 - 4


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"perception": 1.0}, r"perception \(0.0 then, 1.0 now\)"),
        ({"range": "0,9"}, r"setting range \(none then, 0,9 now\)"),
        ({"bands": "0"}, "setting bands"),
        ({"tile": 99}, "setting tile"),
        ({"consistency": "project"}, "setting consistency"),
        ("input", "input"),
    ],
)
def test_another_setting_or_input_is_refused_and_named(
    tmp_path, scene, settings, monkeypatch, changed, words
):
    target = tmp_path / "out.ome.tif"
    with monkeypatch.context() as patch:
        cut_off(patch, after=1)
        with pytest.raises(Power):
            jobs.upscale(scene, target, settings())
    values = changed if isinstance(changed, dict) else {}
    if changed == "input":
        write(scene, noise((1, 1, 1, 700, 520), "uint16").swapaxes(3, 4), "ometiff")
    with pytest.raises(ConfigError, match=rf"another {words}.*--restart"):
        jobs.plan(scene, target, settings(**values))
    assert jobs.upscale(scene, target, settings(restart=True, **values)).status == "done"


def test_a_part_that_cannot_be_read_is_named_and_the_others_are_kept(
    tmp_path, scene, settings, monkeypatch
):
    target, real = tmp_path / "out.ome.tif", raster.RasterWorker._enlarged

    def torn(self, window, cancelled):
        if window.y[0] == window.x[0] == 512:
            raise MediaError("in.ome.tif is damaged here")
        return real(self, window, cancelled)

    with monkeypatch.context() as patch:
        patch.setattr(raster.RasterWorker, "_enlarged", torn)
        with pytest.raises(MediaError, match=r"1 of 9 units failed, t00000-z00000-y00512-x00512"):
            jobs.upscale(scene, target, settings())
    assert len(receipts(part_of(target))) == 8
    assert jobs.upscale(scene, target, settings()).numbers["blocks"] == 9
    assert names(tmp_path) == ["in.ome.tif", "out.ome.tif"]


def test_memory_that_runs_out_costs_one_block(tmp_path, scene, settings, monkeypatch):
    """But for the network's, it ended the job with a traceback."""
    way, calls = raster.RasterWorker._enlarged, []

    def full(self, *args):
        calls.append(args)
        if len(calls) == 4:
            raise MemoryError("Unable to allocate 2.00 GiB")
        return way(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(raster.RasterWorker, "_enlarged", full)
        with pytest.raises(DeviceError, match=r"1 of 9 units failed, .*Unable to allocate 2\.00"):
            jobs.upscale(scene, tmp_path / "out.ome.tif", settings())
    written = cut_off(monkeypatch, 9)
    jobs.upscale(scene, tmp_path / "out.ome.tif", settings())
    assert len(written) == 1


def test_cancelling_stops_between_blocks_and_keeps_them(tmp_path, scene, settings):
    stop = threading.Event()

    def after_three(event):
        if event.kind == "progress" and event.facts["done"] == 3:
            stop.set()

    with pytest.raises(Cancelled, match="3 of 9 blocks are kept"):
        jobs.upscale(scene, tmp_path / "out.tif", settings(), report=after_three, cancelled=stop)
    assert len(receipts(part_of(tmp_path / "out.tif"))) == 3


def test_a_first_block_that_fails_leaves_nothing(tmp_path, scene, settings, monkeypatch):
    cut_off(monkeypatch, after=0)
    with pytest.raises(Power):
        jobs.upscale(scene, f"{tmp_path}/new/deep/", settings())
    assert names(tmp_path) == ["in.ome.tif"]


# --- several processes -------------------------------------------------------------------------


@pytest.fixture
def two(settings, monkeypatch):
    """Settings for two workers that have the toy network."""
    pytest.importorskip("distributed")  # which brings settings that it would miss later
    import dask

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    preload = str(Path(__file__).with_name("toy_worker.py"))
    with dask.config.set({"distributed.worker.preload": [preload]}):
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        yield lambda **values: settings(workers=2, **values)


lost = pytest.mark.filterwarnings("ignore::ResourceWarning")


@lost
@pytest.mark.parametrize("name", ["geotiff", "omezarr"])
def test_two_workers_make_bit_for_bit_what_one_process_makes(tmp_path, small, settings, two, name):
    pixels = noise((1, 2, 1, 520, 300), "uint16")
    source = write(tmp_path / f"in{ENDING[name]}", pixels, name)
    target = tmp_path / f"out{ENDING[name]}"
    jobs.upscale(source, target, settings())
    alone = digest(target)
    jobs.upscale(source, target, two(overwrite=True))
    assert digest(target) == alone


@lost
def test_the_workers_of_a_scheduler_make_it_too(tmp_path, small, settings, two):
    """Job after job."""
    import dask
    from distributed import LocalCluster

    source = write(tmp_path / "in.tif", noise((1, 2, 1, 520, 300), "uint16"), "geotiff")
    jobs.upscale(source, tmp_path / "alone.tif", settings())
    with (
        spread._environ(dask.config.get(spread._ENVIRON), {}),
        LocalCluster(
            n_workers=1, threads_per_worker=2, dashboard_address=":0", memory_limit=0
        ) as cluster,
    ):
        there = settings(scheduler=cluster.scheduler_address)
        for name in ("one.tif", "two.tif"):
            jobs.upscale(source, tmp_path / name, there)
            assert digest(tmp_path / name) == digest(tmp_path / "alone.tif")


@lost
def test_a_worker_has_its_share_of_the_cores(tmp_path, scene, two, monkeypatch):
    import torch

    monkeypatch.setenv("SRPIPE_TEST_THREADS", str(tmp_path / "threads"))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        jobs.upscale(scene, tmp_path / "out.tif", two())
    finally:
        torch.set_num_threads(before)
    assert set((tmp_path / "threads").read_text().split()) == {"2"}


@lost
@pytest.mark.parametrize("at", ["y00000-x01024", "y00512-x00512", "y01024-x00000"])
def test_a_lost_worker_costs_its_block_and_no_more(tmp_path, scene, two, monkeypatch, at):
    """A quarter, half and three quarters of the way."""
    monkeypatch.setenv("SRPIPE_TEST_KILL", f"t00000-z00000-{at}")
    monkeypatch.setenv("SRPIPE_TEST_ONCE", str(tmp_path / "killed"))
    result = jobs.upscale(scene, tmp_path / "out.tif", two())
    assert (tmp_path / "killed").exists()
    assert np.array_equal(read(result.target)[1], enlarged(read(scene)[1], 2))


@lost
def test_a_block_that_ends_every_worker_is_named_and_the_others_are_kept(
    tmp_path, scene, two, settings, monkeypatch
):
    monkeypatch.setenv("SRPIPE_TEST_KILL", "t00000-z00000-y00512-x00512")
    with pytest.raises(DeviceError, match=r"1 of 9 units failed, t00000-.* first: .*ended"):
        jobs.upscale(scene, tmp_path / "out.tif", two())
    then = cut_off(monkeypatch, after=9)
    jobs.upscale(scene, tmp_path / "out.tif", settings())
    assert len(then) == 1


@pytest.mark.parametrize("ending", [".tif", ".ome.zarr"])
def test_a_killed_command_goes_on_and_no_block_is_done_twice(tmp_path, toy, ending):
    """So many blocks that it is far from its end when it is killed, however late that is seen."""
    slow = toy_script.install(tmp_path / "weights", sleep_s=0.1)
    source = write(tmp_path / "in.ome.tif", noise((40, 1, 1, 20, 30), "uint16"), "ometiff")
    target = tmp_path / f"out{ending}"
    before = []
    for share in (3, 9):
        process = started(tmp_path, slow, source, "-o", target)
        wait_for(lambda share=share: len(written(target)) >= share, process)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        now = written(target)
        assert now[: len(before)] == before
        assert len(set(now)) == len(now)
        before = now
    process = started(tmp_path, slow, source, "-o", target, "--json")
    told = [json.loads(line) for line in process.communicate()[0].splitlines()]
    assert process.returncode == 0
    assert next(e for e in told if e["event"] == "progress")["done"] == len(before)
    assert np.array_equal(read(target)[1], enlarged(read(source)[1], 2))


def written(target):
    """The blocks with a receipt, each as often as it was written."""
    path = part_of(target) / RECEIPTS
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line)["unit"] for line in lines if line.endswith("\n")]


def wait_for(done, process):
    for _ in range(600):
        if done():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("nothing happened for 30 s")


# --- the command -------------------------------------------------------------------------------


def test_the_command_enlarges_a_raster_and_says_what_became_of_it(run, tmp_path):
    write(tmp_path / "scene.tif", noise((1, 13, 1, 30, 40), "uint16"), "geotiff")
    code, out, err = run("scene.tif", "--scale", "2", "--range=0,10000")
    assert code == 0, err
    assert out[0] == "scene.tif -> scene_toy_x2.tif"
    assert out[1].startswith("  1 plane of 13 bands, 40 x 30 -> 80 x 60, ")
    assert "not between 0 and 10000" in " ".join(err)
    code, out, _ = run("scene.tif", "--json", "--overwrite", "-s", "2")
    assert code == 0
    done = json.loads(out[-1])
    assert done["numbers"]["range"] == [0, 65535]


def test_a_plan_of_a_raster_writes_nothing(run, tmp_path):
    write(tmp_path / "scene.ome.zarr", noise((1, 2, 3, 30, 40), "uint16"), "omezarr")
    code, out, _ = run("scene.ome.zarr", "--dry-run")
    assert code == 0
    assert out[1] == "  40 x 30 -> 80 x 60, 3 planes of 2 bands"
    assert names(tmp_path) == ["scene.ome.zarr"]


def test_rasters_of_a_folder_are_files_like_others(run, tmp_path):
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    pixels = noise((1, 2, 1, 30, 40), "uint16")
    write(folder / "deep" / "a.tif", pixels, "geotiff")
    write(folder / "b.ome.zarr", pixels, "omezarr")
    code, out, err = run("in", "-o", "out", "--recursive")
    assert code == 0, err
    for name in ("deep/a.tif", "b.ome.zarr"):
        assert np.array_equal(read(tmp_path / "out" / name)[1], enlarged(pixels, 2))
    code, out, _ = run("in", "-o", "out", "--recursive")
    assert "2 files: 2 done before" in out[-1]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--scale", "1.5"), "a raster is enlarged by a whole number"),
        (("--size", "99x99"), "a raster is enlarged by a whole number"),
        (("--scale", "3"), "toy enlarges a raster 2 times and not 3 times"),
        (("--range", "9,1"), "'9,1' is no range; write two numbers"),
        (("--range", "p1,200"), "'p1,200' is no range"),
        (("--bands", "0,1"), "bands 0, 1 cannot go together"),
        (("--bands", "a"), "'a' names no bands"),
        (("--bands", "7"), "there is no band 7; there are 0 to 1"),
        (("-o", "out.png"), "out.png is no name for a raster"),
        (("-o", "out.ome.zarr"), "OME-Zarr cannot say where on the ground"),
        (("-o", "in.tif"), "in.tif is the input itself"),
    ],
)
def test_what_does_not_fit_a_raster_is_one_clear_line(run, tmp_path, words, line):
    world = replace(ON_A_MAP, crs=wkt(32633))
    write(tmp_path / "in.tif", noise((1, 2, 1, 9, 9), "uint16"), "geotiff", world=world)
    code, out, err = run("in.tif", *words)
    assert (code, out, len(err)) == (2, [], 1)
    assert line in err[0]
    assert names(tmp_path) == ["in.tif"]


def test_what_is_said_of_rasters_fits_no_picture(run, tmp_path):
    from PIL import Image

    Image.new("RGB", (9, 9)).save(tmp_path / "in.png")
    code, _, err = run("in.png", "--bands", "0")
    assert code == 2
    assert "in.png is no raster, so --bands says nothing" in err[0]


def test_damaged_rasters_are_one_clear_line(run, tmp_path):
    source = write(tmp_path / "in.tif", noise((1, 2, 1, 600, 600), "uint16"), "geotiff")
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    zarr = write(tmp_path / "in.ome.zarr", noise((1, 2, 1, 60, 60), "uint16"), "omezarr")
    (zarr / "0" / "zarr.json").unlink()
    for name in ("in.tif", "in.ome.zarr"):
        code, out, err = run(name)
        assert (code, out, len(err)) == (1, [], 1), err
        assert "damaged" in err[0]
    assert names(tmp_path) == ["in.ome.zarr", "in.tif"]


# --- files of others ---------------------------------------------------------------------------

THERE_AND_BACK = [
    *("geo/cog_uint16_dateline.tif", "geo/dsm_float32_nodata.tif", "geo/float_nan_2x3.tif"),
    *("geo/int16_scale_offset_nodata.tif", "geo/rotated_geomatrix_20x20.tif"),
    *("geo/landsat7_six_band_uint8.tif", "geo/uint16_rpc_georeference.tif", "geo/rotated_tiny.tif"),
    *("microscopy/multi_channel_int8.ome.tif", "microscopy/three_channel_uint8.ome.tif"),
    *("microscopy/nuclear_pore_c2_uint16.ome.zarr", "microscopy/spots_z17_c2_uint16.tif"),
]


@pytest.mark.shared
@pytest.mark.parametrize("name", THERE_AND_BACK)
def test_files_of_others_go_there_and_come_back(tmp_path, settings, name):
    source = SHARED / name
    if not source.exists():
        pytest.skip(f"{source} is not there")
    before, pixels, valid = read(source)
    if before.nbytes > 2**23:
        pytest.skip(f"{source} takes too long here")
    result = jobs.upscale(source, f"{tmp_path}/", settings())
    found, numbers, mask = read(result.target)
    known = np.ones(numbers.shape, bool) if valid is None else enlarged(valid, 2)
    assert np.array_equal(numbers[known], enlarged(pixels, 2)[known])
    assert (mask is None and known.all()) or np.array_equal(mask, known)
    if before.world.affine:
        assert np.allclose(corners(found), corners(before), rtol=1e-12)
    assert (found.world.crs, found.world.units) == (before.world.crs, before.world.units)
    assert [band.name for band in found.bands] == [band.name for band in before.bands]


# --- trust -------------------------------------------------------------------------------------


@every_format
def test_the_record_of_where_it_comes_from_is_in_the_file(tmp_path, settings, name):
    source = write(tmp_path / f"in{ENDING[name]}", noise((1, 2, 1, 30, 40), "uint16"), name)
    first = jobs.upscale(source, f"{tmp_path}/first/", settings(range="0,60000"))
    record = json.loads(read(first.target)[0].record)
    assert record["contains_synthesised_detail"]
    assert record["normalisation"] == "0 to 60000 are 0 to 1"
    assert record["counts"]["outside"] == first.numbers["outside"] > 0
    assert len(next(iter(record["model"]["weights_sha256"].values()))) == 64
    second = jobs.upscale(first.target, f"{tmp_path}/second/", settings())
    again = json.loads(read(second.target)[0].record)
    assert again["input"]["record"] == record


def test_a_report_is_of_all_numbers_and_names_the_gaps(tmp_path, settings, small):
    pixels = noise((1, 2, 1, 300, 300), "int16")
    pixels[0, 1, 0, :100] = -9999
    source = write(tmp_path / "in.tif", pixels, "geotiff", nodata=-9999)
    result = jobs.upscale(source, None, settings(report=True))
    facts = json.loads((tmp_path / f"{result.target.name}.report.json").read_text())
    first, second = facts["agreement"]["bands"]
    assert first["valid"] == 90000 - (pixels[0, 0] == -9999).sum() * 25
    assert second["invalid"] >= 30000
    assert abs(first["bias"]) < 100
    assert (tmp_path / f"{result.target.name}.report.html").exists()


def test_a_report_says_how_much_of_a_resumed_raster_it_counts(
    tmp_path, scene, settings, monkeypatch
):
    with monkeypatch.context() as patch:
        cut_off(patch, after=4)
        with pytest.raises(Power):
            jobs.upscale(scene, tmp_path / "out.tif", settings())
    result = jobs.upscale(scene, tmp_path / "out.tif", settings(report=True))
    assert "the report counts 5 of 9 blocks" in " ".join(result.notices)
    whole = jobs.upscale(scene, tmp_path / "all.tif", settings(report=True))
    assert "the report counts" not in " ".join(whole.notices)


def test_what_is_projected_agrees_with_its_input(tmp_path, settings, small):
    pixels = noise((1, 1, 1, 300, 290), "float32")
    source = write(tmp_path / "in.ome.tif", pixels, "ometiff")
    rmse = []
    for how in ("off", "project"):
        chosen = settings(report=True, consistency=how, overwrite=True)
        target = jobs.upscale(source, None, chosen).target
        facts = json.loads((tmp_path / f"{target.name}.report.json").read_text())
        rmse.append(facts["agreement"]["bands"][0]["rmse"])
    assert rmse[1] < rmse[0] / 50


# --- from one format into another --------------------------------------------------------------


def test_a_stack_goes_into_zarr_and_comes_back(tmp_path, settings):
    pixels = noise((1, 1, 3, 30, 40), "uint16")
    source = write(tmp_path / "in.ome.tif", pixels, "ometiff")
    between = write(tmp_path / "in.ome.zarr", pixels, "omezarr")
    for start in (
        source,
        jobs.upscale(source, tmp_path / "a.ome.zarr", settings()).target,
        between,
    ):
        result = jobs.upscale(start, tmp_path / "b.ome.tif", settings(overwrite=True))
        assert np.array_equal(read(result.target)[1], enlarged(read(start)[1], 2))
        assert "lies" not in " ".join(result.notices)


def test_an_origin_that_a_format_cannot_say_is_left_out_and_told(tmp_path, settings):
    world = World(affine=(0.5, 0, 70, 0, 0.25, 9), units=("micrometer", "micrometer"))
    pixels = noise((1, 1, 1, 30, 40), "uint16")
    source = write(tmp_path / "in.ome.zarr", pixels, "omezarr", world=world)
    result = jobs.upscale(source, tmp_path / "out.ome.tif", settings())
    assert read(result.target)[0].world.affine == (0.25, 0, 0, 0, 0.125, 0)
    said = "where its first pixel lies (x 70, y 9) is left out of OME-TIFF"
    assert said in " ".join(result.notices)


def test_planes_that_run_backwards_have_a_size_in_ome_tiff_and_are_told(tmp_path, settings):
    """Their negative size was written, which OME-XML has not, and nobody could read it."""
    pytest.importorskip("zarr")
    tifffile.imwrite(
        tmp_path / "in.tif",
        noise((2, 30, 40), "uint16"),
        imagej=True,
        metadata={"axes": "ZYX", "spacing": -2.0, "unit": "um"},
    )
    into_zarr = jobs.upscale(tmp_path / "in.tif", tmp_path / "out.ome.zarr", settings())
    into_tiff = jobs.upscale(into_zarr.target, tmp_path / "out.ome.tif", settings())
    assert read(into_zarr.target)[0].world.depth == Step(size=-2.0, unit="micrometer")
    assert read(into_tiff.target)[0].world.depth == Step(size=2.0, unit="micrometer")
    said = "that its planes run backwards is left out of OME-TIFF"
    assert said in " ".join(into_tiff.notices)
    assert said not in " ".join(into_zarr.notices)


@pytest.mark.parametrize("ending", ["ome.tif", "ome.zarr"])
def test_a_meaning_that_a_format_cannot_say_is_left_out_and_told(tmp_path, settings, ending):
    about = {"bands": (Band(scale=0.1, offset=5.0, unit="K"),), "world": World()}
    pixels = noise((1, 1, 1, 30, 40), "uint16")
    source = write(tmp_path / "in.tif", pixels, "geotiff", own={"white_at_0": True}, **about)
    told = jobs.plan(source, tmp_path / f"out.{ending}", settings()).notices
    assert "what its numbers mean (scale, offset, unit) is left out of OME" in " ".join(told)
    assert "that its 0 is white is left out of OME" in " ".join(told)
    assert "left out" not in " ".join(jobs.plan(source, tmp_path / "out.tif", settings()).notices)


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_wide_numbers_of_a_tiff_go_into_zarr(tmp_path, settings, dtype):
    pytest.importorskip("zarr")
    pixels = (np.arange(1200).reshape(30, 40) * 3).astype(dtype)
    tifffile.imwrite(tmp_path / "in.tif", pixels)
    result = jobs.upscale(tmp_path / "in.tif", tmp_path / "out.ome.zarr", settings())
    assert np.array_equal(read(result.target)[1][0, 0, 0], enlarged(pixels, 2))


def test_how_a_tiff_is_shown_is_told_where_it_is_left_out(tmp_path, settings):
    pytest.importorskip("zarr")
    pixels = noise((30, 40), "float32")
    about = {"metadata": None, "extratags": [(274, 3, 1, 6, True)]}
    tifffile.imwrite(tmp_path / "in.tif", pixels, **about)
    result = jobs.upscale(tmp_path / "in.tif", tmp_path / "out.ome.zarr", settings())
    assert "which way up it is shown is left out of OME-Zarr" in " ".join(result.notices)


def test_what_a_photographs_file_says_is_told_where_it_is_left_out(tmp_path, settings):
    pytest.importorskip("zarr")
    exif = Image.Exif()
    exif[315], exif[34665] = "Ann", {33434: 0.01}
    about = Metadata(exif=exif.tobytes().removeprefix(b"Exif\0\0"), xmp=XMP)
    frame = frame_of(noise((30, 40, 3), "uint8"))
    image.write(tmp_path / "in.tif", Picture(frame=frame, metadata=about, format="tiff"))
    into_zarr = jobs.upscale(tmp_path / "in.tif", tmp_path / "out.ome.zarr", settings())
    into_tiff = jobs.upscale(tmp_path / "in.tif", tmp_path / "out.ome.tif", settings())
    for words in ("its EXIF", "its XMP", "who made it, and with what,"):
        assert f"{words} is left out of OME-Zarr" in " ".join(into_zarr.notices)
    assert [said for said in into_tiff.notices if "left out" in said] == [
        f"{tmp_path / 'in.tif'}: its EXIF is left out of OME-TIFF"
    ]


def told(source, ending, settings):
    """What is left out of a target, in words."""
    notices = jobs.plan(source, source.with_name(f"out.{ending}"), settings()).notices
    start, end = f"{source}: ", " is left out of "
    return {said.removeprefix(start).partition(end)[0] for said in notices if end in said}


def test_what_imagej_says_of_slices_and_numbers_is_told_where_it_is_left_out(tmp_path, settings):
    about = {"axes": "ZYX", "Labels": ["a", "b"], "cf": 0, "c0": -32768, "c1": 1}
    pixels = noise((2, 30, 40), "uint16")
    tifffile.imwrite(tmp_path / "in.tif", pixels, imagej=True, metadata=about)
    lost = {"how its slices are labelled", "what its numbers mean (calibration)"}
    assert told(tmp_path / "in.tif", "ome.tif", settings) == lost


@pytest.mark.parametrize(
    "about", [{"own": {"tags": {"": {"a": "1"}}}}, {"bands": (Band(own={"": {"nm": "705"}}),)}]
)
def test_tags_are_told_where_they_are_left_out(tmp_path, settings, about):
    pixels = noise((1, 1, 1, 30, 40), "uint16")
    source = write(tmp_path / "in.tif", pixels, "geotiff", world=World(), **about)
    assert told(source, "ome.tif", settings) == {"what its tags say"}
    assert told(source, "tif", settings) == set()


def test_how_gdal_counts_pixels_and_what_wrote_the_file_are_not_told():
    tags = {"": {"AREA_OR_POINT": "Area", "TIFFTAG_SOFTWARE": "x"}}
    raster = raster_of(noise((1, 1, 1, 30, 40), "uint16"), "geotiff", own={"tags": tags})
    assert left_out(raster, "omezarr") == []


def test_attributes_are_told_where_they_are_left_out(tmp_path, settings):
    pixels, own = noise((1, 1, 1, 30, 40), "uint16"), {"attributes": {"a": 1}}
    source = write(tmp_path / "in.ome.zarr", pixels, "omezarr", own=own)
    assert told(source, "ome.tif", settings) == {"what its other attributes say"}
    assert told(source, "zarr", settings) == set()


def test_a_description_is_told_where_it_is_left_out(tmp_path, settings):
    pytest.importorskip("zarr")
    about = {"axes": "YX", "Description": "cells"}
    tifffile.imwrite(tmp_path / "in.ome.tif", noise((30, 40), "uint16"), metadata=about)
    assert told(tmp_path / "in.ome.tif", "zarr", settings) == {"its description"}
    assert told(tmp_path / "in.ome.tif", "ome.tif", settings) == set()


def test_a_tag_of_somebody_else_under_the_records_name_is_no_record(tmp_path, settings):
    pixels = noise((1, 1, 1, 30, 40), "uint16")
    source = write(tmp_path / "in.tif", pixels, "geotiff", own={"tags": {"": {"srpipe": "hello"}}})
    assert read(source)[0].record == "hello"
    record = json.loads(read(jobs.upscale(source, None, settings()).target)[0].record)
    assert "record" not in record["input"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_lies_beside_the_output_and_would_be_read_with_it_is_named(
    tmp_path, scene, settings, overwrite
):
    target = tmp_path / "out.tif"
    stale = tmp_path / "out.tif.aux.xml"
    if overwrite:
        target.write_bytes(b"older")
    stale.write_text("<PAMDataset><GeoTransform>1, 2, 0, 3, 0, 4</GeoTransform></PAMDataset>")
    with pytest.raises(TargetError, match=r"read together with out\.tif\.aux\.xml, which lies"):
        jobs.upscale(scene, target, settings(overwrite=overwrite))
    stale.write_text("<PAMDataset><Metadata><MDI>1</MDI></Metadata></PAMDataset>")
    assert jobs.upscale(scene, target, settings(overwrite=overwrite)).status == "done"
