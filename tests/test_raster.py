import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from raster_files import enlarge, noise, read

from srpipe.errors import ConfigError, MediaError, TargetError
from srpipe.io import raster_formats
from srpipe.io.pieces import Pieces, area_mean, below, halved_grid, levels
from srpipe.io.raster import Grid, GroundPoint, Window, World, grid_for, reading
from srpipe.io.raster_formats import open_raster, raster_format

sides = st.integers(1, 40)


@settings(max_examples=40, deadline=None)
@given(st.tuples(st.integers(1, 3), st.integers(1, 2), sides, sides, sides), sides, sides)
def test_blocks_cover_every_pixel_once(shape, side, planes):
    grid = Grid(shape, side, planes)
    count = np.zeros(shape, int)
    for window in grid:
        count[window.slices] += 1
    assert (count == 1).all()
    assert len(grid) == len(list(grid))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 900), st.integers(1, 900), st.integers(1, 8), st.integers(300, 5000))
def test_a_block_is_made_of_whole_tiles_and_of_whole_source_pixels(y, x, scale, side):
    grid = grid_for((1, 1, 1, y * scale, x * scale), scale, side)
    assert grid.side % 512 == 0
    assert all(window.reduced(scale).enlarged(scale) == window for window in grid)


def test_small_planes_share_a_block():
    assert len(grid_for((2, 2, 45, 100, 100), 2)) == 2


def test_a_block_that_does_not_divide_is_an_error():
    with pytest.raises(ConfigError, match="does not divide by 3"):
        Window((0, 1), (0, 1), (0, 512), (0, 512)).reduced(3)


def test_a_margin_ends_where_the_raster_does():
    window = Window((0, 1), (0, 1), (3, 9), (0, 4)).grown(5, (1, 1, 1, 12, 30))
    assert (window.y, window.x) == ((0, 12), (0, 9))


numbers = st.floats(-1e4, 1e4)


@settings(deadline=None)
@given(st.tuples(*[numbers] * 6), st.integers(1, 8), st.integers(1, 500), st.integers(1, 500))
def test_corners_stay_for_any_turned_and_sheared_transform(affine, scale, height, width):
    world = World(affine=affine).enlarged(scale)

    def at(affine, x, y):
        a, b, c, d, e, f = affine
        return a * x + b * y + c, d * x + e * y + f

    for x, y in [(0, 0), (width, 0), (0, height), (width, height), (width / 3, height / 7)]:
        there = at(world.affine, x * scale, y * scale)
        assert there == pytest.approx(at(affine, x, y), rel=1e-9, abs=1e-7)


def test_points_on_the_ground_and_polynomials_go_along():
    rpc = {"line_off": 9.5, "samp_off": 4.5, "line_scale": 10.0, "samp_scale": 5.0, "lat_off": 1.0}
    world = World(points=(GroundPoint(row=1.5, column=2, x=7, y=8),), rpc=rpc).enlarged(2)
    assert (world.points[0].row, world.points[0].column, world.points[0].x) == (3, 4, 7)
    # the middle of 20 x 10 px, between the centres of pixels 9 and 10, is that of 40 x 20 px
    assert world.rpc == {
        **rpc,
        "line_off": 19.5,
        "samp_off": 9.5,
        "line_scale": 20,
        "samp_scale": 10,
    }


def test_a_mean_of_four_is_rounded_and_leaves_out_what_is_no_number():
    block = np.array([[1, 2, 10], [3, 4, 13], [7, 8, 200]], np.uint8)
    assert area_mean(block).tolist() == [[2, 12], [8, 200]]
    with_gaps = np.array([[1, np.nan, np.nan], [3, 5, np.nan]], np.float32)
    assert np.array_equal(area_mean(with_gaps), np.float32([[3, np.nan]]), equal_nan=True)


def test_a_pyramid_ends_where_it_fits():
    assert [levels(n, 5, 512) for n in (5, 512, 513, 1024, 1025, 20000)] == [1, 1, 2, 2, 3, 7]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 50), st.integers(1, 50))
def test_a_level_is_made_of_all_pixels_below_it(y, x):
    grid = Grid((1, 1, 1, y, x), 8)
    used = np.zeros((1, 1, 1, y, x), int)
    for window in halved_grid(grid):
        used[below(window, grid).slices] += 1
    assert (used == 1).all()


def test_pieces_give_any_window_back_and_say_which_one_is_missing(tmp_path):
    pixels = noise((2, 3, 4, 20, 30), "int16")
    pieces = Pieces(tmp_path, Grid(pixels.shape, 8, 2), pixels.dtype)
    for window in pieces.grid:
        pieces.write(window, np.ascontiguousarray(pixels[window.slices]))
    window = Window((0, 2), (1, 4), (5, 19), (7, 30))
    assert np.array_equal(pieces.read(window), pixels[window.slices])
    assert np.array_equal(pieces.read(window, 1), pixels[window.slices][:, 1:2])
    first = next(iter(pieces.grid))
    pieces.path(first).write_bytes(pieces.path(first).read_bytes()[:100])
    with pytest.raises(TargetError, match="is missing or torn"):
        pieces.read(first)
    with pytest.raises(TargetError, match="is no block"):
        pieces.write(first, pixels)


@pytest.mark.parametrize(
    ("shape", "dtype", "colour", "kind"),
    [
        ((9, 9), "uint8", "minisblack", None),
        ((9, 9, 3), "uint16", "rgb", None),
        ((9, 9), "float32", "minisblack", "ometiff"),
        ((9, 9), "int16", "minisblack", "ometiff"),
        ((4, 9, 9), "uint8", "minisblack", "ometiff"),
        ((9, 9, 6), "uint8", "minisblack", "ometiff"),
    ],
)
def test_a_plain_tiff_is_a_picture_unless_no_picture_is_like_that(
    tmp_path, shape, dtype, colour, kind
):
    contig = {"planarconfig": "contig"} if shape[-1] in (3, 6) else {}
    tifffile.imwrite(
        tmp_path / "a.tif", noise(shape, dtype), photometric=colour, metadata=None, **contig
    )
    assert raster_format(tmp_path / "a.tif") == kind


def test_a_tiff_too_large_for_a_picture_is_a_raster(tmp_path, monkeypatch):
    monkeypatch.setattr(raster_formats, "PIXELS_MAX", 80)
    tifffile.imwrite(tmp_path / "a.tif", noise((9, 9), "uint8"))
    assert raster_format(tmp_path / "a.tif") == "ometiff"


def test_what_is_no_raster_is_none_and_says_so(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert raster_format(tmp_path / "a.png") is None
    assert raster_format(tmp_path) is None
    with pytest.raises(MediaError, match="is no raster; OME-TIFF, GeoTIFF, OME-Zarr are"):
        open_raster(tmp_path / "a.png")
    with pytest.raises(MediaError, match="cannot be read: No such file"):
        raster_format(tmp_path / "b.tif")
    (tmp_path / "a.zarr.zip").write_bytes(b"PK")
    with pytest.raises(MediaError, match="is a Zarr in a ZIP; unzip it first"):
        raster_format(tmp_path / "a.zarr.zip")


@pytest.mark.parametrize(
    ("package", "name", "title"), [("rasterio", "geo", "GeoTIFF"), ("zarr", "bio", "OME-Zarr")]
)
def test_a_missing_package_is_one_line_that_names_the_extra(monkeypatch, package, name, title):
    module = {"geo": "geotiff", "bio": "omezarr"}[name]
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"srpipe.io.{module}", raising=False)
    with pytest.raises(ConfigError) as error:
        raster_formats._module(module)
    assert str(error.value) == (
        f"{title} needs {package}, which is not installed; pip install 'srpipe[{name}]'"
    )


def test_an_error_of_a_library_is_one_line(tmp_path):
    with pytest.raises(MediaError) as error, reading(tmp_path / "a", "TIFF"):
        raise ValueError("bad\nvery bad")
    assert str(error.value).endswith("a is a damaged TIFF (bad); fetch it again")


SCIENCE = Path(__file__).parents[2] / "shared" / "data" / "science"
FILES = sorted([*SCIENCE.glob("*/*.tif"), *SCIENCE.glob("*/*.zarr")])
REFUSED = {
    "corrupt.tif": "is a damaged GeoTIFF",
    "complex.tif": "complex numbers",
    "invalid_metadata.ome.zarr": "disagrees with itself: 3 axes",
}
PICTURES = ("hybiss_spots_uint16.tif", "nuclei_512_uint16.tif")


@pytest.mark.shared
@pytest.mark.skipif(not FILES, reason="the data that lives beside the project is not here")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_scientific_files_come_back_with_all_that_they_say(tmp_path, path):
    pytest.importorskip("rasterio")
    pytest.importorskip("zarr")
    target = tmp_path / path.name
    if path.name in REFUSED:
        with pytest.raises(MediaError, match=REFUSED[path.name]):
            enlarge(path, target, 2)
        return
    if path.name in PICTURES:
        assert raster_format(path) is None
        return
    enlarge(path, target, 2)
    (before, pixels, valid), (after, larger, still) = read(path), read(target)
    assert larger.tobytes() == pixels.repeat(2, -2).repeat(2, -1).tobytes()
    assert (valid is None) == (still is None)
    assert valid is None or np.array_equal(still, valid.repeat(2, -2).repeat(2, -1))
    wanted = before.enlarged(2)
    assert after.bands == wanted.bands
    assert after.axes == wanted.axes
    assert (after.masked, after.bits) == (wanted.masked, wanted.bits)
    assert repr(after.nodata) == repr(wanted.nodata)
    if wanted.world.affine:
        assert after.world.affine == pytest.approx(wanted.world.affine, rel=1e-12, abs=1e-12)
    for name in ("crs", "units", "depth", "time", "points", "points_crs", "rpc"):
        assert getattr(after.world, name) == getattr(wanted.world, name)
    assert after.own.get("tags") == wanted.own.get("tags")
