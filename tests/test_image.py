import io
import struct
import zlib
from dataclasses import replace
from fractions import Fraction

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from srpipe.errors import ConfigError, MediaError, TargetError
from srpipe.io import exif, format_for, format_of, image
from srpipe.io.picture import Metadata, Picture, frame_of, layout_in

SHAPES = [(13, 17), (13, 17, 2), (13, 17, 3), (13, 17, 4)]
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta><rdf tiff:ImageWidth="17" exif:PixelYDimension="13" dc:title="a"/></x:xmpmeta>'


def noise(shape, dtype):
    rng = np.random.default_rng(7)
    if dtype == "float32":
        return rng.random(shape, dtype=dtype)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def doubled(picture: Picture) -> Picture:
    pixels = picture.frame.planes[0].repeat(2, 0).repeat(2, 1)
    return picture.enlarged(frame_of(pixels))


def written(path, picture):
    image.write(path, picture)
    image.verify(path, picture)
    return image.read(path)


def camera_exif(**ifd0):
    about = Image.Exif()
    about.update({271: "Maker", 274: 6, 282: 72.0, 283: 72.0, **ifd0})
    about[0x8769] = {0xA002: 17, 0xA003: 13, 0x927C: b"maker\0note", 0x9003: "2020:01:02 03:04:05"}
    about[0x8825] = {1: "N", 2: (52.0, 30.0, 1.5)}
    return about.tobytes().removeprefix(image.EXIF_MARK)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_every_sample_type_comes_back_bit_for_bit(tmp_path, suffix, shape, dtype):
    pixels = noise(shape, dtype)
    source = tmp_path / f"in{suffix}"
    if suffix == ".png":
        source.write_bytes(imagecodecs.png_encode(pixels))
    else:
        alpha = len(shape) == 3 and shape[2] in (2, 4)
        colour = "rgb" if shape[2:] in ((3,), (4,)) else "minisblack"
        tifffile.imwrite(
            *(source, pixels),
            photometric=colour,
            planarconfig="contig" if len(shape) == 3 else None,
            extrasamples=["unassalpha"] if alpha else None,
        )
    picture = image.read(source)
    frame = picture.frame
    assert np.array_equal(frame.planes[0], pixels.reshape(13, 17, -1))
    assert frame.layout.bits == {"uint8": 8, "uint16": 16}[dtype]
    assert frame.layout.family == ("gray" if frame.planes[0].shape[2] < 3 else "rgb")
    assert frame.layout.alpha == (frame.planes[0].shape[2] in (2, 4))
    back = written(tmp_path / "out.part", picture)
    assert np.array_equal(back.frame.planes[0], frame.planes[0])
    assert back.frame.layout == frame.layout


def test_jpeg_comes_back_within_its_tolerance(tmp_path):
    ramp = np.linspace(0, 255, 64)
    pixels = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], ramp[::-1, None]), -1)
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "a.jpg", quality=100)
    picture = image.read(tmp_path / "a.jpg")
    back = written(tmp_path / "b.part", picture)
    error = np.abs(back.frame.planes[0].astype(int) - picture.frame.planes[0])
    assert error.max() <= 6  # smooth pictures at quality 95, 4:4:4
    with Image.open(tmp_path / "b.part") as seen:
        assert seen.layer[0][1:3] == (1, 1)  # as many samples of chroma as of luma


def test_grey_jpeg_stays_grey(tmp_path):
    Image.fromarray(noise((13, 17), "uint8")).save(tmp_path / "a.jpg")
    back = written(tmp_path / "b.part", image.read(tmp_path / "a.jpg"))
    assert back.frame.layout.family == "gray"
    assert back.frame.planes[0].shape == (13, 17, 1)


@pytest.mark.parametrize("channels", [3, 4])
def test_lossless_webp_stays_lossless_and_keeps_colours_under_transparency(tmp_path, channels):
    pixels = noise((13, 17, channels), "uint8")
    pixels[..., -1:] *= channels == 3
    Image.fromarray(pixels).save(tmp_path / "a.webp", lossless=True, exact=True)
    picture = image.read(tmp_path / "a.webp")
    assert picture.lossless
    back = written(tmp_path / "b.part", picture)
    assert np.array_equal(back.frame.planes[0], pixels[..., : back.frame.planes[0].shape[2]])


@pytest.mark.parametrize("lossless", [True, False])
def test_full_opacity_that_webp_leaves_out_is_no_other_picture(tmp_path, lossless):
    pixels = noise((13, 17, 4), "uint8")
    pixels[..., 3] = 255
    plain = Picture(frame=frame_of(pixels), metadata=Metadata(), format="webp", lossless=lossless)
    for about in (Metadata(), Metadata(icc=ICC, exif=camera_exif(), xmp=XMP)):
        back = written(tmp_path / "a.webp", replace(plain, metadata=about))
        assert back.frame.layout.alpha is False
        assert not lossless or np.array_equal(back.frame.planes[0], pixels[..., :3])


def test_lossy_webp_stays_lossy(tmp_path):
    Image.fromarray(noise((13, 17, 4), "uint8")).save(tmp_path / "a.webp", quality=80)
    picture = image.read(tmp_path / "a.webp")
    assert not picture.lossless
    assert not written(tmp_path / "b.part", picture).lossless


def test_palettes_and_bits_become_grey_or_rgb(tmp_path):
    index = Image.new("P", (4, 3))
    index.putpalette([255, 0, 0, 0, 255, 0])
    index.putpixel((1, 2), 1)
    index.save(tmp_path / "p.png")
    index.save(tmp_path / "pa.png", transparency=0)
    index.save(tmp_path / "p.tif")
    Image.new("1", (4, 3), 1).save(tmp_path / "1.png")
    for name in ("p.png", "p.tif"):
        assert image.read(tmp_path / name).frame.planes[0][2, :2].tolist() == [
            [255, 0, 0],
            [0, 255, 0],
        ]
    seen = image.read(tmp_path / "pa.png").frame
    assert seen.planes[0][2, :2].tolist() == [[255, 0, 0, 0], [0, 255, 0, 255]]
    one = image.read(tmp_path / "1.png").frame
    assert one.layout.family == "gray"
    assert one.planes[0].min() == 255


def test_white_is_zero_tiff_is_turned_over(tmp_path):
    pixels = noise((13, 17), "uint16")
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="miniswhite")
    picture = image.read(tmp_path / "a.tif")
    assert np.array_equal(picture.frame.planes[0][..., 0], 65535 - pixels)
    assert np.array_equal(
        written(tmp_path / "b.part", picture).frame.planes[0], picture.frame.planes[0]
    )


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_luma_and_chroma_of_a_tiff_become_rgb(tmp_path, dtype, channels):
    rgb = np.array([[[200, 30, 30], [0, 0, 0]], [[255, 255, 255], [20, 90, 250]]], np.uint8)
    ycbcr = np.array(Image.fromarray(rgb).convert("YCbCr")).astype(dtype)
    high = np.iinfo(dtype).max // 255
    pixels = np.concatenate([ycbcr * high, np.full((2, 2, channels - 3), 7, dtype)], -1)
    ends = [end * high for end in (0, 255, 128, 255, 128, 255)]
    tifffile.imwrite(
        *(tmp_path / "a.tif", pixels),
        photometric="ycbcr",
        planarconfig="contig",
        extrasamples=["unassalpha"] * (channels - 3) or None,
        extratags=[(532, 5, 6, [n for end in ends for n in (end, 1)], True)],
    )
    picture = image.read(tmp_path / "a.tif")
    found = picture.frame.planes[0]
    assert np.abs(found[..., :3].astype(int) - rgb.astype(int) * high).max() <= 2 * high
    assert (found[..., 3:] == 7).all()
    assert np.array_equal(written(tmp_path / "b.part", picture).frame.planes[0], found)


def test_luma_and_chroma_without_a_word_of_their_ends_become_rgb(tmp_path):
    Image.new("RGB", (8, 8), (200, 30, 30)).convert("YCbCr").save(tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        at = file.pages[0].tags[532].offset
    data = bytearray((tmp_path / "a.tif").read_bytes())
    data[at : at + 2] = struct.pack("<H", 65000)  # a tag that means nothing
    (tmp_path / "a.tif").write_bytes(data)
    found = image.read(tmp_path / "a.tif").frame.planes[0]
    assert np.abs(found.astype(int) - (200, 30, 30)).max() <= 1


def test_a_picture_in_a_bigtiff_comes_with_what_is_said_of_it(tmp_path):
    pixels = noise((13, 17, 3), "uint8")
    words = {"description": "words", "metadata": None, "extratags": [(274, 3, 1, 6, True)]}
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", bigtiff=True, **words)
    picture = image.read(tmp_path / "a.tif")
    assert np.array_equal(picture.frame.planes[0], pixels)
    assert picture.metadata.turned
    back = written(tmp_path / "b.part", picture)
    assert back.own["texts"][270] == "words"


@pytest.mark.parametrize("metadata", [{}, None])
def test_a_thumbnail_before_the_picture_is_not_taken_for_it(tmp_path, metadata):
    pixels = noise((16, 20, 3), "uint8")
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        about = {"photometric": "rgb", "metadata": metadata}
        file.write(pixels[::4, ::4], subfiletype=1, **about)
        file.write(pixels, extratags=[(274, 3, 1, 6, True)], **about)
    assert format_of(tmp_path / "a.tif") == "tiff"
    picture = image.read(tmp_path / "a.tif")
    assert np.array_equal(picture.frame.planes[0], pixels)
    assert picture.metadata.turned


def test_a_preview_is_not_taken_for_the_picture_of_a_raw_file(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        about = {"photometric": "rgb", "metadata": None}
        file.write(noise((4, 5, 3), "uint8"), subfiletype=1, subifds=1, **about)
        file.write(noise((16, 20, 3), "uint8"), **about)
    with pytest.raises(MediaError, match=r"a\.tif shows no more than a preview.*develop it"):
        image.read(tmp_path / "a.tif")


def test_a_note_of_the_shape_before_is_not_written_of_a_larger_picture(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", noise((13, 17, 3), "uint8"), photometric="rgb")
    picture = image.read(tmp_path / "a.tif")
    assert picture.metadata.exif is None or b"shape" not in picture.metadata.exif
    image.write(tmp_path / "b.tif", doubled(picture))
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert (file.pages[0].description, file.series[0].shape) == ("", (26, 34, 3))


@pytest.mark.parametrize("damaged", [b"garbage garbage", b"II*\0\xff\xff\xff\xff", b"II"])
def test_damaged_exif_of_another_format_is_left_out_of_a_tiff(tmp_path, damaged):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=image.EXIF_MARK + damaged)
    picture = image.read(tmp_path / "a.jpg")
    assert picture.metadata.exif == damaged
    assert written(tmp_path / "b.tif", picture.converted("tiff")).metadata.exif is None


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_profile_exif_xmp_and_size_on_paper_go_over(tmp_path, suffix):
    source = Image.fromarray(noise((13, 17, 3), "uint8"))
    options = {
        "icc_profile": ICC,
        "exif": image.EXIF_MARK + camera_exif(),
        "dpi": (300, 150),
        "lossless": True,
    }
    if suffix != ".png":
        options["xmp"] = XMP
    if suffix == ".tif":
        loaded = Image.Exif()
        loaded.load(options["exif"])
        loaded[700] = options.pop("xmp")
        options["exif"] = loaded
    source.save(tmp_path / f"a{suffix}", **options)
    picture = doubled(image.read(tmp_path / f"a{suffix}"))
    image.write(tmp_path / f"b{suffix}", picture)
    image.verify(tmp_path / f"b{suffix}", picture)
    back = image.read(tmp_path / f"b{suffix}").metadata
    assert back.icc == ICC
    if suffix != ".webp":
        assert back.density == pytest.approx((300, 600), abs=0.03)  # PNG counts per metre
    if suffix != ".png":
        assert b'tiff:ImageWidth="34" exif:PixelYDimension="26" dc:title="a"' in back.xmp
    with Image.open(tmp_path / f"b{suffix}") as seen:  # an independent reader
        about = seen.getexif()
        assert about[274] == 6
        assert about[271] == "Maker"
        inside = about.get_ifd(0x8769)
        assert (inside[0xA002], inside[0xA003]) == (34, 26)
        assert inside[0x927C] == b"maker\0note"
        assert about.get_ifd(0x8825)[2] == (52.0, 30.0, 1.5)


def test_xmp_of_a_png_goes_over(tmp_path):
    info = image.read(_png(tmp_path / "a.png", (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)))
    back = written(tmp_path / "b.part", doubled(info))
    assert b'tiff:ImageWidth="34"' in back.metadata.xmp


def test_png_colour_and_text_chunks_go_over_and_pixel_aspect_stays(tmp_path):
    chunks = [(b"cHRM", bytes(32)), (b"gAMA", struct.pack(">I", 45455)), (b"tEXt", b"Title\0x")]
    source = _png(tmp_path / "a.png", *chunks, (b"pHYs", struct.pack(">IIB", 4, 3, 0)))
    image.write(tmp_path / "b.png", doubled(image.read(source)))
    data = (tmp_path / "b.png").read_bytes()
    for name, body in [*chunks, (b"pHYs", struct.pack(">IIB", 8, 6, 0))]:
        assert name + body in data


def test_tiff_keeps_packing_tiles_and_words(tmp_path):
    tifffile.imwrite(
        *(tmp_path / "a.tif", noise((64, 96, 3), "uint16")),
        photometric="rgb",
        compression="lzw",
        predictor=True,
        tile=(32, 32),
        resolution=(50, 40),
        resolutionunit="none",
        description="füße".encode(),
        metadata=None,
    )
    image.write(tmp_path / "b.tif", doubled(image.read(tmp_path / "a.tif")))
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        page = file.pages[0]
        assert page.compression.name == "LZW"
        assert page.predictor == 2
        assert (page.tilewidth, page.tilelength) == (32, 32)
        assert page.description == "füße"
        assert page.tags.valueof(282) == (100, 1)
        assert page.tags.valueof(296) == 1


def test_premultiplied_alpha_stays_premultiplied(tmp_path):
    pixels = noise((13, 17, 4), "uint8")
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=["assocalpha"])
    picture = image.read(tmp_path / "a.tif")
    assert not picture.frame.layout.straight
    image.write(tmp_path / "b.tif", picture)
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert file.pages[0].extrasamples == (1,)
        assert np.array_equal(file.asarray(), pixels)


def test_exif_sizes_grow_in_place_and_past_65535():
    before = camera_exif()
    after = exif.enlarged(before, 5000, 5000)
    assert len(after) == len(before)
    seen = Image.Exif()
    seen.load(after)
    assert seen.get_ifd(0x8769)[0xA002] == 17 * 5000
    assert seen[282] == 72 * 5000


def test_exif_grows_along_each_side_by_its_own():
    made = Image.Exif()
    made[282], made[283], made[0x0112] = 72, 72, 8
    made.get_ifd(0x8769).update({0xA002: 30, 0xA003: 20})
    after = exif.enlarged(made.tobytes()[6:], Fraction(5, 2), Fraction(2))
    seen = Image.Exif()
    seen.load(after)
    assert (seen[282], seen[283]) == (144, 180)
    assert [seen.get_ifd(0x8769)[tag] for tag in (0xA002, 0xA003)] == [60, 50]
    assert exif.is_turned(after)
    made[0x0112] = 3  # upside down
    assert not exif.is_turned(made.tobytes()[6:])
    assert not exif.is_turned(b"II")


@pytest.mark.parametrize("damaged", [b"", b"II", b"II*\0\xff\xff\xff\xff", b"junk" * 9])
def test_damaged_exif_is_left_alone(damaged):
    assert exif.enlarged(damaged, 4, 4) == damaged


def test_exif_that_points_at_itself_ends():
    loop = b"II*\0" + struct.pack("<IHHHIII", 8, 1, 0x8769, 4, 1, 8, 0)
    assert exif.enlarged(loop, 4, 4) == loop


@pytest.mark.parametrize(
    ("name", "bits", "family"), [("png", 16, "rgb"), ("jpeg", 8, "rgb"), ("webp", 8, "rgb")]
)
def test_another_format_takes_as_many_bits_as_it_can(name, bits, family):
    assert layout_in(frame_of(noise((2, 2, 3), "float32")).layout, name).bits == bits
    assert layout_in(frame_of(noise((2, 2), "uint8")).layout, name).family == (
        "rgb" if name == "webp" else "gray"
    )


def test_jpeg_refuses_opacity():
    with pytest.raises(ConfigError, match="JPEG cannot hold opacity; write PNG"):
        layout_in(frame_of(noise((2, 2, 4), "uint8")).layout, "jpeg")


def test_what_starts_the_file_decides_and_not_its_name(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png", "JPEG")
    assert format_of(tmp_path / "a.png") == "jpeg"
    assert image.read(tmp_path / "a.png").format == "jpeg"


def test_jpegs_in_a_row_are_a_video_unless_they_are_named_or_marked_as_one_picture(tmp_path):
    made = io.BytesIO()
    thumbnail = Image.Exif()
    thumbnail[271] = "\xff\xd9"  # an end within a segment is none
    first = Image.fromarray(noise((24, 32, 3), "uint8"))
    first.save(made, "JPEG", exif=thumbnail, progressive=True)
    one = made.getvalue()
    for name, data, form in [
        ("r.mjpeg", 3 * one, "video"),
        ("r", 2 * one, "video"),
        ("r.mjpg", one, "jpeg"),
        ("r.jpg", 3 * one, "jpeg"),
        ("cut.mjpeg", one[:-2], "jpeg"),
    ]:
        (tmp_path / name).write_bytes(data)
        assert format_of(tmp_path / name) == form
    first.save(tmp_path / "a.mpo", "MPO", save_all=True, append_images=[first])
    assert format_of(tmp_path / "a.mpo") == "jpeg"


def _jpeg(path, exif=None, **options):
    Image.new("RGB", (17, 13)).save(path, "JPEG", exif=exif or b"", **options)
    return path


def _with_jfif(path, unit, across, down):
    data = bytearray(path.read_bytes())
    struct.pack_into(">BHH", data, image.JFIF_DENSITY_AT, unit, across, down)
    path.write_bytes(data)
    return path


def _jfif(path):
    return struct.unpack_from(">BHH", path.read_bytes(), image.JFIF_DENSITY_AT)


def test_a_density_that_jfif_cannot_hold_is_left_out_and_said(tmp_path):
    picture = doubled(image.read(_jpeg(tmp_path / "a.jpg", dpi=(40000, 40000))))
    assert picture.metadata.density == (80000, 80000)
    back = written(tmp_path / "b.jpg", picture)
    assert back.metadata.density is None
    assert image.left_out(picture) == (
        "JPEG has no room for 80000 pixels per inch, which are left out",
    )
    fits = doubled(image.read(_jpeg(tmp_path / "c.jpg", dpi=(32767, 1))))
    assert written(tmp_path / "d.jpg", fits).metadata.density == (2, 65534)
    assert image.left_out(fits) == ()
    assert image.left_out(replace(picture, format="png")) == ()


LINEAR = b"gAMA", struct.pack(">I", 100000)
WIDE = b"cHRM", struct.pack(">8I", 31270, 32900, 70800, 29200, 17000, 79700, 13100, 4600)
PQ = b"cICP", bytes((9, 16, 0, 1))
MEANT = "what its colours mean"


@pytest.mark.parametrize(
    ("chunks", "lost"),
    [
        ([LINEAR, WIDE], [f"{MEANT} (gAMA, cHRM)"]),
        ([LINEAR, (b"sRGB", b"\0")], []),
        ([LINEAR, PQ], [f"{MEANT} (cICP)"]),
        ([LINEAR, (b"iCCP", b"name\0\0" + zlib.compress(ICC))], []),
        ([(b"gAMA", struct.pack(">I", 45455)), (b"cICP", bytes((1, 13, 0, 1)))], []),
        (
            [
                (b"tEXt", b"Author\0Ann"),
                (b"iTXt", b"Title\0\0\0\0\0A hill"),
                (b"tEXt", b"Author\0Bo"),
            ],
            ["its text (Author, Title)"],
        ),
    ],
)
def test_what_a_png_says_and_another_format_cannot_is_told(tmp_path, chunks, lost):
    """A linear PNG became a JPEG that is read as sRGB, and nothing was said."""
    picture = image.read(_png(tmp_path / "a.png", *chunks))
    assert image.stays_behind(picture, "png") == ()
    for name in ("jpeg", "tiff", "webp"):
        told = image.stays_behind(picture, name)
        assert told == tuple(f"{what} is left out of {name.upper()}" for what in lost)


IPTC = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x08\x1c\x02\x50\0\3Ann"


def test_a_jpeg_keeps_its_iptc_record_and_tells_where_it_cannot(tmp_path):
    """Who made a photograph was lost on the way from JPEG to JPEG."""
    source = _jpeg(tmp_path / "a.jpg", dpi=(72, 72), comment=b"on a hill")
    data = source.read_bytes()
    at = 4 + struct.unpack_from(">H", data, 4)[0]
    segments = b"".join(
        b"\xff\xed" + struct.pack(">H", len(body) + 2) + body for body in (IPTC, b"more")
    )
    source.write_bytes(data[:at] + segments + data[at:])
    picture = image.read(source)
    image.write(tmp_path / "b.jpg", doubled(picture))
    with Image.open(tmp_path / "b.jpg") as seen:
        assert [body for name, body in seen.applist if name == "APP13"] == [IPTC, b"more"]
        assert seen.info["comment"] == b"on a hill"
        assert seen.info["jfif_density"] == (144, 144)
    assert image.stays_behind(picture, "jpeg") == ()
    assert image.stays_behind(picture, "png") == (
        "its comment is left out of PNG",
        "its IPTC or Photoshop record is left out of PNG",
    )


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_a_jpeg_s_pixel_aspect_is_no_invented_density(tmp_path, suffix):
    about = Image.Exif()
    about[271] = "Maker"  # and no resolution
    source = _with_jfif(_jpeg(tmp_path / "a.jpg", about.tobytes()), 0, 2, 1)
    picture = doubled(image.read(source)).converted(format_for(suffix))
    image.write(tmp_path / f"b{suffix}", picture)
    found = image.read(tmp_path / f"b{suffix}").metadata
    assert not found.inches
    assert found.density[1] / found.density[0] == 2


def test_a_jpeg_that_says_nothing_of_its_density_gets_none(tmp_path):
    about = Image.Exif()
    about[271] = "Maker"
    picture = image.read(_jpeg(tmp_path / "a.jpg", about.tobytes()))
    assert picture.metadata.density is None
    image.write(tmp_path / "b.jpg", picture)
    assert _jfif(tmp_path / "b.jpg") == (0, 1, 1)


def test_a_jpeg_s_dots_per_centimetre_are_counted_in_inches(tmp_path):
    source = _with_jfif(_jpeg(tmp_path / "a.jpg"), 2, 100, 50)
    image.write(tmp_path / "b.jpg", image.read(source))
    assert _jfif(tmp_path / "b.jpg") == (1, 254, 127)


@pytest.mark.parametrize("suffix", [".webp", ".png", ".jpg"])
def test_a_density_that_only_exif_tells_goes_into_other_formats(tmp_path, suffix):
    about = Image.Exif()
    about.update({282: 300.0, 283: 150.0, 296: 2})
    Image.new("RGB", (17, 13)).save(tmp_path / f"a{suffix}", exif=about.tobytes())
    picture = doubled(image.read(tmp_path / f"a{suffix}")).converted("tiff")
    image.write(tmp_path / "b.tif", picture)
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        tags = file.pages[0].tags
        assert tags.valueof(282) == (600, 1)
        assert tags.valueof(283) == (300, 1)
        assert tags.valueof(296) == 2


@pytest.mark.parametrize("with_exif", [True, False])
def test_webp_tells_of_a_density_in_its_exif(tmp_path, with_exif):
    said = camera_exif() if with_exif else None  # 72 pixels per inch, and it is 300
    about = Metadata(exif=said, density=(150.0, 300.0))
    frame = frame_of(noise((13, 17, 3), "uint8"))
    image.write(tmp_path / "a.webp", Picture(frame=frame, metadata=about, format="webp"))
    assert image.read(tmp_path / "a.webp").metadata.density == (150, 300)
    with Image.open(tmp_path / "a.webp") as seen:  # an independent reader
        found = seen.getexif()
        assert (found[282], found[283], found[296]) == (300, 150, 2)
        if with_exif:
            assert found[271] == "Maker"
            assert found.get_ifd(0x8769)[0x927C] == b"maker\0note"
            assert found.get_ifd(0x8825)[2] == (52.0, 30.0, 1.5)


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_takes_a_density_and_tells_of_it(order):
    start = b"II*\0" if order == "<" else b"MM\0*"
    bare = start + struct.pack(f"{order}IHI", 8, 0, 0)
    assert exif.density(bare) is None
    told = exif.with_density(bare, 72.5, 300.0, inches=False)
    assert exif.density(told) == ((72.5, 300.0), False)
    assert exif.with_density(told, 72.5, 300.0, inches=False) == told
    seen = Image.Exif()
    seen.load(told)
    assert (seen[282], seen[283], seen[296]) == (300, 72.5, 1)
    metric = Image.Exif()
    metric.update({282: 100.0, 283: 50.0, 296: 3})
    assert exif.density(metric.tobytes()[6:]) == ((127.0, 254.0), True)
    assert exif.with_density(bare, 2.0**33, 1.0, inches=True) == bare


@pytest.mark.parametrize("damaged", [b"II", b"II*\0\xff\xff\xff\xff", b"junk" * 9])
def test_damaged_exif_neither_takes_nor_tells_a_density(damaged):
    assert exif.density(damaged) is None
    assert exif.with_density(damaged, 300, 300, inches=True) == damaged


@pytest.mark.parametrize(
    ("name", "body"),
    [
        (b"pHYs", b"\0\1"),
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0no zlib"),
        (b"iTXt", b"XML:com.adobe.xmp\0"),
        (b"iCCP", b"name\0\0no zlib"),
    ],
)
def test_a_damaged_chunk_beside_the_pixels_costs_no_more_than_itself(tmp_path, name, body):
    picture = image.read(_png(tmp_path / "a.png", (name, body), (b"gAMA", bytes([0, 0, 177, 143]))))
    assert picture.notices == (
        f"{tmp_path / 'a.png'}: its {name.decode()} chunk is damaged, and is left out",
    )
    about = picture.metadata
    assert (about.icc, about.xmp, about.density) == (None, None, None)
    image.write(tmp_path / "b.png", picture)
    data = (tmp_path / "b.png").read_bytes()
    assert name not in data
    assert b"gAMA" in data


def test_verify_sees_a_changed_pixel(tmp_path):
    picture = image.read(_png(tmp_path / "a.png"))
    image.write(tmp_path / "b.part", picture)
    other = picture.frame.planes[0].copy()
    other[5, 5] ^= 1
    with pytest.raises(TargetError, match="other pixels"):
        image.verify(tmp_path / "b.part", replace(picture, frame=frame_of(other)))


def _png(path, *chunks, size=(17, 13), pixels=None):
    data = imagecodecs.png_encode(noise((13, 17, 3), "uint8"))
    extra = b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )
    path.write_bytes(data[:33] + extra + data[33:])
    return path


def _bomb(path):
    head = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    data = bytearray(_png(path).read_bytes())
    data[12:33] = head + struct.pack(">I", zlib.crc32(head))
    path.write_bytes(data)


def _jpeg_bomb(path):
    Image.new("RGB", (8, 8)).save(path, "JPEG")
    data = path.read_bytes()
    at = data.index(b"\xff\xc0") + 5
    path.write_bytes(data[:at] + struct.pack(">HH", 60000, 60000) + data[at + 4 :])


def _cut(path):
    buffer = io.BytesIO()
    Image.fromarray(noise((64, 64, 3), "uint8")).save(
        buffer, {".png": "PNG", ".jpg": "JPEG", ".webp": "WEBP", ".tif": "TIFF"}[path.suffix]
    )
    path.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])


def _flip(path):
    _cut(path)
    data = bytearray(_png(path).read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def _animated(path):
    frames = [Image.new("RGB", (4, 4), c) for c in ("red", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def _tiff(**options):
    pixels = options.pop("pixels", noise((13, 17), "uint8"))
    return lambda path: tifffile.imwrite(path, pixels, **options)


BAD = {
    "cut png": ("a.png", _cut, "ends before its last line"),
    "flipped png": ("a.png", _flip, "damaged PNG"),
    "cut jpeg": ("a.jpg", _cut, "damaged JPEG"),
    "cut webp": ("a.webp", _cut, "damaged WEBP"),
    "cut tiff": ("a.tif", _cut, "damaged TIFF"),
    "text png": ("a.png", lambda p: p.write_text("hello"), "is not the PNG file its name says"),
    "empty": ("a.png", lambda p: p.write_bytes(b""), "is empty"),
    "absent": ("a.png", lambda p: None, "does not exist"),
    "folder": ("a.png", lambda p: p.mkdir(), "is a directory"),
    "bmp": ("a.bmp", lambda p: Image.new("RGB", (4, 4)).save(p), "convert it to PNG or TIFF"),
    "bomb": ("a.png", _bomb, "60000 x 60000 px"),
    "jpeg bomb": ("a.jpg", _jpeg_bomb, "absurdly large"),
    "apng": ("a.png", _animated, "animated"),
    "webp": ("a.webp", _animated, "animated"),
    "cmyk": ("a.jpg", lambda p: Image.new("CMYK", (4, 4)).save(p), "printing inks"),
    "raster": ("a.tif", _tiff(ome=True), "numbers, not a picture"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_plain_picture_is_refused_in_one_line(tmp_path, case):
    name, make, message = BAD[case]
    make(tmp_path / name)
    with pytest.raises(MediaError, match=message) as raised:
        image.read(tmp_path / name)
    assert "\n" not in str(raised.value)
    assert name in str(raised.value)


@pytest.mark.parametrize("quality", [20, 49, 50, 75, 92, 100])
def test_the_quality_of_a_jpeg_is_seen_from_its_tables(tmp_path, quality):
    for mode in ("RGB", "L"):
        path = tmp_path / f"{mode}.jpg"
        Image.new(mode, (24, 16), 90).save(path, quality=quality)
        assert image.read(path).quality == pytest.approx(quality, abs=1.5)


def test_what_is_no_jpeg_has_no_quality(tmp_path):
    for suffix in (".png", ".webp", ".tif"):
        path = tmp_path / f"a{suffix}"
        Image.new("RGB", (24, 16), 90).save(path)
        assert image.read(path).quality is None
