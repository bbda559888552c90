"""Writing video: encoded frames at the source's times, with all its other streams beside them."""

import errno
import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from srpipe.errors import ConfigError, PixelError, TargetError
from srpipe.io.frames import Frame
from srpipe.io.video_encoder import Encoding, chosen, losses, started
from srpipe.io.video_formats import picture
from srpipe.io.video_remux import CONTAINERS, Companions, file_tags, odd_tags, stream_tags
from srpipe.io.video_source import ATTACHED_PICTURE, VideoSource

KEPT_SUFFIXES = {".mp4": ".mp4", ".m4v": ".mp4", ".mov": ".mov", ".mkv": ".mkv", ".webm": ".webm"}
MAX_TIMESCALE = 10_000_000  # ticks per second in MP4; its field has 32 bits, some players fewer
MAX_RATE = 300  # what is faster is a clock's tick and not a frame rate


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

    Attributes
    ----------
    layout : in which `write` wants its frames
    notices : what a user should know of the output, in plain sentences; complete after `close`
    times : of the frames written, in units of the source's time base
    streams, video_index : how many streams the output has, and which one is the enlarged

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
    ) -> None:
        self.part, self.source = Path(part), source
        self.height, self.width, self.suffix = height, width, _known_suffix(suffix)
        encoding = chosen(
            source.layout,
            height=height,
            width=width,
            suffix=self.suffix,
            codec=codec,
            pix_fmt=pix_fmt,
            options=_as_options(crf, options),
        )
        self.layout, self._pix_fmt = encoding.layout, encoding.pix_fmt
        self.notices = losses(source.layout, encoding)
        self.times = array("q")
        self._durations: dict[int, int] = {}
        self._output: Any = None
        self._companions = Companions(source.path, source.index, self.suffix)
        existed = self.part.exists()
        try:
            with self._reported():
                self._open(encoding)
        except BaseException:
            self.abort()
            if not existed:
                self.part.unlink(missing_ok=True)
            raise

    @property
    def copied(self) -> Mapping[int, int]:
        """How many packets each of the output's other streams was given, by its index."""
        return self._companions.copied

    def write(self, frame: Frame) -> None:
        """Encode the next frame, which has this sink's layout and size and a later time.

        Raises
        ------
        PixelError
            If layout, size or time do not fit.
        TargetError
            If the file cannot be written.
        """
        pts = self._checked(frame)
        made = picture(frame, self._pix_fmt)
        made.pts, made.time_base = pts, self.source.time_base
        if frame.duration:
            self._durations[pts] = frame.duration
        self.times.append(pts)
        with self._reported():
            self._mux(self._encoder.encode(made))

    def close(self) -> None:
        """Write what the encoder holds back and what is left of the other streams."""
        with self._reported():
            self._mux(self._encoder.encode(None))
            self._companions.copy(self._output, None)
            self._output.close()
        self._companions.close()
        self.notices += self._companions.notices

    def abort(self) -> None:
        """Stop without finishing; the file is worthless."""
        if self._output is not None:
            with suppress(av.FFmpegError, OSError):
                self._output.close()
        self._companions.close()

    # --- opening -----------------------------------------------------------------------------

    def _open(self, encoding: Encoding) -> None:
        self._shift = round(self.source.start_s / self.source.time_base)
        if self._shift:
            self.notices.append(
                f"times start at 0 rather than at {float(self.source.start_s):.3f} s, where the"
                " source's clock does"
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
                self._add_video(encoding, stream)
            else:
                self._companions.add(stream, self._output)
        self._output.metadata.update(file_tags(source.metadata))
        self._output.set_chapters(source.chapters())
        self._companions.start(self._shift * self.source.time_base)
        self._output.start_encoding()
        self.streams, self.video_index = len(self._output.streams), self._encoder.index

    def _muxer_options(self) -> dict[str, str]:
        """For MP4 and MOV: a clock of which all video times are whole ticks, room for all tags."""
        if CONTAINERS[self.suffix] not in ("mp4", "mov"):
            return {}
        ours = self.source.time_base.denominator
        bases = [stream.time_base for stream in self._companions.input.streams.video]
        scale = math.lcm(ours, *(base.denominator for base in bases if base))
        return {
            "video_track_timescale": str(scale if scale <= MAX_TIMESCALE else ours),
            "movflags": "+write_colr" + "+use_metadata_tags" * self._keys(),
        }

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

    def _add_video(self, encoding: Encoding, template: Any) -> None:
        rate = self.source.rate
        self._encoder: Any = self._output.add_stream(encoding.codec, rate=rate)
        context = self._encoder.codec_context
        context.width, context.height = self.width, self.height
        context.time_base = self.source.time_base
        if not rate or rate > MAX_RATE:
            context.framerate = Fraction(0)
        context.sample_aspect_ratio = self._sample_aspect_ratio()
        if encoding.codec == "libx265" and CONTAINERS[self.suffix] != "matroska":
            context.codec_tag = "hvc1"  # players of Apple take no other
        self._encoder.set_display_matrix(self._display_matrix())
        self._encoder.metadata.update(stream_tags(template.metadata))
        self._encoder.disposition = template.disposition
        started(context, encoding, self.source.hdr)

    def _growth(self) -> tuple[Fraction, Fraction]:
        """How many times as high and as wide as the source the output is."""
        return Fraction(self.height, self.source.height), Fraction(self.width, self.source.width)

    def _sample_aspect_ratio(self) -> Fraction:
        """The pixels' shape with which the picture keeps its own; 0 is unknown, and stays so."""
        high, wide = self._growth()
        known = self.source.sample_aspect_ratio
        if known is None and high == wide:
            return Fraction(0)
        return (known or 1) * high / wide

    def _display_matrix(self) -> list[int] | None:
        """The source's turn; its shift, which is in pixels of the turned picture, grows along."""
        if self.source.display_matrix is None:
            return None
        matrix, (high, wide) = list(self.source.display_matrix), self._growth()
        if matrix[0] == 0:  # a quarter turn: the picture's height lies across
            high, wide = wide, high
        matrix[6], matrix[7] = round(matrix[6] * wide), round(matrix[7] * high)
        return matrix

    # --- writing -----------------------------------------------------------------------------

    def _checked(self, frame: Frame) -> int:
        """The frame's time in the output."""
        if (frame.height, frame.width) != (self.height, self.width):
            raise PixelError(
                f"a frame of {frame.width}x{frame.height} does not fit into a video of"
                f" {self.width}x{self.height}"
            )
        had, want = frame.layout, self.layout
        if any(getattr(had, name) != getattr(want, name) for name in STORED):
            raise PixelError(f"frames of {want} are wanted, not of {had}")
        if frame.pts is None:
            raise PixelError("a frame of a video needs a time")
        pts = frame.pts - self._shift
        if self.times and pts <= self.times[-1]:
            raise PixelError(f"a frame at {frame.pts} does not come after the one before it")
        return pts

    def _mux(self, packets: Sequence[av.Packet]) -> None:
        """Write packets of the enlarged stream, and before each what else belongs before it."""
        for packet in packets:
            assert packet.pts is not None
            if packet.pts in self._durations:
                packet.duration = self._durations.pop(packet.pts)
            # x265 leaves the decoding times of a video of one or two frames, which it cannot have
            # reordered, unset; any other lies no farther before the first frame than the last after
            if packet.dts is not None and packet.dts < 2 * self.times[0] - self.times[-1]:
                packet.dts = packet.pts
            now = packet.dts if packet.dts is not None else packet.pts
            self._companions.copy(self._output, now * packet.time_base)
            self._output.mux_one(packet)

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """Turn what libav and the system say about the target into a TargetError."""
        try:
            yield
        except (av.FFmpegError, OSError) as error:
            raise TargetError(f"{self.part}: {_reason(error)}") from error


STORED = ("family", "bits", "alpha", "sub_y", "sub_x", "full_range", "matrix")
"""What of a layout decides how samples are stored and meant."""


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


def _as_options(crf: float | None, options: Mapping[str, str] | None) -> dict[str, str]:
    made = {key: str(value) for key, value in (options or {}).items()}
    return made if crf is None else {"crf": f"{crf:g}"} | made


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
