"""Writing a video as numbered pictures, in a folder of their own."""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import av

from srpipe.errors import ConfigError, MediaError, TargetError
from srpipe.io.sequence import is_sequence, numbered, numbers
from srpipe.io.video_encoder import SEQUENCES, as_options, chosen, losses, pixel_shape, started
from srpipe.io.video_pieces import Piece, Target
from srpipe.io.video_source import VideoSource, opened

TIMES = "times.txt"
"""The file beside the pictures that holds what they cannot: when each is shown."""


class SequenceSink:
    """Puts encoded pictures into files of their own, and their times into `TIMES`.

    A sequence holds no sound and nothing else; `notices` says what is left out.

    Parameters
    ----------
    part : the folder to make
    pattern : how the files are named, such as ``%05d.png``
    others : as of `VideoSink`

    Raises
    ------
    ConfigError
        If codec, pixel format or an option does not exist.
    """

    def __init__(
        self,
        part: Path,
        source: VideoSource,
        *,
        height: int,
        width: int,
        pattern: str,
        codec: str | None = None,
        crf: float | None = None,
        pix_fmt: str | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self.part, self.source, self._pattern = part, source, pattern
        suffix = Path(pattern).suffix.lower()
        if codec not in (None, SEQUENCES[suffix]):
            raise ConfigError(
                f"pictures that end in {suffix} are written by {SEQUENCES[suffix]}, not by {codec};"
                " leave the codec out"
            )
        encoding = chosen(
            source.layout,
            height=height,
            width=width,
            suffix=suffix,
            codec=codec,
            pix_fmt=pix_fmt,
            options=as_options(crf, options),
        )
        shape, notices = pixel_shape(source, height, width)
        self.target = Target(
            encoding=encoding, height=height, width=width, sample_aspect_ratio=shape
        )
        trial: Any = av.CodecContext.create(encoding.codec, "w")
        self.target.shape(trial, source)
        started(trial, encoding, source.hdr)  # or it is refused before a frame is computed
        self.layout = encoding.layout
        self.times = array("q")
        self.notices = [*losses(source.layout, encoding, source.hdr), *notices, *_left_out(source)]
        self._first = numbers(source.path)[0] if is_sequence(source.path) else 1

    def join(self, pieces: Sequence[Path]) -> None:
        """Write the pictures of all pieces, which are in order.

        Raises
        ------
        TargetError
            If a file cannot be written, or a piece is damaged.
        """
        try:
            self.part.mkdir(exist_ok=True)
            for packet in (packet for path in pieces for packet in Piece(path)):
                self._name(len(self.times)).write_bytes(bytes(packet))
                self.times.append(packet.pts or 0)
            seconds = [float((t - self.times[0]) * self.source.time_base) for t in self.times]
            lines = ["# timestamp format v2", *(f"{1000 * second:.6f}" for second in seconds)]
            (self.part / TIMES).write_text("\n".join(lines) + "\n")
        except OSError as error:
            raise TargetError(
                f"{self.part}: {error.strerror}; make room, or choose another place"
            ) from error

    def close(self) -> None:
        """Each picture is closed when it is written."""

    def abort(self) -> None:
        """What there is, is worthless."""

    def verified(self) -> dict[str, Any]:
        """What the folder holds, read again.

        Raises
        ------
        TargetError
            If a picture is missing, or is none of this size.
        """
        found = 0
        try:
            with opened(self.path) as container:
                for picture in container.decode(video=0):
                    found += (picture.height, picture.width) == self._size
        except (MediaError, av.FFmpegError) as error:
            raise TargetError(f"the pictures cannot be read again: {error}") from error
        if found != len(self.times):
            raise TargetError(f"{self.part}: {found} of {len(self.times)} pictures are good")
        held = [path.stat().st_size for path in self.part.iterdir()]
        return {"frames": found, "streams": 1, "video_index": 0, "bytes": sum(held)}

    @property
    def path(self) -> Path:
        """What the pictures are read as, all together."""
        return self.part / self._pattern

    @property
    def _size(self) -> tuple[int, int]:
        return self.target.height, self.target.width

    def _name(self, number: int) -> Path:
        return numbered(self.path, self._first + number)


def _left_out(source: VideoSource) -> Iterator[str]:
    with source.opened() as container:
        kinds = [stream.type for stream in container.streams if stream.index != source.index]
    if kinds:
        counted = ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))
        yield f"numbered pictures hold no other streams: {counted} are left out; .mkv holds them"
    if source.rotation:
        yield f"the pictures are as stored: players turned the video by {source.rotation} degrees"
