import numpy as np
import pytest
from raster_files import ENDING, corners, enlarge, every_format, noise, read, write

from srpipe.errors import ConfigError, MediaError
from srpipe.io.raster import Window, World
from srpipe.io.raster_formats import open_raster, raster_format, target_format
from srpipe.validity import enlarged

DTYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"]


@every_format
@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_of_every_type_come_back_bit_for_bit(tmp_path, name, dtype):
    pixels = noise((1, 2, 1, 37, 51), dtype)
    raster, back, valid = read(write(tmp_path / f"a{ENDING[name]}", pixels, name))
    assert raster.dtype == dtype
    assert np.array_equal(back, pixels)
    assert valid is None


@every_format
def test_negative_and_large_numbers_and_those_that_are_none_stay(tmp_path, name):
    pixels = noise((1, 1, 1, 20, 20), "float32") * np.float32(1e9)
    pixels[..., 3, 4], pixels[..., 5, 6], pixels[..., 7, 8] = np.nan, np.inf, -0.0
    _, back, valid = read(write(tmp_path / f"a{ENDING[name]}", pixels, name))
    assert pixels.tobytes() == back.tobytes()
    assert np.argwhere(~valid[0, 0, 0]).tolist() == [[3, 4], [5, 6]]


@every_format
def test_blocks_in_any_order_make_one_raster_of_several_tiles(tmp_path, name):
    pixels = noise((1, 2, 1, 520, 1030), "uint8")
    path = write(tmp_path / f"a{ENDING[name]}", pixels, name)
    assert np.array_equal(read(path)[1], pixels)


@every_format
def test_a_window_is_what_the_whole_has_there(tmp_path, name):
    pixels = noise((1, 3, 1, 530, 540), "uint16")
    path = write(tmp_path / f"a{ENDING[name]}", pixels, name)
    source = open_raster(path)
    for y, x in [((0, 7), (3, 9)), ((505, 530), (500, 540)), ((511, 512), (0, 540))]:
        window = Window((0, 1), (0, 1), y, x)
        assert np.array_equal(source.read(window).pixels, pixels[window.slices])
    source.close()


@every_format
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_an_enlarged_raster_lies_exactly_on_its_source(tmp_path, name, scale):
    world = World(affine=(0.31, 0.0, 12.7, 0.0, 0.29, -3.1))
    if name == "ometiff":  # has no offset
        world = World(affine=(0.31, 0.0, 0.0, 0.0, 0.29, 0.0))
    pixels = noise((1, 2, 1, 171, 333), "int16")
    source = write(tmp_path / f"a{ENDING[name]}", pixels, name, world=world)
    target = enlarge(source, tmp_path / f"b{ENDING[name]}", scale)
    before, after = read(source)[0], read(target)
    assert np.array_equal(after[1], enlarged(pixels, scale))
    np.testing.assert_allclose(corners(after[0]), corners(before), rtol=1e-12, atol=1e-12)
    assert after[0].axes == before.axes


@every_format
def test_complex_numbers_are_refused(tmp_path, name):
    path = tmp_path / f"a{ENDING[name]}"
    pixels = noise((1, 2, 1, 9, 8), "float32") * np.complex64(1j)
    if name == "ometiff":
        import tifffile

        tifffile.imwrite(path, pixels[0, :, 0], photometric="minisblack")
    elif name == "geotiff":
        rasterio = pytest.importorskip("rasterio")
        about = {"height": 9, "width": 8, "count": 2, "dtype": "complex64"}
        place = rasterio.Affine(1, 0, 5, 0, -1, 5)
        with rasterio.open(path, "w", driver="GTiff", transform=place, **about) as file:
            file.write(pixels[0, :, 0])
    else:
        from test_omezarr import store

        store(path, pixels[0, :, 0])
    with pytest.raises(MediaError, match="complex numbers, which have no order"):
        open_raster(path)


@every_format
def test_what_was_thrown_away_is_gone(tmp_path, name):
    from raster_files import part, raster_of, scratch

    from srpipe.io.raster import Block, Grid
    from srpipe.io.raster_formats import open_sink

    pytest.importorskip({"geotiff": "rasterio", "omezarr": "zarr"}.get(name, "tifffile"))
    pixels, path = noise((1, 1, 1, 9, 9), "uint8"), tmp_path / "a"
    grid = Grid(pixels.shape, 512)
    sink = open_sink(name, part(path), raster_of(pixels, name), grid, scratch(path))
    sink.begin()
    sink.write(next(iter(grid)), Block(pixels))
    sink.abort()
    assert not list(tmp_path.iterdir())


@every_format
def test_a_file_is_known_by_what_is_in_it(tmp_path, name):
    path = write(tmp_path / "a.tif", noise((1, 2, 1, 9, 9), "uint8"), name)
    assert raster_format(path) == name


@every_format
def test_a_target_is_of_the_kind_of_its_source_unless_its_name_says_another(tmp_path, name):
    path = write(tmp_path / f"a{ENDING[name]}", noise((1, 2, 1, 9, 9), "uint8"), name)
    raster = read(path)[0]
    tif = "geotiff" if name == "geotiff" else "ometiff"
    assert target_format(tmp_path / "b.tif", raster) == tif
    assert target_format(tmp_path / "b.ome.tif", raster) == "ometiff"
    assert target_format(tmp_path / "b.zarr", raster) == "omezarr"
    with pytest.raises(ConfigError, match=r"no name for a raster; end it in \.ome\.tif"):
        target_format(tmp_path / "b.jpg", raster)
