import struct
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
from PIL import Image
from raster_files import MICROSCOPE, XMP, enlarge, noise, read, whole, write

from srpipe.errors import ConfigError, MediaError
from srpipe.io import ome, xmp
from srpipe.io.raster import Band, Step, Window, World
from srpipe.io.raster_formats import open_raster

ABOUT = {
    "axes": "TCZYX",
    "PhysicalSizeX": 0.4,
    "PhysicalSizeXUnit": "µm",
    "PhysicalSizeY": 300.0,
    "PhysicalSizeYUnit": "nm",
    "PhysicalSizeZ": 1.5,
    "TimeIncrement": 2.5,
    "SignificantBits": 12,
    "Channel": {"Name": ["DNA", "actin"], "Color": [16711935, -16776961]},
}


def test_a_stack_keeps_axes_channels_sizes_and_units(tmp_path):
    pixels = noise((3, 2, 5, 20, 30), "uint16")
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels, metadata=ABOUT, photometric="minisblack")
    raster, back, _ = read(tmp_path / "a.ome.tif")
    assert np.array_equal(back, pixels)
    assert raster.bands == (Band(name="DNA", tint="00FF00"), Band(name="actin", tint="FF0000"))
    raster, back, _ = read(enlarge(tmp_path / "a.ome.tif", tmp_path / "b.ome.tif", 2))
    assert np.array_equal(back, pixels.repeat(2, -2).repeat(2, -1))
    assert raster.world == World(
        affine=(0.2, 0, 0, 0, 150, 0),
        units=("nanometer", "micrometer"),
        depth=Step(size=1.5, unit="micrometer"),
        time=Step(size=2.5, unit="second"),
    )
    assert [band.name for band in raster.bands] == ["DNA", "actin"]
    assert (raster.axes, raster.bits) == ("TCZYX", 12)


def test_other_readers_see_the_same_axes_and_a_pyramid_of_means(tmp_path):
    pixels = noise((2, 3, 2, 530, 1030), "uint16")
    path = write(tmp_path / "a.ome.tif", pixels, "ometiff", world=MICROSCOPE)
    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        assert (series.axes, series.shape, file.is_bigtiff) == ("TCZYX", pixels.shape, False)
        assert [level.shape[-2:] for level in series.levels] == [
            (530, 1030),
            (265, 515),
            (133, 258),
        ]
        assert np.array_equal(series.asarray(), pixels)
        fours = pixels.reshape(2, 3, 2, 265, 2, 515, 2).mean((-3, -1))
        assert np.array_equal(series.levels[1].asarray(), np.rint(fours))
        page = file.pages[0]
        assert (page.tile, page.compression.name) == ((512, 512), "ADOBE_DEFLATE")
        x = page.tags["XResolution"].value
        assert x[0] / x[1] == pytest.approx(1e4 / 0.4)


@pytest.mark.parametrize("packed", ["strips", "tiles", "planes", "plain"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_windows_of_files_that_are_packed_in_any_way(tmp_path, packed, order):
    pixels = noise((3, 70, 90, 3), "uint16")
    about = {
        "strips": {"compression": "zlib", "rowsperstrip": 7, "predictor": True},
        "tiles": {"compression": "lzw", "tile": (32, 16)},
        "planes": {"compression": "zlib", "planarconfig": "separate", "rowsperstrip": 11},
        "plain": {},
    }[packed]
    stored = np.moveaxis(pixels, -1, 1) if packed == "planes" else pixels
    path = tmp_path / "a.tif"
    about |= {"photometric": "rgb", "byteorder": order, "metadata": None}
    tifffile.imwrite(path, stored, **about)
    raster, back, _ = read(path)
    assert (raster.axes, raster.shape) == ("CZYX", (1, 3, 3, 70, 90))
    assert [band.colour for band in raster.bands] == ["red", "green", "blue"]
    assert np.array_equal(back[0], np.moveaxis(pixels, -1, 0))
    source = open_raster(path)
    for y, x in [((0, 1), (0, 1)), ((13, 69), (15, 33)), ((69, 70), (0, 90))]:
        part = source.read(Window((0, 1), (1, 3), y, x)).pixels
        assert np.array_equal(part, back[:, :, 1:3, slice(*y), slice(*x)])
    source.close()
    target = enlarge(path, tmp_path / "b.ome.tif", 2)
    with tifffile.TiffFile(target) as file:
        assert (file.series[0].axes, file.pages[0].photometric.name) == ("ZYXS", "RGB")


def test_colours_that_opacity_hides_are_invalid(tmp_path):
    pixels = noise((2, 20, 30, 4), "uint16")
    pixels[..., 3] = 65535
    pixels[1, 7, 9, 3] = 0
    about = {"photometric": "rgb", "extrasamples": ["unassalpha"], "metadata": {"axes": "ZYXS"}}
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels, **about)
    target = enlarge(tmp_path / "a.ome.tif", tmp_path / "b.ome.tif", 2)
    for path, count in ((tmp_path / "a.ome.tif", 3), (target, 12)):
        raster, _, valid = read(path)
        assert raster.opacity == (3,)
        assert (~valid[:, :, 1]).sum() == (~valid).sum() == count
        assert valid[:, 3].all()


def test_imagej_hyperstacks_keep_their_calibration(tmp_path):
    pixels = noise((4, 3, 2, 9, 11), "uint16")  # TZCYX
    about = {"axes": "TZCYX", "unit": "micron", "spacing": 0.7, "finterval": 3.0}
    resolution = {"resolution": (4.0, 5.0)}
    tifffile.imwrite(tmp_path / "a.tif", pixels, imagej=True, metadata=about, **resolution)
    raster, back, _ = read(tmp_path / "a.tif")
    assert np.array_equal(back, pixels.swapaxes(1, 2))
    assert raster.world.affine == (0.25, 0, 0, 0, 0.2, 0)
    assert raster.world.units == ("micrometer", "micrometer")
    assert (raster.world.depth, raster.world.time) == (
        Step(size=0.7, unit="micrometer"),
        Step(size=3.0, unit="second"),
    )
    after = read(enlarge(tmp_path / "a.tif", tmp_path / "b.ome.tif", 2))[0]
    assert after.world == raster.world.enlarged(2)


@pytest.mark.parametrize(("side", "x", "y"), [("X", 0.25, 0.5), ("Y", 0.5, 0.25)])
def test_a_size_along_one_side_alone_is_enlarged_as_well(tmp_path, side, x, y):
    about = {"axes": "YX", f"PhysicalSize{side}": 0.5}
    tifffile.imwrite(tmp_path / "a.ome.tif", noise((8, 9), "uint8"), metadata=about)
    world = read(enlarge(tmp_path / "a.ome.tif", tmp_path / "b.ome.tif", 2))[0].world
    assert world.affine == (x, 0, 0, 0, y, 0)
    assert world.units == ((None, "micrometer") if side == "X" else ("micrometer", None))


def test_bits_in_use_are_said_where_they_come_from_another_format(tmp_path):
    pixels = noise((1, 1, 1, 8, 9), "uint8")
    assert read(write(tmp_path / "a.ome.tif", pixels, "ometiff", bits=5))[0].bits == 5


def imagej(path, **about):
    """A hyperstack; its pixels are 0.25 wide and 0.2 high."""
    about = {"axes": "TZCYX", "spacing": 0.7, "finterval": 3.0, **about}
    pixels = noise((2, 3, 2, 9, 11), "uint16")
    tifffile.imwrite(path, pixels, imagej=True, metadata=about, resolution=(4.0, 5.0))
    return path


def test_imagej_may_have_another_unit_for_each_axis(tmp_path):
    about = {"unit": "micron", "yunit": "mm", "zunit": "nm", "tunit": "min"}
    raster = read(imagej(tmp_path / "a.tif", **about))[0]
    assert raster.world == World(
        affine=(0.25, 0, 0, 0, 0.2, 0),
        units=("millimeter", "micrometer"),
        depth=Step(size=0.7, unit="nanometer"),
        time=Step(size=3.0, unit="minute"),
    )
    assert not raster.notices


def test_what_imagej_says_in_words_goes_along(tmp_path):
    labels = ["DNA", "", "actin"]
    about = {"axes": "CYX", "Labels": labels, "Info": "two\nlines", "ROI": b"Iout"}
    tifffile.imwrite(tmp_path / "a.tif", noise((3, 8, 9), "uint8"), imagej=True, metadata=about)
    assert "its regions of interest would no longer fit" in read(tmp_path / "a.tif")[0].notices[0]
    raster = read(enlarge(tmp_path / "a.tif", tmp_path / "b.ome.tif", 2))[0]
    assert [band.name for band in raster.bands] == ["DNA", None, "actin"]
    assert raster.own["description"] == "two\nlines"


def test_planes_that_are_so_many_pixels_apart_stay_as_far_apart(tmp_path):
    raster = read(enlarge(imagej(tmp_path / "a.tif"), tmp_path / "b.ome.tif", 2))[0]
    assert (raster.world.affine, raster.world.depth.size) == ((0.125, 0, 0, 0, 0.1, 0), 0.7)


@pytest.mark.parametrize("unit", ["furlong", "sec"])
def test_sizes_in_a_unit_that_is_not_known_are_left_out_and_told(tmp_path, unit):
    raster = read(imagej(tmp_path / "a.tif", unit=unit, tunit="blink"))[0]
    assert raster.world == World()
    lengths, times = raster.notices
    assert f"its lengths in {unit} are left out; srpipe knows no such unit" in lengths
    assert "its times in blink are left out" in times


@pytest.mark.parametrize(
    ("name", "symbol"),
    [("foot", "ft"), ("yard", "yd"), ("mile", "mi"), ("inch", "in"), ("decimeter", "dm")],
)
def test_units_have_their_symbol_in_the_file_and_their_name_again(tmp_path, name, symbol):
    world = World(affine=(0.4, 0, 0, 0, 0.3, 0), units=(name, name))
    path = write(tmp_path / "a.ome.tif", noise((1, 1, 1, 8, 9), "uint8"), "ometiff", world=world)
    with tifffile.TiffFile(path) as file:
        assert f'PhysicalSizeXUnit="{symbol}"' in file.ome_metadata
    assert read(path)[0].world == world


def test_what_we_know_nothing_of_goes_over(tmp_path):
    objective = (
        "<Instrument ID='Instrument:0'><Objective ID='Objective:0' LensNA='1.4'/></Instrument>"
    )
    with_more = (
        f"<OME xmlns='{ome.SPACE}'>{objective}<Image ID='Image:0' Name='cells'><Pixels"
        " ID='Pixels:0' DimensionOrder='XYCZT' Type='uint8' SizeX='9' SizeY='8' SizeC='2' SizeZ='1'"
        " SizeT='1'><Channel ID='Channel:0:0' Fluor='DAPI'/><Channel ID='Channel:0:1'/><TiffData/>"
        "<Plane TheC='1' TheZ='0' TheT='0' ExposureTime='20'/></Pixels></Image>"
        "<ROI ID='ROI:0'/></OME>"
    )
    path = tmp_path / "a.ome.tif"
    about = {"photometric": "minisblack", "metadata": None, "description": with_more}
    tifffile.imwrite(path, noise((2, 8, 9), "uint8"), **about)
    assert "its regions of interest would no longer fit" in read(path)[0].notices[0]
    with tifffile.TiffFile(enlarge(path, tmp_path / "b.ome.tif", 2)) as file:
        root = ElementTree.fromstring(file.ome_metadata)
    space = f"{{{ome.SPACE}}}"
    pixels = ome.pixels_of(root)
    order = [element.tag.removeprefix(space) for element in pixels]
    assert order == ["Channel", "Channel", "TiffData", "Plane"]
    assert pixels.attrib["SizeX"] == "18"
    assert pixels[0].get("Fluor") == "DAPI"
    assert pixels[3].get("ExposureTime") == "20"
    assert root.find(f"{space}Instrument/{space}Objective").get("LensNA") == "1.4"
    assert root.find(f"{space}ROI") is None


@pytest.mark.parametrize(("axes", "planar"), [("YXS", "contig"), ("SYX", "separate")])
def test_samples_that_are_no_colours_become_channels(tmp_path, axes, planar):
    pixels = noise((5, 8, 9), "uint16")
    stored = np.moveaxis(pixels, 0, -1) if axes == "YXS" else pixels
    about = {"axes": axes, "Channel": {"Name": ["x"]}}
    colours = {"photometric": "minisblack", "planarconfig": planar}
    tifffile.imwrite(tmp_path / "a.ome.tif", stored, metadata=about, **colours)
    raster, back, _ = read(enlarge(tmp_path / "a.ome.tif", tmp_path / "b.ome.tif", 1))
    assert np.array_equal(back[0, :, 0], pixels)
    assert [band.name for band in raster.bands] == ["x"] * 5


def test_the_larger_of_two_images_is_named_as_the_one(tmp_path):
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(noise((20, 20), "uint8"))
        file.write(noise((5, 5), "uint8"))
    raster = read(path)[0]
    assert raster.shape[3:] == (20, 20)
    assert "only the first of its 2 images is enlarged" in raster.notices[0]


def test_white_that_is_zero_stays_so(tmp_path):
    pixels = noise((4, 9, 9), "uint8")
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="miniswhite", metadata=None)
    target = enlarge(tmp_path / "a.tif", tmp_path / "b.ome.tif", 1)
    with tifffile.TiffFile(target) as file:
        assert file.pages[0].photometric.name == "MINISWHITE"
        assert np.array_equal(file.asarray(), pixels)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_file_that_ends_early_is_refused(tmp_path, compression):
    path = tmp_path / "a.tif"
    pixels = noise((4, 60, 60), "int16")
    tifffile.imwrite(path, pixels, compression=compression, photometric="minisblack")
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(MediaError, match=r"ends before|is a damaged TIFF"):
        read(path)


def test_pixels_in_other_files_are_refused(tmp_path):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, noise((2, 8, 9), "uint8"), photometric="minisblack")
    with tifffile.TiffFile(path) as file:
        text = file.ome_metadata
    other = '<TiffData><UUID FileName="../b.ome.tif">urn:uuid:1</UUID></TiffData></Pixels>'
    text = text.replace("</Pixels>", other)
    about = {"photometric": "minisblack", "metadata": None, "description": text}
    tifffile.imwrite(path, noise((2, 8, 9), "uint8"), **about)
    with pytest.raises(MediaError, match="one of several files of a data set"):
        open_raster(path)


def test_axes_that_are_not_known_are_named(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise((2, 2, 2, 8, 9), "uint8"), photometric="minisblack")
    with pytest.raises(MediaError, match="has axes QQQ before its planes; srpipe knows T, C and Z"):
        open_raster(path)


@pytest.mark.parametrize(("lead", "axes"), [((3,), "ZYX"), ((3, 2), "TZYX")])
def test_unnamed_axes_stay_in_their_order(tmp_path, lead, axes):
    pixels = noise((*lead, 8, 9), "float32")
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack")
    with tifffile.TiffFile(enlarge(tmp_path / "a.tif", tmp_path / "b.ome.tif", 1)) as file:
        assert file.series[0].axes == axes
        assert np.array_equal(file.asarray(), pixels)


def test_pieces_that_must_be_unpacked_whole_have_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr("srpipe.io.raster.SEGMENT_BYTES_MAX", 1000)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise((60, 60), "int16"), compression="zlib")
    with pytest.raises(MediaError, match=r"packed in pieces of .* store it in tiles of 512 px"):
        open_raster(path)
    tifffile.imwrite(path, noise((60, 60), "int16"))  # not packed at all
    assert read(path)[0].shape == (1, 1, 1, 60, 60)


def test_an_absurd_size_is_refused_before_any_pixel_is_read(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise((60, 60), "int16"), tile=(16, 16), compression="zlib")
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        tags = file.pages[0].tags
        for name in ("ImageWidth", "ImageLength"):
            offset = tags[name].offset
            data[offset : offset + 12] = struct.pack("<HHII", tags[name].code, 4, 1, 2**31)
    path.write_bytes(data)
    with pytest.raises(MediaError, match=r"absurd|damaged"):
        open_raster(path)


def test_what_would_be_lost_is_refused(tmp_path):
    pixels = noise((1, 1, 1, 9, 9), "uint8")
    path = tmp_path / "a.ome.tif"
    for about in ({"crs": "LOCAL_CS"}, {"affine": (1, 1, 0, 1, -1, 0)}):
        with pytest.raises(ConfigError, match="cannot say where on the ground"):
            write(path, pixels, "ometiff", world=World(**about))
    with pytest.raises(ConfigError, match=r"rows or columns run backwards; write \.ome\.zarr"):
        write(path, pixels, "ometiff", world=World(affine=(1, 0, 0, 0, -1, 0)))
    with pytest.raises(ConfigError, match="cannot say which of its pixels are valid"):
        write(path, pixels, "ometiff", nodata=3.0)
    with pytest.raises(ConfigError, match="no int64 numbers"):
        write(path, pixels.astype("int64"), "ometiff")


def test_tiles_that_two_windows_share_are_unpacked_once(tmp_path, monkeypatch):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise((64, 64), "int16"), tile=(32, 32), compression="zlib")
    source = open_raster(path)
    source.read(whole(source.raster))
    source._file.filehandle.close()
    source.read(whole(source.raster))
    source.close()


@pytest.mark.parametrize("metadata", [{}, None])
def test_pages_that_were_written_one_by_one_are_one_stack(tmp_path, metadata):
    pixels = noise((3, 20, 30, 3), "uint8")
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for page in pixels:
            file.write(page, photometric="rgb", metadata=metadata)
    raster, back, _ = read(tmp_path / "a.tif")
    assert (raster.axes, raster.shape) == ("CZYX", (1, 3, 3, 20, 30))
    assert np.array_equal(np.moveaxis(back[0], 0, -1), pixels)


@pytest.mark.parametrize("second", [(10, 9, 3), (20, 30)])
@pytest.mark.parametrize("metadata", [{}, None])
def test_pages_of_several_kinds_are_refused_and_not_left_out(tmp_path, second, metadata):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for shape in ((20, 30, 3), second):
            colour = "rgb" if len(shape) == 3 else "minisblack"
            file.write(noise(shape, "uint8"), photometric=colour, metadata=metadata)
    with pytest.raises(MediaError, match=r"has pages that differ in size.*split it"):
        open_raster(tmp_path / "a.tif")


@pytest.mark.parametrize("metadata", [{}, None])
def test_a_thumbnail_before_the_image_is_not_taken_for_it(tmp_path, metadata):
    pixels = noise((20, 30, 3), "float32")
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        about = {"photometric": "rgb", "metadata": metadata}
        file.write(pixels[::4, ::4], subfiletype=1, **about)
        file.write(pixels, **about)
    assert np.array_equal(read(tmp_path / "a.tif")[1][0, :, 0], np.moveaxis(pixels, -1, 0))


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_numbers_are_of_the_type_that_numpy_calls_so(tmp_path, dtype, order):
    tifffile.imwrite(tmp_path / "a.tif", noise((20, 30), dtype), byteorder=order)
    assert read(tmp_path / "a.tif")[0].dtype.char == np.dtype(dtype).char


def test_luma_and_chroma_that_would_be_taken_for_rgb_are_refused(tmp_path):
    page = Image.new("RGB", (32, 32), (200, 30, 30)).convert("YCbCr")
    page.save(tmp_path / "a.tif", save_all=True, append_images=[page])
    with pytest.raises(MediaError, match="holds YCBCR; convert it to grey or RGB"):
        open_raster(tmp_path / "a.tif")


def test_profile_orientation_and_words_go_along(tmp_path):
    tifffile.imwrite(
        *(tmp_path / "a.tif", noise((20, 30, 3), "float32")),
        photometric="rgb",
        metadata=None,
        description="füße\x1b & more".encode(),
        iccprofile=b"profile of forty bytes or so, never read",
        extratags=[(274, 3, 1, 6, True)],
    )
    once = enlarge(tmp_path / "a.tif", tmp_path / "b.ome.tif", 2)
    with tifffile.TiffFile(enlarge(once, tmp_path / "c.ome.tif", 2)) as file:
        page = file.pages[0]
        assert page.iccprofile == b"profile of forty bytes or so, never read"
        assert page.tags.valueof(274) == 6
        root = ElementTree.fromstring(file.ome_metadata)
    image = root.find(f"{{{ome.SPACE}}}Image")
    assert image[0].text == "füße & more"
    assert [element.tag.rpartition("}")[2] for element in image] == ["Description", "Pixels"]


def test_xmp_author_and_iptc_go_along_and_the_note_in_xmp_is_the_record(tmp_path):
    packet = xmp.noted(XMP, '{"scale": 2}')
    tags = [(700, 1, len(packet), packet, True), (33723, 7, 9, b"iptc iptc", True)]
    tags += [(315, 2, 0, b"Ann", True), (33432, 2, 0, "© Ann".encode(), True)]
    pixels = noise((30, 40), "float32")
    tifffile.imwrite(tmp_path / "a.tif", pixels, metadata=None, extratags=tags)
    assert read(tmp_path / "a.tif")[0].record == '{"scale": 2}'
    once = enlarge(tmp_path / "a.tif", tmp_path / "b.ome.tif", 2)
    with tifffile.TiffFile(enlarge(once, tmp_path / "c.ome.tif", 2)) as file:
        kept = [file.pages[0].tags.valueof(code) for code in (700, 33723, 315, 33432)]
    assert kept == [XMP.replace(b"40", b"160"), b"iptc iptc", "Ann", "© Ann"]
