import zlib
from fractions import Fraction

import av
import pytest
import video_files as clips

from srpipe.errors import TargetError
from srpipe.io.video_matroska import shape_pixels

SHAPE = Fraction(11, 12)
SEEK_HEAD, INFO, TRACKS, CHAPTERS = (
    bytes.fromhex(name) for name in ("114d9b74", "1549a966", "1654ae6b", "1043a770")
)


def shapes(path):
    with av.open(str(path)) as file:
        return [stream.sample_aspect_ratio for stream in file.streams.video]


def clip(folder, suffix=".mkv", codec="ffv1", stereo_mode=None, **options):
    def before(out, stream):
        clips.chapters(out, stream)
        if stereo_mode:
            stream.metadata["stereo_mode"] = stereo_mode

    return clips.make(folder / f"a{suffix}", codec=codec, before=before, **options)


def checked(data, start):
    """Whether the checksum in an element of the first level is that of what follows it."""
    at = start + 4
    length = 9 - data[at].bit_length()
    size = int.from_bytes(data[at : at + length]) & (1 << 7 * length) - 1
    body = data[at + length : at + length + size]
    assert body[:2] == b"\xbf\x84"
    return zlib.crc32(body[6:]).to_bytes(4, "little") == body[2:6]


@pytest.mark.parametrize("codec", ["ffv1", "libvpx-vp9", "libsvtav1", "libx264", "prores_ks"])
def test_a_shape_is_read_back_as_it_was_written(tmp_path, codec):
    fmt = "yuv422p10le" if codec == "prores_ks" else "yuv420p"
    path = clip(tmp_path, codec=codec, fmt=fmt)
    before = clips.held(path)
    shape_pixels(path, [SHAPE], ratio=True)
    assert shapes(path) == [SHAPE]
    assert clips.held(path) == before


def test_webm_shows_whole_pixels(tmp_path):
    path = clip(tmp_path, ".webm", "libvpx-vp9")
    shape_pixels(path, [SHAPE], ratio=False)
    assert shapes(path) == [Fraction(64 * 48, 64 * 52)], "48 / (11 / 12) is 52.4"


def test_a_3d_video_is_shown_as_large_as_one_of_its_views(tmp_path):
    path = clip(tmp_path, stereo_mode="left_right")
    shape_pixels(path, [SHAPE], ratio=True)
    shown = b"\x54\xb0\x81\x0b\x54\xba\x81\x12"  # 11:18, half of 64 / 48 * 11 / 12
    assert shown in path.read_bytes()
    assert shapes(path) == [SHAPE]


def test_each_track_has_its_own_shape_and_sound_has_none(tmp_path):
    extras = [clips.sound("eng"), clips.other_video(), clips.font, clips.subtitles()]
    path = clip(tmp_path, extras=extras)
    before = clips.held(path)
    shape_pixels(path, [SHAPE, Fraction(0), Fraction(4, 3), Fraction(0)], ratio=True)
    assert shapes(path) == [SHAPE, Fraction(4, 3)]
    assert clips.held(path) == before


def test_the_list_of_places_and_the_checksums_stay_right(tmp_path):
    path = clip(tmp_path)
    whole = path.read_bytes()
    shape_pixels(path, [SHAPE], ratio=True)
    data = path.read_bytes()
    assert len(data) == len(whole)
    after = data.rindex(CHAPTERS)
    assert data[after:] == whole[after:]
    assert data != whole
    segment = data.index(bytes.fromhex("18538067")) + 12
    for name in (INFO, TRACKS, CHAPTERS):
        entry = data.index(b"\x53\xab\x84" + name) + 7  # its name, then its place
        length = data[entry + 2] & 0x7F
        place = int.from_bytes(data[entry + 3 : entry + 3 + length])
        assert data[segment + place : segment + place + 4] == name
    for name in (SEEK_HEAD, INFO, TRACKS):
        place = data.index(name) if name == SEEK_HEAD else data.rindex(name, 0, after)
        assert checked(data, place)


def test_no_room_is_told_and_nothing_is_written(tmp_path):
    path = clip(tmp_path, extras=[clips.other_video()] * 8)
    before = path.read_bytes()
    with pytest.raises(TargetError, match="no room for the shape"):
        shape_pixels(path, [SHAPE] * 9, ratio=True)
    assert path.read_bytes() == before
