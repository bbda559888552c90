"""Pictures to measure: those of a folder, a single one, or a video's frames, one at a time."""

import itertools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from srpipe.color import rgb_of
from srpipe.errors import ConfigError, MediaError, TruncatedError
from srpipe.io import FORMATS, OTHER_PICTURES, format_for, format_of, image
from srpipe.io.frames import Frame
from srpipe.io.video import VideoSource

_ADDED = re.compile(r"[_\-. ].*|x\d+.*")  # what a result's name has after that of its source


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Pictures at a path, as pairs of a name and an RGB tensor (1, 3, H, W), float32, in [0, 1].

    They may be iterated more than once, and only one of them is held. Opacity is left out.

    Parameters
    ----------
    files : the pictures, or the one video
    count : how many there are, as far as that is known
    moving : whether they are the frames of a video
    """

    path: Path
    files: tuple[Path, ...]
    count: int | None
    moving: bool = False

    @classmethod
    def at(cls, path: Path) -> "Pictures":
        """The pictures of a folder in the order of their names, a picture, or a video.

        Raises
        ------
        ConfigError
            If a folder holds no pictures.
        MediaError
            If the file cannot be read.
        """
        if os.path.isdir(path):  # no errors, unlike Path
            files = tuple(sorted(filter(_is_picture, _listed(path))))
            if not files:
                raise ConfigError(f"{path} holds no pictures; name a folder of them, or a video")
            return cls(path=path, files=files, count=len(files))
        if FORMATS[format_of(path)].kind != "video":
            return cls(path=path, files=(path,), count=1)
        count = VideoSource(path).count
        return cls(path=path, files=(path,), count=count, moving=True)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.resolve().name

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        if not self.moving:
            for file in self.files:
                yield file.name, _unit(image.read(file).frame)
            return
        source = VideoSource(self.path)
        try:
            for number, frame in enumerate(source, 1):
                yield f"frame {number}", _unit(frame)
        except TruncatedError as error:
            raise MediaError(
                f"{self.path} is damaged after {error.frames} frames, and what is missing cannot be"
                " compared; name one that is whole"
            ) from None
        finally:
            source.close()

    def beside(self, other: "Pictures") -> "Pictures":
        """Of ``other``, what belongs to each of these, in their order.

        A picture in a folder belongs to the one whose name it has, or has and adds to:
        ``baby_eagcl_x4.png`` to ``baby.png``, ``0801x4.png`` to ``0801.png``.

        Raises
        ------
        ConfigError
            If one is a video and the other is not, or a picture has no partner or several.
        """
        if self.moving != other.moving or self.path.is_dir() != other.path.is_dir():
            raise ConfigError(
                f"{self.path} and {other.path} cannot be compared: name two folders, two pictures"
                " or two videos"
            )
        if not self.path.is_dir():
            return other
        partners: dict[Path, list[Path]] = {file: [] for file in self.files}
        for file in other.files:
            owners = [own for own in self.files if _belongs(file.stem, own.stem)]
            if not owners:
                raise ConfigError(f"{self.path} holds nothing that {file} could belong to")
            partners[max(owners, key=lambda own: len(own.stem))].append(file)
        for own, files in partners.items():
            if len(files) != 1:
                found = " and ".join(file.name for file in files) or "none"
                raise ConfigError(f"{own} needs one partner in {other.path}, and has {found}")
        return replace(other, files=tuple(files[0] for files in partners.values()))


def together(parts: list[Pictures]) -> Iterator[tuple[str, list[Tensor]]]:
    """The first pictures of all parts, then the second ones, ...; named as in the first part.

    Raises
    ------
    MediaError
        If one part ends before another.
    """
    for row in itertools.zip_longest(*parts):
        ended = [part.path for part, each in zip(parts, row, strict=True) if each is None]
        if ended:
            longer = next(p.path for p, each in zip(parts, row, strict=True) if each is not None)
            raise MediaError(f"{ended[0]} has fewer frames than {longer}; they do not belong")
        yield row[0][0], [picture for _, picture in row]


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise MediaError(f"{folder} cannot be read: {error.strerror}; change its rights") from error


def _is_picture(file: Path) -> bool:
    suffix = file.suffix.lower()
    known = FORMATS[format_for(suffix)].kind == "picture" or suffix in OTHER_PICTURES
    return known and not file.name.startswith(".")


def _belongs(stem: str, owner: str) -> bool:
    added = stem[len(owner) :]
    return stem.startswith(owner) and (not added or bool(_ADDED.fullmatch(added)))


def _unit(frame: Frame) -> Tensor:
    return rgb_of(frame.planes, frame.layout)[:, :3].clamp(0, 1)
