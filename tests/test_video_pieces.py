"""Cells, pieces and the times at which joined packets are decoded."""

from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
import video_files as clips

from srpipe.errors import PixelError, TargetError
from srpipe.io.video import VideoSink, VideoSource
from srpipe.io.video_encoder import Encoding, started
from srpipe.io.video_pieces import CELL, Piece, PieceSink, decoding_times


@pytest.fixture
def source(tmp_path):
    return VideoSource(clips.make(tmp_path / "a.mkv", times=[40 * n for n in range(200)]))


def sink_for(tmp_path, source, **settings):
    return VideoSink(
        *(tmp_path / "out.mkv", source),
        **({"height": 48, "width": 64, "suffix": ".mkv"} | settings),
    )


def piece(path, source, target, frames):
    sink = PieceSink(path, source, target)
    for frame in frames:
        sink.write(frame)
    sink.close()
    return Piece(path)


def test_each_cell_begins_with_a_key_frame_and_needs_none_before_it(tmp_path, source):
    sink = sink_for(tmp_path, source)
    frames = list(source)
    whole = list(piece(tmp_path / "whole", source, sink.target, frames))
    assert whole[0].is_keyframe
    assert whole[CELL].is_keyframe
    second = list(piece(tmp_path / "second", source, sink.target, frames[CELL : 2 * CELL]))
    assert [bytes(p) for p in second] == [bytes(p) for p in whole[CELL : 2 * CELL]]
    assert [p.pts for p in second] == [p.pts for p in whole[CELL : 2 * CELL]]
    sink.abort()


class Context:
    """Takes all options of an encoder that it is not."""

    def open(self):
        self.taken, self.options = self.options, {}


@pytest.mark.parametrize(
    ("units", "codec", "given", "wanted"),
    [
        ("AVX512", "libx264", {}, "asm=avx2"),
        ("AVX512", "libx264rgb", {"x264-params": "aq-mode=3"}, "asm=avx2:aq-mode=3"),
        ("AVX2", "libx264", {}, None),
        ("AVX512", "libx265", {}, None),
    ],
)
def test_x264_has_to_make_the_same_of_the_same_frames(
    source, monkeypatch, units, codec, given, wanted
):
    """Its code for AVX-512 does not, which the test above shows on such a processor."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: units)
    made = Encoding(codec=codec, pix_fmt="yuv420p", layout=source.layout, options=given)
    context = Context()
    started(context, made, {})
    assert context.taken.get("x264-params") == wanted


def test_packets_come_back_bit_for_bit_with_their_side_data(tmp_path):
    path = clips.make(
        tmp_path / "a.webm", codec="libvpx-vp9", fmt="yuva420p", options={"cpu-used": "8"}
    )
    source = VideoSource(path)
    sink = sink_for(tmp_path, source, suffix=".webm", options={"cpu-used": "8"})
    packets = list(piece(tmp_path / "p", source, sink.target, list(source)))
    assert len(packets) == 12
    assert all(p.has_sidedata("matroska_block_additional") for p in packets), "that is the alpha"
    assert [p.duration for p in packets] == [40] * 12
    sink.abort()


@pytest.mark.parametrize("where", ["head", "middle", "cut", "tail"])
def test_a_damaged_piece_is_refused(tmp_path, source, where):
    sink = sink_for(tmp_path, source)
    made = piece(tmp_path / "p", source, sink.target, list(source)[:20])
    data = bytearray(made.path.read_bytes())
    at = {"head": 20, "middle": len(data) // 2, "cut": -1, "tail": len(data) - 2}[where]
    if where == "cut":
        del data[-5:]
    else:
        data[at] ^= 64
    made.path.write_bytes(data)
    with pytest.raises(TargetError, match="damaged after it was written"):
        list(made)
    sink.abort()


def test_a_frame_that_does_not_fit_is_refused(tmp_path, source):
    sink = sink_for(tmp_path, source)
    own = PieceSink(tmp_path / "p", source, sink.target)
    first, second, *_ = source
    own.write(second)
    with pytest.raises(PixelError, match="does not come after"):
        own.write(first)
    with pytest.raises(PixelError, match="wanted"):
        own.write(replace(second, layout=replace(second.layout, bits=10)))
    own.abort()
    assert not (tmp_path / "p").exists()
    sink.abort()


@pytest.mark.parametrize(
    ("shown", "decoded"),
    [
        ([[]], []),
        ([[7]], [7]),
        ([[0, 1, 2]], [0, 1, 2]),
        ([[0, 2, 1, 3]], [-1, 0, 1, 2]),
        ([[0, 4, 2, 1, 3]], [-2, -1, 0, 1, 2]),
        ([[0, 2, 1], [3, 4, 5]], [-1, 0, 1, 2, 3, 4]),
        ([[0, 20, 10], [25, 90, 26]], [-10, 0, 10, 20, 25, 26]),
    ],
)
def test_decoding_times_increase_and_none_is_late(shown, decoded):
    found = decoding_times(shown)
    assert found == decoded
    asked = [pts for each in shown for pts in each]
    assert all(dts <= pts for dts, pts in zip(found, asked, strict=True))
    assert found == sorted(set(found))


def test_joined_pieces_are_one_stream_that_any_player_reads(tmp_path, source):
    sink = sink_for(tmp_path, source)
    frames = list(source)
    paths = [
        piece(tmp_path / f"{n}", source, sink.target, frames[n : n + CELL]).path
        for n in range(0, 200, CELL)
    ]
    sink.join(paths)
    sink.close()
    with av.open(str(tmp_path / "out.mkv")) as file:
        pictures = [(f.pts * f.time_base, f.to_ndarray()) for f in file.decode(video=0)]
    assert [time for time, _ in pictures] == [Fraction(n, 25) for n in range(200)]
    for (_, found), frame in zip(pictures, frames, strict=True):
        luma = found[:48].astype(int)
        assert np.abs(luma - frame.planes[0]).mean() < 3
