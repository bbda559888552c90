"""Reading video: every frame once, in the order and at the time in which it is shown."""

import math
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, cast

import av
from av.container import InputContainer
from av.sidedata.sidedata import Type as SideData

from srpipe.errors import MediaError, TruncatedError
from srpipe.io.frames import Frame
from srpipe.io.sequence import RATE, files, for_libav, is_sequence, numbers
from srpipe.io.video_claims import claimed_bytes, claimed_frames, claimed_seconds
from srpipe.io.video_deinterlace import deinterlaced
from srpipe.io.video_ffv1 import SliceSums
from srpipe.io.video_formats import Planes, with_matrix
from srpipe.pixels import UNSPECIFIED, Layout

ATTACHED_PICTURE = 1 << 10  # libav's AV_DISPOSITION_ATTACHED_PIC: cover art
TS_DISCONT = 0x0200  # libav's AVFMT_TS_DISCONT: times may jump, and start anywhere
INTERLACED = {
    True: "the video is interlaced; each frame is made whole from its two fields and those of its"
    " neighbours by libavfilter's bwdif, and deinterlace=off leaves them as they are",
    False: "the video is interlaced and left so: the lines of both fields are enlarged together,"
    " which shows as combs where it moves",
}
NOT_WRITTEN = {
    SideData.A53_CC: "closed captions inside the pictures",
    SideData.AFD: "what part of the picture is used (AFD)",
    SideData.DOVI_RPU_BUFFER: "the changing metadata of Dolby Vision",
    SideData.DYNAMIC_HDR_PLUS: "the changing metadata of HDR10+",
    SideData.DYNAMIC_HDR_VIVID: "the changing metadata of HDR Vivid",
    SideData.ICC_PROFILE: "a colour profile (ICC)",
    SideData.PANSCAN: "what part of the picture is to be shown (pan and scan)",
    SideData.SPHERICAL: "the projection of a 360° video",
    SideData.STEREO3D: "the arrangement of a 3D video",
}
"""What decoded pictures may carry that PyAV has no way to give to an encoder."""

DAMAGED = "damaged places in the file: {n}; all frames that can be decoded are kept"
PATCHED = "frames that were damaged, and that the decoder patched up: {n}"
MOVED = "frames with the time of another, which were moved by a tick or more: {n}"
RECOLOURED = (
    "frames whose primaries or transfer are not those of the first, and are written as if they"
    " were: {n}"
)
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # libav's own leave alpha out


class VideoSource:
    """The frames of a file's best video stream; may be iterated more than once.

    Parameters
    ----------
    allow_truncated : go on past damage, and end where the file ends, rather than raise; `truncated`
        then tells afterwards whether there was any
    deinterlace : make whole frames of those that are flagged as interlaced
    picture_rate : of numbered pictures, which have no times, per second

    Attributes
    ----------
    height, width : of the first frame as stored, before any rotation
    layout : of the first frame, with the matrix decided on where the file names none
    count : how many frames the file claims; None where it does not say
    duration_s : how long the file claims to be; None where it does not say
    time_base : seconds per unit of the frames' times
    start_s : when the file's clock starts, where a format starts it anywhere (MPEG-TS); else 0
    first : the time of the first frame, in units of the time base; None where the file has none
    rate : average frames per second, for information; no time is made from it
    rotation : degrees counterclockwise by which a player turns the picture
    display_matrix : the same as libav's nine numbers; None where there is none
    sample_aspect_ratio : width of a pixel divided by its height; None where the file has none
    hdr : libav's mastering display and light level records of the first frame, by name

    Raises
    ------
    MediaError
        If the file is no video; TruncatedError, while iterating, if it breaks or ends early.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        allow_truncated: bool = False,
        deinterlace: bool = True,
        picture_rate: Fraction = RATE,
    ) -> None:
        self.path = Path(path)
        self.allow_truncated, self.deinterlace = allow_truncated, deinterlace
        self.picture_rate = picture_rate
        self._start()
        with self.opened() as container:
            self._read_header(container)
            self._read_first_frame(container)
        self._start()

    @property
    def notices(self) -> list[str]:
        """What a user should know of the file, in plain sentences; grows while iterating."""
        return notices_of(self._seen)

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()

    def frames(self, start: int | None = None, number: int = 0) -> Iterator[Frame]:
        """The frames in the order in which they are shown.

        Parameters
        ----------
        start : a time, in the terms of `video_index`, from which decoding begins; frames before
            the key frame there may come first
        number : of the key frame there
        """
        self._start()
        self.frames_read = number
        with self.opened() as container:
            planes = Planes(self.codec)
            clock = _Clock(self._begin, self._step, trust_pts="avi" not in self.format)
            for picture in self._pictures(container, start):
                if self._closed:
                    break
                yield self._frame(picture, planes, clock)
                self.frames_read += 1
            if not self._closed and start is None:
                self._check_end(container)

    def opened(self) -> InputContainer:
        """The file, opened once more.

        Raises
        ------
        MediaError
            As the function of this name does.
        """
        return opened(self.path, picture_rate=self.picture_rate)

    @property
    def noted(self) -> Counter[str]:
        """How often each sentence was noted since this iteration began; see `notices_of`."""
        return self._seen.copy()

    def close(self) -> None:
        """End an iteration before its next frame, and with it let go of the file.

        The file is closed by the thread that iterates: libav does not survive it from another.
        """
        self._closed = True

    def _start(self) -> None:
        self.frames_read = 0
        self.truncated = False
        self._closed = False
        self._packets = 0
        self._seen: Counter[str] = Counter(getattr(self, "_standing", {}))

    def _note(self, text: str, times: int = 1) -> None:
        """Remember a sentence; with an {n} in it, it tells how often it was noted."""
        self._seen[text] += times if "{n}" in text else 0

    def _read_header(self, container: InputContainer) -> None:
        stream: Any = best_video(container, self.path)
        self.index = stream.index
        self.codec = stream.codec_context.name
        self.format = container.format.name
        self.time_base: Fraction = stream.time_base
        self.rate: Fraction | None = stream.average_rate or stream.guessed_rate
        self._step = max(1, round(1 / (self.rate * self.time_base))) if self.rate else 1
        self.start_s = _start(container)
        self.sample_aspect_ratio: Fraction | None = stream.sample_aspect_ratio or None
        self.count = claimed_frames(stream, self.format)
        if self.format == "image2":
            self.count = len(numbers(self.path))
        self.duration_s = claimed_seconds(container, stream)

    def _read_first_frame(self, container: InputContainer) -> None:
        pictures = self._decoded(container)
        try:
            picture = next(pictures, None)
        except TruncatedError:
            picture = None
        if picture is None:
            raise MediaError(
                f"{self.path}: no frame of its video can be decoded; the file is damaged"
                " or incomplete, get it again"
            )
        self.height, self.width = picture.height, picture.width
        self.first: int | None = picture.pts
        self._begin = 0
        if picture.pts is None and picture.dts is None:
            self.first = self._counted_back(pictures)
            self._begin = self.first or 0
        stored = self._taken(picture, Planes(self.codec))[1]
        self.layout = with_matrix(stored, self.height, self.width)
        self.display_matrix = _display_matrix(picture)
        self.rotation = int(picture.rotation) if self.display_matrix else 0
        if abs(self.rotation) > 180:  # libav's way to say that the matrix is not a turn at all
            self.display_matrix, self.rotation = None, 0
        names = (SideData.MASTERING_DISPLAY_METADATA, SideData.CONTENT_LIGHT_LEVEL)
        self.hdr = {kind.name: data for kind, data in sides(picture).items() if kind in names}
        self._seen.clear()
        self._note_first(picture, stored)
        self._standing = dict(self._seen)

    def _counted_back(self, pictures: Iterator[av.VideoFrame]) -> int | None:
        """The time of the first frame, which has none, by the first that has one; None if far off.

        Matroska has no times before 0 for frames that need others.
        """
        with suppress(TruncatedError):
            for before, picture in enumerate(islice(pictures, UNTIMED_MAX), start=1):
                if picture.pts is not None:
                    return picture.pts - before * self._step
        return None

    def _note_first(self, picture: av.VideoFrame, stored: Layout) -> None:
        self._note_extras(picture)
        if self.format == "image2":
            self._note(f"numbered pictures have no times; {self.rate} a second are taken (rate)")
        if stored.matrix != self.layout.matrix:
            name = {1: "BT.709", 5: "BT.601", 6: "BT.601"}[self.layout.matrix]
            self._note(
                f"the file does not say its colour matrix; {name} is taken, as players do at"
                f" {self.width}x{self.height}, and written to the output"
            )

    def _pictures(
        self, container: InputContainer, start: int | None = None
    ) -> Iterator[av.VideoFrame]:
        """Decoded pictures, without those lines that belong to another moment."""
        pictures = self._observed(self._decoded(container, start))
        return deinterlaced(pictures) if self.deinterlace else pictures

    def _observed(self, pictures: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        for picture in pictures:
            self._note_extras(picture)
            yield picture

    def _note_extras(self, picture: av.VideoFrame) -> None:
        """Say what of a picture changes, or does not go over, apart from its samples."""
        if picture.interlaced_frame:
            self._note(INTERLACED[self.deinterlace])
        for what, data in sides(picture).items():
            if what in NOT_WRITTEN and not (what == SideData.PANSCAN and _shows_all(data, picture)):
                self._note(f"{NOT_WRITTEN[what]} cannot be written and is left out")

    def _decoded(
        self, container: InputContainer, start: int | None = None
    ) -> Iterator[av.VideoFrame]:
        """Decoded pictures to the last one that the decoder holds back."""
        stream: Any = container.streams[self.index]
        decoder = _decoder(stream)
        if start is not None:
            container.seek(start, stream=stream)
        for packet in self._read(container, stream):
            if self._closed:
                return
            try:
                yield from decoder.decode(packet)
            except av.error.EOFError:
                return
            except av.error.MemoryError:
                raise
            except av.FFmpegError as error:
                self._damage(f"decoding fails ({error.strerror})")

    def _read(self, container: InputContainer, stream: Any) -> Iterator[av.Packet | None]:
        """Packets for a decoder; the last one, or None, makes it give what it holds back."""
        sums = SliceSums() if self.codec == "ffv1" else None
        try:
            for packet in demuxed(container, [stream], self.path):
                self._packets += bool(packet.size)
                if packet.is_corrupt:
                    self._damage("a part of the video is incomplete")
                if sums and packet.size and not sums.hold(bytes(packet)):
                    self._damage("a checksum in the video is wrong")
                if packet.size or packet.pts is None:  # else the picture before is shown on
                    yield packet
        except av.error.MemoryError:  # no fault of the file's
            raise
        except av.FFmpegError as error:
            self._damage(f"reading breaks off ({error.strerror})")
            yield None

    def _damage(self, what: str) -> None:
        """Remember that the file is damaged, or refuse it."""
        self.truncated = True
        self._note(DAMAGED)
        if not self.allow_truncated:
            raise TruncatedError(
                f"{self.path}: {what} after {self.frames_read} frames; the file is damaged or"
                " incomplete, get it again, or allow truncated input to keep what there is",
                frames=self.frames_read,
            )

    def is_whole(self, container: InputContainer, packets: int) -> bool:
        """Whether so many packets are all that the file's own header says it has."""
        stream: Any = container.streams[self.index]
        full = all(claimed_bytes(path, stream) <= path.stat().st_size for path in files(self.path))
        return full and packets >= self._claimed_packets(container)

    def _check_end(self, container: InputContainer) -> None:
        """Refuse a file that has less in it than its own header says."""
        if not self.is_whole(container, self._packets):
            claimed = self._claimed_packets(container)
            if self._packets >= claimed:
                self._damage("the file ends before it is complete, and the video")
            elif self.format == "image2":
                unread = files(self.path)[self._packets].name
                self._damage(f"{unread} is empty or cannot be read, so the video ends")
            else:
                self._damage(f"the video ends ({self._packets} of {claimed} pictures are there)")

    def _claimed_packets(self, container: InputContainer) -> int:
        """Packets that are surely there in a whole file; 0 where nothing can be said."""
        stream: Any = container.streams[self.index]
        if "mov" in self.format:
            return len(stream.index_entries)
        if self.format == "image2":
            return len(files(self.path))
        return stream.frames if self.format == "ivf" else 0

    def _taken(self, picture: av.VideoFrame, planes: Planes) -> tuple[tuple, Layout]:
        try:
            return planes.taken(picture)
        except MediaError as error:
            raise MediaError(f"{self.path}: {error}") from None

    def _frame(self, picture: av.VideoFrame, planes: Planes, clock: "_Clock") -> Frame:
        samples, layout = self._taken(picture, planes)
        if (picture.height, picture.width) != (self.height, self.width):
            self._note("frames that are not of the size of the first: {n}")
        if picture.is_corrupt:
            self._note(PATCHED)
        if layout.alpha and not self.layout.alpha:
            self._note("frames with transparency, which is left out as the first has none: {n}")
        layout = self._explained(layout)
        if (layout.primaries, layout.transfer) != (self.layout.primaries, self.layout.transfer):
            self._note(RECOLOURED)
        pts, how = clock.time(picture.pts, picture.dts, picture.duration)
        if clock.starts_again and self.format in BROADCAST:
            raise MediaError(
                f"{self.path}: its times start again after {self.frames_read} frames, as where"
                f" recordings were joined; join it anew first: ffmpeg -i {self.path.name} -map 0"
                f" -c copy {self.path.stem}.mkv"
            )
        if how:
            self._note(how)
        return Frame(
            planes=samples,
            layout=layout,
            pts=pts,
            duration=picture.duration or None,
            time_base=self.time_base,
        )

    def _explained(self, layout: Layout) -> Layout:
        """The layout of a frame with what the first one says where this one says nothing."""
        names = ("matrix", "primaries", "transfer")
        silent = [name for name in names if getattr(layout, name) == UNSPECIFIED]
        return replace(layout, **{name: getattr(self.layout, name) for name in silent})


def notices_of(noted: Mapping[str, int]) -> list[str]:
    """Sentences as a user reads them; those with an {n} in them say how often that was noted."""
    texts = [text for text, count in noted.items() if not count]
    return texts + [text.format(n=count) for text, count in noted.items() if count]


BROADCAST = ("mpegts", "mpeg")
"""Containers that are joined by putting one behind the other, though each has its own clock."""

UNTIMED_MAX = 32
"""Frames at a file's beginning among which one with a time is looked for; H.264 reorders 16."""

FAR_BACK = 10
"""Frames by which times run backwards only where a clock starts again."""


class _Clock:
    """Strictly increasing presentation times out of what a decoder says about time.

    Of the presentation and the decoding time of each frame, the kind that ran backwards less
    often is taken, as libav's best-effort timestamp does.

    Parameters
    ----------
    begin : the time of a first frame that has none
    step : from a frame to the next, where the latter has no time
    """

    def __init__(self, begin: int, step: int, *, trust_pts: bool) -> None:
        self._step = step
        self.starts_again = False
        self._last: int | None = None
        self._next = begin
        self._faults = [0 if trust_pts else 1, 0]
        self._lasts: list[int | None] = [None, None]

    def time(self, pts: int | None, dts: int | None, duration: int | None) -> tuple[int, str]:
        """The time to show a frame at, and a sentence about it where it was not the file's."""
        for kind, value in enumerate((pts, dts)):
            last = self._lasts[kind]
            if value is not None:
                self._faults[kind] += last is not None and value <= last
                self._lasts[kind] = value
        trusted = self._faults[0] <= self._faults[1] or dts is None
        value = pts if trusted and pts is not None else dts
        how = ""
        if value is None:
            value = self._next
            how = "frames without a time, which were given one from the stream's rate: {n}"
        elif self._last is not None and value <= self._last:
            self.starts_again |= self._last - value > FAR_BACK * self._step
            value = self._last + 1
            how = MOVED
        self._last = value
        self._next = value + (duration or self._step)
        return value, how


UNANNOUNCED = ("mpeg", "mpegts", "flv")
"""Containers that do not say which streams they have: each is found by its packets."""

PROBED_MB = 100
PROBED = {"probesize": str(PROBED_MB * 10**6), "analyzeduration": str(100 * 10**6)}
"""How far such a file is searched for them, in bytes and microseconds; MPEG-PS takes 0.4 s for it.

libav's own limits miss sound that begins after 5 MB.
"""


def opened(path: Path, *, picture_rate: Fraction = RATE) -> InputContainer:
    """A file, or numbered pictures as one, opened by libav for reading.

    Raises
    ------
    MediaError
        If there is no such file, or it is not a media file that libav can read.
    """
    url, form, options = f"file:{path}", None, {}
    if is_sequence(path):
        url, form = f"file:{for_libav(path)}", "image2"
        options = {"framerate": str(picture_rate), "start_number": str(numbers(path)[0])}
    else:
        _check_file(path)
    try:
        container = _opened(url, form, options)
        if container.format.name in UNANNOUNCED:
            container.close()
            container = _opened(url, form, PROBED)
    except MemoryError:
        raise
    except PermissionError:
        raise MediaError(f"{path}: no permission to read the file; change its rights") from None
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise MediaError(
            f"{path}: this cannot be read as a video ({reason}); the file is damaged,"
            " incomplete or something else"
        ) from None
    if container.format.name == "tty":  # which libav would draw, letter by letter
        container.close()
        raise MediaError(f"{path}: this is text, not a video; name a video")
    return container


def _opened(url: str, form: str | None, options: dict[str, str]) -> InputContainer:
    return av.open(url, "r", format=form, options=options, metadata_errors="surrogateescape")


def demuxed(
    container: InputContainer, streams: list[av.stream.Stream], path: Path
) -> Iterator[av.Packet]:
    """The packets of some streams, in the order of the file.

    Raises
    ------
    MediaError
        If there are streams that were not found when it was opened.
    """
    try:
        yield from container.demux(streams)
    except IndexError:  # PyAV knows only those that were
        raise MediaError(
            f"{path}: a stream begins only after the first {PROBED_MB} MB, or the file is damaged;"
            f" remux it first: ffmpeg -analyzeduration 1G -probesize 1G -i {path.name} -map 0"
            f" -c copy {path.stem}.mkv"
        ) from None


def _check_file(path: Path) -> None:
    if not path.exists():
        raise MediaError(f"{path}: there is no such file; check the name")
    if path.is_dir():
        raise MediaError(f"{path}: this is a folder, not a video; name a file in it")
    if path.stat().st_size == 0:
        raise MediaError(f"{path}: the file is empty; get it again")


def best_video(container: InputContainer, path: Path) -> av.VideoStream:
    """The stream that players show first: not cover art, the most pixels, the default one."""
    streams = [s for s in container.streams.video if not s.disposition & ATTACHED_PICTURE]
    best = container.streams.best("video")
    if best in streams:
        streams = [best]
    if not streams:
        held = sorted({_kind(stream) for stream in container.streams})
        what = f"only {' and '.join(held)}" if held else "no streams at all"
        raise MediaError(f"{path}: there is no video in the file, {what}; name a video")
    if streams[0].codec_context is None:
        raise MediaError(
            f"{path}: no decoder here knows the codec of its video; convert it to another first"
        )
    return streams[0]


def _kind(stream: av.stream.Stream) -> str:
    return "a cover picture" if stream.disposition & ATTACHED_PICTURE else stream.type


def _decoder(stream: av.VideoStream) -> av.VideoCodecContext:
    """The stream's decoder; for VP8 and VP9 with alpha the one that decodes alpha.

    It works on several slices at once but on one frame at a time (PyAV's default): with several
    frames at once PyAV loses good frames next to damaged ones without an error.
    """
    usual = stream.codec_context
    if usual.name == "mjpeg":
        # or a JPEG that is damaged comes half grey, without a word; such a PNG or TIFF never comes
        usual.options = {"err_detect": "explode"}
    name = ALPHA_DECODERS.get(usual.name, "")
    tags = {key.lower(): value for key, value in stream.metadata.items()}
    if tags.get("alpha_mode") != "1" or name not in av.codecs_available:
        return usual
    decoder = av.CodecContext.create(name, "r")
    assert isinstance(decoder, av.VideoCodecContext)
    decoder.color_primaries, decoder.color_trc = usual.color_primaries, usual.color_trc
    return decoder


def _display_matrix(picture: av.VideoFrame) -> tuple[int, ...] | None:
    found = sides(picture).get(SideData.DISPLAYMATRIX)
    if found:
        return tuple(memoryview(found).cast("i"))
    if not picture.rotation:
        return None
    turn = math.radians(picture.rotation)  # known also where PyAV cannot show the matrix itself
    across, down = round(math.cos(turn) * 65536), round(math.sin(turn) * 65536)
    return across, -down, 0, down, across, 0, 0, 0, 1 << 30


def sides(picture: av.VideoFrame) -> dict[SideData, bytes]:
    """What comes with a picture; nothing where there is of a kind that PyAV lacks, such as EXIF."""
    try:
        return {side.type: bytes(side) for side in cast(Any, picture.side_data)}
    except ValueError:
        return {}


def _shows_all(panscan: bytes, picture: av.VideoFrame) -> bool:
    """Whether a part to be shown (libavcodec/defs.h), which all MPEG-2 has, is the whole picture.

    Its sides are in sixteenths of a pixel, and 0 where nothing is said of them.
    """
    _, width, height, *places = struct.unpack("=3i6h", panscan[:24])
    sides_known = width in (0, 16 * picture.width) and height in (0, 16 * picture.height)
    return sides_known and not any(places)


def _start(container: InputContainer) -> Fraction:
    running = container.format.flags & TS_DISCONT
    return Fraction(container.start_time or 0, av.time_base) if running else Fraction(0)
