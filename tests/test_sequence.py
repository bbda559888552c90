from fractions import Fraction

import av
import numpy as np
import pytest
import video_files as clips
from PIL import Image

from srpipe.errors import ConfigError, MediaError, TargetError, TruncatedError
from srpipe.io import format_of
from srpipe.io.sequence import files, is_sequence, numbers
from srpipe.io.video import VideoSource
from srpipe.jobs import plan, upscale
from srpipe.settings import RunSettings


@pytest.fixture
def settings(toy):
    return lambda **values: RunSettings(
        **{"model": "toy", "weights": toy, "perception": 0.0} | values
    )


def pixels(path):
    with Image.open(path) as image:
        return np.array(image)


def test_a_pattern_stands_for_its_files_in_order(tmp_path):
    for name in ("a9.png", "a10.png", "a11.png", "b10.png", "a10.jpg", "ax.png"):
        (tmp_path / name).touch()
    pattern = tmp_path / "a%d.png"
    assert is_sequence(pattern)
    assert not is_sequence(tmp_path / "a9.png")
    assert numbers(pattern) == range(9, 12)
    assert [path.name for path in files(pattern)] == ["a9.png", "a10.png", "a11.png"]
    assert files(tmp_path / "a9.png") == [tmp_path / "a9.png"]
    (tmp_path / "100%d.mp4").touch()
    assert not is_sequence(tmp_path / "100%d.mp4"), "such a file may be there"


def test_zeros_belong_to_the_name(tmp_path):
    for name in ("0009.png", "0010.png", "11.png"):
        (tmp_path / name).touch()
    assert numbers(tmp_path / "%04d.png") == range(9, 11)


def test_one_percent_sign_is_the_number_and_the_others_stay(tmp_path):
    (tmp_path / "50% off_0001.png").touch()
    for pattern in ("50% off_%04d.png", "50%% off_%04d.png"):
        assert [path.name for path in files(tmp_path / pattern)] == ["50% off_0001.png"]
    (tmp_path / "a%7.png").touch()
    assert [path.name for path in files(tmp_path / "a%%%d.png")] == ["a%7.png"]
    assert not is_sequence(tmp_path / "a%%d.png"), "FFmpeg reads a%d.png there"


def test_a_gap_or_nothing_is_refused_in_one_line(tmp_path):
    for number in (1, 2, 4):
        (tmp_path / f"{number}.png").touch()
    with pytest.raises(MediaError, match="number 3 is missing between 1 and 4"):
        format_of(tmp_path / "%d.png")
    with pytest.raises(MediaError, match="no pictures of such names"):
        numbers(tmp_path / "%03d.png")
    with pytest.raises(MediaError, match="cannot be read"):
        numbers(tmp_path / "no" / "%03d.png")


@pytest.mark.parametrize(
    ("suffix", "fmt", "bits"),
    [
        (".png", "rgb24", 8),
        (".png", "rgb48be", 16),
        (".png", "gray16be", 16),
        (".tif", "rgb48le", 16),
        (".jpg", "yuvj420p", 8),
    ],
)
def test_numbered_pictures_are_read_as_one_video(tmp_path, suffix, fmt, bits):
    source = VideoSource(clips.sequence(tmp_path, suffix, fmt), picture_rate=Fraction(24000, 1001))
    frames = list(source)
    assert [f.pts * source.time_base for f in frames] == [
        Fraction(1001 * n, 24000) for n in range(5)
    ]
    assert (source.count, source.layout.bits) == (5, bits)
    assert any("24000/1001 a second are taken" in text for text in source.notices)


def test_a_folder_name_with_a_percent_sign_is_no_pattern(tmp_path):
    pattern = clips.sequence(tmp_path)
    folder = pattern.parent.rename(tmp_path / "50%d")
    assert len(list(VideoSource(folder / pattern.name))) == 5


@pytest.mark.parametrize("name", ["50%_%04d", "100%s_%04d", "a%%%04d", "%%%04d%%"])
def test_percent_signs_come_through_from_name_to_name(tmp_path, settings, name):
    source = clips.sequence(tmp_path, count=2, first=1)
    for path in sorted(source.parent.iterdir()):
        path.rename(path.with_name(name.replace("%%", "%").replace("%04d", path.stem) + ".png"))
    result = upscale(source.with_name(f"{name}.png"), tmp_path / "out" / f"{name}.png", settings())
    assert [p.name for p in files(tmp_path / "out" / f"{name}.png")] == sorted(
        p.name for p in source.parent.iterdir()
    )
    assert result.frames == 2


def damaged(folder, suffix, fmt, share):
    pattern = clips.sequence(folder, suffix, fmt)
    path = pattern.with_name(f"0009{suffix}")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return pattern


@pytest.mark.parametrize(
    ("suffix", "fmt"), [(".png", "rgb24"), (".tif", "rgb24"), (".jpg", "yuvj420p")]
)
@pytest.mark.parametrize("share", [0, 0.5])
def test_a_picture_that_is_empty_or_cut_is_damage_and_no_end(tmp_path, suffix, fmt, share):
    pattern = damaged(tmp_path, suffix, fmt, share)
    words = "after 2 frames" if share else f"0009{suffix} is empty or cannot be read"
    with pytest.raises(TruncatedError, match=words):
        list(VideoSource(pattern))
    source = VideoSource(pattern, allow_truncated=True)
    assert len(list(source)) == (4 if share else 2)
    assert source.truncated


@pytest.mark.parametrize(("share", "frames"), [(0, 2), (0.5, 4)])
def test_a_video_of_damaged_pictures_is_refused_unless_allowed(tmp_path, settings, share, frames):
    pattern = damaged(tmp_path, ".jpg", "yuvj420p", share)
    with pytest.raises(TruncatedError, match="after 2 frames"):
        upscale(pattern, tmp_path / "a.mkv", settings())
    result = upscale(pattern, tmp_path / "a.mkv", settings(allow_truncated=True))
    assert (result.status, result.frames) == ("truncated", frames)


@pytest.mark.parametrize(
    ("fmt", "suffix"), [("rgb24", ".png"), ("rgb48be", ".png"), ("rgb48be", ".tif")]
)
def test_pictures_become_larger_pictures_with_their_numbers(tmp_path, settings, fmt, suffix):
    source = clips.sequence(tmp_path, fmt=fmt)
    result = upscale(source, tmp_path / "out" / f"%04d{suffix}", settings())
    assert result.target == tmp_path / "out"
    assert (result.frames, result.checked["frames"]) == (5, 5)
    assert sorted(p.name for p in result.target.iterdir()) == [
        *(f"{number:04}{suffix}" for number in range(7, 12)),
        "times.txt",
    ]
    for number, after in enumerate(VideoSource(tmp_path / "out" / f"%04d{suffix}")):
        fine = "rgb48le" if fmt.endswith("be") else "rgb24"
        before = clips.pattern(number, fine, 48, 64).to_ndarray(format=fine)
        assert np.array_equal(after.planes[0], before.repeat(2, 0).repeat(2, 1))
    assert upscale(source, tmp_path / "out" / f"%04d{suffix}", settings()).status == "skipped"
    with pytest.raises(TargetError, match="is a folder with files in it; remove it"):
        upscale(source, tmp_path / "out" / "%04d.png", settings(overwrite=True))


def test_a_file_that_has_the_name_of_the_folder_of_pictures_is_told(tmp_path, settings):
    source = clips.sequence(tmp_path, fmt="rgb24")
    (tmp_path / "out").write_text("mine")
    with pytest.raises(TargetError, match="out is a file, and a folder is to have its name"):
        upscale(source, tmp_path / "out" / "%04d.png", settings(overwrite=True))
    assert (tmp_path / "out").read_text() == "mine"


def test_a_video_becomes_pictures_and_says_what_they_cannot_hold(tmp_path, settings):
    path = clips.make(tmp_path / "a.mkv", times=clips.UNEVEN, extras=[clips.sound("eng")])
    result = upscale(path, tmp_path / "out" / "%d.png", settings())
    assert any("1 audio are left out; .mkv holds them" in text for text in result.notices)
    assert pixels(tmp_path / "out" / "1.png").shape == (96, 128, 3)
    first, *times = (tmp_path / "out" / "times.txt").read_text().split("\n")[:-1]
    assert first == "# timestamp format v2"
    assert [float(time) for time in times] == clips.UNEVEN


def test_ten_bits_become_sixteen(tmp_path, settings):
    path = clips.make(tmp_path / "a.mkv", fmt="yuv420p10le", times=[0])
    upscale(path, tmp_path / "out" / "%d.png", settings())
    with av.open(str(tmp_path / "out" / "1.png")) as file:
        assert next(file.decode(video=0)).format.name == "rgb48be"


def test_a_video_of_pictures_lies_beside_them(tmp_path, settings):
    result = upscale(clips.sequence(tmp_path), settings=settings(rate="10"))
    assert result.target == tmp_path / "in" / "in_toy_x2.mkv"
    assert [t for _, t, _ in clips.pictures(result.target)] == [Fraction(n, 10) for n in range(5)]


def test_a_video_of_pictures_that_is_there_already_is_skipped_or_replaced(tmp_path, settings):
    source, target = clips.sequence(tmp_path), tmp_path / "a.mkv"
    target.write_bytes(b"an earlier one")
    assert upscale(source, target, settings()).status == "skipped"
    assert target.read_bytes() == b"an earlier one"
    assert upscale(source, target, settings(overwrite=True)).frames == 5


def test_an_option_that_the_encoder_lacks_is_refused_before_any_work(tmp_path, settings):
    path = clips.make(tmp_path / "a.mkv", times=[0])
    with pytest.raises(ConfigError, match="the encoder png has no option preset"):
        upscale(path, tmp_path / "out" / "%d.png", settings(options=(("preset", "slow"),)))
    assert [p.name for p in tmp_path.iterdir()] == ["a.mkv"]


def test_a_turn_in_exif_is_kept_though_pyav_knows_no_exif(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for number in range(2):
        flat = np.full((32, 48, 3), 90, np.uint8)
        Image.fromarray(flat).save(tmp_path / f"{number}.jpg", exif=exif)
    source = VideoSource(tmp_path / "%d.jpg")
    assert source.rotation == -90
    assert source.display_matrix[:5] == (0, 65536, 0, -65536, 0)
    assert len(list(source)) == 2


def palettes(folder, opacities):
    """Numbered pictures of three colours, of which the first two are this opaque."""
    folder.mkdir()
    for number, opaque in enumerate(opacities):
        picture = Image.fromarray(np.repeat(np.uint8([[0, 1, 2, 2]]), 4, axis=0), "P")
        picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
        extras = {} if opaque is None else {"transparency": bytes(opaque)}
        picture.resize((64, 48)).save(folder / f"{number:03}.png", **extras)
    return folder / "%03d.png"


def test_transparent_colours_of_a_palette_are_kept(tmp_path, settings):
    source = palettes(tmp_path / "in", [(0, 128), (0, 128)])
    frames = list(VideoSource(source))
    assert all(frame.layout.alpha for frame in frames)
    assert frames[1].planes[0][0, [0, 20, 40]].tolist() == [
        [0, 0, 0, 0],
        [255, 0, 0, 128],
        [0, 255, 0, 255],
    ]
    upscale(source, tmp_path / "out" / "%03d.png", settings())
    (_, second) = clips.pictures(tmp_path / "out" / "%03d.png")
    assert second[2].to_ndarray(format="rgba")[0, [0, 40, 80], 3].tolist() == [0, 128, 255]
    lossy = plan(source, tmp_path / "b.mkv", settings())
    assert any("transparency is not kept" in text for text in lossy.notices)


def test_a_palette_that_is_opaque_where_it_is_used_has_no_alpha(tmp_path):
    source = VideoSource(palettes(tmp_path / "in", [None, ()]))
    assert not source.layout.alpha
    assert not any("transparency" in text for text in source.notices)


def test_transparency_that_begins_after_the_first_frame_is_told(tmp_path):
    source = VideoSource(palettes(tmp_path / "in", [None, (0,), None, (9,)]))
    assert len(list(source)) == 4
    (told,) = [text for text in source.notices if "transparency" in text]
    assert told == "frames with transparency, which is left out as the first has none: 2"


def test_pictures_are_written_by_the_encoder_that_their_name_says(tmp_path, settings):
    path = clips.make(tmp_path / "a.mkv", times=[0])
    with pytest.raises(ConfigError, match=r"end in \.png are written by png, not by libx264"):
        plan(path, tmp_path / "out" / "%d.png", settings(codec="libx264"))


def test_a_picture_becomes_no_numbered_ones(tmp_path, settings):
    Image.fromarray(np.zeros((9, 7, 3), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(ConfigError, match=r"%03d\.png names numbered pictures, .*a\.png is none"):
        plan(tmp_path / "a.png", tmp_path / "nd" / "%03d.png", settings())


@pytest.mark.parametrize(
    ("target", "words"), [("in/x%04d.png", "a folder of their own"), ("out/%d.jpg", ".png, .tif")]
)
def test_a_place_that_does_not_suit_is_refused(tmp_path, settings, target, words):
    with pytest.raises(ConfigError, match=words):
        upscale(clips.sequence(tmp_path), tmp_path / target, settings())
