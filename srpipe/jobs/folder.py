"""Enlarge the files of a folder into another one, which mirrors it.

A unit is a file. It appears under its own name, whole, as soon as it is done, and its receipt is
kept in ``.srpipe`` among the results: the next run does what is new, has changed or has failed, and
opens nothing else. At the end of each run ``srpipe-manifest.jsonl`` says what became of each file,
one a line. A video is a unit like a picture, and goes on where it was cut short.
"""

import errno
import json
import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from traceback import format_exc
from typing import Any, Literal, NoReturn

from torch import Tensor

from srpipe.device import found, memory_told
from srpipe.errors import (
    Cancelled,
    ConfigError,
    MediaError,
    SrpipeError,
    TargetError,
    WeightsError,
)
from srpipe.io import FORMATS, OTHER_PICTURES, format_for
from srpipe.io.beside import sidecars
from srpipe.io.video import suffix_for
from srpipe.jobs import compressed, picture, raster, trusted, video
from srpipe.jobs.claims import claim_of, is_claimed
from srpipe.jobs.engine import Engine
from srpipe.jobs.job import (
    OF_ONE_UNIT,
    Advance,
    Done,
    Outcome,
    Receipt,
    Unit,
    checksum,
    files_of,
    one_by_one,
)
from srpipe.jobs.journal import (
    FINGERPRINT,
    FREE,
    Fingerprint,
    Journal,
    check,
    identity,
    is_outdated,
    receipts,
)
from srpipe.jobs.plan import Plan
from srpipe.jobs.plan import plan as plan_one
from srpipe.jobs.report import Event, Report, Result, unheard
from srpipe.jobs.size import located, network
from srpipe.jobs.software import versions, weights
from srpipe.jobs.spread import performed
from srpipe.jobs.target import abandon, check_folder, check_kind, is_zarr, part_of, published
from srpipe.settings import RunSettings

JOURNAL = ".srpipe"
MANIFEST = "srpipe-manifest.jsonl"

_OTHER_VIDEOS = (
    *(".3g2", ".3gp", ".asf", ".divx", ".dv", ".f4v", ".flv", ".m2ts", ".m2v", ".mpe", ".mpeg"),
    *(".mpg", ".mts", ".mxf", ".ogm", ".ogv", ".qt", ".vob", ".wmv"),
)
"""Videos that FFmpeg reads as well; what becomes of them has another ending."""

_READ = {suffix for known in FORMATS.values() for suffix in known.suffixes} | {*_OTHER_VIDEOS}

_OF_THE_DISK = (errno.EACCES, errno.EDQUOT, errno.ENOSPC, errno.EROFS)
"""Why a result cannot be written, and the next one neither."""


@dataclass(frozen=True, kw_only=True)
class FolderPlan:
    """What is to be done of a folder.

    Parameters
    ----------
    units : all files, by their place in the folder
    todo : those without a result
    foreign : those whose target is there, though no receipt tells of it; they stay as they are
    unread : pictures of kinds that are not read
    unreported : those with a result of an earlier run, and no report though one is asked for
    outdated : files not among these whose results are older than a restart; they stay as they are
    """

    source: Path
    target: Path
    settings: RunSettings
    units: tuple[Unit, ...]
    todo: tuple[Unit, ...]
    foreign: tuple[Unit, ...]
    unread: tuple[str, ...]
    unreported: tuple[str, ...]
    outdated: tuple[str, ...]

    @property
    def kept(self) -> int:
        """How many files have their result from an earlier run."""
        return len(self.units) - len(self.todo) - len(self.foreign)

    @property
    def notices(self) -> tuple[str, ...]:
        """What a user should know of it."""
        notices = []
        if self.unread:
            count = f"{len(self.unread)} picture{'s' * (len(self.unread) != 1)}"
            notices.append(
                f"{count} left out, of kinds that are not read: {_some(self.unread)}; convert to"
                " PNG or TIFF"
            )
        if self.unreported:
            notices.append(
                f"{len(self.unreported)} of the files were done before without --report:"
                f" {_some(self.unreported)}; --restart makes all anew"
            )
        if self.outdated:
            notices.append(
                f"results from before --restart stay, of {len(self.outdated)} other files:"
                f" {_some(self.outdated)}; enlarge these too, or remove them from {self.target}"
            )
        return tuple(notices)

    @property
    def parts(self) -> list[Path]:
        """The names under which anything may grow: the journal's, and those of all targets."""
        targets = [self.target / MANIFEST, *(self.target / u.facts["target"] for u in self.todo)]
        return [self.target / JOURNAL, *map(part_of, targets)]

    def to_dict(self) -> dict[str, Any]:
        """The plan in plain values."""
        return {
            "target": str(self.target),
            "files": len(self.units),
            "todo": len(self.todo),
            "kept": self.kept,
            "foreign": len(self.foreign),
            "notices": self.notices,
        }


@dataclass(frozen=True, kw_only=True)
class FolderResult:
    """What became of a folder.

    Parameters
    ----------
    files : how many there are: done now, kept from earlier runs, foreign (see `FolderPlan`), failed
    failures : what went wrong, by the file's place in the folder
    """

    source: Path
    target: Path
    status: Literal["done", "truncated"]
    files: int
    done: int
    kept: int
    foreign: int
    failures: Mapping[str, SrpipeError]
    seconds: float
    notices: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The result in plain values."""
        facts = {name: getattr(self, name) for name in self.__dataclass_fields__}
        failures = {name: str(error) for name, error in self.failures.items()}
        plain = {"source": str(self.source), "target": str(self.target), "failures": failures}
        return facts | plain | {"manifest": str(self.target / MANIFEST)}


def upscale(
    source: str | Path,
    target: str | Path,
    settings: RunSettings | None = None,
    *,
    glob: str | None = None,
    recursive: bool = False,
    report: Report = unheard,
    cancelled: threading.Event | None = None,
) -> FolderResult:
    """Enlarge the pictures and videos of a folder; one that fails does not stop the others.

    Parameters
    ----------
    source, target : two folders, neither in the other
    glob : which files, such as ``*.png``; with a slash also in which folders, as ``raw/*.png``
    recursive : those of folders in the folder, too

    Raises
    ------
    SrpipeError
        If no file can be done: nothing can be written, a setting does not fit, or the results there
        are of another model; Cancelled if that was asked for. What is done stays.
    """
    planned = plan(Path(source), Path(target), settings or RunSettings(), glob, recursive)
    return run(planned, report=report, cancelled=cancelled or threading.Event())


def plan(
    source: Path,
    target: Path,
    settings: RunSettings,
    glob: str | None = None,
    recursive: bool = False,
) -> FolderPlan:
    """Look at the names in both folders; none of these files is opened.

    Raises
    ------
    SrpipeError
        As `upscale` does; ConfigError as well if there are no such files, or two of them would
        become one.
    """
    here, there = source.resolve(), target.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise ConfigError(f"{source} and {target} lie in one another; name another folder with -o")
    check_folder(target, may_be_made=True)
    check_kind(target / JOURNAL, folder=True)
    check_kind(target / MANIFEST, folder=False)
    network(settings)
    if settings.scheduler is None:
        found(settings.device)
    names, unread = _listed(source, glob, recursive)
    units = tuple(_unit(source, name) for name in names)
    _check_apart(units, target)
    before = {receipt.unit: receipt for receipt in receipts(target / JOURNAL)}
    by_state: dict[str, list[Unit]] = {"todo": [], "kept": [], "foreign": []}
    for unit in units:
        by_state[_state(unit, before.get(unit.name), target, settings)].append(unit)
    planned = FolderPlan(
        source=source,
        target=target,
        settings=settings,
        units=units,
        todo=tuple(by_state["todo"]),
        foreign=tuple(by_state["foreign"]),
        unread=tuple(map(str, unread)),
        unreported=_unreported(by_state["kept"], target) if settings.report else (),
        outdated=_outdated(before.values(), {unit.name for unit in units}, target, settings),
    )
    if before and not settings.restart:
        check(target / JOURNAL, fingerprint(planned))
    return planned


def run(plan: FolderPlan, *, report: Report, cancelled: threading.Event) -> FolderResult:
    """Do what is not done yet, and write down what became of all.

    Raises
    ------
    SrpipeError
        As `upscale` does.
    """
    report(Event(kind="plan", source=plan.source, facts=plan.to_dict()))
    began = time.monotonic()
    # its lock keeps other runs away from the folder until this one ends
    with published(plan.target / MANIFEST) as manifest, _journal(plan) as journal:
        outcome = _performed(plan, journal, report, cancelled)
        order = {unit.name: outcome.failures.get(unit.name) for unit in plan.units}
        failures = {name: error for name, error in order.items() if error is not None}
        lines = _lines(plan, journal, failures)
        manifest.write_text("".join(json.dumps(line) + "\n" for line in lines.values()))
    ours = [lines[unit.name] for unit in plan.units if unit.name in lines]
    notices = [line.get("notices") or () for line in ours]
    noted = sum(map(bool, notices))
    more = (
        *compressed.of_files(notices),
        f"there are notices on {noted} of the files in {plan.target / MANIFEST}",
    )
    result = FolderResult(
        source=plan.source,
        target=plan.target,
        status="truncated" if any(x["status"] == "truncated" for x in ours) else "done",
        files=len(plan.units),
        done=len(plan.todo) - len(failures),
        kept=plan.kept,
        foreign=len(plan.foreign),
        failures=failures,
        seconds=time.monotonic() - began,
        notices=plan.notices + more * bool(noted),
    )
    report(Event(kind="done", source=plan.source, facts=result.to_dict()))
    return result


def fingerprint(plan: FolderPlan) -> Fingerprint:
    """All that decides the results beside the files themselves, in plain values."""
    settings, entry = plan.settings, network(plan.settings)
    return {
        "input": str(plan.source.resolve()),
        "model": entry.name,
        "scale": settings.size or settings.scale or entry.scale,
        "perception": settings.perception,
        "setting": {k: v for k, v in asdict(settings).items() if k not in FREE},
        "weights": weights(settings),
        "version": versions(),
    }


# --- which files -------------------------------------------------------------------------------


def _listed(source: Path, glob: str | None, recursive: bool) -> tuple[list[Path], list[Path]]:
    """What is to be enlarged, in order, and pictures that cannot be; names within the folder.

    Hidden files are left out: some systems put one beside each picture, named alike.
    """

    def refuse(error: OSError) -> NoReturn:
        raise MediaError(f"{error.filename} cannot be read ({error.strerror}); change its rights")

    names: list[Path] = []
    for folder, folders, files in os.walk(source, onerror=refuse):
        inside = Path(folder).relative_to(source)
        images = [each for each in folders if is_zarr(each)]  # folders that are one image
        deeper = sorted(set(folders) - set(images)) if recursive else []
        folders[:] = [each for each in deeper if not each.startswith(".")]
        names += [inside / each for each in sorted(files + images) if not each.startswith(".")]
    if glob is not None:
        names = [name for name in names if _fits(name, glob)]
    read = [name for name in names if name.suffix.lower() in _READ]
    if not read:
        which = "pictures or videos" if glob is None else f"pictures or videos named {glob}"
        hint = "" if recursive else "; --recursive looks into the folders in it"
        raise ConfigError(f"{source} holds no {which}{hint}")
    return read, [name for name in names if name.suffix.lower() in OTHER_PICTURES]


def _fits(name: Path, glob: str) -> bool:
    try:
        return name.match(glob)
    except ValueError as error:  # it is empty, or a dot
        raise ConfigError(f"{glob!r} is no pattern for names; write one such as '*.png'") from error


def _unit(source: Path, name: Path) -> Unit:
    moving = FORMATS[format_for(name.suffix)].kind == "video"
    target = name.with_suffix(suffix_for(name)) if moving else name
    facts: dict[str, Any] = {"source": name.as_posix(), "target": target.as_posix()}
    try:
        path = source / name
        about = [file.stat() for file in (*files_of(path), *sidecars(path))]
    except OSError:  # a link to nothing, say; reading it will tell
        return Unit(name=name.as_posix(), size=1, facts=facts)
    facts["bytes"] = sum(file.st_size for file in about)
    facts["modified_ns"] = max((file.st_mtime_ns for file in about), default=0)
    return Unit(name=name.as_posix(), size=1, facts=facts)


def _check_apart(units: Sequence[Unit], target: Path) -> None:
    """See that no two files are written to one: the second would replace the first."""
    seen: dict[str, str] = {}
    for unit in units:
        name = unit.facts["target"]
        other = seen.setdefault(name, unit.name)
        if other != unit.name:
            raise ConfigError(
                f"{other} and {unit.name} would both become {target / name}; rename one, or choose"
                " with --glob"
            )


def _state(unit: Unit, before: Receipt | None, target: Path, settings: RunSettings) -> str:
    """Whether a file is "todo", "kept" or "foreign"; see `FolderPlan`."""
    path = target / unit.facts["target"]
    if not os.path.exists(path):  # if it cannot be there, making it will tell
        return "todo"
    if is_claimed(claim_of(target / JOURNAL, unit.name), path):
        return "todo"  # its receipt was lost
    if before is None or not _holds(before, target):
        return "todo" if settings.overwrite else "foreign"
    return "todo" if settings.restart or before.digest != unit.digest else "kept"


def _unreported(kept: Sequence[Unit], target: Path) -> tuple[str, ...]:
    """Of files with a result, those without a report of it."""
    reports = {u.name: trusted.files_of(target / u.facts["target"])[0] for u in kept}
    return tuple(name for name, report in reports.items() if not report.exists())


def _outdated(
    before: Iterable[Receipt], looked_for: Set[str], target: Path, settings: RunSettings
) -> tuple[str, ...]:
    """Files that are not looked for now and whose results are of before a restart, or will be."""
    others = [each for each in before if each.unit not in looked_for]
    old = [each for each in others if settings.restart or is_outdated(each)]
    return tuple(each.unit for each in old if _holds(each, target))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + ", ..." * (len(names) > 3)


def _holds(receipt: Receipt, target: Path) -> bool:
    """Whether a result is there as it was written, as far as one can tell without reading it."""
    path = target / receipt.facts["target"]
    return os.path.exists(path) and _size_of(path) == receipt.bytes


def _size_of(path: Path) -> int:
    return sum(file.stat().st_size for file in files_of(path))


# --- the work ----------------------------------------------------------------------------------


@contextmanager
def _journal(plan: FolderPlan) -> Iterator[Journal]:
    """The receipts of the folder."""
    folder = plan.target / JOURNAL
    folder.mkdir(exist_ok=True)
    try:
        restart = plan.settings.restart
        with closing(Journal(folder, fingerprint(plan), restart=restart)) as journal:
            yield journal
    finally:
        abandon(folder)


def _performed(
    plan: FolderPlan, journal: Journal, report: Report, cancelled: threading.Event
) -> Outcome:
    """Do units here, or let Dask's workers do them."""
    count = len(plan.units) - len(plan.todo)

    def tell() -> None:
        facts = {"done": count, "of": len(plan.units), "unit": "file"}
        report(Event(kind="progress", source=plan.source, facts=facts))

    def filed(receipt: Receipt) -> None:
        nonlocal count
        journal.add(receipt)
        claim_of(journal.folder, receipt.unit).unlink(missing_ok=True)
        count += 1
        tell()

    tell()
    settings = plan.settings
    work = FolderWork(
        source=plan.source.absolute(),
        target=plan.target.absolute(),
        settings=replace(located(settings), overwrite=True, workers=None, scheduler=None),
    )
    try:
        return performed(
            work,
            plan.todo,
            engine=Engine(),
            workers=settings.workers,
            scheduler=settings.scheduler,
            done=filed,
            advance=lambda unit, size: None,
            cancelled=cancelled,
        )
    except Cancelled:
        raise Cancelled(
            f"stopped; {count} of {len(plan.units)} files are done, and the same command goes on"
        ) from None


@dataclass(frozen=True, kw_only=True)
class FolderWork:
    """What all files of a folder have in common.

    Parameters
    ----------
    settings : those for each file on its own; what is there is replaced
    """

    source: Path
    target: Path
    settings: RunSettings

    def begun(self, engine: Engine | None = None) -> "FolderWorker":
        """Make ready to do files, in the process that is to do the work."""
        return FolderWorker(self, engine or Engine())


class FolderWorker:
    """Does files of one folder; the network stays loaded between them."""

    def __init__(self, work: FolderWork, engine: Engine) -> None:
        self._work = work
        self._engine = engine
        self._plans: dict[str, Plan] = {}  # of files that were looked at before their turn
        self._made: dict[str, Tensor] = {}  # of them, what the network makes

    def perform(
        self, units: Sequence[Unit], *, done: Done, advance: Advance, cancelled: threading.Event
    ) -> Outcome:
        """Do files one after the other.

        Raises
        ------
        SrpipeError
            What is not the fault of one file.
        """
        left = deque(units)

        def make(unit: Unit, cancelled: threading.Event) -> Receipt:
            left.popleft()
            with _of_one_file():
                return self._done(unit, left, cancelled)

        return one_by_one(make, units, done=done, cancelled=cancelled)

    def close(self) -> None:
        """Nothing is held open."""

    def _done(self, unit: Unit, after: Iterable[Unit], cancelled: threading.Event) -> Receipt:
        began = time.monotonic()
        planned = self._plans.pop(unit.name, None) or self._planned(unit)
        result = self._enlarged(planned, unit, after, cancelled)
        facts = {
            "status": result.status,
            "model": planned.entry.name,
            "weights": dict(planned.entry.files),
            "perception": planned.perception,
            "size_before": result.size_before,
            "size_after": result.size_after,
            "frames": result.frames,
            "device": result.device,
            "precision": result.precision,
            "notices": result.notices,
        }
        return Receipt(
            unit=unit.name,
            digest=unit.digest,
            size=unit.size,
            checksum=checksum(*files_of(planned.target)),
            bytes=_size_of(planned.target),
            seconds=round(time.monotonic() - began, 3),
            facts={**unit.facts, **facts},
        )

    def _planned(self, unit: Unit) -> Plan:
        work = self._work
        source, target = work.source / unit.name, work.target / unit.facts["target"]
        planned = plan_one(source, target, work.settings, make_folders=True)
        return replace(planned, claimed=claim_of(work.target / JOURNAL, unit.name))

    def _enlarged(
        self, planned: Plan, unit: Unit, after: Iterable[Unit], cancelled: threading.Event
    ) -> Result:
        """Publish the result of one file, as if it had been asked for alone."""
        told: Any = {"report": unheard, "cancelled": cancelled}
        if planned.kind == "picture" and unit.name not in self._made:
            self._look_ahead(planned, unit, after, cancelled)
        if _is_of_another_input(planned):
            planned = replace(planned, settings=replace(planned.settings, restart=True))
        if planned.kind == "picture":
            made = self._made.pop(unit.name, None)
            return picture.run(planned, self._engine, **told, made=made)
        way = video.run if planned.kind == "video" else raster.run
        return way(planned, self._engine, **told)

    def _look_ahead(
        self, planned: Plan, unit: Unit, after: Iterable[Unit], cancelled: threading.Event
    ) -> None:
        """Let the network make a picture together with those after it, where that is faster."""
        names = [unit.name]

        def plans() -> Iterator[Plan]:
            yield planned
            for other in after:
                # one that cannot be read is told in its own turn
                with suppress(*OF_ONE_UNIT), _of_one_file():
                    self._plans[other.name] = self._plans.get(other.name) or self._planned(other)
                if other.name not in self._plans:
                    return
                names.append(other.name)
                yield self._plans[other.name]

        with suppress(*OF_ONE_UNIT), _of_one_file():  # each alone tells whose fault it is
            found = picture.ahead(plans(), self._engine, cancelled)
            self._made.update(zip(names[: len(found)], found, strict=True))


def _is_of_another_input(planned: Plan) -> bool:
    """Whether an unfinished job lies there that was begun with another file of this name."""
    try:
        begun = json.loads((planned.part / FINGERPRINT).read_text())
    except (OSError, ValueError):
        return False
    return begun.get("input") != identity(planned.source)


@contextmanager
def _of_one_file() -> Iterator[None]:
    """Let what goes wrong in the block be one file's fault, unless it goes wrong for all of them.

    A bug, too, leaves the other files alone; its traceback goes along as a note.

    Raises
    ------
    SrpipeError
        One of `OF_ONE_UNIT` if it is the file's fault; else what was raised.
    """
    try:
        with memory_told("this file"):
            yield
    except (*OF_ONE_UNIT, Cancelled, WeightsError):
        raise
    except SrpipeError as error:
        cause = getattr(error.__cause__, "errno", None)
        if isinstance(error, TargetError) and cause in _OF_THE_DISK:
            raise
        raise MediaError(str(error)) from error
    except Exception as error:
        bug = MediaError(f"{type(error).__name__}: {error}; this is a bug, please report it")
        bug.add_note(format_exc())
        raise bug from error


# --- the manifest ------------------------------------------------------------------------------


def _lines(
    plan: FolderPlan, journal: Journal, failures: Mapping[str, SrpipeError]
) -> dict[str, dict[str, Any]]:
    """What is known of each file, by its name; also of those that only earlier runs looked for."""
    known = {
        receipt.unit: {
            **receipt.facts,
            "seconds": receipt.seconds,
            "result_bytes": receipt.bytes,
            "result_sha256": receipt.checksum,
        }
        for receipt in journal.receipts()
    }
    for unit in plan.foreign:
        known[unit.name] = {**unit.facts, "status": "foreign"}
    for unit in plan.units:
        if unit.name in failures:
            error = str(failures[unit.name])
            known[unit.name] = {**unit.facts, "status": "failed", "error": error}
    return dict(sorted(known.items()))
