"""Numbered pictures that are one video together, named by a pattern such as ``frames/%05d.png``.

A pattern has one number, ``%d`` or ``%05d``. As FFmpeg has it, ``%%`` stands for a percent sign; so
does any other one.
"""

import os
import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from srpipe.errors import MediaError

RATE = Fraction(25)
"""Pictures per second where nobody says, as FFmpeg takes it: files hold no times."""

_PERCENT = re.compile(r"%%|%(?:0(1?[0-9]))?d")  # libav pads numbers to 19 digits at most


@dataclass(frozen=True)
class _Pattern:
    """How pictures are named: what is before the number, its least digits, and what is after."""

    head: str
    digits: int
    tail: str

    def name(self, number: int) -> str:
        return f"{self.head}{number:0{self.digits}}{self.tail}"


def is_sequence(path: Path) -> bool:
    """Whether a name stands for numbered pictures and not for a file."""
    return len(_places(path.name)) == 1 and not os.path.exists(path)


def numbered(path: Path, number: int) -> Path:
    """The picture of this number."""
    return path.with_name(_pattern(path.name).name(number))


def for_libav(path: Path) -> str:
    """The pattern in FFmpeg's own way of writing, which takes a single percent sign amiss."""
    pattern = _pattern(path.name)
    folder, head, tail = (
        text.replace("%", "%%") for text in (str(path.parent), pattern.head, pattern.tail)
    )
    return f"{folder}/{head}%0{pattern.digits}d{tail}"


def numbers(path: Path) -> range:
    """The numbers of the pictures that are there.

    Raises
    ------
    MediaError
        If there are none, or one between them is missing.
    """
    pattern = _pattern(path.name)
    named = re.compile(re.escape(pattern.head) + "([0-9]+)" + re.escape(pattern.tail))
    try:
        found = sorted(
            int(m[1])
            for p in path.parent.iterdir()
            if (m := named.fullmatch(p.name)) and pattern.name(int(m[1])) == p.name
        )
    except OSError as error:
        raise MediaError(f"{path.parent} cannot be read ({error.strerror}); check it") from error
    if not found:
        raise MediaError(f"{path}: there are no pictures of such names; check the pattern")
    there = set(found)
    missing = next((n for n in range(found[0], found[-1]) if n not in there), None)
    if missing is not None:
        raise MediaError(
            f"{path}: number {missing} is missing between {found[0]} and {found[-1]}; add it, or"
            " number the pictures anew"
        )
    return range(found[0], found[-1] + 1)


def files(path: Path) -> list[Path]:
    """The pictures in order; of a plain file, itself.

    Raises
    ------
    MediaError
        As `numbers` does.
    """
    if not is_sequence(path):
        return [path]
    return [numbered(path, number) for number in numbers(path)]


def _places(name: str) -> list[re.Match[str]]:
    """Where a name has numbers."""
    return [found for found in _PERCENT.finditer(name) if found[0] != "%%"]


def _pattern(name: str) -> _Pattern:
    place = _places(name)[0]
    head, tail = (text.replace("%%", "%") for text in (name[: place.start()], name[place.end() :]))
    return _Pattern(head, max(int(place[1] or 1), 1), tail)
