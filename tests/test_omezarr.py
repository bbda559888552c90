import json
import multiprocessing
import os

import numpy as np
import pytest
from raster_files import MICROSCOPE, enlarge, noise, part, raster_of, read, scratch, whole, write

from srpipe.errors import ConfigError, MediaError
from srpipe.io.raster import Band, Block, Grid, Step, World
from srpipe.io.raster_formats import open_raster, open_sink, raster_format

zarr = pytest.importorskip("zarr")


def store(path, pixels, version="0.5", names="cyx", changes=None, levels=1, **more):
    """An OME-Zarr that we did not write."""
    kinds = {"t": "time", "c": "channel"}
    axes = [
        {"name": n, "type": kinds.get(n, "space")} | ({"unit": "micrometer"} if n in "zyx" else {})
        for n in names
    ]
    scale = {"type": "scale", "scale": [1.0] * len(names)}
    sets = [
        {"path": str(i), "coordinateTransformations": changes or [scale]} for i in range(levels)
    ]
    image = {"axes": axes, "datasets": sets} | more.pop("image", {})
    old = version < "0.5"
    image |= {"version": version} if old else {}
    said = {"multiscales": [image], **more.pop("said", {})}
    group = zarr.create_group(
        path,
        zarr_format=2 if old else 3,
        attributes=more | (said if old else {"ome": {"version": version, **said}}),
    )
    for i in range(levels):
        array = group.create_array(
            str(i),
            shape=pixels.shape,
            dtype=pixels.dtype,
            chunks=tuple(min(n, 8) for n in pixels.shape),
            **({"chunk_key_encoding": {"name": "v2", "separator": "/"}} if old else {}),
        )
        array[:] = pixels
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_both_versions_are_read_and_the_newer_one_is_written(tmp_path, version):
    pixels = noise((2, 3, 20, 21), "uint16")
    changes = [
        {"type": "scale", "scale": [1.0, 1.5, 0.3, 0.4]},
        {"type": "translation", "translation": [0.0, 10.0, 5.0, 6.0]},
    ]
    channels = [
        {"label": "DNA", "color": "00ff00", "window": {"start": 1, "end": 9}},
        {"label": "x"},
    ]
    path = store(
        tmp_path / "a.zarr",
        pixels,
        version,
        "czyx",
        changes,
        said={"omero": {"channels": channels, "rdefs": {"model": "color"}}},
        ours={"kept": [1, 2]},
    )
    raster, back, _ = read(path)
    assert np.array_equal(back[0], pixels)
    assert raster.bands == (Band(name="DNA", tint="00FF00"), Band(name="x"))
    assert raster.world.affine == pytest.approx((0.4, 0, 5.8, 0, 0.3, 4.85), abs=1e-12)
    assert raster.world.depth == Step(size=1.5, start=10, unit="micrometer")
    target = enlarge(path, tmp_path / "b.zarr", 2)
    said = json.loads((target / "zarr.json").read_bytes())["attributes"]
    image = said["ome"]["multiscales"][0]
    assert said["ome"]["version"] == "0.5"
    assert said["ours"] == {"kept": [1, 2]}
    assert said["ome"]["omero"] == {"channels": channels, "rdefs": {"model": "color"}}
    assert [axis.get("unit") for axis in image["axes"]] == [None, *["micrometer"] * 3]
    size, start = image["datasets"][0]["coordinateTransformations"]
    assert size["scale"] == pytest.approx([1, 1.5, 0.15, 0.2])
    # the first pixel's middle moves by half of what pixels became smaller
    assert start["translation"] == pytest.approx([0, 10, 5 - 0.075, 6 - 0.1])


def test_levels_are_means_and_share_their_outer_corner(tmp_path):
    pixels = noise((1, 1, 2, 1030, 700), "float32")
    path = write(tmp_path / "a.zarr", pixels, "omezarr", world=MICROSCOPE)
    group = zarr.open_group(path, mode="r")
    shapes = [group[str(i)].shape for i in range(3)]
    assert shapes == [(2, 1030, 700), (2, 515, 350), (2, 258, 175)]
    fours = pixels[0, 0].reshape(2, 515, 2, 350, 2).mean((2, 4), dtype=np.float64)
    np.testing.assert_allclose(group["1"][:], fours, rtol=1e-6)
    for i, level in enumerate(group.attrs["ome"]["multiscales"][0]["datasets"]):
        scale, move = (c[c["type"]] for c in level["coordinateTransformations"])
        assert scale == pytest.approx([1.5, 0.3 * 2**i, 0.4 * 2**i])
        assert [m - s / 2 for m, s in zip(move[1:], scale[1:], strict=True)] == pytest.approx(
            [0, 0]
        )


def test_the_models_of_the_standard_accept_what_is_written(tmp_path):
    models = pytest.importorskip("ome_zarr_models")
    pixels = noise((2, 3, 2, 600, 40), "int16")
    bands = tuple(Band(name=name, tint="FF0000") for name in "abc")
    path = write(tmp_path / "a.zarr", pixels, "omezarr", world=MICROSCOPE, bands=bands)
    image = models.open_ome_zarr(zarr.open_group(path, mode="r"))
    assert image.ome_zarr_version == "0.5"
    assert len(image.attributes.ome.multiscales[0].datasets) == 2
    array = zarr.open_array(path, path="0", mode="r")
    assert array.metadata.dimension_names == ("t", "c", "z", "y", "x")
    assert (array.chunks, array.shards) == ((1, 1, 1, 512, 512), (1, 1, 2, 512, 512))


def put(sink, pixels, windows):
    for window in windows:
        sink.write(window, Block(np.ascontiguousarray(pixels[window.slices])))


def test_two_processes_write_what_one_would(tmp_path):
    pixels = noise((2, 2, 1, 520, 1040), "uint8")
    pixels[..., :512, :512] = 0  # a block of zeros is a block, too
    grid = Grid(pixels.shape, 512)
    raster = raster_of(pixels, "omezarr")
    path = tmp_path / "a.zarr"
    sink = open_sink("omezarr", part(path), raster, grid, scratch(path))
    sink.begin()
    windows = list(grid)
    spawn = multiprocessing.get_context("spawn")
    other = spawn.Process(target=put, args=(sink, pixels, windows[::2]))
    other.start()
    put(sink, pixels, windows[1::2])
    other.join()
    assert all(file.is_file() for window in windows for file in sink.files(window))
    files = [file for window in windows for file in sink.files(window)]
    assert len(set(files)) == len(files)  # no shard has two writers
    sink.begin()  # as after a restart: nothing is lost
    sink.close()
    assert np.array_equal(read(part(path))[1], pixels)


def test_numbers_without_a_place_say_so(tmp_path):
    after = read(write(tmp_path / "a.zarr", noise((1, 1, 1, 9, 9), "uint8"), "omezarr"))[0]
    assert after.world == World(affine=(1, 0, -0.5, 0, 1, -0.5))


def test_channels_of_floats_keep_their_names_and_are_shown_from_end_to_end(tmp_path):
    pixels = np.zeros((2, 4, 1, 8, 9), "float32")
    pixels[1, 0, 0, 2, :4] = -3, 250, np.nan, np.inf
    pixels[:, 2] = 7
    pixels[:, 3] = np.nan
    bands = tuple(Band(name=name, tint="FF0000") for name in "abcd")
    path = write(tmp_path / "a.zarr", pixels, "omezarr", bands=bands)
    assert read(path)[0].bands == bands
    channels = zarr.open_group(path, mode="r").attrs["ome"]["omero"]["channels"]
    ends = [(-3, 250), (0, 1), (7, 8), (0, 1)]
    shown = [{"min": low, "max": high, "start": low, "end": high} for low, high in ends]
    assert [channel["window"] for channel in channels] == shown


def test_an_image_keeps_its_name_into_ome_tiff_and_back(tmp_path):
    pixels, about = noise((3, 8, 9), "uint8"), {"name": "left & right"}
    path = store(tmp_path / "a.zarr", pixels, image=about)
    path = enlarge(path, tmp_path / "b.ome.tif", 2, "ometiff")
    assert read(path)[0].name == "left & right"
    path = enlarge(path, tmp_path / "c.zarr", 2, "omezarr")
    image = zarr.open_group(path, mode="r").attrs["ome"]["multiscales"][0]
    assert image["name"] == "left & right"


def test_three_channels_that_are_red_green_and_blue_are_a_colour_image(tmp_path):
    said = {"omero": {"channels": [{"color": c} for c in ("FF0000", "00FF00", "0000FF")]}}
    path = store(tmp_path / "a.zarr", noise((3, 8, 9), "uint8"), said=said)
    assert [band.colour for band in read(path)[0].bands] == ["red", "green", "blue"]


def test_channels_that_are_not_as_the_standard_says_do_not_end_in_broken_xml(tmp_path):
    colours = ("#00ff00", "00ff", "red", 7, None)
    labels = (0, 1.5, "a\x1bb", "ä & <", None)
    channels = [{"label": n, "color": c} for n, c in zip(labels, colours, strict=True)]
    said = {"omero": {"channels": channels}}
    path = store(tmp_path / "a.zarr", noise((5, 8, 9), "uint8"), said=said)
    bands = read(enlarge(path, tmp_path / "b.ome.tif", 2, "ometiff"))[0].bands
    assert [band.name for band in bands] == ["0", "1.5", "ab", "ä & <", None]
    assert [band.tint for band in bands] == ["00FF00", None, None, None, None]


def test_changes_of_all_levels_come_after_those_of_one(tmp_path):
    more = {"image": {"coordinateTransformations": [{"type": "scale", "scale": [1, 10, 10]}]}}
    first = [
        {"type": "scale", "scale": [1, 2, 3]},
        {"type": "translation", "translation": [0, 1, 1]},
    ]
    path = store(tmp_path / "a.zarr", noise((3, 8, 9), "uint8"), changes=first, **more)
    assert read(path)[0].world.affine == (30, 0, 10 - 15, 0, 20, 10 - 10)


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"names": "cyx", "levels": 0}, "damaged OME-Zarr"),
        ({"names": "cxy"}, "has axes CXY, not t, c, z, y, x in order"),
        ({"names": "yx"}, r"disagrees with itself: 2 axes \(YX\), and level 0 has 3"),
        ({"changes": [{"type": "scale", "scale": [1, 1]}]}, "and its scale has 2"),
        ({"changes": [{"type": "rotation", "rotation": [1] * 3}]}, "is placed by rotation"),
        ({"version": "0.3"}, "is OME-Zarr 0.3, and srpipe reads 0.4 and 0.5; convert it"),
        ({"said": {"plate": {}}}, "holds several images; name one of them"),
        ({"said": {"plate": {"wells": [{"path": "A/1"}]}}}, r"such as .*a\.zarr/A/1/0$"),
        ({"said": {"multiscales": []}}, "a Zarr without an OME image"),
        ({"said": {"image-label": {}}}, "names of objects, between which there is nothing"),
        ({"said": {"image-label": {}}, "version": "0.4"}, "enlarge the image that they belong to"),
    ],
)
def test_what_is_not_as_it_should_be_is_named(tmp_path, about, message):
    path = store(tmp_path / "a.zarr", noise((3, 8, 9), "uint8"), **about)
    with pytest.raises(MediaError, match=message):
        open_raster(path)


def test_folders_without_metadata_are_no_images(tmp_path):
    assert raster_format(tmp_path) is None
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(MediaError, match="a folder without Zarr metadata; name an OME-Zarr image"):
        open_raster(tmp_path / "a.zarr")


@pytest.mark.parametrize("where", ["path", "metadata", "level", "chunk"])
def test_nothing_outside_of_its_folder_is_read(tmp_path, where):
    secret = store(tmp_path / "secret.zarr", noise((3, 8, 9), "uint8"))
    path = store(tmp_path / "a.zarr", noise((3, 8, 9), "uint8"))
    if where == "path":
        text = (path / "zarr.json").read_text()
        (path / "zarr.json").write_text(text.replace('"0"', '"../secret.zarr/0"'))
    else:
        inside = {"metadata": "zarr.json", "level": "0", "chunk": "0/c/0/0/0"}[where]
        os.rename(path / inside, tmp_path / "gone")
        (path / inside).symlink_to(secret / inside)
    with pytest.raises(MediaError, match="leads out of its own folder"):
        read(path)


def test_a_torn_chunk_is_named_where_it_is_read(tmp_path):
    path = write(tmp_path / "a.zarr", noise((1, 1, 1, 40, 40), "uint8"), "omezarr")
    (shard,) = [file for file in (path / "0" / "c").rglob("*") if file.is_file()]
    shard.write_bytes(shard.read_bytes()[:-40])
    source = open_raster(path)
    with pytest.raises(MediaError, match="is a damaged OME-Zarr"):
        source.read(whole(source.raster))
    source.close()


def test_labels_are_left_out_and_a_user_is_told(tmp_path):
    path = store(tmp_path / "a.zarr", noise((3, 8, 9), "uint8"))
    (path / "labels").mkdir()
    assert "its labels are left out" in read(path)[0].notices[0]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_the_first_of_two_images_is_named_as_the_one(tmp_path, version):
    path = store(tmp_path / "a.zarr", noise((3, 8, 9), "uint8"), version)
    assert not read(path)[0].notices
    group = zarr.open_group(path)
    said = dict(group.attrs)
    images = (said if version == "0.4" else said["ome"])["multiscales"]
    images.append(images[0] | {"name": "second"})
    group.attrs.update(said)
    assert "only the first of its 2 images is enlarged" in read(path)[0].notices[0]


def test_chunks_that_must_be_unpacked_whole_have_a_limit(tmp_path, monkeypatch):
    path = store(tmp_path / "a.zarr", noise((3, 8, 9), "uint8"))
    monkeypatch.setattr("srpipe.io.raster.SEGMENT_BYTES_MAX", 100)
    with pytest.raises(MediaError, match="packed in pieces of"):
        open_raster(path)


def test_an_absurd_size_is_refused(tmp_path):
    path = store(tmp_path / "a.zarr", noise((3, 8, 9), "uint8"))
    meta = json.loads((path / "0" / "zarr.json").read_text())
    meta["shape"] = [3, 2**40, 2**40]
    (path / "0" / "zarr.json").write_text(json.dumps(meta))
    with pytest.raises(MediaError, match="claims an absurd 1099511627776 x 1099511627776 px"):
        open_raster(path)


def test_what_would_be_lost_is_refused(tmp_path):
    pixels = noise((1, 1, 1, 9, 9), "uint8")
    with pytest.raises(ConfigError, match="cannot say where on the ground"):
        write(tmp_path / "a.zarr", pixels, "omezarr", world=World(crs="LOCAL_CS"))
    with pytest.raises(ConfigError, match="cannot say which of its pixels are valid"):
        write(tmp_path / "a.zarr", pixels, "omezarr", nodata=3.0)
