import warnings

import numpy as np
import pytest
import tifffile
from raster_files import XMP, corners, enlarge, noise, read, whole, write

from srpipe.errors import ConfigError, MediaError
from srpipe.io.raster import Band, GroundPoint, Step, World
from srpipe.io.raster_formats import open_raster, raster_format
from srpipe.validity import enlarged

rasterio = pytest.importorskip("rasterio")
UTM = rasterio.CRS.from_epsg(32633).to_wkt()
TURNED = (8.0, 3.0, 400000.25, 2.0, -9.0, 5000000.75)
UNPLACED = {"crs": None, "affine": (1e-9, 0, 0, 0, 1e-9, 0)}  # GDAL would warn of none at all
RPC = {
    **{f"{name}_off": 7.5 for name in ("line", "samp", "lat", "long", "height")},
    **{f"{name}_scale": 8.0 for name in ("line", "samp", "lat", "long", "height")},
    **{f"{name}_coeff": [0.5, *[0.0] * 19] for name in ("line_num", "line_den", "samp_num")},
    "samp_den_coeff": [1.0, *[0.0] * 19],
    "err_bias": 0.25,
}


def made(path, pixels, **about):
    """A GeoTIFF that GDAL wrote without us; what is told beside its profile comes last."""
    told = {k: about.pop(k) for k in list(about) if k in ("tags", "mask", "colorinterp", "rpcs")}
    affine = about.pop("affine", TURNED)
    place = rasterio.Affine(*affine) if affine else None
    bands, height, width = pixels.shape
    size = {"count": bands, "height": height, "width": width, "dtype": pixels.dtype}
    about = {"crs": "EPSG:32633", "transform": place, **size, **about}
    with (
        warnings.catch_warnings(action="ignore"),  # of no place at all
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", driver="GTiff", **about) as file,
    ):
        if "colorinterp" in told:
            file.colorinterp = told["colorinterp"]
        if "rpcs" in told:
            file.rpcs = told["rpcs"]
        file.write(pixels)
        if "mask" in told:
            file.write_mask(told["mask"])
        if "tags" in told:  # else the header is written once, in front
            file.update_tags(**told["tags"])
    return path


def spectral(wavelength):
    """Of a band, by name space."""
    return {"": {"nm": wavelength}, "IMAGERY": {"CENTRAL_WAVELENGTH_UM": f"0.{wavelength}"}}


@pytest.mark.parametrize("scale", [2, 3])
def test_a_turned_raster_keeps_its_corners_and_all_that_is_said_of_it(tmp_path, scale):
    world = World(affine=TURNED, crs=UTM)
    bands = (
        Band(
            name="red edge",
            colour="gray",
            scale=1e-4,
            offset=-0.1,
            unit="sr",
            own=spectral("705"),
        ),
        Band(name="B8 µ", colour="undefined", own=spectral("842")),
    )
    tags = {"": {"AREA_OR_POINT": "Point", "season": "spring"}, "MISSION": {"orbit": "12"}}
    pixels = noise((1, 2, 1, 40, 70), "uint16")
    about = {"world": world, "bands": bands, "nodata": 7.0, "own": {"tags": tags}}
    source = write(tmp_path / "a.tif", pixels, "geotiff", **about)
    before, after = read(source)[0], read(enlarge(source, tmp_path / "b.tif", scale))[0]
    for raster in (before, after):
        assert raster.bands == bands
        assert raster.own["tags"] == tags
        assert (raster.nodata, raster.axes, raster.world.crs) == (7, "CYX", UTM)
    assert before.world.affine == TURNED
    np.testing.assert_allclose(corners(after), corners(before), rtol=0, atol=1e-9)
    with rasterio.open(tmp_path / "b.tif") as file:
        a, b, c, d, e, f = TURNED
        wanted = (a / scale, b / scale, c, d / scale, e / scale, f)
        assert tuple(file.transform)[:6] == pytest.approx(wanted, rel=1e-12)
        assert file.crs.to_epsg() == 32633
        assert file.scales == (1e-4, 1)
    assert not list(tmp_path.glob("*.xml"))


def test_what_is_written_is_a_valid_cog_with_mean_overviews(tmp_path):
    validate = pytest.importorskip("rio_cogeo.cogeo").cog_validate
    ramp = np.add.outer(np.arange(600), np.arange(1200)).astype(np.float32)[None, None, None]
    path = write(tmp_path / "a.tif", ramp, "geotiff")
    valid, errors, warnings = validate(path, strict=True, quiet=True)
    assert (valid, errors, warnings) == (True, [], [])
    with rasterio.open(path, overview_level=0) as above:
        assert above.shape == (300, 600)
        assert np.array_equal(above.read(1), ramp[0, 0, 0].reshape(300, 2, 600, 2).mean((1, 3)))


def test_points_on_the_ground_and_polynomials_are_scaled(tmp_path):
    points = [(0, 0), (0, 20), (10, 0), (10, 20)]
    known = tuple(
        GroundPoint(row=row, column=x, x=10.0 + x, y=50.0 - row, z=1.0, name=str(i + 1), info="")
        for i, (row, x) in enumerate(points)
    )
    world = World(points=known, points_crs=rasterio.CRS.from_epsg(4326).to_wkt())
    source = write(tmp_path / "a.tif", noise((1, 1, 1, 10, 20), "uint8"), "geotiff", world=world)
    assert read(source)[0].world == world
    after = read(enlarge(source, tmp_path / "b.tif", 2))[0]
    wanted = [(2 * row, 2 * x) for row, x in points]
    assert [(p.row, p.column) for p in after.world.points] == wanted
    assert [(p.x, p.y) for p in after.world.points] == [(p.x, p.y) for p in known]
    pixels = noise((1, 16, 16), "uint8")
    made(tmp_path / "c.tif", pixels, rpcs=rasterio.rpc.RPC(**RPC), **UNPLACED)
    assert raster_format(tmp_path / "c.tif") == "geotiff"
    rpc = read(enlarge(tmp_path / "c.tif", tmp_path / "d.tif", 2))[0].world.rpc
    assert (rpc["line_off"], rpc["line_scale"], rpc["lat_off"]) == (15.5, 16, 7.5)


@pytest.mark.parametrize("kind", ["Point", "Area"])
def test_points_on_the_ground_of_pixels_that_point_to_their_middle_are_not_moved(tmp_path, kind):
    """GDAL moves them by half a pixel whenever it writes them."""
    points = [rasterio.control.GroundControlPoint(r, c, c, -r) for r in (0, 9) for c in (0, 7)]
    pixels, tags = noise((1, 16, 16), "uint8"), {"AREA_OR_POINT": kind}
    about = {"affine": None, "tags": tags, "gcps": points}
    source = made(tmp_path / "a.tif", pixels, **about)
    with rasterio.open(source) as before:
        wanted = [(3 * p.row, 3 * p.col, p.x, p.y) for p in before.gcps[0]]
    with rasterio.open(enlarge(source, tmp_path / "b.tif", 3)) as after:
        assert after.tags()["AREA_OR_POINT"] == kind
        assert [(p.row, p.col, p.x, p.y) for p in after.gcps[0]] == wanted


def test_a_mask_of_its_own_is_read_and_written(tmp_path):
    pixels = noise((2, 30, 40), "uint8")
    mask = np.zeros((30, 40), bool)
    mask[5:, 7:] = True
    source = made(tmp_path / "a.tif", pixels, mask=mask)
    raster, _, valid = read(source)
    assert raster.masked
    assert np.array_equal(valid[0, :, 0], [mask, mask])
    raster, back, valid = read(enlarge(source, tmp_path / "b.tif", 2))
    assert raster.masked
    assert np.array_equal(valid[0, 1, 0], enlarged(mask, 2))
    assert np.array_equal(back[0, :, 0], enlarged(pixels, 2))
    assert not list(tmp_path.glob("*.msk"))


@pytest.mark.parametrize("kind", ["geo", "plain", "picture", "apart"])
def test_a_mask_is_seen_whatever_else_the_file_is(tmp_path, kind):
    mask = np.zeros((30, 40), bool)
    mask[5:, 7:] = True
    pixels = noise((3, 30, 40), "uint8" if kind == "picture" else "float32")
    about = {} if kind == "geo" else {"crs": None, "affine": None}
    colours = {"photometric": "rgb"} if kind == "picture" else {}
    source = made(tmp_path / "a.tif", pixels, **about, **colours)
    with (
        warnings.catch_warnings(action="ignore"),
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=kind != "apart"),
        rasterio.open(source, "r+") as file,
    ):
        file.write_mask(mask)
    assert (tmp_path / "a.tif.msk").exists() == (kind == "apart")
    target = enlarge(source, tmp_path / "b.tif", 2)
    for path, wanted in ((source, mask), (target, enlarged(mask, 2))):
        raster, _, valid = read(path)
        assert raster.masked
        assert np.array_equal(valid[0, :, 0], [wanted] * 3)


def test_a_mask_and_an_opacity_are_both_kept(tmp_path):
    pixels, mask = noise((4, 9, 9), "uint8") | 1, np.ones((9, 9), bool)
    pixels[3, 2, 3] = 0
    mask[7, 8] = False
    colours = [rasterio.enums.ColorInterp[c] for c in ("red", "green", "blue", "alpha")]
    source = made(tmp_path / "a.tif", pixels, mask=mask, colorinterp=colours)
    for path, times in ((source, 1), (enlarge(source, tmp_path / "b.tif", 2), 4)):
        raster, _, valid = read(path)
        assert raster.masked
        assert [int(n) for n in (~valid[0, :, 0]).sum((1, 2))] == [2 * times] * 3 + [times]


@pytest.mark.parametrize("kind", ["premultiplied", "non-premultiplied"])
def test_colours_that_are_multiplied_by_their_opacity_stay_so(tmp_path, kind):
    source = made(tmp_path / "a.tif", noise((4, 9, 9), "uint8"), photometric="rgb", alpha=kind)
    target = enlarge(source, tmp_path / "b.tif", 2)
    extras = []
    for path in (source, target):
        with tifffile.TiffFile(path) as file:
            extras.append(file.pages[0].extrasamples[0].name)
    assert extras == ["ASSOCALPHA" if kind == "premultiplied" else "UNASSALPHA"] * 2


def told_by_gdal(path, of_file="", of_bands=()):
    """A file of GDAL's own beside a TIFF."""
    bands = "".join(
        f'<PAMRasterBand band="{i}">{said}</PAMRasterBand>' for i, said in enumerate(of_bands, 1)
    )
    path.with_name(f"{path.name}.aux.xml").write_text(f"<PAMDataset>{of_file}{bands}</PAMDataset>")
    return path


def test_a_nodata_number_beside_the_file_is_read_and_written_into_the_result(tmp_path):
    path = made(tmp_path / "a.tif", noise((1, 8, 8), "uint16"), crs=None, affine=None)
    assert raster_format(path) != "geotiff"
    told_by_gdal(path, of_bands=["<NoDataValue>7</NoDataValue>"])
    assert read(enlarge(path, tmp_path / "b.tif", 2))[0].nodata == 7


def test_polynomials_in_a_file_of_the_satellites_maker_are_in_the_result(tmp_path):
    path = made(tmp_path / "a.tif", noise((1, 8, 8), "uint16"), crs=None, affine=None)
    names = {"line": "LINE", "samp": "SAMP", "lat": "LAT", "long": "LONG", "height": "HEIGHT"}
    lines = [f"{name}_OFF: 7.5" for name in names.values()]
    lines += [f"{name}_SCALE: 8" for name in names.values()]
    for name in ("LINE_NUM", "LINE_DEN", "SAMP_NUM", "SAMP_DEN"):
        lines += [f"{name}_COEFF_{i}: {float(i == 1)}" for i in range(1, 21)]
    (tmp_path / "a_RPC.TXT").write_text("\n".join(lines) + "\n")
    raster = read(enlarge(path, tmp_path / "b.tif", 2))[0]
    assert raster.world.rpc["line_off"] == 15.5  # its pixels' middles are whole numbers
    assert raster.world.rpc["line_scale"] == 16


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (["<NoDataValue>0</NoDataValue>", "<NoDataValue>9</NoDataValue>"], r"\(0, 9\), and a"),
        (["", "<NoDataValue>9</NoDataValue>"], r"another nodata number for each band \(none, 9\)"),
        (["<CategoryNames><Category>wood</Category></CategoryNames>"], "names classes"),
    ],
)
def test_what_one_geotiff_cannot_hold_of_its_bands_is_refused(tmp_path, said, words):
    path = told_by_gdal(made(tmp_path / "a.tif", noise((2, 8, 8), "uint8")), of_bands=said)
    with pytest.raises(MediaError, match=words):
        open_raster(path)


def test_bands_that_are_nan_where_nothing_was_measured_agree(tmp_path):
    path = made(tmp_path / "a.tif", noise((2, 8, 8), "float32"), nodata=np.nan)
    assert np.isnan(read(path)[0].nodata)


def test_a_mask_for_each_band_is_refused(tmp_path):
    path = made(tmp_path / "a.tif", noise((2, 8, 8), "uint8"))
    apart = made(tmp_path / "a.tif.msk", noise((2, 8, 8), "uint8"), crs=None, affine=None)
    with warnings.catch_warnings(action="ignore"), rasterio.open(apart, "r+") as file:
        file.update_tags(INTERNAL_MASK_FLAGS_1="0", INTERNAL_MASK_FLAGS_2="0")
    with pytest.raises(MediaError, match="has a mask for each band"):
        open_raster(path)


def test_xml_beside_the_file_is_not_written_as_text_into_the_result(tmp_path):
    said = '<Metadata domain="xml:ESRI" format="xml"><GeodataXform>1</GeodataXform></Metadata>'
    path = told_by_gdal(made(tmp_path / "a.tif", noise((1, 8, 8), "uint8")), of_file=said)
    assert read(path)[0].notices == ("xml:ESRI, which lies beside the file, is left out",)
    with rasterio.open(enlarge(path, tmp_path / "b.tif", 2)) as file:
        assert "xml:ESRI" not in file.tag_namespaces()


def test_what_is_transparent_is_invalid_in_all_bands_but_the_opacity(tmp_path):
    pixels = noise((4, 9, 9), "uint16")
    pixels[3] = 65535
    pixels[3, 2, 3] = 0
    colours = [rasterio.enums.ColorInterp[c] for c in ("blue", "green", "red", "alpha")]
    source = made(tmp_path / "a.tif", pixels, colorinterp=colours)
    target = enlarge(source, tmp_path / "b.tif", 2)
    for path, count in ((source, 3), (target, 12)):
        raster, _, valid = read(path)
        assert [band.colour for band in raster.bands] == ["blue", "green", "red", "alpha"]
        assert not raster.masked
        assert (~valid).sum() == count
        assert valid[0, 3].all()


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize(
    "colours", ["gray", "red green blue", "red green blue alpha", "gray x x x"]
)
def test_four_bands_are_a_colour_image_only_if_they_say_so(tmp_path, dtype, colours):
    names = colours.replace("x", "undefined").split()
    bands = tuple(Band(colour=name) for name in names)
    pixels = noise((1, len(bands), 1, 9, 9), dtype)
    path = write(tmp_path / "a.tif", pixels, "geotiff", bands=bands)
    assert [band.colour for band in read(path)[0].bands] == names


def test_pixels_that_point_to_their_middle_lie_where_gdal_says(tmp_path):
    source = made(tmp_path / "a.tif", noise((1, 8, 8), "uint8"), tags={"AREA_OR_POINT": "Point"})
    before, after = read(source)[0], read(enlarge(source, tmp_path / "b.tif", 4))[0]
    assert after.own["tags"][""]["AREA_OR_POINT"] == "Point"
    np.testing.assert_allclose(corners(after), corners(before), rtol=0, atol=1e-9)


@pytest.mark.parametrize(("shape", "dtype"), [((32, 40, 3), "uint8"), ((32, 40), "float32")])
@pytest.mark.parametrize(
    ("beside", "said"),
    [
        ("a.tfw", "10\n0\n0\n-10\n500005\n3999995\n"),
        (
            "a.tif.aux.xml",
            "<PAMDataset><SRS>EPSG:32633</SRS>"
            "<GeoTransform>500000, 10, 0, 4000000, 0, -10</GeoTransform></PAMDataset>",
        ),
    ],
)
def test_a_place_that_a_file_beside_it_says_is_in_the_result(tmp_path, shape, dtype, beside, said):
    pixels = noise(shape, dtype)
    colours = "rgb" if len(shape) == 3 else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric=colours, metadata=None)
    assert raster_format(tmp_path / "a.tif") != "geotiff"
    (tmp_path / beside).write_text(said)
    raster, back, _ = read(enlarge(tmp_path / "a.tif", tmp_path / "b.tif", 2))
    assert raster.world.affine == (5, 0, 500000, 0, -5, 4000000)
    assert bool(raster.world.crs) == beside.endswith("xml")
    bands = pixels[None] if len(shape) == 2 else np.moveaxis(pixels, -1, 0)
    assert np.array_equal(back[0, :, 0], enlarged(bands, 2))
    assert not list(tmp_path.glob("b.t*w")) + list(tmp_path.glob("b.*.xml"))


def test_statistics_do_not_go_along_and_print_sizes_stay(tmp_path):
    tags = {"TIFFTAG_XRESOLUTION": "300", "TIFFTAG_YRESOLUTION": "118.1"}
    tags |= {"TIFFTAG_RESOLUTIONUNIT": "3", "STATISTICS_MEAN": "1", "kept": "yes"}
    source = made(tmp_path / "a.tif", noise((1, 8, 12), "uint8"), tags=tags)
    enlarge(source, tmp_path / "b.tif", 2)
    with rasterio.open(tmp_path / "b.tif") as file:
        assert file.tags() == {
            "AREA_OR_POINT": "Area",
            "TIFFTAG_RESOLUTIONUNIT": "3 (pixels/cm)",
            "TIFFTAG_XRESOLUTION": "600",
            "TIFFTAG_YRESOLUTION": "236.2",
            "kept": "yes",
        }


def test_a_nodata_number_that_the_type_has_not_is_left_out(tmp_path):
    path = write(tmp_path / "a.tif", noise((1, 1, 1, 9, 9), "uint8"), "geotiff", nodata=-9999.0)
    assert read(path)[0].nodata is None


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_grey_whose_0_is_white_stays_so(tmp_path, dtype):
    """It became one whose 0 is black; of 8 bits it was refused as a palette."""
    pixels = noise((1, 8, 9), dtype)
    source = made(tmp_path / "a.tif", pixels, photometric="miniswhite")
    target = enlarge(source, tmp_path / "b.tif", 2)
    for path, wanted in ((source, pixels), (target, enlarged(pixels, 2))):
        raster, found, _ = read(path)
        assert [band.colour for band in raster.bands] == ["gray"]
        assert np.array_equal(found[0, :, 0], wanted)
        with tifffile.TiffFile(path) as file:
            assert all(page.photometric.name == "MINISWHITE" for page in file.pages)


@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [
        *(("int64", -(2**63)), ("int64", -9999), ("int64", 10**18), ("int64", 2**60 + 1)),
        *(("uint64", 2**64 - 1), ("uint64", 0)),
    ],
)
def test_a_nodata_number_of_64_bits_keeps_all_its_digits(tmp_path, dtype, nodata):
    """It was a float on its way, of which GDAL took the digits before the point."""
    pixels = np.arange(300 * 300, dtype=dtype).reshape(1, 300, 300) + 1
    pixels[:, :100] = nodata
    with_zero = made(tmp_path / "a.tif", pixels, nodata=0)
    with tifffile.TiffFile(with_zero, mode="r+") as file:
        file.pages[0].tags[42113].overwrite(str(nodata))
    target = enlarge(with_zero, tmp_path / "b.tif", 2)
    with tifffile.TiffFile(target) as file:
        assert file.pages[0].tags.valueof(42113) == str(nodata)
    for path, scale in ((with_zero, 1), (target, 2)):
        raster, _, valid = read(path)
        assert (raster.nodata, type(raster.nodata)) == (nodata, int)
        assert np.array_equal(valid[0, :, 0], enlarged(pixels != nodata, scale))
    with rasterio.open(target, overview_level=0) as above:
        assert np.array_equal(above.read(1) == nodata, pixels[0] == nodata)


@pytest.mark.parametrize(
    ("text", "nodata"), [("-9.2233720368547758e+18", -(2**63)), ("nan", np.nan), ("7.0", 7)]
)
def test_a_nodata_number_of_64_bits_may_be_written_as_a_float(tmp_path, text, nodata):
    path = made(tmp_path / "a.tif", noise((1, 9, 9), "int64"), nodata=0)
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags[42113].overwrite(text)
    assert read(path)[0].nodata == pytest.approx(nodata, rel=0, nan_ok=True)
    said = read(enlarge(path, tmp_path / "b.tif", 2))[0].nodata
    assert said == (None if np.isnan(nodata) else nodata)


def test_a_nodata_number_of_64_bits_beside_the_file_is_refused(tmp_path):
    path = made(tmp_path / "a.tif", noise((1, 9, 9), "int64"))
    band = '<PAMRasterBand band="1"><NoDataValue>9007199254740993</NoDataValue></PAMRasterBand>'
    path.with_name("a.tif.aux.xml").write_text(f"<PAMDataset>{band}</PAMDataset>")
    with pytest.raises(MediaError, match="nodata number in another file"):
        open_raster(path)


def test_a_palette_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    about = {"height": 8, "width": 8, "count": 1, "dtype": "uint8", "crs": "EPSG:32633"}
    about["transform"] = rasterio.Affine(*TURNED)
    with rasterio.open(path, "w", driver="GTiff", **about) as file:
        file.write_colormap(1, {0: (0, 0, 0), 1: (255, 0, 0)})
    with pytest.raises(MediaError, match="names of classes, between which there is nothing"):
        open_raster(path)


def test_a_file_that_ends_early_is_refused_where_it_is_read(tmp_path):
    path = made(tmp_path / "a.tif", noise((1, 200, 200), "uint8"), compress="deflate")
    data = path.read_bytes()
    path.write_bytes(data[:20000])
    source = open_raster(path)
    with pytest.raises(MediaError, match="is a damaged GeoTIFF"):
        source.read(whole(source.raster))
    source.close()
    path.write_bytes(data[:100])
    with pytest.raises(MediaError, match=r"is a damaged TIFF .*; fetch it again"):
        open_raster(path)


def test_a_coordinate_system_that_cannot_be_read_is_refused(tmp_path):
    path = made(tmp_path / "a.tif", noise((1, 8, 8), "uint8"))
    data = path.read_bytes()
    key = np.array([3072, 0, 1, 32633], np.uint16)  # ProjectedCRSGeoKey
    assert data.count(key.tobytes()) == 1
    path.write_bytes(data.replace(key.tobytes(), np.array([*key[:3], 29999], "u2").tobytes()))
    with pytest.raises(MediaError, match="coordinate system that GDAL cannot read; assign one"):
        open_raster(path)


OBLIQUE = "+proj=ob_tran +o_proj=longlat +o_lon_p=0 +o_lat_p=39.25 +lon_0=18 +to_meter=0.0174533"


def test_a_coordinate_system_that_lies_beside_the_file_is_refused_and_not_left_out(tmp_path):
    """GDAL puts what has no tags there, and nobody took that along."""
    crs = rasterio.CRS.from_string(OBLIQUE)
    path = made(tmp_path / "a.tif", noise((1, 8, 8), "uint8"), crs=crs)
    assert path.with_name("a.tif.aux.xml").exists()
    assert read(path)[0].world.crs
    with pytest.raises(ConfigError, match=r"no tags for this coordinate system, .*; warp the"):
        enlarge(path, tmp_path / "b.tif", 2)


@pytest.mark.parametrize("crs", [OBLIQUE, "+proj=eqearth", "EPSG:5773"])
@pytest.mark.parametrize("name", ["crs", "points_crs"])
def test_a_coordinate_system_without_tags_is_refused(tmp_path, crs, name):
    world = World(affine=TURNED, **{name: rasterio.CRS.from_string(crs).to_wkt()})
    with pytest.raises(ConfigError, match="no tags for this coordinate system"):
        write(tmp_path / "a.tif", noise((1, 1, 1, 8, 8), "uint8"), "geotiff", world=world)


@pytest.mark.parametrize(
    "crs", ["EPSG:32633", "EPSG:4979", "EPSG:7415", "ESRI:54009", 'LOCAL_CS["x",UNIT["metre",1]]']
)
def test_a_coordinate_system_with_tags_is_kept(tmp_path, crs):
    path = made(tmp_path / "a.tif", noise((1, 8, 8), "uint8"), crs=rasterio.CRS.from_string(crs))
    with rasterio.open(enlarge(path, tmp_path / "b.tif", 2)) as file:
        assert file.crs == rasterio.CRS.from_string(crs)


def test_stacks_units_and_number_types_that_geotiff_has_not_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="no stacks, and this one has 6 planes"):
        write(tmp_path / "a.tif", noise((2, 1, 3, 9, 9), "uint8"), "geotiff")
    with pytest.raises(ConfigError, match="no float16 numbers"):
        write(tmp_path / "a.tif", noise((1, 1, 1, 9, 9), "float16"), "geotiff")
    world = World(affine=TURNED, units=("nanometer", "nanometer"), depth=Step())
    with pytest.raises(ConfigError, match="how many nanometers"):
        write(tmp_path / "a.tif", noise((1, 1, 1, 9, 9), "uint8"), "geotiff", world=world)


def test_absurd_sizes_are_refused_before_any_pixel_is_read(tmp_path):
    about = {"height": 2**30, "width": 2**30, "sparse_ok": True, "bigtiff": "yes"}
    about |= {"blockxsize": 2**20, "blockysize": 2**20, "count": 1, "dtype": "uint8"}
    about |= {"transform": rasterio.Affine(*TURNED), "tiled": True}
    path = tmp_path / "a.tif"
    with rasterio.open(path, "w", driver="GTiff", crs="EPSG:32633", **about):
        pass
    assert path.stat().st_size < 2**25
    with pytest.raises(MediaError, match="claims an absurd 1073741824 x 1073741824 px"):
        open_raster(path)


def test_pieces_that_must_be_unpacked_whole_have_a_limit(tmp_path, monkeypatch):
    path = made(tmp_path / "a.tif", noise((1, 200, 200), "uint8"), compress="deflate")
    monkeypatch.setattr("srpipe.io.raster.SEGMENT_BYTES_MAX", 1000)
    with pytest.raises(MediaError, match=r"packed in pieces of .* store it in tiles of 512 px"):
        open_raster(path)


def test_a_tag_that_only_begins_like_the_record_goes_along(tmp_path):
    pixels = noise((1, 8, 8), "uint16")
    source = made(tmp_path / "a.tif", pixels, tags={"srpipe_note": "mine", "srpipe": "{}"})
    raster = read(enlarge(source, tmp_path / "b.tif", 2))[0]
    assert raster.own["tags"][""]["srpipe_note"] == "mine"
    assert raster.record is None


def test_xmp_goes_along_as_it_is_but_for_its_sizes(tmp_path):
    """GDAL writes whatever has a key with that key, which made it no XMP."""
    path = tmp_path / "a.tif"
    write(path, noise((1, 1, 1, 30, 40), "uint8"), "geotiff", xmp=XMP)
    twice = enlarge(enlarge(path, tmp_path / "b.tif", 2), tmp_path / "c.tif", 2)
    for file, width in ((path, b"40"), (twice, b"160")):
        with tifffile.TiffFile(file) as opened:
            packet = bytes(opened.pages[0].tags[700].value)
        assert packet.rstrip() == XMP.replace(b"40", width)
        assert read(file)[0].xmp.rstrip() == packet.rstrip()
