"""What a job has done so far, kept beside what it wrote, so that the same command goes on.

Two files in the job's folder: ``fingerprint.json`` says what decides the result, and
``journal.jsonl`` has one receipt a line, each on the disk before the next unit counts as done.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from srpipe.errors import ConfigError, TargetError
from srpipe.io.beside import sidecars
from srpipe.io.sequence import files, is_sequence
from srpipe.jobs.job import Receipt, Unit, checksum, files_of, slot, stored
from srpipe.jobs.software import versions

if TYPE_CHECKING:
    from srpipe.jobs.plan import Plan

FINGERPRINT = "fingerprint.json"
RECEIPTS = "journal.jsonl"

_ENDS_BYTES = 2**20  # of a file's head and tail that are hashed; mtime tells of the middle

Fingerprint = Mapping[str, Any]

FREE = (
    *("model", "scale", "size", "perception", "weights"),  # in the fingerprint as what they mean
    *("device", "allow_truncated", "overwrite", "restart", "segment", "workers", "scheduler"),
    "report",  # is about the result, and not in it
)
"""Settings that do not decide what a frame becomes, and may change before a job goes on."""


class Journal:
    """The receipts of a job whose result is decided by a fingerprint.

    Parameters
    ----------
    restart : whether the job begins anew, with any fingerprint; those that are here are outdated
        from the first new receipt on, and nothing changes before

    Raises
    ------
    ConfigError, TargetError
        As `check` does.
    """

    def __init__(self, folder: Path, fingerprint: Fingerprint, *, restart: bool = False) -> None:
        self.folder = folder
        self._path = folder / RECEIPTS
        self._fingerprint = fingerprint
        self._file: BinaryIO | None = None
        if not restart:
            check(folder, fingerprint)
            if _begun(folder) is None:
                self._begin([])
        self._receipts, whole = _read(self._path)
        if not restart:
            self._file = self._path.open("ab")
            self._file.truncate(whole)  # a torn last line would swallow the next one

    def kept(self, unit: Unit, files: Sequence[Path] | None = None) -> Receipt | None:
        """The receipt of a unit whose slot holds, bit for bit, what the receipt says.

        Parameters
        ----------
        files : where the unit's result lies, if not in its slot
        """
        receipt = self._receipts.get(unit.name)
        if receipt is None or receipt.digest != unit.digest:
            return None
        files = files or [slot(self.folder, unit.name)]
        if not all(path.is_file() for path in files):
            return None
        if sum(path.stat().st_size for path in files) != receipt.bytes:
            return None
        return receipt if checksum(*files) == receipt.checksum else None

    def receipts(self) -> list[Receipt]:
        """All that were ever written here, the last one for each unit."""
        return list(self._receipts.values())

    def add(self, receipt: Receipt) -> None:
        """Write a receipt; when this returns it is on the disk."""
        if self._file is None:
            self._receipts = {name: _outdated(each) for name, each in self._receipts.items()}
            self._begin(self._receipts.values())
            self._file = self._path.open("ab")
        self._file.write(_line(receipt))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._receipts[receipt.unit] = receipt

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()

    def _begin(self, before: Iterable[Receipt]) -> None:
        """Begin a new job, which knows of these receipts of another one.

        They come first: a run that is ended in between has them with the old fingerprint.
        """
        stored(self._path, b"".join(map(_line, before)))
        stored(self.folder / FINGERPRINT, json.dumps(self._fingerprint, indent=1).encode())


def has_work(folder: Path) -> bool:
    """Whether a job's folder holds a finished unit."""
    return bool(receipts(folder))


def receipts(folder: Path) -> list[Receipt]:
    """The receipts in a job's folder, whatever its fingerprint."""
    return list(_read(folder / RECEIPTS)[0].values())


def is_outdated(receipt: Receipt) -> bool:
    """Whether its job was begun anew since; the result is ours, and to be made anew as well."""
    return not receipt.digest


def identity(path: Path) -> dict[str, Any]:
    """What tells an input from another, or from what it was before it was changed."""
    if is_sequence(path):
        parts = [part.stat() for part in files(path)]
        return {
            "pictures": len(parts),
            "bytes": sum(part.st_size for part in parts),
            "modified": max(part.st_mtime_ns for part in parts),
        }
    if path.is_dir():
        parts = [part.stat() for part in files_of(path)]
        return {
            "files": len(parts),
            "bytes": sum(part.st_size for part in parts),
            "modified": max((part.st_mtime_ns for part in parts), default=0),
        }
    facts = path.stat()
    digest = hashlib.sha256()
    with path.open("rb") as file:
        digest.update(file.read(_ENDS_BYTES))
        file.seek(max(facts.st_size - _ENDS_BYTES, file.tell()))
        digest.update(file.read(_ENDS_BYTES))
    found = {"bytes": facts.st_size, "modified": facts.st_mtime_ns, "ends": digest.hexdigest()}
    beside = {more.name: checksum(more) for more in sidecars(path)}
    return found | ({"beside": beside} if beside else {})


def fingerprint(plan: "Plan") -> Fingerprint:
    """All that decides the result, in plain values."""
    settings = {k: v for k, v in asdict(plan.settings).items() if k not in FREE}
    return {
        "setting": json.loads(json.dumps(settings, default=str)),
        "model": plan.entry.name,
        "perception": plan.perception,
        "size": list(plan.size_after or ()),
        "ending": Path(plan.pattern).suffix.lower() if plan.pattern else None,
        "weights": dict(plan.entry.files),
        "input": identity(plan.source),
        "version": versions(),
    }


def check(folder: Path, fingerprint: Fingerprint) -> None:
    """See that what is finished in a job's folder is part of this result; nothing is written.

    Raises
    ------
    ConfigError
        If it was begun with another fingerprint; the first difference is named.
    TargetError
        If it is not known with which.
    """
    before = _begun(folder)
    what = before and difference(before, json.loads(json.dumps(fingerprint)))
    if what:
        raise ConfigError(
            f"{folder} holds a job with another {what}; give the same again to go on,"
            " or --restart to begin anew"
        )


def difference(before: Fingerprint, now: Fingerprint) -> str | None:
    """The first entry in which two fingerprints differ, in words; None where they agree."""
    for name in [*before, *(name for name in now if name not in before)]:
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            inner = difference(old, new)
            if inner is not None:
                return f"{name} {inner}"
        elif old != new:
            return f"{name} ({_short(old)} then, {_short(new)} now)"
    return None


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return f"{text[:12]}..." if len(text) > 40 else text


def _begun(folder: Path) -> Fingerprint | None:
    """The fingerprint of the job in a folder; None where nothing is finished.

    Raises
    ------
    TargetError
        As `_content` does, or if it is damaged: what is finished is of nobody knows which job.
    """
    path = folder / FINGERPRINT
    content = _content(path)
    if not has_work(folder):
        return None
    try:
        before: Fingerprint = json.loads(content)
    except ValueError as error:
        raise TargetError(
            f"{path} is damaged, which says how the results here were made; they stay as they are:"
            " put it back from a copy, or --restart to make them anew"
        ) from error
    return before


def _outdated(receipt: Receipt) -> Receipt:
    """Of a result that is ours and not of this job: the receipt of no unit that there can be."""
    return replace(receipt, digest="", facts={**receipt.facts, "status": "outdated"})


def _line(receipt: Receipt) -> bytes:
    return json.dumps(receipt.to_dict()).encode() + b"\n"


def _content(path: Path) -> bytes:
    """What a file holds; nothing where there is none.

    Raises
    ------
    TargetError
        If it is there and cannot be read: what was finished would be taken for nobody's.
    """
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except OSError as error:
        raise TargetError(
            f"{path} cannot be read: {error.strerror}; it says what is finished, change its rights"
        ) from error


def _read(path: Path) -> tuple[dict[str, Receipt], int]:
    """The receipts in a journal, and how many bytes of it are whole lines.

    Raises
    ------
    TargetError
        As `_content` does.
    """
    receipts: dict[str, Receipt] = {}
    whole = 0
    for line in _content(path).splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break
        whole += len(line)
        try:
            receipt = Receipt(**json.loads(line))
        except (ValueError, TypeError):  # damaged: its unit is done again
            continue
        receipts[receipt.unit] = receipt
    return receipts, whole
