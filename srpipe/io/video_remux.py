"""The streams beside the enlarged one: sound, subtitles, attachments, copied packet by packet."""

import io
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
from av.container import OutputContainer

from srpipe.errors import TargetError
from srpipe.io.video_source import ATTACHED_PICTURE, demuxed, opened

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
COVER_TYPES = {"mjpeg": ("cover.jpg", "image/jpeg"), "png": ("cover.png", "image/png")}
SKIPPED = av.stream.Discard.all
UNKNOWN = "unknown codec"
NOT_COPIED = (UNKNOWN, "timed_id3")
"""Codecs of data that is copied nowhere; see `_can_hold`."""

WRITTEN_BY_MUXERS = ("major_brand", "minor_version", "compatible_brands", "encoder")
STATISTICS = (
    *("BPS", "DURATION", "NUMBER_OF_FRAMES", "NUMBER_OF_BYTES", "_STATISTICS_"),
    *("ENCODER", "VENDOR_ID", "ALPHA_MODE"),
)
"""Tags that muxers make of a stream's packets and encoder; wrong for a stream encoded anew."""

PLAIN_TAGS = frozenset(
    (
        *("title", "artist", "album_artist", "composer", "album", "date", "comment", "genre"),
        *("copyright", "grouping", "lyrics", "description", "synopsis", "show", "episode_id"),
        *("network", "track", "disc", "creation_time"),
    )
)
"""Tags that MP4 has a place for (libavformat/movenc.c); others need libav's metadata keys."""

PRIMING_S = Fraction(1, 5)
"""How long before its start sound may begin, for a decoder to be there in time."""

QUICKTIME_LANGUAGES = {
    "deu": "ger",
    "nld": "dut",
    "fre": "fra",
    "zho": "chi",
    "cze": "ces",
    "ell": "gre",
    "ice": "isl",
    "rum": "ron",
    "slo": "slk",
    "sqi": "alb",
    "hye": "arm",
    "eus": "baq",
    "mya": "bur",
    "kat": "geo",
    "mkd": "mac",
    "msa": "may",
    "fas": "per",
    "bod": "tib",
    "cym": "wel",
}
"""Of the two codes that ISO 639-2 has for a language, libav's MOV muxer knows one."""


class Companions:
    """Reads the source a second time and copies what is not the enlarged stream.

    Packets are read only up to the time that the enlarged stream has reached, so that nothing
    piles up. Streams that no container here can hold are left out, with a notice, which joins
    `notices`.

    Attributes
    ----------
    copied, copied_bytes : how many packets each stream of the output was given, by its index, and
        what is in them
    shapes : width of a pixel divided by its height, of the videos among them; 0 is unknown
    """

    def __init__(self, path: Path, index: int, suffix: str, notices: list[str]) -> None:
        self.notices = notices
        self.copied: dict[int, int] = {}
        self.copied_bytes: dict[int, int] = {}
        self.shapes: dict[int, Fraction] = {}
        self.input = opened(path)
        self._path = path
        self._suffix = suffix
        self._outputs: dict[int, av.stream.Stream] = {}
        self._last: dict[int, int] = {}
        self._waiting: av.Packet | None = None
        self._shift_s = Fraction(0)
        self.input.streams[index].discard = SKIPPED

    def add(self, stream: av.stream.Stream, output: OutputContainer) -> None:
        """Announce a stream of the source to the output.

        Raises
        ------
        TargetError
            If the container cannot hold it, and another could.
        """
        if self._is_chapter_track(stream):
            return
        if self._is_timecode(stream):
            if CONTAINERS[self._suffix] not in ("mp4", "mov"):
                self.notices.append(
                    f"stream {stream.index}, a timecode, is kept as a tag of the video; .mov and"
                    " .mp4 keep it as a stream"
                )
            return
        if stream.disposition & ATTACHED_PICTURE and CONTAINERS[self._suffix] == "matroska":
            name, kind = COVER_TYPES.get(stream.codec_context.name, ("cover", "image/unknown"))
            name, kind = (
                stream.metadata.get("filename", name),
                stream.metadata.get("mimetype", kind),
            )
            output.add_attachment(name, kind, _cover(self._path, stream.index))
            return
        if not _can_hold(self._suffix, stream):
            self._refuse(stream)
            return
        made = _added(output, stream)
        if stream.type == "attachment":
            return
        self._outputs[stream.index] = made
        self.copied[made.index] = self.copied_bytes[made.index] = 0
        if isinstance(stream, av.VideoStream) and not stream.disposition & ATTACHED_PICTURE:
            self.shapes[made.index] = stream.sample_aspect_ratio or Fraction(0)

    def start(self, shift_s: Fraction) -> None:
        """Begin to read; all times will be `shift_s` seconds earlier than in the source."""
        self._shift_s = shift_s
        self._packets = self._demuxed()

    def copy(self, output: OutputContainer, until_s: Fraction | None) -> None:
        """Copy the packets up to a time of the output; all that are left where it is None."""
        while True:
            if self._waiting is None:
                self._waiting = next(self._packets, None)
            packet = self._waiting
            if packet is None:
                return
            assert packet.dts is not None
            if until_s is not None and packet.dts * packet.time_base > until_s:
                return
            target = self._outputs[packet.stream.index]
            self.copied[target.index] += 1
            self.copied_bytes[target.index] += packet.size
            packet.stream = target
            output.mux_one(packet)
            self._waiting = None

    def close(self) -> None:
        """Let go of the source."""
        self.input.close()

    def _demuxed(self) -> Iterator[av.Packet]:
        streams = [self.input.streams[i] for i in self._outputs]
        if not streams:
            return
        try:
            for packet in demuxed(self.input, streams, self._path):
                if not (_is_filler(packet) or self._is_hidden(packet)):
                    self._set_times(packet)
                    yield packet
        except av.error.MemoryError:  # no fault of the file's
            raise
        except av.FFmpegError as error:
            self.notices.append(
                f"the other streams could be copied only in part: reading breaks off"
                f" ({error.strerror})"
            )

    def _is_hidden(self, packet: av.Packet) -> bool:
        """Whether an edit list hides it, which Matroska cannot; but for what starts a decoder."""
        if not packet.is_discard or packet.pts is None or self._suffix not in (".mkv", ".webm"):
            return False
        return not -PRIMING_S <= packet.pts * packet.time_base - self._shift_s < 0

    def _set_times(self, packet: av.Packet) -> None:
        """Give the packet a decoding time that its stream's last one is not behind of."""
        index, shift = packet.stream.index, round(self._shift_s / packet.time_base)
        known = [time - shift for time in (packet.dts, packet.pts) if time is not None]
        if packet.pts is not None:
            packet.pts -= shift
        least = self._last.get(index)
        dts = known[0] if known else (least or 0)
        if least is not None:
            dts = max(dts, least + (packet.stream.type in ("audio", "video")))
        packet.dts = self._last[index] = dts
        packet.pts = max(dts, packet.pts) if packet.pts is not None else dts
        if packet.stream.type == "data" and not packet.duration:
            packet.duration = 1  # or MOV ends its edit list before the last one, which it hides

    def _is_chapter_track(self, stream: av.stream.Stream) -> bool:
        """Whether MP4 shows its chapters as a stream too; the muxer makes that one itself."""
        form = self.input.format.name
        return bool("mov" in form and _name(stream) == "bin_data" and self.input.chapters())

    def _is_timecode(self, stream: av.stream.Stream) -> bool:
        """Whether it is a timecode that a video's tag has, too; MOV and MP4 make a stream of it."""
        if stream.type != "data":
            return False
        kept = [video.metadata.get("timecode") for video in self.input.streams.video]
        return stream.metadata.get("timecode", "") in kept

    def _refuse(self, stream: av.stream.Stream) -> None:
        label = f"stream {stream.index} ({stream.type}, {_name(stream)})"
        able = [suffix for suffix in (".mkv", ".mp4", ".mov") if _can_hold(suffix, stream)]
        if able:
            raise TargetError(
                f"{label} of {self._path} does not fit into a {self._suffix} file;"
                f" name an output that ends in {able[0]}"
            )
        why = "it cannot be copied into any container here"
        if isinstance(stream, av.AudioStream) and not stream.sample_rate:
            why = "nothing is known of it, for none of its packets come where the file begins"
        elif stream.type == "audio":
            name = self._path.name
            why += (
                f"; convert it first to keep it: ffmpeg -i {name} -map 0 -c copy -c:a flac"
                f" {self._path.stem}.mkv"
            )
        self.notices.append(f"{label} is left out: {why}")


def takes(suffix: str, codec: str) -> bool:
    """Whether such a file can hold what an encoder makes."""
    with av.open(io.BytesIO(), "w", format=CONTAINERS[suffix]) as trial:
        try:
            trial.add_stream(codec)
        except ValueError:
            return False
    return True


def stream_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags of the enlarged stream that are still true of it."""
    return {key: value for key, value in tags.items() if not key.upper().startswith(STATISTICS)}


def file_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags of a file without those that a muxer writes itself."""
    return {key: value for key, value in tags.items() if key not in WRITTEN_BY_MUXERS}


def odd_tags(tags: Mapping[str, str]) -> list[str]:
    """The names of the tags that MP4 can keep only as keys of libav's own kind."""
    return sorted(set(file_tags(tags)) - PLAIN_TAGS)


def _added(output: OutputContainer, stream: av.stream.Stream) -> av.stream.Stream:
    """A stream of the output with the parameters, tags and dispositions of the source's."""
    made = output.add_stream_from_template(stream, opaque=True)
    if isinstance(stream, av.VideoStream):
        context = cast("av.VideoCodecContext", made.codec_context)
        if stream.average_rate:
            context.framerate = stream.average_rate
        context.sample_aspect_ratio = stream.sample_aspect_ratio or Fraction(0)
    made.metadata.update(in_language(output, stream.metadata))
    made.disposition = stream.disposition
    return made


def in_language(output: OutputContainer, tags: Mapping[str, str]) -> dict[str, str]:
    """Tags whose language and title are written as the container knows them.

    What libav reads from MOV and MP4 as a name, it writes if it is a title.
    """
    known = QUICKTIME_LANGUAGES if output.format.name == "mov" else {}
    titled = {"title": tags["name"], **tags} if "name" in tags else tags
    return {k: known.get(v, v) if k == "language" else v for k, v in titled.items()}


def _can_hold(suffix: str, stream: av.stream.Stream) -> bool:
    """Whether libav writes such a stream: a trial in memory tells whether it writes its header.

    It does that too where it then leaves the stream out: an attachment in any container but
    Matroska, and a cover picture in MOV. Data of a kind that libav has no name for (timed metadata
    of phones) is copied nowhere: what explains it stands in the source's header, which libav does
    not carry over. Nor are the timed tags of MPEG-TS: libav writes MP4 with them that it cannot
    read.
    """
    if stream.type == "data" and _name(stream) in NOT_COPIED:
        return False
    if stream.type == "attachment" and suffix != ".mkv":
        return False
    if stream.disposition & ATTACHED_PICTURE and suffix == ".mov":
        return False
    trial = av.open(io.BytesIO(), "w", format=CONTAINERS[suffix], metadata_errors="surrogateescape")
    try:
        _added(trial, stream)
        trial.start_encoding()
    except MemoryError:
        raise
    except (av.FFmpegError, ValueError, OSError):
        return False
    try:
        trial.close()
    except (av.FFmpegError, OSError):  # a trailer after no packets: not the question
        return True
    return True


def _is_filler(packet: av.Packet) -> bool:
    """Whether a packet only flushes a decoder, or is a pause in MP4 text that muxers write."""
    if _name(packet.stream) == "mov_text":
        return packet.size == 0 or bytes(packet) == b"\0\0"
    return packet.size == 0 and packet.dts is None


def _name(stream: av.stream.Stream) -> str:
    if stream.codec_context is not None:
        return stream.codec_context.name
    return getattr(stream, "name", None) or UNKNOWN


def _cover(path: Path, index: int) -> bytes:
    """The bytes of a cover picture, which is the only packet of its stream."""
    with opened(path) as container:
        for packet in container.demux(container.streams[index]):
            if packet.size:
                return bytes(packet)
    return b""
