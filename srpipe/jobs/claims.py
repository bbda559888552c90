"""Which results in a folder are ours before their receipts say so.

A receipt comes after its result, and may never come: the run is ended in between, or a worker is
done when nobody listens any more. So whoever is about to give a result its name notes first what
that file looks like. What looks so is ours; a file of the user's never does.
"""

import hashlib
import json
import os
from pathlib import Path

from srpipe.jobs.job import files_of, stored

_SUFFIX = ".claim"


def claim_of(folder: Path, unit: str) -> Path:
    """Where a unit's result is claimed, in the job's folder; a unit's name may hold slashes."""
    return folder / f"{hashlib.sha256(os.fsencode(unit)).hexdigest()[:16]}{_SUFFIX}"


def claim(place: Path, result: Path) -> None:
    """Note that a result is ours; when this returns it is on the disk."""
    stored(place, json.dumps(_looks(result)).encode())


def is_claimed(place: Path, result: Path) -> bool:
    """Whether a result is the one that was claimed."""
    try:
        return bool(json.loads(place.read_text()) == _looks(result))
    except (OSError, ValueError):  # there is none, or it was cut short and its result never named
        return False


def has_claims(folder: Path) -> bool:
    """Whether anything is claimed in a job's folder."""
    return any(folder.glob(f"*{_SUFFIX}"))


def _looks(result: Path) -> dict[str, int]:
    """What tells a file, or a folder that is one result, from another; a new name changes none."""
    about = [file.stat() for file in files_of(result)]
    return {
        "bytes": sum(each.st_size for each in about),
        "modified_ns": max((each.st_mtime_ns for each in about), default=0),
    }
