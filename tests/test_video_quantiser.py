import av
import numpy as np
import pytest
import video_files as clips

from srpipe.io.video import VideoSource
from srpipe.io.video_quantiser import MPEG, VP9, Quantiser, quantiser


def measured(path):
    return quantiser(VideoSource(path)).value


@pytest.mark.parametrize("qp", [0, 18, 40])
def test_the_quantiser_of_h264_is_known(tmp_path, qp):
    options = {"qp": str(qp), "x264-params": "ipratio=1:pbratio=1"}
    assert measured(clips.make(tmp_path / "a.mkv", options=options)) == qp


def test_one_that_changes_within_a_picture_is_the_mean(tmp_path):
    """Quiet parts get another one than busy ones."""
    options = {"crf": "30", "x264-params": "aq-mode=1:aq-strength=3"}
    found = measured(clips.make(tmp_path / "a.mkv", size=(256, 320), options=options))
    assert 10 < found < 51


@pytest.mark.parametrize("crf", ["16", "34"])
def test_ten_bits_are_counted_like_eight(tmp_path, crf):
    eight, ten = (
        measured(clips.make(tmp_path / f"{fmt}.mkv", fmt=fmt, options={"crf": crf}))
        for fmt in ("yuv420p", "yuv420p10le")
    )
    assert ten == pytest.approx(eight, abs=2)


def test_a_black_beginning_says_nothing_of_the_rest(tmp_path):
    path = tmp_path / "a.mkv"
    chance = np.random.default_rng(0)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": "35", "g": "10"})
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        for number in range(60):
            pixels = (
                chance.integers(0, 256, (96, 96), np.uint8)
                if number > 20
                else 16 + np.zeros((96, 96), np.uint8)
            )
            frame = av.VideoFrame.from_ndarray(pixels, format="yuv420p")
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    assert measured(path) > 30


@pytest.mark.parametrize("codec", ["mpeg2video", "mpeg4", "msmpeg4v2", "wmv2", "flv"])
def test_of_the_mpeg_family_too(tmp_path, codec):
    path = tmp_path / "a.avi"
    chance = np.random.default_rng(0)
    with av.open(str(path), "w") as out:
        options = {"qmin": "7", "qmax": "7", "b": "1000000"}
        stream = out.add_stream(codec, rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        for _frame in range(6):
            pixels = chance.integers(0, 256, (96, 96), np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="yuv420p")))
        out.mux(stream.encode())
    assert quantiser(VideoSource(path)) == Quantiser(7, MPEG)


def test_of_vp9_too(tmp_path):
    coarse, fine = (
        quantiser(
            VideoSource(
                clips.make(
                    tmp_path / f"{crf}.mkv", codec="libvpx-vp9", options={"crf": crf, "b:v": "0"}
                )
            )
        )
        for crf in ("50", "10")
    )
    assert coarse.scale == fine.scale == VP9
    assert 255 > coarse.value > 150 > 60 > fine.value > 0


@pytest.mark.parametrize("codec", ["ffv1", "libx265"])
def test_other_codecs_have_none(tmp_path, codec):
    assert quantiser(VideoSource(clips.make(tmp_path / "a.mkv", codec=codec))) is None


def test_a_file_that_was_cut_is_looked_at_as_far_as_it_goes(tmp_path):
    whole = clips.make(tmp_path / "a.mkv", options={"qp": "30", "x264-params": "ipratio=1"})
    cut = tmp_path / "b.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    found = quantiser(VideoSource(cut, allow_truncated=True))
    assert found is None or 25 < found.value < 35
