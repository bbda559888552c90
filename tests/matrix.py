"""The fidelity matrix: what goes in, and what must hold of what comes out.

Every row makes a file with PyAV alone, enlarges it by the whole job with a network that repeats
pixels, and reads the result with PyAV alone. What its checks found is the row's result; a check
that does not hold ends the row. ``python tests/matrix.py`` writes the table into the README.
"""

import collections
import functools
import re
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import readme
import toy
import video_files as clips

from srpipe.errors import SrpipeError
from srpipe.jobs import upscale
from srpipe.models import MODELS
from srpipe.settings import RunSettings

FAST = {"preset": "ultrafast"}
FAST_VP9 = {"cpu-used": "8", "deadline": "realtime"}
PQ_LIGHT = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"


@dataclass(frozen=True)
class Row:
    """One line of the matrix.

    Parameters
    ----------
    make : writes the file into a folder and gives its path
    checks : each looks at a `Seen`, asserts, and says in a few words what it found
    target : how the output is named; by default as the input's format suggests
    refused : the words with which the job must refuse, where it must
    settings : of the run
    """

    name: str
    make: Callable[[Path], Path]
    checks: tuple[Callable[["Seen"], str], ...] = ()
    target: str | None = None
    refused: str | None = None
    settings: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Seen:
    """What came of a row: both files, opened and decoded by PyAV."""

    source: Path
    target: Path
    result: object

    @functools.cached_property
    def before(self):
        return clips.pictures(self.source)

    @functools.cached_property
    def after(self):
        return clips.pictures(self.target, self.result.checked["video_index"])

    @functools.cached_property
    def held(self):
        return clips.held(self.source), clips.held(self.target)

    @functools.cached_property
    def streams(self):
        """Facts of both video streams."""
        return _stream(self.source), _stream(self.target)


def _stream(path):
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        frame = next(file.decode(stream))
        return {
            "codec": stream.codec_context.name,
            "aspect": stream.sample_aspect_ratio,
            "rotation": frame.rotation,
            "size": (frame.width, frame.height),
            "bits": frame.format.components[0].bits,
            "format": frame.format.name,
            "matrix": int(frame.colorspace),
            "range": int(frame.color_range),
            "primaries": int(frame.color_primaries),
            "transfer": int(frame.color_trc),
            "interlaced": frame.interlaced_frame,
            "sides": {s.type.name: bytes(s) for s in frame.side_data},
        }


# --- what must hold ------------------------------------------------------------------------------


def frames(seen):
    assert len(seen.after) == len(seen.before) == seen.result.frames
    return f"{len(seen.after)} of {len(seen.before)} frames"


def times(seen):
    start = seen.before[0][1] - seen.after[0][1]
    off = [abs(a[1] + start - b[1]) for a, b in zip(seen.after, seen.before, strict=True)]
    tick = max(p[2].time_base or 0 for p in seen.after[:1])
    assert max(off) <= tick, off
    moved = f" from 0, {float(start):g} s earlier" if start else ""
    return ("times exact" if max(off) == 0 else "times to one tick") + moved


def pixels(seen):
    """Luma repeated, to what the encoder's quality leaves of it."""
    for (_, _, one), (_, _, other) in zip(seen.before, seen.after, strict=True):
        large = _luma(one).repeat(2, 0).repeat(2, 1)
        assert np.abs(large - _luma(other)).mean() < 2 / 255
    return "pixels"


def _luma(picture):
    bits = picture.format.components[0].bits
    kind = np.uint8 if bits == 8 else np.uint16
    plane = picture.planes[0]
    lines = np.frombuffer(memoryview(plane), kind).reshape(plane.height, -1)
    return lines[:, : plane.width] / (2.0**bits - 1)


def colours(seen):
    before, after = seen.streams
    names = ("matrix", "range", "primaries", "transfer")
    assert [before[n] for n in names] == [after[n] for n in names], (before, after)
    return "matrix, range, primaries, transfer"


def matrix_written(seen):
    before, after = seen.streams
    assert (before["matrix"], after["matrix"]) == (2, 6)
    assert any("does not say its colour matrix" in text for text in seen.result.notices)
    return "BT.601 taken, said and written"


def bits(seen):
    before, after = seen.streams
    assert before["bits"] == after["bits"]
    return f"{after['bits']} bit"


def same_format(seen):
    before, after = seen.streams
    assert before["format"] == after["format"]
    return after["format"]


def records(seen):
    before, after = (stream["sides"] for stream in seen.streams)
    names = sorted({"MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL"} & set(before))
    assert names
    assert all(before[name] == after[name] for name in names)
    return "mastering display and light level"


def rotation(seen):
    before, after = seen.streams
    assert before["rotation"] == after["rotation"] != 0
    assert after["size"] == tuple(2 * side for side in before["size"])
    return f"turned by {after['rotation']}°"


def aspect(seen):
    before, after = seen.streams
    assert before["aspect"] == after["aspect"]
    return f"pixel aspect {after['aspect'].numerator}:{after['aspect'].denominator}"


def size(width, height, pixel=Fraction(1)):
    def check(seen):
        after = seen.streams[1]
        assert after["size"] == (width, height)
        assert (after["aspect"] or 1) == pixel
        shape = "" if pixel == 1 else f", pixel aspect {pixel.numerator}:{pixel.denominator}"
        return f"{width}x{height}{shape}"

    return check


def alpha(seen):
    before, after = (_alphas(s) for s in (seen.source, seen.target))
    assert len(before) == len(after) == len(seen.before)
    for one, other in zip(before, after, strict=True):
        assert np.ptp(one) > 0.3
        assert np.abs(one - other[::2, ::2]).mean() < 0.05
    return "alpha"


def _alphas(path):
    """Opacity of all frames; VP9's needs libvpx."""
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        usual = stream.codec_context
        vp9 = usual.name == "vp9"
        decoder = av.CodecContext.create("libvpx-vp9", "r") if vp9 else usual
        found = [frame for packet in file.demux(stream) for frame in decoder.decode(packet)]
        return [_last_plane(frame) for frame in found]


def _last_plane(frame):
    if frame.format.name in ("rgba", "bgra"):
        return frame.to_ndarray(format="rgba")[..., 3] / 255
    bits = frame.format.components[-1].bits
    lines = np.frombuffer(memoryview(frame.planes[3]), np.uint8 if bits == 8 else np.uint16)
    return lines.reshape(frame.height, -1)[:, : frame.width] / (2.0**bits - 1)


def beside(seen):
    """All other streams: kind, codec, language, title, disposition, every packet and its time."""
    before, after = (held["streams"] for held in seen.held)
    kinds = collections.Counter()
    assert len(before) == len(after)
    for one, other in zip(before[1:], after[1:], strict=True):
        for name in ("type", "codec", "language", "title", "disposition"):
            assert one[name] == other[name], name
        assert [p[2] for p in one["packets"]] == [p[2] for p in other["packets"]]
        for here, there in zip(one["packets"], other["packets"], strict=True):
            assert abs(here[0] - there[0]) <= Fraction(1, 1000)
        kinds[one["type"]] += 1
    assert seen.held[0]["attached"] == seen.held[1]["attached"]
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    return f"{counts}: every packet, language, title, disposition"


def chapters(seen):
    before, after = seen.held
    assert before["chapters"] == after["chapters"]
    assert before["title"] == after["title"]
    return f"{len(after['chapters'])} chapters, title"


def cover(seen):
    found = []
    for path in (seen.source, seen.target):
        with av.open(str(path)) as file:
            (stream,) = [s for s in file.streams if s.disposition & 1024]
            found.append(bytes(next(file.demux(stream))))
    assert found[0] == found[1]
    return "cover art, byte by byte"


def whole(seen):
    """No frame has lines of two moments."""
    before, after = seen.streams
    assert before["interlaced"]
    assert not after["interlaced"]
    combs = (
        [_combs(_luma(p)) for _, _, p in seen.before],
        [_combs(_luma(p)[::2, ::2]) for _, _, p in seen.after],
    )
    assert np.mean(combs[1]) < np.mean(combs[0]) / 3, combs
    assert any("interlaced" in text for text in seen.result.notices)
    return "combs gone, said"


def combs_left(seen):
    before = np.mean([_combs(_luma(p)) for _, _, p in seen.before])
    after = np.mean([_combs(_luma(p)[::2, ::2]) for _, _, p in seen.after])
    assert after > 0.8 * before
    assert any("left so" in text for text in seen.result.notices)
    return "left as it is, said"


def _combs(luma):
    return np.abs(luma[1:-1] - (luma[:-2] + luma[2:]) / 2).mean()


def repeated(count):
    def check(seen):
        assert seen.result.repeated == count
        return f"{count} not computed again"

    return check


def same_depth(depth):
    def check(seen):
        made = clips.pictures(seen.target)
        assert len(made) == seen.result.frames == 5
        for number, (_, _, picture) in enumerate(made):
            before = clips.pattern(number, "rgb48le", 48, 64).to_ndarray(format="rgb48le")
            after = picture.to_ndarray(format="rgb48le")
            assert np.array_equal(before.repeat(2, 0).repeat(2, 1), after)
        return f"every one of its {depth} bits"

    return check


def numbered(seen):
    lines = (seen.target / "times.txt").read_text().split()[4:]
    assert [float(line) for line in lines] == [1000 * t for _, t, _ in seen.before]
    files = sorted(seen.target.glob("*.png"))
    assert [path.name for path in files] == [f"{n + 1:03}.png" for n in range(len(lines))]
    return f"{len(files)} of {len(seen.before)} pictures, their times in times.txt"


def codec(name):
    def check(seen):
        assert seen.streams[1]["codec"] == name
        return name

    return check


def noticed(words, text):
    def check(seen):
        assert any(words in notice for notice in seen.result.notices), seen.result.notices
        return text

    return check


# --- files ---------------------------------------------------------------------------------------


def clip(name, **options):
    fast = {"libx264": FAST, "libx265": FAST, "libvpx-vp9": FAST_VP9}
    preset = fast.get(options.get("codec", "libx264"), {})
    options["options"] = preset | (options.get("options") or {})
    return lambda folder: clips.make(folder / name, **options)


def turned(degrees):
    cos, sin = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    one = 1 << 16
    matrix = [cos * one, sin * one, 0, -sin * one, cos * one, 0, 0, 0, 1 << 30]
    return clip("a.mp4", before=lambda _, stream: stream.set_display_matrix(matrix))


def chaptered(*ends):
    return functools.partial(clips.chapters, ends=ends)


COMMON = (frames, times, pixels)
SHORT = [0, 40, 80]
BT = {1: "BT.709", 6: "BT.601", 9: "BT.2020"}


def _colours(name, limits=1, **more):
    code = {v: k for k, v in BT.items()}[name]
    tags = {"colorspace": code, "color_primaries": code, "color_range": limits}
    return clip("a.mp4", times=SHORT, **tags, color_trc=14 if code == 9 else code, **more)


ROWS = [
    Row("Constant frame rate, MP4", clip("a.mp4"), COMMON),
    *(
        Row(f"Variable frame rate, {end.upper()}", clip(f"a.{end}", times=clips.UNEVEN), COMMON)
        for end in ("mp4", "mov", "mkv")
    ),
    Row("NTSC clock, 1001/30000 s",
        clip("a.mp4", times=[1001 * n for n in range(9)], base=Fraction(1, 30000)), COMMON),
    Row("B-frames held back at the end",
        clip("a.mp4", options={"preset": "medium", "bf": "3", "b-pyramid": "normal"}), COMMON),
    Row("Edit list that starts 5 s late",
        clip("a.mp4", times=[t + 5000 for t in clips.REGULAR]), COMMON),
    Row("Edit list that starts 1001/30000 s late",
        clip("a.mp4", times=[1001 * n for n in range(1, 10)], base=Fraction(1, 30000),
             movie=30000), COMMON),
    Row("Edit list that hides the first frames", clips.hidden_start, (frames, times)),
    *(Row(f"Rotation {d}°", turned(d), (*COMMON, rotation)) for d in (90, 180, 270)),
    Row("Pixel aspect 11:12", clip("a.mp4", sample_aspect_ratio=Fraction(11, 12)),
        (*COMMON, aspect)),
    Row("Odd size, 63x47", clip("a.mkv", size=(47, 63), codec="ffv1"),
        (frames, times, pixels, size(126, 94))),
    *(Row(name, _colours(name), (frames, pixels, colours)) for name in BT.values()),
    Row("Full range", _colours("BT.709", 2), (frames, pixels, colours)),
    Row("Untagged", clip("a.mkv", times=SHORT), (frames, pixels, matrix_written)),
    Row("10-bit SDR", _colours("BT.709", fmt="yuv420p10le"), (frames, pixels, bits, colours)),
    Row("4:2:2, 10 bit", clip("a.mp4", fmt="yuv422p10le", times=SHORT),
        (frames, pixels, same_format)),
    Row("4:4:4", clip("a.mp4", fmt="yuv444p", times=SHORT), (frames, pixels, same_format)),
    Row("PQ (HDR10)",
        clip("a.mkv", codec="libx265", fmt="yuv420p10le", times=SHORT, color_range=1,
             colorspace=9, color_primaries=9, color_trc=16,
             options={"x265-params": f"log-level=none:master-display={PQ_LIGHT}:max-cll=1000,400"}),
        (frames, pixels, bits, colours, records), target="b.mp4"),
    Row("HLG",
        clip("a.mkv", codec="libx265", fmt="yuv420p10le", times=SHORT, color_range=1,
             colorspace=9, color_primaries=9, color_trc=18,
             options={"x265-params": "log-level=none"}),
        (frames, pixels, bits, colours)),
    Row("Grey", clip("a.mkv", codec="ffv1", fmt="gray", times=SHORT),
        (frames, pixels, same_format), settings={"codec": "ffv1"}),
    Row("Alpha, VP9 in WebM", clip("a.webm", codec="libvpx-vp9", fmt="yuva420p"),
        (frames, times, alpha)),
    Row("Alpha, ProRes 4444", clips.prores, (frames, times, alpha),
        settings={"codec": "prores_ks"}),
    Row("Alpha, FFV1", clip("a.mkv", codec="ffv1", fmt="yuva420p", times=SHORT),
        (frames, pixels, alpha, same_format), settings={"codec": "ffv1"}),
    Row("Alpha, FFV1 in RGB", clip("a.mkv", codec="ffv1", fmt="bgra", times=SHORT),
        (frames, alpha, same_format), settings={"codec": "ffv1"}),
    Row("Interlaced, `--deinterlace auto`", clips.interlaced, (frames, times, whole)),
    Row("Interlaced, `--deinterlace off`", clips.interlaced, (frames, times, combs_left),
        settings={"deinterlace": "off"}),
    Row("Two audio tracks, text subtitles, MP4",
        clip("a.mp4", extras=[clips.sound("eng", disposition=1), clips.sound("jpn"),
                              clips.subtitles("mov_text")]),
        (frames, times, beside)),
    Row("Audio, text and bitmap subtitles, font, MKV",
        clip("a.mkv", extras=[clips.sound("eng", disposition=1),
                              clips.sound("jpn", "pcm_s16le", disposition=4), clips.subtitles(),
                              clips.bitmaps, clips.font]),
        (frames, times, beside)),
    Row("Sound that begins before 0, from MP4 to MKV", clip("a.mp4", extras=[clips.sound("eng")]),
        (frames, times, beside), target="b.mkv"),
    Row("Chapters, MP4", clip("a.mp4", before=clips.chapters), (frames, chapters)),
    Row("Chapters, MKV", clip("a.mkv", before=clips.chapters), (frames, chapters)),
    Row("Chapters, frames at a clock of 25 Hz, MP4",
        clip("a.mp4", times=range(12), base=Fraction(1, 25), last=1,
             before=chaptered(213, 479)), (*COMMON, chapters)),
    Row("Chapters of an hour, frames at a clock of 10 MHz, MP4",
        clip("a.mp4", times=[400_000 * n for n in range(12)], base=Fraction(1, 10**7), last=400_000,
             before=chaptered(3_600_000, 7_200_000)), (*COMMON, chapters)),
    Row("Cover art, MP4", clip("a.mp4", extras=[clips.cover], keys=False), (frames, cover)),
    Row("Cover art, from MP4 to MKV", clip("a.mp4", extras=[clips.cover], keys=False),
        (frames, cover), target="b.mkv"),
    Row("Timecode track, MOV",
        clip("a.mov", before=lambda _, s: s.metadata.update(timecode="01:02:03:04")),
        (frames, times, beside)),
    Row("WMA sound, WMV in",
        clip("a.wmv", form="asf", codec="wmv2", extras=[clips.sound("eng", "wmav2")]),
        (frames, times, noticed("wmav2) is left out", "sound left out, said"))),
    Row("MPEG-TS in",
        clip("a.ts", form="mpegts", base=Fraction(1, 90000),
             times=[3600 * n + 8_000_000 for n in range(12)]), COMMON),
    Row("AVI in",
        clip("a.avi", codec="mpeg4", base=Fraction(1, 25), times=list(range(12))), COMMON),
    Row("WebM in and out", clip("a.webm", codec="libvpx-vp9"), (*COMMON, codec("vp9"))),
    Row("GIF in", clips.gif, (frames, times)),
    Row("Numbered PNG in, 16 bit",
        lambda folder: clips.sequence(folder, fmt="rgb48be"),
        (noticed("25 a second are taken", "5 of 5 pictures, 25 a second, said"), same_depth(16)),
        target="b.mkv", settings={"codec": "ffv1"}),
    Row("Numbered PNG out", clip("a.mp4", times=clips.UNEVEN), (numbered,),
        target="out/%03d.png"),
    Row("FFV1 in MKV out", clip("a.mp4"), (*COMMON, codec("ffv1")), target="b.mkv",
        settings={"codec": "ffv1"}),
    Row("MOV out", clip("a.mkv"), COMMON, target="b.mov"),
    Row("SubRip subtitles into MP4", clip("a.mkv", extras=[clips.subtitles()]), target="b.mp4",
        refused="does not fit into a .mp4 file; name an output that ends in .mkv"),
    Row("AAC sound into WebM", clip("a.mkv", extras=[clips.sound("eng")]), target="b.webm",
        refused="does not fit into a .webm file; name an output that ends in .mkv"),
    Row("Frames that repeat", clips.on_threes, (frames, times, repeated(6))),
    Row("`--size 160x90` of 64x36", clip("a.mp4", size=(36, 64)), (frames, times, size(160, 90)),
        settings={"size": "160x90"}),
    Row("`--size 128x128` of 64x48", clip("a.mp4"),
        (frames, times, size(128, 128, Fraction(4, 3))), settings={"size": "128x128"}),
    Row("`--size 72x96`, shown turned by 90°", turned(90),
        (frames, times, size(96, 72)), settings={"size": "72x96"}),
    Row("`--scale 1.5` of 64x48", clip("a.mp4"), (frames, times, size(96, 72)),
        settings={"scale": 1.5}),
    Row("A file cut short", clips.cut, refused="is damaged or incomplete"),
    Row("A file cut short, `--allow-truncated`", clips.cut,
        (noticed("damaged places", "all that is there, said"),),
        settings={"allow_truncated": True}),
]  # fmt: skip


# --- running -------------------------------------------------------------------------------------


@contextmanager
def network():
    """A folder with the weights of the network that repeats pixels."""
    had = MODELS.get("toy")
    MODELS["toy"] = toy.SPEC
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield toy.install(Path(folder), stages=("fidelity",))
    finally:
        if had is None:
            del MODELS["toy"]
        else:
            MODELS["toy"] = had


@functools.cache
def result(name):
    """What a row's checks found."""
    row = next(row for row in ROWS if row.name == name)
    with network() as weights, tempfile.TemporaryDirectory() as folder:
        source = row.make(Path(folder))
        target = Path(folder) / (row.target or "out/")
        target = f"{target}/" if row.target is None else target
        settings = _settings(row, source, weights)
        if row.refused is not None:
            with pytest.raises(SrpipeError, match=re.escape(row.refused)):
                upscale(source, target, settings)
            return f"refused: “{row.refused}”"
        done = upscale(source, target, settings)
        seen = Seen(source, done.target, done)
        return ", ".join(check(seen) for check in row.checks)


def _settings(row, source, weights):
    suffix = Path(row.target or source).suffix
    encoder = row.settings.get("codec") or ("libvpx-vp9" if suffix == ".webm" else "libx264")
    fast = {"libx264": FAST, "libvpx-vp9": FAST_VP9}.get(encoder, {})
    fast = {} if suffix == ".png" and row.target else fast
    options = () if "HDR" in row.name else tuple(fast.items())
    chosen = {"model": "toy", "weights": weights, "options": options} | row.settings
    return RunSettings(**chosen)


def table():
    """The matrix in Markdown."""
    lines = [f"| {row.name} | {result(row.name)} |\n" for row in ROWS]
    return "".join(["| in | what comes out |\n", "|---|---|\n", *lines])


if __name__ == "__main__":
    readme.write("matrix", table())
