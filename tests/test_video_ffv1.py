import av
import pytest
import video_files as clips

from srpipe.errors import TruncatedError
from srpipe.io.video import VideoSource


@pytest.mark.parametrize("sums", [True, False])
def test_a_wrong_checksum_in_ffv1_is_noticed(tmp_path, sums):
    """libav takes what is bad from the picture before, and says nothing."""
    options = {"level": "3", "slicecrc": str(int(sums)), "slices": "4"}
    path = clips.make(tmp_path / "a.mkv", codec="ffv1", options=options)
    assert len(list(VideoSource(path))) == 12
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as file:
        picture = bytes([packet for packet in file.demux() if packet.size][5])
    data[data.index(picture) + len(picture) // 2] ^= 0x55
    path.write_bytes(data)
    source = VideoSource(path, allow_truncated=True)
    assert len(list(source)) == 12
    assert source.truncated == sums
    if sums:
        with pytest.raises(TruncatedError, match="a checksum in the video is wrong after 5 frames"):
            list(VideoSource(path))
