"""Small clips for the tests of video, made with PyAV alone and not with the code under test."""

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

REGULAR = [n * 40 for n in range(12)]  # 25 frames per second in milliseconds
UNEVEN = [0, 40, 90, 120, 250, 290, 1000, 1001, 1060, 1500, 1510, 2000]
FONT = bytes(range(256)) * 3


def pattern(number, fmt, height, width):
    """A picture that differs from frame to frame, in any 8- or 16-bit format."""
    frame = av.VideoFrame(width, height, fmt)
    for at, plane in enumerate(frame.planes):
        part = next(part for part in frame.format.components if part.plane == at)
        kind = np.uint8 if part.bits == 8 else np.uint16
        lines = np.frombuffer(memoryview(plane), kind).reshape(plane.height, -1)
        y, x = np.mgrid[: lines.shape[0], : lines.shape[1]]
        lines[:] = (64 + (3 * x + 5 * y + 11 * number + 40 * at) % 120) << (part.bits - 8)
    return frame


def make(
    path: Path,
    *,
    form=None,
    codec="libx264",
    fmt="yuv420p",
    size=(48, 64),
    times=REGULAR,
    base=Fraction(1, 1000),
    options=None,
    extras=(),
    before=None,
    keys=True,
    movie=1000,
    last=40,
    draw=pattern,
    **context,
):
    """Write a clip; `extras` are functions that add a stream and return its packets."""
    muxer = {"avoid_negative_ts": "disabled"} if times[0] < 0 else {}
    if path.suffix in (".mp4", ".mov"):
        muxer["video_track_timescale"] = str(base.denominator)
        muxer["movie_timescale"] = str(movie)
        muxer["movflags"] = "+use_metadata_tags" if keys else "+write_colr"
    with av.open(str(path), "w", format=form, container_options=muxer) as out:
        out.metadata["title"] = "A title"
        stream = out.add_stream(codec, rate=25, options=options or {})
        stream.height, stream.width = size
        stream.pix_fmt = fmt
        stream.codec_context.time_base = base
        for key, value in context.items():
            setattr(stream.codec_context, key, value)
        stream.metadata["language"] = "fra"
        if before:
            before(out, stream)
        packets = [packet for extra in extras for packet in extra(out)]
        ends = dict(zip(times, [*times[1:], times[-1] + last], strict=True))
        for number, pts in enumerate(times):
            frame = draw(number, fmt, *size)
            frame.pts, frame.time_base = pts, base
            frame.color_range = stream.codec_context.color_range
            packets += stream.encode(frame)
        packets += stream.encode(None)
        for packet in packets:
            if packet.stream is stream:
                packet.duration = ends[packet.pts] - packet.pts
        out.start_encoding()
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            out.mux_one(packet)
    return path


def sound(language, codec="aac", seconds=0.6, disposition=0, start=0, rate=8000):
    """An audio track."""

    def add(out):
        stream = out.add_stream(codec, rate=rate, layout="mono")
        stream.metadata["language"] = language
        stream.metadata["title"] = f"Sound in {language}"
        stream.disposition = disposition
        if codec.startswith("wma"):
            stream.bit_rate = 24000
        packets, step = [], 1024
        stream.codec_context.open()
        kind = stream.codec_context.format
        for sample in range(0, int(rate * seconds), step):
            wave = np.sin(np.arange(sample, sample + step) / 9) * 0.3
            samples = wave.astype("f4") if "flt" in kind.name else (wave * 32767).astype("i2")
            frame = av.AudioFrame.from_ndarray(samples[None], format=kind.name, layout="mono")
            frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
            frame.pts = sample + round(rate * start)
            packets += stream.encode(frame)
        return packets + stream.encode(None)

    return add


def noise(number, fmt, height, width):
    """A picture that no encoder makes small."""
    frame = av.VideoFrame(width, height, fmt)
    for plane in frame.planes:
        samples = np.random.default_rng(number).integers(0, 256, plane.buffer_size, np.uint8)
        np.frombuffer(memoryview(plane), np.uint8)[:] = samples
    return frame


def late_sound(path, form):
    """A clip of 14 MB with a bit of sound after more than libav's 5 MB, and none at its end."""
    many = {"g": "1", "qmin": "1", "qmax": "1", "b": "100000000"}
    late = sound("eng", "mp2", start=1.6, rate=22050, seconds=0.2)
    return make(
        path,
        form=form,
        codec="mpeg2video",
        size=(256, 384),
        times=list(range(60)),
        base=Fraction(1, 25),
        last=1,
        options=many,
        draw=noise,
        extras=[late],
    )


def subtitles(codec="subrip", language="deu"):
    """A track with two lines of text."""

    def add(out):
        stream = out.add_mux_stream(codec)
        stream.time_base = Fraction(1, 1000)
        stream.metadata["language"] = language
        stream.disposition = av.stream.Disposition.forced
        packets = []
        for pts, text in ((100, b"Guten Tag"), (300, b"Auf Wiedersehen")):
            body = len(text).to_bytes(2, "big") + text if codec == "mov_text" else text
            packet = av.Packet(body)
            packet.pts = packet.dts = pts
            packet.duration, packet.time_base, packet.stream = 150, Fraction(1, 1000), stream
            packets.append(packet)
        return packets

    return add


def other_video(size=(32, 32), codec="mpeg4"):
    """A second video stream, smaller than the first."""

    def add(out):
        stream = out.add_stream(codec, rate=5)
        stream.height, stream.width = size
        packets = []
        for number in range(3):
            packets += stream.encode(pattern(number, "yuv420p", *size))
        return packets + stream.encode(None)

    return add


def font(out):
    """An attached file."""
    out.add_attachment("letters.ttf", "font/ttf", FONT)
    return []


def chapters(out, _stream, ends=(200, 480)):
    """Two chapters with names, in milliseconds."""
    base, (one, two) = Fraction(1, 1000), ends
    out.set_chapters(
        [
            {"id": 1, "start": 0, "end": one, "time_base": base, "metadata": {"title": "One"}},
            {"id": 2, "start": one, "end": two, "time_base": base, "metadata": {"title": "Two"}},
        ]
    )


def png():
    """The bytes of a small picture."""
    with io.BytesIO() as file:
        with av.open(file, "w", format="image2pipe") as out:
            stream = out.add_stream("png", rate=1)
            stream.height = stream.width = 8
            stream.pix_fmt = "rgb24"
            for frame in (pattern(0, "rgb24", 8, 8), None):
                out.mux(stream.encode(frame))
        return file.getvalue()


def cover(out):
    """Cover art, which is a stream of one packet."""
    stream = out.add_mux_stream("png", width=8, height=8)
    stream.time_base = Fraction(1, 1000)
    stream.disposition = av.stream.Disposition.attached_pic
    packet = av.Packet(png())
    packet.pts = packet.dts = 0
    packet.time_base, packet.stream = Fraction(1, 1000), stream
    return [packet]


def bitmaps(out):
    """A track of subtitles that are pictures."""
    stream = out.add_mux_stream("hdmv_pgs_subtitle")
    stream.time_base = Fraction(1, 1000)
    stream.metadata["language"] = "nld"
    packets = []
    for pts in (80, 240):
        packet = av.Packet(b"\x16\0\x13" + bytes(range(16)) + pts.to_bytes(3, "big"))
        packet.pts = packet.dts = pts
        packet.duration, packet.time_base, packet.stream = 100, Fraction(1, 1000), stream
        packets.append(packet)
    return packets


def drawn(path, fmt, pictures, *, codec="libx264", options=None, base=Fraction(1, 25), **context):
    """A clip of given pictures: lists of planes, at times 0, 1, 2, ..."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25, options=options or {})
        stream.height, stream.width = pictures[0][0].shape[:2]
        stream.pix_fmt = fmt
        stream.codec_context.time_base = base
        for key, value in context.items():
            setattr(stream.codec_context, key, value)
        for pts, planes in enumerate(pictures):
            frame = av.VideoFrame(stream.width, stream.height, fmt)
            for plane, samples in zip(frame.planes, planes, strict=True):
                lines = np.frombuffer(memoryview(plane), samples.dtype).reshape(plane.height, -1)
                lines[:, : samples.shape[1]] = samples
            frame.pts, frame.time_base = pts, base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def yuv(luma):
    """A colourless 4:2:0 picture."""
    grey = np.full((luma.shape[0] // 2, luma.shape[1] // 2), 128, np.uint8)
    return [luma.astype(np.uint8), grey, grey]


def interlaced(folder, size=(48, 64), count=8):
    """Waves that run to the left, the upper field half a frame later than the lower."""
    x = np.arange(size[1])[None]
    later = 1 - np.arange(size[0])[:, None] % 2  # without flags in frames, x264 writes so
    fields = [yuv(128 + 80 * np.sin((x + 8 * (2 * n + later)) / 6)) for n in range(count)]
    options = {"preset": "ultrafast", "crf": "4", "x264-params": "interlaced=1"}
    return drawn(folder / "a.mp4", "yuv420p", fields, options=options)


def on_threes(folder):
    """Nine frames of three pictures, each shown three times, without loss."""
    pictures = [yuv(np.full((48, 64), 60 + 30 * n)) for n in range(3) for _ in range(3)]
    return drawn(folder / "a.mkv", "yuv420p", pictures, codec="ffv1")


def prores(folder):
    """ProRes 4444 with alpha."""
    return make(folder / "a.mov", codec="prores_ks", fmt="yuva444p10le", times=[0, 40, 80])


def gif(folder):
    """An animation of twelve pictures."""
    times = [4 * n for n in range(12)]
    return make(folder / "a.gif", codec="gif", fmt="rgb8", times=times, base=Fraction(1, 100))


def hidden_start(folder):
    """An MP4 whose edit list begins at the sixth frame, which is no keyframe."""
    whole = make(folder / "whole.mkv", options={"preset": "ultrafast", "g": "50"})
    options = {"use_editlist": "1", "video_track_timescale": "1000"}
    with (
        av.open(str(whole)) as file,
        av.open(str(folder / "a.mp4"), "w", container_options=options) as out,
    ):
        stream = out.add_stream_from_template(file.streams.video[0], opaque=True)
        for packet in file.demux(video=0):
            if packet.size:
                packet.pts -= 200
                packet.dts -= 200
                packet.stream = stream
                out.mux(packet)
    return folder / "a.mp4"


def cut(folder):
    """A Matroska file that ends in its middle."""
    whole = make(folder / "whole.mkv", options={"preset": "ultrafast", "g": "2"})
    data = whole.read_bytes()
    (folder / "a.mkv").write_bytes(data[: len(data) * 2 // 3])
    return folder / "a.mkv"


def held(path):
    """What a file holds, as PyAV says: streams with their tags and packets, tags, chapters."""
    with av.open(str(path)) as file:
        streams = [
            {
                "type": stream.type,
                "codec": stream.codec_context.name if stream.codec_context else None,
                "language": stream.metadata.get("language"),
                # which libav reads from MOV and MP4 as a name
                "title": stream.metadata.get("title", stream.metadata.get("name")),
                "disposition": int(stream.disposition),
                "packets": [],
            }
            for stream in file.streams
        ]
        chapters = [
            (c["start"] * c["time_base"], c["end"] * c["time_base"], c["metadata"].get("title"))
            for c in file.chapters()
        ]
        attached = [(s.name, s.mimetype, s.data) for s in file.streams if s.type == "attachment"]
        for packet in file.demux():
            if packet.size:
                when = packet.pts * packet.time_base
                kept = (when, packet.duration * packet.time_base, bytes(packet))
                streams[packet.stream.index]["packets"].append(kept)
        return {
            "streams": streams,
            "chapters": chapters,
            "attached": attached,
            "title": file.metadata.get("title"),
        }


def pictures(path, stream=None):
    """Decoded pictures of the first video stream by PyAV alone, and their times in seconds."""
    with av.open(str(path)) as file:
        video = file.streams[stream] if stream is not None else file.streams.video[0]
        return [(f.pts, f.pts * video.time_base, f) for f in file.decode(video)]


def sequence(folder, suffix=".png", fmt="rgb24", count=5, first=7):
    """Numbered pictures; their pattern."""
    (folder / "in").mkdir()
    names = folder / "in" / f"%04d{suffix}"
    codec = {".png": "png", ".tif": "tiff", ".jpg": "mjpeg"}[suffix]
    options = {"start_number": str(first)}
    with av.open(str(names), "w", format="image2", options=options) as out:
        stream = out.add_stream(codec, rate=25)
        stream.height, stream.width = 48, 64
        stream.pix_fmt = fmt
        for number in range(count):
            frame = pattern(number, fmt.replace("be", "le"), 48, 64).reformat(format=fmt)
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return names
