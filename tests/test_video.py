from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import video_files as clips

from srpipe.color import from_rgb, to_rgb
from srpipe.errors import ConfigError, MediaError, PixelError, TargetError, TruncatedError
from srpipe.io.video import VideoSink, VideoSource, suffix_for, verify
from srpipe.io.video_formats import Planes, best_format, native, planar_name
from srpipe.io.video_index import by_packets
from srpipe.io.video_matroska import shape_pixels
from srpipe.io.video_pieces import PieceSink
from srpipe.io.video_remux import QUICKTIME_LANGUAGES
from srpipe.pixels import Layout

SHARED = Path(__file__).parents[2] / "shared" / "data" / "video"
FAST = {"libx264": {"preset": "ultrafast"}, "libx265": {"preset": "ultrafast"}}
FAST |= {"libvpx-vp9": {"cpu-used": "8", "deadline": "realtime"}}


def in_layout(frame, sink):
    """The frame as the sink wants it: by colour conversion and nearest pixel, where it must."""
    planes = frame.planes
    same = ("family", "bits", "alpha", "sub_y", "sub_x", "full_range", "matrix")
    if any(getattr(frame.layout, name) != getattr(sink.layout, name) for name in same):
        rgb = to_rgb([torch.from_numpy(p) for p in planes], frame.layout)
        planes = tuple(p.numpy() for p in from_rgb(rgb, sink.layout))
    rows, columns = sink.height / planes[0].shape[0], sink.width / planes[0].shape[1]
    planes = tuple(_nearest(plane, rows, columns, sink.layout) for plane in planes)
    if sink.layout.family == "yuv":
        small = (-(-sink.height // sink.layout.sub_y), -(-sink.width // sink.layout.sub_x))
        planes = (planes[0], *(p[: small[0], : small[1]] for p in planes[1:3]), *planes[3:])
    return replace(frame, planes=planes, layout=sink.layout)


def _nearest(plane, rows, columns, layout):
    y = (np.arange(-(-int(plane.shape[0] * rows * 1000) // 1000)) / rows).astype(int)
    x = (np.arange(-(-int(plane.shape[1] * columns * 1000) // 1000)) / columns).astype(int)
    return plane[y][:, x]


def enlarged(path, suffix=None, *, times=2, **settings):
    """A clip twice as large, by way of the code under test; the target, the sink, the summary."""
    source = VideoSource(path, allow_truncated=settings.pop("allow_truncated", False))
    suffix = suffix or suffix_for(path)
    part = path.parent / f"out-{path.stem}{suffix}.part"
    sink = VideoSink(
        part,
        source,
        height=source.height * times,
        width=source.width * times,
        suffix=suffix,
        **settings,
    )
    for frame in source:
        sink.write(in_layout(frame, sink))
    sink.close()
    assert len(sink.times) == source.frames_read
    return part, sink, verify(part, sink)


def seconds(path):
    return [time for _, time, _ in clips.pictures(path)]


# --- reading -------------------------------------------------------------------------------------


def test_a_source_yields_planes_without_padding_and_the_file_times(tmp_path):
    path = clips.make(tmp_path / "a.mkv", times=clips.UNEVEN, size=(46, 62))
    frames = list(VideoSource(path))
    assert [f.pts for f in frames] == clips.UNEVEN
    expected = clips.pictures(path)
    for frame, (_, _, picture) in zip(frames, expected, strict=True):
        assert [p.shape for p in frame.planes] == [(46, 62), (23, 31), (23, 31)]
        whole = np.concatenate([p.ravel() for p in frame.planes])
        assert np.array_equal(whole, picture.to_ndarray().ravel())
        assert frame.time_base == Fraction(1, 1000)


def test_the_frames_that_the_decoder_holds_back_come_too(tmp_path):
    path = clips.make(tmp_path / "a.mp4", options={"bf": "3", "b-pyramid": "normal"})
    source = VideoSource(path)
    assert source.count == 12
    assert len(list(source)) == 12
    assert len(list(source)) == 12, "a source can be read again"


def test_a_source_that_is_closed_ends_without_complaint(tmp_path):
    source = VideoSource(clips.make(tmp_path / "a.mp4"))
    seen = 0
    for _ in source:
        seen += 1
        source.close()
    assert seen == 1
    assert not source.truncated
    assert len(list(source)) == 12


@pytest.mark.parametrize(
    ("fmt", "codec", "expected"),
    [
        ("yuv420p", "libx264", Layout(family="yuv", sub_y=2, sub_x=2, full_range=False)),
        ("yuv422p10le", "libx264", Layout(family="yuv", bits=10, sub_x=2, full_range=False)),
        ("yuv444p12le", "ffv1", Layout(family="yuv", bits=12, full_range=False)),
        ("yuv410p", "ffv1", Layout(family="yuv", sub_y=4, sub_x=4, full_range=False)),
        ("yuva420p", "ffv1", Layout(family="yuv", alpha=True, sub_y=2, sub_x=2, full_range=False)),
        ("gray", "ffv1", Layout(family="gray")),
        ("gray16le", "ffv1", Layout(family="gray", bits=16)),
        ("bgr0", "ffv1", Layout(family="rgb", matrix=0)),
        ("gbrp10le", "ffv1", Layout(family="rgb", bits=10, matrix=0)),
        ("rgb48le", "ffv1", Layout(family="rgb", bits=16, matrix=0)),
        ("bgra", "ffv1", Layout(family="rgb", alpha=True, matrix=0)),
        ("rgb24", "rawvideo", Layout(family="rgb", matrix=0)),
        ("bgr24", "rawvideo", Layout(family="rgb", matrix=0)),
        ("nv12", "rawvideo", Layout(family="yuv", sub_y=2, sub_x=2, full_range=False)),
        ("yuyv422", "rawvideo", Layout(family="yuv", sub_x=2, full_range=False)),
    ],
)
def test_pixel_formats_come_in_their_own_depth_and_colours(tmp_path, fmt, codec, expected):
    suffix = ".nut" if codec == "rawvideo" else ".mkv"
    path = clips.make(tmp_path / f"a{suffix}", fmt=fmt, codec=codec, times=[0, 40])
    frame = next(iter(VideoSource(path)))
    layout = frame.layout
    assert replace(layout, matrix=expected.matrix, chroma_site="left") == expected
    assert frame.planes[0].dtype == expected.dtype
    picture = clips.pictures(path)[0][2]
    if expected.family == "rgb":
        wide = {8: "rgba", 10: "gbrp10le", 16: "rgb48le"}[expected.bits]
        wide = wide if expected.alpha or expected.bits > 8 else "rgb24"
        assert np.array_equal(frame.planes[0], picture.to_ndarray(format=wide))
    elif expected.family == "gray":
        assert np.array_equal(frame.planes[0][..., 0], picture.to_ndarray())
    elif fmt == "yuyv422":
        assert np.array_equal(frame.planes[0], picture.to_ndarray()[..., 0])
    elif fmt == "nv12":
        raw = picture.to_ndarray()[48:].reshape(24, 32, 2)
        assert np.array_equal(np.stack(frame.planes[1:], -1), raw)


def test_packed_full_range_samples_are_not_rescaled():
    picture = av.VideoFrame(64, 4, "nv12")
    for plane in picture.planes:
        np.frombuffer(memoryview(plane), np.uint8)[:] = np.arange(plane.buffer_size)
    picture.color_range = 2
    planes, layout = Planes("h264").taken(picture)
    assert layout.full_range
    assert planes[0].min() == 0
    assert np.array_equal(planes[0].ravel(), np.arange(256))


def test_unhandled_pixel_formats_say_so_in_one_line():
    for name in ("grayf32le", "bayer_rggb8", "xyz12le", "cuda", "rgb96le"):
        assert planar_name(name) is None
    with pytest.raises(MediaError, match="grayf32le"):
        Planes("png").taken(av.VideoFrame(4, 4, "grayf32le"))


def test_unspecified_colours_are_decided_by_size_and_said(tmp_path):
    small = VideoSource(clips.make(tmp_path / "a.mkv", times=[0]))
    assert small.layout.matrix == 6
    assert "BT.601" in small.notices[0]
    high = VideoSource(clips.make(tmp_path / "b.mkv", times=[0], size=(576, 16)))
    assert high.layout.matrix == 5
    large = VideoSource(clips.make(tmp_path / "c.mkv", times=[0], size=(720, 16)))
    assert (large.layout.matrix, large.layout.primaries, large.layout.transfer) == (1, 2, 2)


def test_grey_needs_no_colour_matrix(tmp_path):
    source = VideoSource(clips.make(tmp_path / "a.mkv", codec="ffv1", fmt="gray", times=[0]))
    assert (source.layout.family, source.layout.matrix, source.notices) == ("gray", 2, [])


def test_repeated_times_are_moved_apart_with_a_notice(tmp_path):
    path = clips.make(tmp_path / "a.mkv", codec="ffv1", times=[0, 40, 80])
    with av.open(str(path)) as file, av.open(str(tmp_path / "b.mkv"), "w") as out:
        stream = out.add_stream_from_template(file.streams.video[0], opaque=True)
        for packet in file.demux(video=0):
            if packet.size:
                packet.pts = packet.dts = min(
                    packet.pts, round(Fraction(4, 100) / packet.time_base)
                )
                packet.stream = stream
                out.mux(packet)
    source = VideoSource(tmp_path / "b.mkv")
    assert [frame.pts for frame in source] == [0, 40, 41]
    assert any("the time of another" in text for text in source.notices)


@pytest.mark.parametrize("start", [-40, -80, -200])
@pytest.mark.parametrize("options", [FAST["libx264"], {"bf": "3", "b-pyramid": "normal"}])
def test_frames_before_0_of_h264_in_matroska_are_a_step_apart(tmp_path, start, options):
    asked = [start + 40 * n for n in range(12)]
    path = clips.make(tmp_path / "a.mkv", times=asked, options=options)
    source = VideoSource(path)
    assert [frame.pts for frame in source] == asked
    told = f"frames without a time, which were given one from the stream's rate: {-start // 40}"
    assert told in source.notices
    part, _, _ = enlarged(path)
    assert seconds(part) == [Fraction(40 * n, 1000) for n in range(12)]


def test_a_bare_stream_gets_times_from_its_rate(tmp_path):
    path = clips.make(tmp_path / "a.h264", form="h264")
    source = VideoSource(path)
    times = [frame.pts * source.time_base for frame in source]
    assert times == [Fraction(n, 25) for n in range(12)]
    assert any("without a time" in text for text in source.notices)
    part, _, summary = enlarged(path)
    assert summary["frames"] == 12
    assert part.name.endswith(".mkv.part")


def test_primaries_and_transfer_that_change_on_the_way_are_told(tmp_path):
    parts = [
        clips.make(
            tmp_path / f"{primaries}{transfer}.h264",
            form="h264",
            times=[0, 40, 80],
            options=FAST["libx264"],
            color_primaries=primaries,
            color_trc=transfer,
            colorspace=1,
        ).read_bytes()
        for primaries, transfer in [(1, 1), (2, 2), (9, 1), (1, 16)]
    ]
    for number, told in [(2, []), (4, ["and are written as if they were: 6"])]:
        (tmp_path / "a.h264").write_bytes(b"".join(parts[:number]))
        source = VideoSource(tmp_path / "a.h264")
        assert len(list(source)) == 3 * number
        said = [text for text in source.notices if "not those of the first" in text]
        assert [text.partition("first, ")[2] for text in said] == told


CENTRE = 0b0000000000010000_1_0000000000010000_1  # 1 px beside that of the picture


@pytest.mark.parametrize(
    ("inserted", "told"),
    [
        (b"", None),
        (b"\0\0\1\xb2DTG1\x41\xfa", "is used (AFD) cannot be written"),
        (
            b"\0\0\1\xb5" + (0b0111 << 68 | CENTRE << 34 | CENTRE).to_bytes(9),
            "to be shown (pan and scan) cannot be written",
        ),
    ],
    ids=["nothing", "AFD", "pan and scan"],
)
def test_what_says_how_a_picture_of_mpeg2_is_shown_is_told(tmp_path, inserted, told):
    path = clips.make(
        tmp_path / "a.m2v",
        form="mpeg2video",
        codec="mpeg2video",
        base=Fraction(1, 25),
        times=range(3),
        last=1,
        options={"seq_disp_ext": "always"},
    )
    path.write_bytes(path.read_bytes().replace(b"\0\0\1\1", inserted + b"\0\0\1\1"))
    said = [text for text in VideoSource(path).notices if "what part of the picture" in text]
    assert [told in text for text in said] == ([] if told is None else [True])


def test_cover_art_is_not_taken_for_the_video(tmp_path):
    path = clips.make(tmp_path / "a.mp4", extras=[clips.cover], keys=False)
    assert VideoSource(path).width == 64
    for suffix in (".mp4", ".mkv"):
        part, sink, _ = enlarged(path, suffix)
        with av.open(str(part)) as file:
            pictures = [s for s in file.streams if s.disposition & 1024]
            assert len(pictures) == 1, suffix
            assert bytes(next(file.demux(pictures[0]))) == clips.png()
        assert sink.notices == []


# --- files that are no video, or broken ----------------------------------------------------------


def test_a_cover_picture_and_text_are_no_video(tmp_path):
    sound = tmp_path / "a.m4a"
    with av.open(str(sound), "w", format="mp4") as out:
        packets = [*clips.cover(out), *clips.sound("eng")(out)]
        out.start_encoding()
        for packet in packets:
            out.mux_one(packet)
    with pytest.raises(MediaError, match="no video in the file, only a cover picture and audio"):
        VideoSource(sound)
    text = tmp_path / "a.txt"  # by its name libav draws it
    text.write_text("no video at all\n" * 50)
    with pytest.raises(MediaError, match="this is text, not a video"):
        VideoSource(text)


@pytest.mark.parametrize("case", ["missing", "folder", "empty", "text", "noise", "sound", "bad"])
def test_what_is_no_video_is_refused_in_one_line(tmp_path, case):
    path = tmp_path / "a.mp4"
    if case == "folder":
        path.mkdir()
    elif case == "sound":
        with av.open(str(path), "w") as out:
            out.mux(clips.sound("eng")(out))
    elif case == "bad":
        path.write_bytes(b"\0\0\0\x18ftypisom\0\0\0\0isomiso2\0\0\0\x10moov\0\0\0\x08mvhd")
    elif case != "missing":
        content = {"empty": b"", "text": b"no video at all\n" * 50, "noise": bytes(range(256)) * 9}
        path.write_bytes(content[case])
    with pytest.raises(MediaError) as error:
        VideoSource(path)
    text = str(error.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    assert ";" in text


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm", "a.avi"])
@pytest.mark.parametrize("into", [0, 20], ids=["between packets", "within a packet"])
def test_a_file_cut_short_is_noticed(tmp_path, name, into):
    codec = {"a.webm": "libvpx-vp9", "a.avi": "mpeg4"}.get(name, "libx264")
    base = Fraction(1, 25) if codec == "mpeg4" else Fraction(1, 1000)
    times = range(12) if codec == "mpeg4" else clips.REGULAR
    fmt = "yuv420p"
    whole = clips.make(tmp_path / name, codec=codec, fmt=fmt, base=base, times=list(times))
    assert len(list(VideoSource(whole))) == 12
    data = whole.read_bytes()
    if name == "a.mp4":  # with its index in front, or nothing at all could be read
        with (
            av.open(str(whole)) as file,
            av.open(
                str(tmp_path / "front.mp4"), "w", container_options={"movflags": "+faststart"}
            ) as out,
        ):
            stream = out.add_stream_from_template(file.streams[0], opaque=True)
            for packet in file.demux():
                if packet.size:
                    packet.stream = stream
                    out.mux(packet)
        data = (tmp_path / "front.mp4").read_bytes()
    cut = tmp_path / f"cut-{name}"
    cut.write_bytes(data)
    with av.open(str(cut)) as file:
        places = [packet.pos for packet in file.demux() if packet.size]
    cut.write_bytes(data[: places[8] + into])
    seen = []
    with pytest.raises(TruncatedError, match="incomplete") as error:
        seen.extend(VideoSource(cut))
    assert error.value.frames == len(seen)
    assert 0 < len(seen) < 12
    source = VideoSource(cut, allow_truncated=True)
    assert len(seen) <= len(list(source)) < 12
    assert source.truncated
    assert any("damaged" in text for text in source.notices)


def test_one_bad_packet_is_an_error_or_is_skipped_when_allowed(tmp_path):
    good = clips.make(tmp_path / "a.mkv", codec="mjpeg", fmt="yuvj420p")
    with av.open(str(good)) as file, av.open(str(tmp_path / "b.mkv"), "w") as out:
        stream = out.add_stream_from_template(file.streams.video[0], opaque=True)
        for number, packet in enumerate(p for p in file.demux() if p.size):
            bad = av.Packet(b"\x80" + bytes(8)) if number == 5 else packet
            bad.pts, bad.dts, bad.time_base = packet.pts, packet.dts, packet.time_base
            bad.stream = stream
            out.mux(bad)
    with pytest.raises(TruncatedError) as error:
        list(VideoSource(tmp_path / "b.mkv"))
    assert error.value.frames == 5
    source = VideoSource(tmp_path / "b.mkv", allow_truncated=True)
    assert [f.pts for f in source] == [t for t in clips.REGULAR if t != 200]
    assert source.truncated


@pytest.mark.parametrize("name", ["a.avi", "a.mov", "a.mjpeg"])
def test_a_damaged_picture_of_motion_jpeg_is_noticed(tmp_path, name):
    """It came half grey, without a word."""
    path = clips.make(tmp_path / name, codec="mjpeg", fmt="yuvj420p",
                      base=Fraction(1, 25), times=list(range(12)), last=1)  # fmt: skip
    assert len(list(VideoSource(path))) == 12
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as file:
        picture = bytes([packet for packet in file.demux() if packet.size][5])
    end = data.index(picture) + len(picture)
    data[end - 300 : end] = bytes(300)
    path.write_bytes(data)
    with pytest.raises(TruncatedError, match=r"decoding fails .* after 5 frames"):
        list(VideoSource(path))
    source = VideoSource(path, allow_truncated=True)
    assert len(list(source)) == 11
    assert source.truncated


def test_a_picture_that_is_shown_on_is_no_damage(tmp_path):
    """In Theora and others its packet is empty, which was taken for the end."""
    good = clips.make(tmp_path / "a.mkv", codec="ffv1")
    with av.open(str(good)) as file, av.open(str(tmp_path / "a.nut"), "w") as out:
        stream = out.add_stream_from_template(file.streams.video[0], opaque=True)
        for number, packet in enumerate(p for p in file.demux() if p.size):
            kept = av.Packet(0) if number == 5 else packet
            kept.pts, kept.dts, kept.time_base = packet.pts, packet.dts, packet.time_base
            kept.stream = stream
            out.mux(kept)
    source = VideoSource(tmp_path / "a.nut")
    times = [frame.pts * source.time_base * 1000 for frame in source]
    assert times == [t for t in clips.REGULAR if t != 200]
    assert list(by_packets(source).times) == [frame.pts for frame in source]


@pytest.mark.parametrize("form", ["vob", "mpegts"])
def test_sound_that_begins_late_goes_over_and_is_refused_where_it_is_not_found(
    tmp_path, monkeypatch, form
):
    """PyAV ended with an IndexError in MPEG-PS; in MPEG-TS the sound was left out."""
    path = clips.late_sound(tmp_path / "a.mpg", form)
    assert by_packets(VideoSource(path)) is not None
    part, sink, _ = enlarged(path, ".mkv", times=1, options={"preset": "ultrafast"})
    assert not any("left out" in text for text in sink.notices)
    with av.open(str(part)) as file:
        assert file.streams.audio[0].sample_rate == 22050
    monkeypatch.setattr("srpipe.io.video_source.PROBED", {})
    if form == "vob":
        with pytest.raises(MediaError, match=r"begins only after the first .* -c copy a\.mkv"):
            by_packets(VideoSource(path))
        return
    _, sink, _ = enlarged(path, ".mkv", times=1, options={"preset": "ultrafast"})
    assert any("is left out: nothing is known of it" in text for text in sink.notices)


# --- writing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
def test_uneven_times_and_lengths_go_over_exactly(tmp_path, suffix):
    for held_back in ("0", "2"):
        options = {"bf": held_back}
        path = clips.make(tmp_path / f"a{suffix}", times=clips.UNEVEN, options=options)
        part, _, summary = enlarged(path, options=options)
        assert seconds(part) == seconds(path) == [Fraction(t, 1000) for t in clips.UNEVEN]
        assert summary["frames"] == 12
        if suffix == ".mkv" or held_back != "0":
            continue  # Matroska stores no length of a frame, MP4 that of the decoding order
        before = [p[:2] for p in clips.held(path)["streams"][0]["packets"]]
        assert before == [p[:2] for p in clips.held(part)["streams"][0]["packets"]]
        assert before[-1] == (Fraction(2), Fraction(40, 1000))


def test_a_clock_that_no_tick_of_ten_thousand_fits_goes_over_exactly(tmp_path):
    base = Fraction(1, 30000)
    path = clips.make(tmp_path / "a.mp4", times=[1001 * n for n in range(9)], base=base)
    part, _, _ = enlarged(path)
    assert seconds(part) == [Fraction(1001 * n, 30000) for n in range(9)]


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_a_clock_of_nanoseconds_is_kept_to_a_tick(tmp_path, suffix):
    base = Fraction(1, 10**9)
    times = [0, 33_366_667, 66_733_334, 3_000_000_000]
    path = clips.make(tmp_path / "a.nut", times=times, base=base, options={"bf": "0"})
    assert VideoSource(path).time_base == base
    part, _, _ = enlarged(path, suffix)
    assert seconds(part) == [Fraction(t, 10**7) for t in (0, 333_667, 667_333, 30_000_000)]


def test_an_edit_list_that_starts_late_is_kept(tmp_path):
    path = clips.make(tmp_path / "a.mp4", times=[t + 5000 for t in clips.REGULAR])
    assert seconds(path)[0] == 5
    part, _, _ = enlarged(path)
    assert seconds(part) == seconds(path)


def test_everything_beside_the_video_goes_over_untouched(tmp_path):
    path = clips.make(
        tmp_path / "a.mkv",
        times=clips.UNEVEN,
        extras=[
            clips.sound("eng", disposition=1),
            clips.sound("jpn", "pcm_s16le", disposition=4),
            clips.subtitles(),
            clips.other_video(),
            clips.font,
        ],
        before=clips.chapters,
    )
    part, sink, summary = enlarged(path)
    before, after = clips.held(path), clips.held(part)
    assert summary["streams"] == 6
    assert sink.notices == []
    for key in ("chapters", "attached", "title"):
        assert before[key] == after[key]
    for one, other in zip(before["streams"], after["streams"], strict=True):
        if one["codec"] == "h264":
            one["packets"] = other["packets"] = []
        assert one == other


def test_mp4_keeps_sound_subtitles_chapters_and_odd_tags(tmp_path):
    def tags(out, stream):
        clips.chapters(out, stream)
        out.metadata["com.apple.quicktime.model"] = "A phone"

    path = clips.make(
        tmp_path / "a.mp4",
        extras=[clips.sound("eng"), clips.sound("jpn"), clips.subtitles("mov_text")],
        before=tags,
    )
    part, sink, _ = enlarged(path)
    before, after = clips.held(path), clips.held(part)
    assert before["chapters"] == after["chapters"]
    assert before["title"] == after["title"] == "A title"
    for one, other in zip(before["streams"], after["streams"], strict=True):
        assert (one["codec"], one["language"]) == (other["codec"], other["language"])
        assert one["codec"] == "h264" or one["packets"] == other["packets"]
    with av.open(str(part)) as file:
        assert file.metadata["com.apple.quicktime.model"] == "A phone"
    assert sink.notices == []


def test_other_streams_are_read_no_further_than_the_video_has_come(tmp_path):
    path = clips.make(tmp_path / "a.mkv", extras=[clips.sound("eng", seconds=20)])
    source = VideoSource(path)
    sink = VideoSink(
        tmp_path / "p", source, height=48, width=64, suffix=".mkv", options={"tune": "zerolatency"}
    )
    piece = PieceSink(tmp_path / "piece", source, sink.target)
    for frame in source:
        piece.write(frame)
    piece.close()
    sink.join([piece.path])
    copied = sink.copied[1]
    sink.close()
    assert 2 <= copied <= 5, "0.44 s of sound, and not all of it"
    assert sink.copied[1] > 150


def test_a_turned_picture_stays_turned_and_its_shift_grows(tmp_path):
    matrix = [0, 65536, 0, -65536, 0, 0, 48 << 16, 0, 1 << 30]

    def turn(_out, stream):
        stream.set_display_matrix(matrix)

    path = clips.make(tmp_path / "a.mp4", before=turn)
    source = VideoSource(path)
    assert (source.rotation, source.display_matrix) == (-90, tuple(matrix))
    assert (source.height, source.width) == (48, 64)
    part, _, _ = enlarged(path)
    again = VideoSource(part)
    assert (again.rotation, again.height, again.width) == (-90, 96, 128)
    assert again.display_matrix[6] == 96 << 16


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [
        (".mp4", None),
        (".mp4", "libvpx-vp9"),
        (".mov", "prores_ks"),
        *((".mkv", codec) for codec in (None, "libvpx-vp9", "libsvtav1", "ffv1", "prores_ks")),
    ],
)
def test_pixels_keep_their_shape(tmp_path, suffix, codec):
    path = clips.make(tmp_path / "a.mp4", sample_aspect_ratio=Fraction(11, 12))
    part, _, _ = enlarged(path, suffix, codec=codec)
    assert VideoSource(part).sample_aspect_ratio == Fraction(11, 12)


def test_pixels_keep_their_shape_in_webm_to_one_along_the_longer_side(tmp_path):
    path = clips.make(tmp_path / "a.mp4", sample_aspect_ratio=Fraction(32, 27))
    part, _, _ = enlarged(path, ".webm")
    assert VideoSource(part).sample_aspect_ratio == Fraction(152, 128), "128 * 32 / 27 is 151.7"


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_video_that_is_copied_keeps_the_shape_of_its_pixels(tmp_path, suffix):
    path = clips.make(
        tmp_path / "a.mkv", extras=[clips.other_video(codec="libvpx-vp9")], options=FAST["libx264"]
    )
    shape_pixels(path, [Fraction(0), Fraction(4, 3)], ratio=True)
    part, _, _ = enlarged(path, suffix)
    with av.open(str(part)) as file:
        assert file.streams.video[1].sample_aspect_ratio == Fraction(4, 3)


def test_verify_finds_pixels_of_another_shape(tmp_path):
    part, sink, _ = enlarged(clips.make(tmp_path / "a.mkv"))
    sink.target = replace(sink.target, sample_aspect_ratio=Fraction(11, 12))
    with pytest.raises(TargetError, match="wide to high rather than 11:12"):
        verify(part, sink)


def test_pixels_take_the_shape_that_another_size_asks_for(tmp_path):
    path = clips.make(tmp_path / "a.mp4", sample_aspect_ratio=Fraction(11, 12))
    source = VideoSource(path)
    sink = VideoSink(tmp_path / "p", source, height=96, width=64, suffix=".mp4")
    for frame in source:
        tall = replace(frame, planes=tuple(p.repeat(2, 0) for p in frame.planes))
        sink.write(replace(tall, layout=sink.layout))
    sink.close()
    assert VideoSource(tmp_path / "p").sample_aspect_ratio == Fraction(11, 6)


@pytest.mark.parametrize(
    ("fmt", "colours", "bits", "full"),
    [
        (
            "yuv420p",
            {"color_range": 2, "colorspace": 1, "color_primaries": 1, "color_trc": 1},
            8,
            1,
        ),
        ("yuv420p10le", {"color_range": 1, "colorspace": 6, "color_trc": 6}, 10, 0),
        ("yuv422p10le", {"color_range": 1, "colorspace": 9, "color_primaries": 9}, 10, 0),
        ("yuv444p", {}, 8, 0),
    ],
)
def test_depth_and_colour_tags_go_over(tmp_path, fmt, colours, bits, full):
    path = clips.make(tmp_path / "a.mp4", fmt=fmt, times=[0, 40, 80], **colours)
    part, _, _ = enlarged(path, crf=1, options=FAST["libx264"])
    source, target = VideoSource(path), VideoSource(part)
    assert target.layout == source.layout
    assert (target.layout.bits, target.layout.full_range) == (bits, bool(full))
    if not colours:
        assert (target.layout.matrix, target.notices) == (6, [])
    for before, after in zip(source, target, strict=True):
        for one, other in zip(before.planes, after.planes, strict=True):
            large = one.repeat(2, 0).repeat(2, 1).astype(int)
            assert np.abs(large - other).mean() < 2 << (bits - 8)


@pytest.mark.parametrize(
    ("suffix", "codec", "alpha"), [(".mov", "prores", True), (".mkv", "hevc", False)]
)
def test_prores_with_alpha_needs_no_advice(tmp_path, suffix, codec, alpha):
    part, sink, _ = enlarged(clips.prores(tmp_path), suffix)
    assert VideoSource(part).codec == codec
    assert VideoSource(part).layout.alpha == alpha
    assert any("transparency is not kept" in notice for notice in sink.notices) != alpha


@pytest.mark.parametrize("suffix", [".mkv", ".mov"])
def test_sound_that_an_edit_list_hides_stays_hidden(tmp_path, suffix):
    whole = clips.make(
        tmp_path / "whole.mkv",
        times=range(0, 1600, 40),
        extras=[clips.sound("deu", seconds=1.6)],
        options={"preset": "ultrafast"},
    )
    path = tmp_path / "a.mp4"
    with av.open(str(whole)) as file, av.open(str(path), "w") as out:
        made = [out.add_stream_from_template(s, opaque=True) for s in file.streams]
        for packet in file.demux():
            if packet.size:
                packet.pts -= 1000
                packet.dts -= 1000
                packet.stream = made[packet.stream.index]
                out.mux(packet)
    assert len(clips.held(path)["streams"][1]["packets"]) > 10
    part, *_ = enlarged(path, suffix)
    with av.open(str(part)) as file:
        sound = [p for p in file.demux(audio=0) if p.size and not p.is_discard]
    assert 3 < len(sound) < 8
    first = sound[0]
    assert -first.duration < first.pts <= 0.05 / first.time_base  # it reaches into what is shown


@pytest.mark.parametrize("language", ["deu", "nld", "fre", "zho", "cym", "pol"])
def test_languages_stay_in_quicktime(tmp_path, language):
    path = clips.make(tmp_path / "a.mkv", extras=[clips.sound(language)])
    part, *_ = enlarged(path, ".mov")
    with av.open(str(part)) as file:
        (found,) = (s.metadata.get("language") for s in file.streams.audio)
    assert QUICKTIME_LANGUAGES.get(language, language) == found


@pytest.mark.parametrize("suffix", [".mov", ".mp4", ".mkv"])
def test_titles_of_tracks_go_over(tmp_path, suffix):
    """What libav writes to MOV as a title, it reads as a name."""
    path = clips.make(tmp_path / "a.mov", extras=[clips.sound("deu")])
    part, *_ = enlarged(path, suffix)
    with av.open(str(part)) as file:
        (tags,) = (stream.metadata for stream in file.streams.audio)
    assert tags["title" if suffix == ".mkv" else "name"] == "Sound in deu"


def test_a_timecode_is_a_stream_in_quicktime_and_mp4_and_else_a_tag_which_is_said(tmp_path):
    def before(_out, stream):
        stream.metadata["timecode"] = "01:00:00:00"

    path = clips.make(tmp_path / "a.mov", before=before, base=Fraction(1, 25), times=range(12))
    for suffix in (".mov", ".mp4"):
        part, sink, _ = enlarged(path, suffix)
        assert sink.notices == []
        with av.open(str(part)) as file:
            tags = [stream.metadata["timecode"] for stream in file.streams if stream.type == "data"]
        assert tags == ["01:00:00:00"]
    part, sink, _ = enlarged(path, ".mkv")
    assert ["stream 1, a timecode, is kept as a tag" in text for text in sink.notices] == [True]
    with av.open(str(part)) as file:
        assert file.streams.video[0].metadata["TIMECODE"] == "01:00:00:00"


def measurements(out):
    """Five packets of data (SMPTE ST 336), which MPEG-TS gives no lengths."""
    stream = out.add_mux_stream("klv")
    stream.time_base = Fraction(1, 90000)
    packets = []
    for number in range(5):
        label = bytes.fromhex("060e2b34020b01010e01030101000000")
        packet = av.Packet(label + bytes([number, *range(number)]))
        packet.pts = packet.dts = 9000 * number
        packet.time_base, packet.stream = stream.time_base, stream
        packets.append(packet)
    return packets


def test_the_last_packet_of_measurements_is_not_hidden_in_quicktime(tmp_path):
    clock = {"base": Fraction(1, 90000), "times": range(0, 43200, 3600), "last": 3600}
    path = clips.make(tmp_path / "a.ts", form="mpegts", extras=[measurements], **clock)
    part, _, _ = enlarged(path, ".mov")
    before, after = (clips.held(p)["streams"][1]["packets"] for p in (path, part))
    assert [data for *_, data in after] == [data for *_, data in before]
    assert len(after) == 5


def test_sound_that_is_left_out_comes_with_advice_how_to_keep_it(tmp_path):
    path = clips.make(
        tmp_path / "a.wmv", form="asf", codec="wmv2", extras=[clips.sound("eng", "wmav2")]
    )
    _, sink, _ = enlarged(path)
    (told,) = [text for text in sink.notices if "left out" in text]
    assert told == (
        "stream 1 (audio, wmav2) is left out: it cannot be copied into any container here; convert"
        " it first to keep it: ffmpeg -i a.wmv -map 0 -c copy -c:a flac a.mkv"
    )


def test_recordings_that_were_joined_without_their_clocks_are_refused(tmp_path):
    """Their second half has the times of the first; what joins them anew is named."""
    path = tmp_path / "a.ts"
    muxer = {"mpegts_flags": "initial_discontinuity"}
    with av.open(str(path), "w", container_options=muxer) as out:
        stream = out.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for number in range(30):
            pixels = np.full((72, 64), 5 * number, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="yuv420p")))
        out.mux(stream.encode())
    one = path.read_bytes()
    path.write_bytes(one + one)
    for allow in (False, True):  # or all of the second would be shown within a millisecond
        with pytest.raises(MediaError, match=r"start again after 30 frames.*-c copy a\.mkv"):
            list(VideoSource(path, allow_truncated=allow))


def test_hdr_goes_into_hevc_with_its_records(tmp_path):
    light = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
    path = clips.make(
        tmp_path / "a.mkv",
        codec="libx265",
        fmt="yuv420p10le",
        times=[0, 40, 80],  # x265 makes up decoding times of clips of one or two frames
        options={"x265-params": f"log-level=none:master-display={light}:max-cll=1000,400"},
        color_range=1,
        colorspace=9,
        color_primaries=9,
        color_trc=16,
    )
    part, sink, _ = enlarged(path, ".mp4", options=FAST["libx265"])
    again = VideoSource(part)
    assert again.codec == "hevc"
    assert again.layout == VideoSource(path).layout == sink.layout
    assert again.layout.chroma_site == "topleft"
    assert set(again.hdr) == {"MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL"}
    assert again.hdr == VideoSource(path).hdr

    other = enlarged(path, ".mkv", codec="libx264", options=FAST["libx264"])[1]
    assert "what HDR10 says of the mastering display and the light is left out" in other.notices[-1]
    assert not any("HDR10" in notice for notice in sink.notices)


@pytest.mark.parametrize(
    ("codec", "encoder"),
    [
        ("h264", "libx264"),
        ("hevc", "libx265"),
        ("vp9", "libvpx-vp9"),
        ("av1", "libsvtav1"),
        ("ffv1", "ffv1"),
    ],
)
def test_a_codec_by_its_own_name_is_the_encoder_that_makes_it(tmp_path, capfd, codec, encoder):
    """With the encoder's quality, and without its talk."""
    path = clips.make(tmp_path / "a.mkv", codec="ffv1", times=[0, 40, 80], size=(64, 64))
    _, sink, _ = enlarged(path, codec=codec)
    encoding = sink.target.encoding
    assert encoding.codec == encoder
    assert ("crf" in encoding.options) == (codec != "ffv1")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("count", [1, 2])
def test_hevc_of_fewer_frames_than_its_encoder_reorders(tmp_path, count):
    times = [n * 40 for n in range(count)]
    path = clips.make(tmp_path / "a.mkv", codec="ffv1", times=times)
    part, _, _ = enlarged(path, ".mp4", codec="libx265", options=FAST["libx265"])
    with av.open(str(part)) as file:
        packets = [packet for packet in file.demux(video=0) if packet.size]
    assert sorted(float(packet.pts * packet.time_base) for packet in packets) == [
        time / 1000 for time in times
    ]
    assert all(-1000 <= packet.dts <= packet.pts for packet in packets)


def test_webm_keeps_vp9_and_its_alpha(tmp_path):
    path = clips.make(
        tmp_path / "a.webm", codec="libvpx-vp9", fmt="yuva420p", options=FAST["libvpx-vp9"]
    )
    source = VideoSource(path)
    assert source.layout.alpha
    part, sink, _ = enlarged(path, options=FAST["libvpx-vp9"])
    again = VideoSource(part)
    assert again.layout == sink.layout == source.layout
    for before, after in zip(source, again, strict=True):
        large = before.planes[3].repeat(2, 0).repeat(2, 1).astype(int)
        assert np.abs(large - after.planes[3]).mean() < 4
    _, sink, _ = enlarged(path, ".mkv", options=FAST["libx264"])
    assert any("transparency" in text for text in sink.notices)


@pytest.mark.parametrize("fmt", ["bgra", "yuva444p", "yuva422p", "yuva444p10le"])
def test_webm_keeps_alpha_of_sources_with_finer_chroma_or_more_bits(tmp_path, fmt):
    path = clips.make(tmp_path / "a.mkv", codec="ffv1", fmt=fmt, size=(47, 34), times=[0, 40])
    part, sink, _ = enlarged(path, ".webm", times=3, options=FAST["libvpx-vp9"])
    assert sink.target.encoding.pix_fmt == "yuva420p"
    assert [frame.layout.alpha for frame in VideoSource(part)] == [True, True]


def test_odd_sizes_stay_odd(tmp_path):
    path = clips.make(tmp_path / "a.mkv", codec="ffv1", size=(47, 63))
    frame = next(iter(VideoSource(path)))
    assert [p.shape for p in frame.planes] == [(47, 63), (24, 32), (24, 32)]
    part, sink, _ = enlarged(path, times=3)
    again = VideoSource(part)
    assert (again.height, again.width) == (141, 189)
    assert (again.layout.sub_y, again.layout.sub_x) == (1, 1)
    assert any("yuv444p" in text for text in sink.notices)
    _, sink, _ = enlarged(path, times=3, codec="ffv1")
    assert (sink.layout.sub_y, sink.notices) == (2, [])


@pytest.mark.parametrize(("fmt", "kept"), [("gbrp10le", "gbrp10le"), ("rgb48le", "gbrp16le")])
def test_rgb_stays_rgb_in_a_lossless_codec(tmp_path, fmt, kept):
    path = clips.make(tmp_path / "a.mkv", codec="ffv1", fmt=fmt, times=[0, 40])
    part, sink, _ = enlarged(path, codec="ffv1")
    assert sink.layout.family == "rgb"
    for before, after in zip(VideoSource(path), VideoSource(part), strict=True):
        assert np.array_equal(before.planes[0].repeat(2, 0).repeat(2, 1), after.planes[0])
    _, sink, _ = enlarged(path)
    layout = sink.layout
    assert (layout.family, layout.bits, layout.sub_x, layout.matrix) == ("yuv", 10, 1, 1)
    assert (layout.primaries, layout.transfer, layout.full_range) == (1, 1, False)
    assert native(kept).family == "rgb"


def test_the_best_format_loses_least():
    want = Layout(family="yuv", bits=10, sub_y=2, sub_x=2, full_range=False)
    names = ["yuv420p", "yuv422p10le", "yuv444p12le", "yuv420p12le", "gray10le"]
    assert best_format(names, want, 2, 2) == "yuv420p12le"
    assert best_format(names, want, 3, 2) == "yuv422p10le"
    assert best_format(names, want, 3, 3) == "yuv444p12le"
    assert best_format(["yuv420p", "gray"], want, 2, 2) == "yuv420p"
    assert best_format(["yuv420p"], want, 3, 3) is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"codec": "libx246"}, ["libx246", "did you mean 'libx26"]),
        ({"codec": "aac"}, ["aac"]),
        ({"options": {"presett": "fast"}}, ["presett", "did you mean 'preset'"]),
        ({"options": {"preset": "fastest"}}, ["preset=fastest"]),
        ({"pix_fmt": "yuv420p12"}, ["yuv420p12", "yuv420p10le"]),
        ({"suffix": ".avi"}, [".avi", ".mkv"]),
        ({"height": 47, "pix_fmt": "yuv420p"}, ["64x47"]),
        ({"height": 10**13}, ["libx264", "16384 px"]),
        ({"height": 65536, "codec": "ffv1"}, ["ffv1", "65535 px"]),
        ({"height": 2**14, "width": 2**14}, ["268 million", "16384x16384"]),
        ({"suffix": ".webm", "codec": "libx264"}, ["a .webm file", ".mp4 or .m4v or .mov or .mkv"]),
        ({"codec": "gif"}, ["a .mkv file", "end the output in .mov, or leave"]),
        ({"codec": "amv"}, ["a .mkv file", "no container here does; leave"]),
        ({"suffix": ".webm", "pix_fmt": "yuva444p"}, ["yuva444p", "yuva420p"]),
        ({"codec": "dnxhd", "suffix": ".mov"}, ["start with yuv422p 64x48 (Invalid"]),
    ],
)
def test_settings_that_do_not_fit_are_named(tmp_path, settings, words):
    source = VideoSource(clips.make(tmp_path / "a.mkv", times=[0]))
    with pytest.raises(ConfigError) as error:
        VideoSink(
            tmp_path / "p", source, **({"height": 48, "width": 64, "suffix": ".mkv"} | settings)
        )
    assert all(word in str(error.value) for word in words), error.value
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize(
    ("suffix", "extra", "target", "able"),
    [
        (".mp4", clips.subtitles("mov_text"), ".mkv", ".mp4"),
        (".mkv", clips.subtitles("subrip"), ".mp4", ".mkv"),
        (".mkv", clips.font, ".mp4", ".mkv"),
        (".mkv", clips.font, ".webm", ".mkv"),
        (".mp4", clips.cover, ".mov", ".mp4"),
        (".mkv", clips.sound("eng"), ".webm", ".mkv"),
    ],
)
def test_a_stream_that_does_not_fit_is_refused_before_any_work(
    tmp_path, suffix, extra, target, able
):
    path = clips.make(tmp_path / f"a{suffix}", extras=[extra], keys=False)
    with pytest.raises(TargetError, match=rf"stream 1 .*{target} file; .*{able}"):
        VideoSink(tmp_path / "p", VideoSource(path), height=96, width=128, suffix=target)
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_timed_tags_are_left_out_with_a_notice(tmp_path, suffix):
    def tags(out):
        stream = out.add_mux_stream("timed_id3")
        stream.time_base = Fraction(1, 1000)
        packet = av.Packet(b"ID3\4\0\0\0\0\0\0")
        packet.pts = packet.dts = 80
        packet.time_base, packet.stream = Fraction(1, 1000), stream
        return [packet]

    path = clips.make(tmp_path / "a.ts", form="mpegts", extras=[tags])
    _, sink, summary = enlarged(path, suffix)
    assert summary["streams"] == 1
    assert "stream 1 (data, timed_id3) is left out" in sink.notices[1]


def test_places_that_cannot_be_written_are_named(tmp_path):
    source = VideoSource(clips.make(tmp_path / "a.mkv"))
    with pytest.raises(TargetError, match="folder does not exist"):
        VideoSink(tmp_path / "no" / "p", source, height=48, width=64, suffix=".mkv")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_a_target_error(tmp_path):
    path = clips.make(tmp_path / "a.mkv", extras=[clips.sound("eng", "pcm_s16le", 3)])
    source = VideoSource(path)
    with pytest.raises(TargetError, match="no room"):  # noqa: PT012 - which call fails is libav's
        sink = VideoSink(Path("/dev/full"), source, height=48, width=64, suffix=".mkv")
        for frame in source:
            sink.write(frame)
        sink.close()


def test_frames_that_do_not_fit_the_sink_are_refused(tmp_path):
    source = VideoSource(clips.make(tmp_path / "a.mkv"))
    sink = VideoSink(tmp_path / "p", source, height=48, width=64, suffix=".mkv")
    first, second, *_ = source
    sink.write(second)
    with pytest.raises(PixelError, match="does not come after"):
        sink.write(first)
    with pytest.raises(PixelError, match="wanted"):
        sink.write(replace(second, layout=replace(second.layout, bits=10)))
    with pytest.raises(PixelError, match="fit"):
        sink.write(replace(second, planes=tuple(p[:-2] for p in second.planes)))
    sink.abort()


def test_verify_finds_missing_frames_moved_times_and_lost_streams(tmp_path):
    path = clips.make(tmp_path / "a.mkv", extras=[clips.sound("eng")])
    part, sink, _ = enlarged(path)
    sink.times[3] += 5
    with pytest.raises(TargetError, match="frame 3"):
        verify(part, sink)
    sink.times[3] -= 5
    lost = sink.times.pop()
    with pytest.raises(TargetError, match="12 frames of 11"):
        verify(part, sink)
    sink.times.append(lost)
    sink.streams += 1
    with pytest.raises(TargetError, match="2 of 3 streams"):
        verify(part, sink)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
def test_verify_finds_packets_of_other_streams_that_were_lost(tmp_path, suffix):
    one, other, less = clips.sound("eng"), clips.sound("jpn"), clips.sound("jpn", seconds=0.4)
    _, sink, _ = enlarged(clips.make(tmp_path / "a.mkv", extras=[one, other]), suffix=suffix)
    short, fewer, _ = enlarged(clips.make(tmp_path / "b.mkv", extras=[one, less]), suffix=suffix)
    lost = rf"wrong: stream 2 has {fewer.copied[2]} packets of {sink.copied[2]};"
    with pytest.raises(TargetError, match=lost):
        verify(short, sink)


def test_packets_that_are_read_as_fewer_and_larger_ones_are_not_lost(tmp_path):
    """QuickTime has no packets of plain samples."""

    def crumbs(out):
        parts = []
        for packet in clips.sound("eng", "pcm_s16le")(out):
            data = bytes(packet)
            for at in range(0, len(data), 16):
                part = av.Packet(data[at : at + 16])
                part.stream, part.time_base = packet.stream, packet.time_base
                part.pts = part.dts = packet.pts + at // 2
                parts.append(part)
        return parts

    path = clips.make(tmp_path / "a.mkv", extras=[crumbs])
    part, sink, _ = enlarged(path, suffix=".mov")
    with av.open(str(part)) as file:
        assert sum(bool(packet.size) for packet in file.demux(audio=0)) < sink.copied[1]


def test_verify_finds_frames_without_a_time(tmp_path):
    _, sink, _ = enlarged(clips.make(tmp_path / "a.mkv"), times=1)
    timeless = clips.make(tmp_path / "b.mkv", times=[time - 200 for time in clips.REGULAR])
    with pytest.raises(TargetError, match="wrong: a frame has no time"):
        verify(timeless, sink)


def test_a_clock_that_starts_anywhere_starts_at_0_in_the_output(tmp_path):
    path = clips.make(tmp_path / "a.ts", form="mpegts", base=Fraction(1, 90000),
                      times=[3600 * n + 8_000_000 for n in range(12)],
                      extras=[clips.sound("eng", start=89)])  # fmt: skip
    assert seconds(path)[0] > 80
    part, sink, _ = enlarged(path)
    start = seconds(part)[0]
    assert start < 0.2
    assert [t - start for t in seconds(part)] == [Fraction(n, 25) for n in range(12)]
    assert "start at 0" in sink.notices[0]
    before, after = clips.held(path)["streams"], clips.held(part)["streams"]
    gaps = [s[1]["packets"][0][0] - s[0]["packets"][0][0] for s in (before, after)]
    assert abs(gaps[0] - gaps[1]) <= Fraction(1, 1000)


@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".mp4"])
def test_a_video_that_starts_before_0_keeps_its_steps_and_its_sound(tmp_path, suffix):
    path = clips.make(tmp_path / "a.mkv", codec="ffv1", times=[t - 200 for t in clips.UNEVEN],
                      extras=[clips.sound("eng", "libopus", rate=48000, start=0.1)])  # fmt: skip
    assert seconds(path)[0] == Fraction(-1, 5)
    codec = "libvpx-vp9" if suffix == ".webm" else "libx264"
    part, sink, _ = enlarged(path, suffix, codec=codec, options=FAST[codec])
    assert seconds(part) == [Fraction(t, 1000) for t in clips.UNEVEN]
    assert ["at 0 rather than at -0.200 s" in notice for notice in sink.notices] == [True]
    before, after = clips.held(path)["streams"], clips.held(part)["streams"]
    gaps = [s[1]["packets"][0][0] - s[0]["packets"][0][0] for s in (before, after)]
    assert abs(gaps[0] - gaps[1]) <= Fraction(1, 1000)


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("a.MP4", ".mp4"), ("a.m4v", ".mp4"), ("a.mov", ".mov"), ("a.webm", ".webm")]
    + [(f"a.{end}", ".mkv") for end in ("mkv", "avi", "ivf", "y4m", "wmv", "ts", "gif", "h264")],
)
def test_the_output_keeps_the_ending_where_it_can(name, suffix):
    assert suffix_for(Path(name)) == suffix


# --- real files ----------------------------------------------------------------------------------

BROKEN = {
    "audio_only.mp4": "no video",
    "bad_no_streams.mp4": "no streams",
    "bad_chunk_out_of_range.mp4": "cannot be read",
    "bad_no_timescale.mp4": "decoding fails",
    "corrupt_frames.mp4": "decoding fails",
    "rotated_sar_half_damaged_tail.mov": "incomplete",
}
CUT = ("interlaced_mpeg2_fields.ts",)  # amid a packet, which is noticed and no more
SLOW_TO_ENCODE = ("vp8_vorbis_1s.webm", "no_duration_variable_rate.webm", "hdr_dolby_vision_81.mp4")
LEFT_OUT = {"phone_rotated_aac_timed_metadata.mov": 2, "screen_capture_variable_rate.wmv": 1}
FILES = sorted(SHARED.rglob("*.*")) or [SHARED / "absent"]

real = pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)


def _present(path):
    if not path.exists():
        pytest.skip("the shared clips are not beside the project")
    return path


@pytest.mark.shared
@real
def test_a_real_file_is_read_whole_or_refused_in_one_line(path):
    if _present(path).name in BROKEN:
        with pytest.raises(MediaError, match=BROKEN[path.name]) as error:
            list(VideoSource(path))
        assert "\n" not in str(error.value)
        return
    source = VideoSource(path, allow_truncated=path.name in CUT)
    times = [(frame.pts, frame.height, frame.width) for frame in source]
    with av.open(str(path)) as file:
        video = file.streams[source.index]
        expected = [(f.pts, f.height, f.width) for f in file.decode(video)]
    assert [t[1:] for t in times] == [t[1:] for t in expected]
    assert source.count in (None, len(expected))
    assert source.truncated == (path.name in CUT)
    if not any("time" in text for text in source.notices) and path.suffix != ".avi":
        assert times == expected
    assert all(a < b for a, b in pairwise(t[0] for t in times))


@pytest.mark.shared
@real
def test_a_real_file_goes_through_with_times_and_streams(tmp_path, path):
    if _present(path).name in (*BROKEN, *SLOW_TO_ENCODE):
        pytest.skip("refused, or slow to encode; read in the test above")
    copy = tmp_path / path.name
    copy.symlink_to(path)
    source = VideoSource(copy, allow_truncated=path.name in CUT)
    suffix = suffix_for(path)
    codec = "libvpx-vp9" if suffix == ".webm" else "libx264"
    sink = VideoSink(
        tmp_path / "p", source, height=source.height, width=source.width, suffix=suffix,
        codec=codec, options=FAST[codec],
    )  # fmt: skip
    for frame in source:
        sink.write(in_layout(frame, sink))
    sink.close()
    summary = verify(sink.part, sink)
    with av.open(str(path)) as file:
        assert summary["streams"] == len(file.streams) - LEFT_OUT.get(path.name, 0)
        kinds = [s.type for s in file.streams][: summary["streams"]]
        languages = [s.metadata.get("language", "und") for s in file.streams]
    assert len(sink.notices) >= LEFT_OUT.get(path.name, 0)
    again = VideoSource(sink.part)
    assert (again.rotation, again.layout.full_range) == (source.rotation, sink.layout.full_range)
    assert again.layout.matrix == sink.layout.matrix
    with av.open(str(sink.part)) as file:
        if path.name not in LEFT_OUT:
            assert [s.type for s in file.streams] == kinds
            found = [s.metadata.get("language", "und") for s in file.streams]
            assert [x for x in found if x != "und"] == [x for x in languages if x != "und"]
