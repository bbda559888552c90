from fractions import Fraction

import av
import pytest
import video_files as clips

from srpipe.errors import TruncatedError
from srpipe.io.video import VideoSource
from srpipe.io.video_claims import claimed_bytes


@pytest.mark.parametrize(
    ("name", "codec", "fmt"),
    [
        ("a.flv", "flv", "yuv420p"),
        ("a.gif", "gif", "rgb8"),
        ("a.mpg", "mpeg2video", "yuv420p"),
        ("a.mxf", "mpeg2video", "yuv420p"),
        ("a.ogg", "libvpx", "yuv420p"),
        ("a.ts", "mpeg2video", "yuv420p"),
        ("a.vob", "mpeg2video", "yuv420p"),
        ("a.wmv", "wmv2", "yuv420p"),
        ("a.y4m", "rawvideo", "yuv420p"),
    ],
)
def test_a_cut_is_seen_by_what_the_file_says_of_its_size(tmp_path, name, codec, fmt):
    base = Fraction(1, 25)
    path = clips.make(
        tmp_path / name, codec=codec, fmt=fmt, base=base, times=range(12), last=1, size=(144, 176)
    )
    source = VideoSource(path)
    assert len(list(source)) == 12
    assert not source.truncated
    data, end = path.read_bytes(), path.stat().st_size * 2 // 3
    if name in ("a.flv", "a.mxf"):  # within a packet it is seen by libav
        with av.open(str(path)) as file:
            end = [packet.pos for packet in file.demux() if packet.size][8]
    path.write_bytes(data[:end])
    with pytest.raises(TruncatedError, match="the file ends before it is complete"):
        list(VideoSource(path))
    source = VideoSource(path, allow_truncated=True)
    assert 0 < len(list(source)) < 12
    assert source.truncated


def claim(path):
    return claimed_bytes(path, None)


def test_an_ogg_file_ends_where_its_last_page_does(tmp_path):
    base = Fraction(1, 25)
    path = clips.make(tmp_path / "a.ogg", codec="libvpx", base=base, times=range(3), last=1)
    whole = path.read_bytes()
    assert claim(path) == len(whole)
    last = whole.rindex(b"OggS")
    for end in range(last + 4, len(whole)):
        path.write_bytes(whole[:end])
        assert claim(path) > end
    path.write_bytes(whole[:last])
    assert claim(path) == last, "a cut between pages is not seen"
    path.write_bytes(whole + whole[last : last + 26] + b"\0")
    assert claim(path) == len(whole) + 27, "the last page may be empty"


@pytest.mark.parametrize(("name", "packet", "before"), [("a.ts", 188, 0), ("a.m2ts", 192, 4)])
def test_a_transport_stream_ends_with_a_packet(tmp_path, name, packet, before):
    path = clips.make(tmp_path / name, codec="mpeg2video", base=Fraction(1, 25), times=range(3))
    whole = path.read_bytes()
    assert len(whole) % packet == 0
    for end in range(len(whole) - packet, len(whole) + 1):
        path.write_bytes(whole[:end])
        within = end % packet > before
        assert (claim(path) > end) == within
        assert not within or claim(path) == len(whole)
    path.write_bytes(whole + bytes(100))
    assert claim(path) == 0, "what is no packet is no part of it"


@pytest.mark.parametrize("name", ["a.mpg", "a.vob"])
def test_a_program_stream_ends_where_its_last_packet_does(tmp_path, name):
    path = clips.make(tmp_path / name, codec="mpeg2video", base=Fraction(1, 25), times=range(12))
    whole = path.read_bytes()
    last = whole.rindex(b"\0\0\1\xbe")  # what fills it up
    assert claim(path) == len(whole)
    for end in range(last + 3, len(whole), 7):
        path.write_bytes(whole[:end])
        assert claim(path) > end
    path.write_bytes(whole[:last])
    assert claim(path) == last, "a cut between packets is not seen"
    path.write_bytes(whole + b"\0\0\1\xb9")
    assert claim(path) == len(whole) + 4, "the code of the end"
    path.write_bytes(whole + bytes(100))
    assert claim(path) == 0, "what is no packet is no part of it"
    path.write_bytes(whole[:12] + whole[:last] + bytes(2**20) + whole)
    assert claim(path) == path.stat().st_size, "it is looked for near the end alone"
    path.write_bytes(whole[:last] + b"\0\0\1\xbe\0\4\0\0\1\xba")
    assert claim(path) == path.stat().st_size, "a pack's code may be within a packet"
