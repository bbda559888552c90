from fractions import Fraction

import av
import pytest
import video_files as clips

from srpipe.errors import TruncatedError
from srpipe.io.video import VideoSource


@pytest.mark.parametrize(
    ("name", "codec", "fmt"),
    [
        ("a.flv", "flv", "yuv420p"),
        ("a.gif", "gif", "rgb8"),
        ("a.mxf", "mpeg2video", "yuv420p"),
        ("a.wmv", "wmv2", "yuv420p"),
        ("a.y4m", "rawvideo", "yuv420p"),
    ],
)
def test_a_cut_is_seen_by_what_the_file_says_of_its_size(tmp_path, name, codec, fmt):
    base = Fraction(1, 25)
    path = clips.make(
        tmp_path / name, codec=codec, fmt=fmt, base=base, times=list(range(12)), last=1
    )
    source = VideoSource(path)
    assert len(list(source)) == 12
    assert not source.truncated
    data, end = path.read_bytes(), path.stat().st_size * 7 // 10
    if name in ("a.flv", "a.mxf"):  # within a packet it is seen by libav
        with av.open(str(path)) as file:
            end = [packet.pos for packet in file.demux() if packet.size][8]
    path.write_bytes(data[:end])
    with pytest.raises(TruncatedError, match="the file ends before it is complete"):
        list(VideoSource(path))
    source = VideoSource(path, allow_truncated=True)
    assert 0 < len(list(source)) < 12
    assert source.truncated
