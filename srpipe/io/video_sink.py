"""Writing video: encoded frames at the source's times, with all its other streams beside them."""

import errno
import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av

from srpipe.errors import ConfigError, TargetError
from srpipe.io.frames import Frame
from srpipe.io.video_encoder import as_options, chosen, losses, pixel_shape, started
from srpipe.io.video_matroska import shape_pixels
from srpipe.io.video_pieces import Piece, PieceSink, Target, decoding_times
from srpipe.io.video_remux import (
    CONTAINERS,
    Companions,
    file_tags,
    in_language,
    odd_tags,
    stream_tags,
    takes,
)
from srpipe.io.video_source import ATTACHED_PICTURE, VideoSource

KEPT_SUFFIXES = {".mp4": ".mp4", ".m4v": ".mp4", ".mov": ".mov", ".mkv": ".mkv", ".webm": ".webm"}
COMMENTS = ("comment", "description", "synopsis")  # MOV knows only the first
MAX_TIMESCALE = 10_000_000  # ticks per second in MP4; its field has 32 bits, some players fewer
MILLISECONDS = 1000  # ticks per second that libav takes for a whole file


class VideoSink:
    """Encodes frames into a file and copies everything else of the source into it.

    All that can be refused is refused here, before a frame is computed. Times are the source's,
    exact to one tick of the container (1 ms in Matroska and WebM).

    Parameters
    ----------
    part : the file to write, whatever its name ends in
    source : where the other streams, tags, chapters, times and colours come from
    height, width : of the frames that will be written
    suffix : container: .mp4, .m4v, .mov, .mkv or .webm
    codec : name of a libav encoder; None for H.264, for HEVC where the source is HDR or deeper
        than 10 bits, for VP9 in WebM
    crf : constant quality, smaller is better; None for 16 (H.264), 18 (HEVC), 24 (VP9)
    pix_fmt : libav's name of a pixel format; None for the closest to the source
    options : further encoder options by libav's names
    comment : text for the file's first tag of `COMMENTS` that the source leaves free

    Attributes
    ----------
    layout : in which `write` wants its frames
    notices : what a user should know of the output, in plain sentences; complete after `close`
    times : of the frames written, in units of the source's time base
    streams, video_index : how many streams the output has, and which one is the enlarged
    tick_s : of the container's clock

    Raises
    ------
    ConfigError
        If container, codec, pixel format or an option does not exist.
    TargetError
        If the container cannot hold a stream of the source, or the file cannot be written.
    """

    def __init__(
        self,
        part: Path,
        source: VideoSource,
        *,
        height: int,
        width: int,
        suffix: str,
        codec: str | None = None,
        crf: float | None = None,
        pix_fmt: str | None = None,
        options: Mapping[str, str] | None = None,
        comment: str | None = None,
    ) -> None:
        self.part, self.source = Path(part), source
        self._comment = comment
        self.height, self.width, self.suffix = height, width, _known_suffix(suffix)
        encoding = chosen(
            source.layout,
            height=height,
            width=width,
            suffix=self.suffix,
            codec=codec,
            pix_fmt=pix_fmt,
            options=as_options(crf, options),
        )
        self.layout = encoding.layout
        shape, notices = pixel_shape(source, height, width)
        self.notices = [*losses(source.layout, encoding, source.hdr), *notices]
        self.times = array("q")
        self._own: PieceSink | None = None
        self._output: Any = None
        self._companions = Companions(source.path, source.index, self.suffix, self.notices)
        existed = self.part.exists()
        try:
            self.target = Target(
                encoding=encoding,
                height=height,
                width=width,
                sample_aspect_ratio=shape,
            )
            with self._reported():
                self._open()
        except BaseException:
            self.abort()
            if not existed:
                self.part.unlink(missing_ok=True)
            raise

    @property
    def path(self) -> Path:
        """What the video is read as."""
        return self.part

    @property
    def copied(self) -> Mapping[int, int]:
        """How many packets each of the output's other streams was given, by its index."""
        return self._companions.copied

    @property
    def copied_bytes(self) -> Mapping[int, int]:
        """How many bytes there are in them."""
        return self._companions.copied_bytes

    @property
    def shapes(self) -> Mapping[int, Fraction]:
        """Width of a pixel by its height, of each of the output's videos; 0 is unknown."""
        return self._companions.shapes | {self.video_index: self.target.sample_aspect_ratio}

    def check_apart(self, times: Sequence[int]) -> None:
        """Refuse times, in order and in units of the source's time base, that fall on one tick.

        Raises
        ------
        TargetError
            If the container's clock has one tick for two of them.
        """
        ours, tick = self.source.time_base, self.tick_s
        up, down = (2 * ours / tick).as_integer_ratio()  # half ticks, which are rounded
        ticks = [((time - self._shift) * up // down + 1) // 2 for time in times]
        same = next((n for n, (one, two) in enumerate(pairwise(ticks)) if one == two), None)
        if same is None:
            return
        gap = (times[same + 1] - times[same]) * ours
        finer = tick > gap >= Fraction(1, MAX_TIMESCALE)
        able = ".mp4" if finer else "%05d.png (numbered pictures)"
        raise TargetError(
            f"frame {same + 1} of {self.source.path} comes {float(gap) * 1e6:g} µs after the one"
            f" before it, and a {self.suffix} file holds times to {float(tick) * 1e6:g} µs; name"
            f" an output that ends in {able}"
        )

    def write(self, frame: Frame) -> None:
        """Encode the next frame, which has this sink's layout and size and a later time.

        It goes into a piece beside the file, and from there into the file when this is closed.

        Raises
        ------
        PixelError
            If layout, size or time do not fit.
        TargetError
            If the file cannot be written.
        """
        with self._reported():
            if self._own is None:
                path = self.part.with_name(f"{self.part.name}.piece")
                self._own = PieceSink(path, self.source, self.target)
            self._own.write(frame)

    def join(self, pieces: Sequence[Path]) -> None:
        """Put the packets of all pieces, which are in order, and the other streams into the file.

        Raises
        ------
        TargetError
            If the file cannot be written, or a piece is damaged.
        """
        with self._reported():
            asked = [Piece(path).times() for path in pieces]
            self.times = array("q", sorted(pts - self._shift for each in asked for pts in each))
            decoded = iter(decoding_times(asked))
            for packet in (packet for path in pieces for packet in Piece(path)):
                packet.dts = next(decoded)
                self._mux(packet)

    def close(self) -> None:
        """Write what is held back and what is left of the other streams."""
        if self._own is not None:
            with self._reported():
                self._own.close()
            self.join([self._own.path])
            self._own.path.unlink()
        with self._reported():
            self._companions.copy(self._output, None)
            self._output.close()
            self._shape_pixels()
        self._companions.close()

    def abort(self) -> None:
        """Stop without finishing; the file is worthless."""
        if self._own is not None:
            self._own.abort()
        if self._output is not None:
            with suppress(av.FFmpegError, OSError):
                self._output.close()
        self._companions.close()

    # --- opening -----------------------------------------------------------------------------

    def _open(self) -> None:
        self._shift = round(self.source.start_s / self.source.time_base)
        if self.source.first is not None:  # no container here holds times before 0
            self._shift = min(self._shift, self.source.first)
        if self._shift:
            self.notices.append(
                f"times start at 0 rather than at {float(self._shift * self.source.time_base):.3f}"
                " s, where the source's clock does"
            )
        source = self._companions.input
        self._output = av.open(
            f"file:{self.part}",
            "w",
            format=CONTAINERS[self.suffix],
            container_options=self._muxer_options(),
            metadata_errors="surrogateescape",
        )
        for stream in source.streams:
            if stream.index == self.source.index:
                self._add_video(stream)
            else:
                self._companions.add(stream, self._output)
        self._output.metadata.update(self._tags(source.metadata))
        self._output.set_chapters(source.chapters())
        self._companions.start(self._shift * self.source.time_base)
        self._output.start_encoding()
        self.streams, self.video_index = len(self._output.streams), self._encoder.index
        self.tick_s: Fraction = self._encoder.time_base
        self._tracks = [each.index for each in self._output.streams if each.type != "attachment"]

    def _muxer_options(self) -> dict[str, str]:
        """For MP4 and MOV: a clock of which all video times are whole ticks, room for all tags.

        A source's finer clock than it may have is rounded: of 1 ns, libav writes no frame of 2.2 s.

        For Matroska: what sound has before time 0, to start its decoder, stays there, where the
        muxer would rather put everything else later.
        """
        if CONTAINERS[self.suffix] in ("matroska", "webm"):
            return {"avoid_negative_ts": "disabled"}
        if CONTAINERS[self.suffix] not in ("mp4", "mov"):
            return {}
        ours = self.source.time_base.denominator
        bases = [stream.time_base for stream in self._companions.input.streams.video]
        scale = math.lcm(ours, *(base.denominator for base in bases if base))
        scale = scale if scale <= MAX_TIMESCALE else min(ours, MAX_TIMESCALE)
        return {
            "video_track_timescale": str(scale),
            "movie_timescale": str(self._movie_timescale(scale)),
            "movflags": "+write_colr" + "+use_metadata_tags" * self._keys(),
        }

    def _movie_timescale(self, scale: int) -> int:
        """The ticks a second of what says when a track begins, and of chapters.

        Whole ticks of video and of milliseconds, or of the former alone, where the ticks of all
        chapters fit into 31 bits; else libav's own milliseconds.
        """
        ends = [
            each["end"] * (each["time_base"] or 0) for each in self._companions.input.chapters()
        ]
        most = min(MAX_TIMESCALE, 2**31 // max(1, math.ceil(max(ends, default=0))))
        wanted = math.lcm(scale, MILLISECONDS), scale
        return next((each for each in wanted if MILLISECONDS <= each <= most), MILLISECONDS)

    def _tags(self, tags: Mapping[str, str]) -> dict[str, str]:
        """The source's tags, and the comment in one that it does not have."""
        found = file_tags(tags)
        if self._comment is None:
            return found
        taken = {name.lower() for name in found}
        known = COMMENTS[:1] if self.suffix == ".mov" else COMMENTS
        free = next((name for name in known if name not in taken), None)
        if free is None:
            self.notices.append("the file's tags have no room for a record of where it comes from")
            return found
        return found | {free: self._comment}

    def _keys(self) -> bool:
        """Whether MP4 is to hold tags as libav's keys; it then has no place for cover art."""
        odd = odd_tags(self._companions.input.metadata)
        covers = [s for s in self._companions.input.streams if s.disposition & ATTACHED_PICTURE]
        if odd and covers:
            self.notices.append(
                f"the tags {', '.join(odd)} are left out, for {self.suffix} holds either them or"
                " cover art; an output that ends in .mkv holds both"
            )
        return bool(odd and not covers)

    def _add_video(self, template: Any) -> None:
        """Announce the enlarged stream; an encoder that gets no frame tells what its header is."""
        encoding = self.target.encoding
        if not takes(self.suffix, encoding.codec):
            raise _misfit(self.suffix, encoding.codec)
        self._encoder: Any = self._output.add_stream(encoding.codec, rate=self.source.rate)
        context = self._encoder.codec_context
        self.target.shape(context, self.source)
        if encoding.codec == "libx265" and CONTAINERS[self.suffix] != "matroska":
            context.codec_tag = "hvc1"  # players of Apple take no other
        self._encoder.set_display_matrix(self._display_matrix())
        tags = in_language(self._output, stream_tags(template.metadata))
        self._encoder.metadata.update(tags)
        self._encoder.disposition = template.disposition
        started(context, encoding, self.source.hdr)

    def _growth(self) -> tuple[Fraction, Fraction]:
        """How many times as high and as wide as the source the output is."""
        return Fraction(self.height, self.source.height), Fraction(self.width, self.source.width)

    def _display_matrix(self) -> list[int] | None:
        """The source's turn; its shift, which is in pixels of the turned picture, grows along."""
        if self.source.display_matrix is None:
            return None
        matrix, (high, wide) = list(self.source.display_matrix), self._growth()
        if matrix[0] == 0:  # a quarter turn: the picture's height lies across
            high, wide = wide, high
        matrix[6], matrix[7] = round(matrix[6] * wide), round(matrix[7] * high)
        return matrix

    def _shape_pixels(self) -> None:
        """Write into Matroska and WebM what their muxer is not told by PyAV."""
        form, shapes = CONTAINERS[self.suffix], self.shapes
        if form in ("matroska", "webm") and any(shapes.values()):
            told = [shapes.get(index, Fraction(0)) for index in self._tracks]
            shape_pixels(self.part, told, ratio=form == "matroska")

    # --- writing -----------------------------------------------------------------------------

    def _mux(self, packet: av.Packet) -> None:
        """Write a packet of the enlarged stream, and before it what else belongs before it."""
        assert packet.pts is not None
        assert packet.dts is not None
        packet.pts, packet.dts = packet.pts - self._shift, packet.dts - self._shift
        packet.stream, packet.time_base = self._encoder, self.source.time_base
        self._companions.copy(self._output, packet.dts * packet.time_base)
        self._output.mux_one(packet)

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """Turn what libav and the system say about the target into a TargetError."""
        try:
            yield
        except (av.FFmpegError, OSError) as error:
            raise TargetError(f"{self.part}: {_reason(error)}") from error


def suffix_for(source: Path | str) -> str:
    """How an output's name ends where nobody says; Matroska holds what other containers do not."""
    return KEPT_SUFFIXES.get(Path(source).suffix.lower(), ".mkv")


def _known_suffix(suffix: str) -> str:
    if suffix.lower() in CONTAINERS:
        return suffix.lower()
    raise ConfigError(
        f"videos are not written as {suffix or 'a file without an ending'};"
        f" choose one of {', '.join(CONTAINERS)}"
    )


def _misfit(suffix: str, codec: str) -> ConfigError:
    able = [other for other in CONTAINERS if takes(other, codec)]
    where = f"end the output in {' or '.join(able)}, or" if able else "no container here does;"
    return ConfigError(
        f"a {suffix} file holds no video of the encoder {codec}; {where} leave the codec out"
    )


def _reason(error: Exception) -> str:
    code = getattr(error, "errno", None)
    if code == errno.ENOSPC:
        return "there is no room left on the disk; free some or choose another place"
    if code in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "no permission to write there; choose another place"
    if code == errno.ENOENT:
        return "the folder does not exist; make it first"
    text = getattr(error, "strerror", None) or str(error)
    return f"writing fails ({text}); another container, such as .mkv, may hold it"
