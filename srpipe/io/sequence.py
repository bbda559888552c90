"""Numbered pictures that are one video together, named by a pattern such as ``frames/%05d.png``."""

import re
from fractions import Fraction
from pathlib import Path

from srpipe.errors import MediaError

RATE = Fraction(25)
"""Pictures per second where nobody says, as FFmpeg takes it: files hold no times."""

_NUMBER = re.compile(r"%(?:0(\d+))?d")


def is_sequence(path: Path) -> bool:
    """Whether a name stands for numbered pictures and not for a file."""
    return len(_NUMBER.findall(path.name)) == 1 and not path.exists()


def numbers(path: Path) -> range:
    """The numbers of the pictures that are there.

    Raises
    ------
    MediaError
        If there are none, or one between them is missing.
    """
    place = _NUMBER.search(path.name)
    assert place is not None
    digits = rf"(\d{{{int(place[1] or 1)},}})"
    head, tail = path.name[: place.start()], path.name[place.end() :]
    named = re.compile(re.escape(head) + digits + re.escape(tail))
    try:
        found = sorted(int(m[1]) for p in path.parent.iterdir() if (m := named.fullmatch(p.name)))
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
    return [path.with_name(path.name % number) for number in numbers(path)]
