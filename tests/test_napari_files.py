"""Files into layers and layers into files."""

import numpy as np
import pytest

pytest.importorskip("dask", reason="dask is not installed")
pytest.importorskip("zarr", reason="zarr is not installed")

from napari_sr import sample
from napari_sr.reader import raster_reader, video_reader
from napari_sr.writer import write_raster, write_video


def pixels(shape, dtype=np.uint16):
    return np.random.default_rng(0).integers(0, 250, shape).astype(dtype)


@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
def test_a_stack_comes_back_with_its_place_and_units(tmp_path, suffix):
    data = pixels((3, 40, 52))
    about = {
        "scale": np.array([2.0, 0.5, 0.25]),
        "translate": np.zeros(3),
        "units": ("micrometer",) * 3,
        "axis_labels": ("z", "y", "x"),
    }
    path = tmp_path / f"stack{suffix}"
    assert write_raster(str(path), data, about) == [str(path)]
    [(again, meta, kind)] = raster_reader(str(path))(str(path))
    assert kind == "image"
    np.testing.assert_array_equal(np.asarray(again), data)
    np.testing.assert_allclose(meta["scale"], (2.0, 0.5, 0.25))
    assert meta["units"][-2:] == ("micrometer",) * 2
    assert list(tmp_path.iterdir()) == [path]


def test_a_geotiff_lies_north_up_and_goes_back_as_it_was(tmp_path):
    rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
    source, target = tmp_path / "in.tif", tmp_path / "out.tif"
    place = rasterio.Affine(10, 0, 500_000, 0, -10, 5_400_000)
    with rasterio.open(
        source,
        "w",
        driver="GTiff",
        width=30,
        height=20,
        count=1,
        dtype="uint16",
        crs="EPSG:32632",
        transform=place,
        nodata=0,
    ) as file:
        file.write(pixels((1, 20, 30)))
    [(data, meta, _)] = raster_reader(str(source))(str(source))
    np.testing.assert_allclose(meta["translate"], (-5_399_995, 500_005))
    np.testing.assert_allclose(meta["scale"], (10, 10))
    write_raster(str(target), data, meta)
    with rasterio.open(source) as before, rasterio.open(target) as after:
        assert after.crs == before.crs
        assert after.transform.almost_equals(before.transform)
        assert after.nodata == before.nodata
        np.testing.assert_array_equal(after.read(), before.read())


def test_an_ordinary_picture_is_left_to_napari(tmp_path):
    from PIL import Image

    Image.fromarray(pixels((8, 8), np.uint8)).save(tmp_path / "plain.tif")
    assert raster_reader(str(tmp_path / "plain.tif")) is None
    assert raster_reader(str(tmp_path / "absent.tif")) is None


def test_any_frame_of_a_video_is_the_one_that_decoding_in_order_gives(tmp_path):
    frames = (
        pixels((12, 32, 48, 3), np.uint8) // 4
        + np.arange(12, dtype=np.uint8)[:, None, None, None] * 12
    )
    path = tmp_path / "clip.mp4"
    assert write_video(str(path), frames, {"rgb": True}) == [str(path)]
    [(data, meta, _)] = video_reader(str(path))(str(path))
    assert data.shape == frames.shape
    assert len(meta["metadata"]["times_s"]) == 12
    in_order = [np.asarray(data[i]) for i in range(12)]
    [(fresh, _, _)] = video_reader(str(path))(str(path))
    for i in (7, 2, 11, 0, 3, 10):
        np.testing.assert_array_equal(np.asarray(fresh[i]), in_order[i])
        assert abs(in_order[i].mean() - frames[i].mean()) < 3


def test_samples_are_the_same_each_time_and_not_plain():
    for make in (sample.cells, sample.photo, sample.scene):
        first, again = make(), make()
        for (data, about, kind), (same, _, _) in zip(first, again, strict=True):
            assert kind == "image"
            assert about["name"]
            assert data.std() > 0
            np.testing.assert_array_equal(data, same)
