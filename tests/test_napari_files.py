"""Files into layers and layers into files."""

import json
from dataclasses import replace

import numpy as np
import pytest
import tifffile

pytest.importorskip("dask", reason="dask is not installed")
pytest.importorskip("zarr", reason="zarr is not installed")

from raster_files import MICROSCOPE, raster_of, read, write

from napari_sr import sample
from napari_sr.placing import place_known
from napari_sr.reader import raster_reader, video_reader
from napari_sr.writer import write_labels, write_raster, write_video
from srpipe.errors import ConfigError, TargetError
from srpipe.io.raster import GroundPoint, World


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


@pytest.mark.parametrize("labels", [("z", "t"), ("c", "t"), ("z", "c", "t")])
def test_axes_in_another_order_are_refused_and_not_renamed(tmp_path, labels):
    data = pixels((2, 3, 4, 16, 16)[-2 - len(labels) :])
    about = {"axis_labels": (*labels, "y", "x"), "scale": (1.0,) * data.ndim}
    with pytest.raises(ConfigError, match=f"are {', '.join(labels)}, and .* order "):
        write_raster(str(tmp_path / "out.ome.tif"), data, about)
    assert not any(tmp_path.iterdir())


DEGREES = (
    'GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563]],'
    'PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]]'
)
POINTS = tuple(
    GroundPoint(row=y, column=x, x=10 + x, y=50 - y) for y, x in ((0, 0), (0, 30), (20, 0))
)
SIDES = ("line", "samp", "lat", "long", "height")
RPC = {f"{side}_{kind}": 1.0 for side in SIDES for kind in ("off", "scale")}
RPC |= {f"{s}_{part}_coeff": [1.0, *[0.0] * 19] for s in SIDES[:2] for part in ("num", "den")}


@pytest.mark.parametrize(
    ("what", "about"),
    [
        ("validity mask", {"masked": True}),
        ("ground control points", {"world": World(points=POINTS, points_crs=DEGREES)}),
        ("rational polynomial coefficients", {"world": World(rpc=RPC)}),
    ],
)
def test_what_no_layer_can_hold_is_refused_and_not_lost(tmp_path, what, about):
    """The mask was gone, and a place was invented where points had told it."""
    valid = np.eye(20, 30)[None, None, None] > 0 if "masked" in about else None
    source = write(tmp_path / "in.tif", pixels((1, 1, 1, 20, 30)), "geotiff", valid=valid, **about)
    before = sorted(tmp_path.iterdir())
    [(data, meta, _)] = raster_reader(str(source))(str(source))
    with pytest.raises(ConfigError, match=f"{what}.*which a layer cannot hold; enlarge that file"):
        write_raster(str(tmp_path / "out.tif"), data, meta)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("lost", [{"masked": True}, {"world": World(rpc=RPC)}])
def test_a_map_of_what_no_layer_can_hold_is_saved(tmp_path, lost):
    pytest.importorskip("rasterio", reason="rasterio is not installed")
    raster = replace(raster_of(pixels((1, 1, 1, 20, 30)), "geotiff"), **lost)
    write_raster(
        str(tmp_path / "a.tif"), pixels((20, 30)), {"metadata": place_known({"raster": raster})}
    )
    assert read(tmp_path / "a.tif")[2] is None


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


@pytest.mark.parametrize("alpha", ["NO", "YES"])
def test_a_fourth_band_is_opacity_only_where_the_file_says_so(tmp_path, alpha):
    """Near infrared became the opacity of a colour picture."""
    rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
    path = str(tmp_path / "a.tif")
    place = rasterio.Affine(10, 0, 500_000, 0, -10, 5_400_000)
    shape = {"width": 30, "height": 20, "count": 4, "dtype": "uint8", "transform": place}
    how = {"photometric": "RGB", "ALPHA": alpha}
    with rasterio.open(path, "w", driver="GTiff", crs="EPSG:32632", **shape, **how) as file:
        file.write(pixels((4, 20, 30), np.uint8))
    opened = [meta.get("rgb", False) for _data, meta, _kind in raster_reader(path)(path)]
    assert opened == ([True] if alpha == "YES" else [False] * 4)


def test_what_a_file_leaves_out_is_told(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr("napari.utils.notifications.show_warning", told.append)
    about = {"scale": (2.0, 0.5, 0.25), "translate": (3, 10, 20), "units": ("um",) * 3}
    write_raster(str(tmp_path / "a.ome.tif"), pixels((3, 40, 52)), about)
    (line,) = told
    assert line.startswith("where its first pixel lies")
    assert line.endswith("is left out of OME-TIFF")


def test_notices_of_a_file_are_told(tmp_path, monkeypatch):
    tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed")
    told, path = [], str(tmp_path / "a.ome.tif")
    monkeypatch.setattr("napari.utils.notifications.show_warning", told.append)
    with tifffile.TiffWriter(path, ome=True) as file:
        for _image in range(2):
            file.write(pixels((40, 52)), metadata={"axes": "YX"})
    assert len(raster_reader(path)(path)) == 1
    assert any("2 images" in line for line in told)


def saved(layer, path):
    """A layer as a file, opened as a layer again."""
    from napari.layers import Image

    write_raster(str(path), layer.data, layer.as_layer_data_tuple()[1])
    [(data, meta, _)] = raster_reader(str(path))(str(path))
    return Image(data, **meta)


@pytest.mark.parametrize("about", [{"rotate": 30}, {"scale": (-1, 2)}, {"shear": [0.5]}])
def test_a_turned_layer_goes_into_the_file_that_its_refusal_names(tmp_path, about):
    """A .tif was refused with the advice to write a .tif."""
    from napari.layers import Image

    pytest.importorskip("rasterio", reason="rasterio is not installed")
    layer = Image(pixels((20, 30)), **about)
    again = saved(layer, tmp_path / "a.tif")
    np.testing.assert_array_equal(again.data, layer.data)
    for corner in ((0, 0), (19, 0), (0, 29)):
        np.testing.assert_allclose(again.data_to_world(corner), layer.data_to_world(corner))
    if "scale" not in about:
        with pytest.raises(ConfigError, match=r"write \.tif"):
            saved(layer, tmp_path / "a.ome.zarr")


def test_a_turned_stack_is_refused_with_what_can_be_done(tmp_path):
    from napari.layers import Image

    layer = Image(pixels((20, 30)), rotate=30, units=("um", "um"))
    for ending in ("tif", "ome.tif", "ome.zarr"):
        with pytest.raises(ConfigError, match=r"turned.* undo its rotation and shear"):
            saved(layer, tmp_path / f"a.{ending}")
    mirrored = Image(pixels((3, 20, 30)), scale=(1, -1, 1), units=("um",) * 3)
    with pytest.raises(ConfigError, match=r"run backwards; write \.ome\.zarr"):
        saved(mirrored, tmp_path / "a.ome.tif")
    again = saved(mirrored, tmp_path / "a.ome.zarr")
    np.testing.assert_allclose(again.data_to_world((2, 19, 29)), (2, -19, 29))


def test_planes_that_run_backwards_are_saved_with_their_size(tmp_path, monkeypatch):
    from napari.layers import Image

    told = []
    monkeypatch.setattr("napari.utils.notifications.show_warning", told.append)
    layer = Image(pixels((3, 20, 30)), scale=(-2, 1, 1), units=("um",) * 3)
    assert saved(layer, tmp_path / "a.ome.tif").scale[0] == 2
    assert told == ["that its planes run backwards is left out of OME-TIFF"]
    assert saved(layer, tmp_path / "a.ome.zarr").scale[0] == -2


@pytest.mark.parametrize(("shape", "rgb"), [((1, 2, 2, 2, 20, 30), False), ((2,) * 5 + (3,), True)])
def test_more_axes_than_a_file_has_are_refused_in_words_about_it(tmp_path, shape, rgb):
    """They were said to be too large for memory."""
    from napari.layers import Image

    with pytest.raises(ConfigError, match=r"a file has at most \d \(T, .*; split the stack first"):
        saved(Image(pixels(shape), rgb=rgb), tmp_path / "a.ome.zarr")


@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
@pytest.mark.parametrize("unit", ["furrow", "reference frame", "10"])
def test_a_unit_that_napari_lacks_is_told_and_goes_back_into_a_file(
    tmp_path, monkeypatch, suffix, unit
):
    """No such file could be opened."""
    from napari.layers import Image

    told, world = [], replace(MICROSCOPE, units=(unit, "micrometer"))
    monkeypatch.setattr("napari.utils.notifications.show_warning", told.append)
    name = {".ome.tif": "ometiff", ".ome.zarr": "omezarr"}[suffix]
    data = pixels((2, 1, 3, 20, 30))
    source = write(tmp_path / f"in{suffix}", data, name, world=world)
    [(numbers, meta, _)] = raster_reader(str(source))(str(source))
    layer = Image(numbers, **meta)
    assert [str(one) for one in layer.units] == ["second", "micrometer", "pixel", "micrometer"]
    assert layer.scale[2] == MICROSCOPE.affine[4]
    (line,) = told
    assert f"no unit {unit!r}" in line
    target = tmp_path / f"out{suffix}"
    write_raster(str(target), layer.data, layer.as_layer_data_tuple()[1])
    assert read(target)[0].world.units == (unit, "micrometer")


@pytest.mark.parametrize(
    ("name", "kind"), [("a.tif", "geotiff"), ("a.ome.tif", "ometiff"), ("a.ome.zarr", "omezarr")]
)
def test_a_map_of_labels_keeps_its_classes_at_every_size(tmp_path, name, kind):
    """A mean of two names of classes is the name of a third."""
    raster = raster_of(np.zeros((1, 1, 1, 600, 700), np.uint8), kind)
    classes = np.random.default_rng(0).choice(np.array([0, 5], np.uint8), (600, 700))
    target = tmp_path / name
    assert write_labels(str(target), classes, {"metadata": {"raster": raster}}) == [str(target)]
    _, numbers, _ = read(target)
    assert np.array_equal(numbers[0, 0, 0], classes)
    if kind == "omezarr":
        import zarr

        smaller = zarr.open_array(target / "1", mode="r")[:]
    elif kind == "ometiff":
        with tifffile.TiffFile(target) as file:
            smaller = file.series[0].levels[1].asarray()
    else:
        import rasterio

        with rasterio.open(target, overview_level=0) as file:
            smaller = file.read(1)
    assert smaller.shape == (300, 350)
    assert set(np.unique(smaller)) == {0, 5}


def test_labels_that_are_of_no_raster_are_saved_as_napari_does(tmp_path):
    """OME-TIFF has no such numbers."""
    labels = np.arange(12).reshape(3, 4)
    target = tmp_path / "a.tif"
    assert write_labels(str(target), labels, {"metadata": {}}) == [str(target)]
    assert np.array_equal(tifffile.imread(target), labels)


def test_nothing_is_saved_beside_a_file_that_would_move_it(tmp_path):
    (tmp_path / "a.ome.tif.aux.xml").write_text("<GeoTransform>1, 2, 3, 4, 5, 6</GeoTransform>")
    with pytest.raises(TargetError, match=r"read together with a\.ome\.tif\.aux\.xml"):
        write_raster(str(tmp_path / "a.ome.tif"), pixels((40, 52)), {})
    assert len(list(tmp_path.iterdir())) == 1


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


def test_what_a_video_cannot_hold_is_told(tmp_path, monkeypatch):
    """It was left out in silence."""
    import video_files as clips

    told = []
    monkeypatch.setattr("napari.utils.notifications.show_warning", told.append)
    sound = clips.sound("eng", "wmav2")
    origin = clips.make(tmp_path / "a.wmv", form="asf", codec="wmv2", extras=[sound])
    [(data, meta, _)] = video_reader(str(origin))(str(origin))
    told.clear()
    write_video(str(tmp_path / "b.mkv"), np.asarray(data), meta)
    (line,) = told
    assert line.startswith("stream 1 (audio, wmav2) is left out: ")


def test_a_video_says_where_its_frames_come_from(tmp_path):
    av = pytest.importorskip("av")
    record = {"model": {"name": "toy"}}
    meta = {"rgb": True, "metadata": {"srpipe": {"complete": True, "record": record}}}
    write_video(str(tmp_path / "clip.mp4"), pixels((3, 32, 48, 3), np.uint8), meta)
    with av.open(str(tmp_path / "clip.mp4")) as file:
        assert json.loads(file.metadata["comment"]) == record


def test_samples_are_the_same_each_time_and_not_plain():
    for make in (sample.cells, sample.photo, sample.scene):
        first, again = make(), make()
        for (data, about, kind), (same, _, _) in zip(first, again, strict=True):
            assert kind == "image"
            assert about["name"]
            assert data.std() > 0
            np.testing.assert_array_equal(data, same)
