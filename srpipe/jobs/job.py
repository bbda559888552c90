"""A job is cut into units, each with its own slot to write to and a receipt for what it wrote."""

import hashlib
import json
import os
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from srpipe.device import give_back_freed_memory, memory_told
from srpipe.errors import Cancelled, DeviceError, MediaError, SrpipeError
from srpipe.jobs.engine import Engine
from srpipe.settings import RunSettings


@dataclass(frozen=True)
class Unit:
    """A part of a job that can be done, and done again, without the others.

    Parameters
    ----------
    name : of its slot in the job's folder
    size : how much of the job it is, in frames, tiles or files
    facts : all that says which part it is, in plain values that JSON can hold
    hints : what helps to do it, and changes nothing about what comes out
    """

    name: str
    size: int
    facts: Mapping[str, Any]
    hints: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """A hash of the facts: a receipt for other facts is for another unit."""
        text = json.dumps([self.size, self.facts], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What is known of a slot that was written: no pixels, a few hundred bytes.

    Parameters
    ----------
    unit, digest, size : which unit, as in `Unit`
    checksum, bytes : of the file in the slot, or of the files; sha256
    seconds : that it took
    facts : what the kind of job wants to know of it later, in plain values
    """

    unit: str
    digest: str
    size: int
    checksum: str
    bytes: int
    seconds: float
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The receipt as a line of the journal."""
        return asdict(self)


Done = Callable[[Receipt], None]
"""Told of each slot that was written."""

Advance = Callable[[str, int], None]
"""Told now and then how much of a unit is done."""

Failures = dict[str, SrpipeError]
"""What went wrong, by the unit's name."""

OF_ONE_UNIT = (MediaError, DeviceError)
"""What may be wrong with one unit and not with the next: its part of the input, or its memory."""


@dataclass
class Outcome:
    """How some units went: those that failed, and how long each stage worked, in seconds."""

    failures: Failures = field(default_factory=dict)
    busy: Counter[str] = field(default_factory=Counter)


class Worker(Protocol):
    """Does units of one job; the network and the input are open in it."""

    def perform(
        self, units: Sequence[Unit], *, done: Done, advance: Advance, cancelled: threading.Event
    ) -> Outcome:
        """Do units in order.

        What fails with one of `OF_ONE_UNIT` is left out and comes back; anything else is raised.
        """

    def close(self) -> None:
        """Let go of the input."""


class Work(Protocol):
    """What all units of a job have in common, small enough to be sent to any process."""

    @property
    def settings(self) -> RunSettings:
        """Those that name the network: it must be the same wherever units are done."""

    def begun(self, engine: Engine | None = None) -> Worker:
        """Open the input and load the network, in the process that is to do the work."""


def one_by_one(
    make: Callable[[Unit, threading.Event], Receipt],
    units: Sequence[Unit],
    *,
    done: Done,
    cancelled: threading.Event,
) -> Outcome:
    """Make units in order; one that fails with one of `OF_ONE_UNIT` does not stop the others.

    Raises
    ------
    Cancelled
        Before the next unit, if that was asked for.
    """
    outcome = Outcome()
    for unit in units:
        if cancelled.is_set():
            raise Cancelled("stopped")
        try:
            with memory_told(f"unit {unit.name}"):
                receipt = make(unit, cancelled)
        except OF_ONE_UNIT as error:
            outcome.failures[unit.name] = error
        else:
            done(receipt)
        give_back_freed_memory()
    return outcome


def slot(folder: Path, unit: str) -> Path:
    """Where a unit's result lies once it is whole."""
    return folder / f"{unit}.piece"


def part_of_slot(folder: Path, unit: str) -> Path:
    """A name to write under; two workers never have the same, even for the same unit."""
    return folder / f"{unit}.{uuid.uuid4().hex[:8]}.part"


def sealed(part: Path, folder: Path, unit: Unit, *, seconds: float, facts: Mapping) -> Receipt:
    """Put a finished file into its unit's slot, where it survives a power cut."""
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    receipt = Receipt(
        unit=unit.name,
        digest=unit.digest,
        size=unit.size,
        checksum=checksum(part),
        bytes=part.stat().st_size,
        seconds=round(seconds, 3),
        facts=facts,
    )
    os.replace(part, slot(folder, unit.name))
    synced(folder)
    return receipt


def checksum(*paths: Path) -> str:
    """The sha256 of files, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


def files_of(path: Path) -> list[Path]:
    """A file; or all files of a folder, in order, where that is one result."""
    if not path.is_dir():
        return [path]
    return sorted(each for each in path.rglob("*") if each.is_file())


def stored(path: Path, content: bytes) -> None:
    """Have a file with this content, whole, on the disk."""
    part = path.with_suffix(f"{path.suffix}.part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
    synced(path.parent)


def synced(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def raise_failures(failures: Failures, of: int) -> None:
    """Say what failed once all that could be done is done.

    Raises
    ------
    SrpipeError
        Of the kind of the first failure, if there is any.
    """
    if not failures:
        return
    name, first = next(iter(failures.items()))
    if of == 1:
        raise first
    raise type(first)(
        f"{len(failures)} of {of} units failed, {name} first: {first}; the others are done and"
        " kept, and the same command tries these again"
    ) from first
