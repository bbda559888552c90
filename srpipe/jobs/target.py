"""Where a result goes, and how it appears there: whole, or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from srpipe.errors import ConfigError, SrpipeError, TargetError
from srpipe.jobs.claims import claim, has_claims
from srpipe.jobs.job import synced
from srpipe.jobs.journal import FINGERPRINT, RECEIPTS, has_work
from srpipe.lock import taken

WHOLE = "whole"
"""What a finished result is called in its job's folder, until it has its name."""

LOCK = "lock"
"""What a job's folder holds first of all: the file by which a run keeps others away."""

PUBLISHED = "published"
"""What it holds from when all else in it is of use only until the result has its name."""


def resolved(target: str | Path | None, name: str, source: Path) -> Path:
    """The file that a result is published as.

    Parameters
    ----------
    target : a file; or a folder, if it exists or ends with a slash; or None, beside the source
    name : of the file, where `target` does not give one

    Raises
    ------
    ConfigError
        If it is the source itself, or empty.
    TargetError
        If what it grows in cannot be made, for a file of that name is there.
    """
    if target == "":
        raise ConfigError("the output's name is empty; name a file or a folder with -o")
    if target is None:
        path = source.with_name(name)
    else:
        path = Path(target) / name if is_folder(target) else Path(target)
    both_there = exists(path) and source.exists()  # a source may also be a pattern of names
    if path.resolve() == source.resolve() or (both_there and path.samefile(source)):
        raise ConfigError(f"{path} is the input itself; choose another name with -o")
    if _is_a_file(part_of(path)):
        raise TargetError(_in_the_way(part_of(path)))
    return path


def is_folder(target: str | Path) -> bool:
    """Whether a target means a folder to put files in; a Zarr is an image, and none."""
    if is_zarr(target):
        return False
    return str(target).endswith(("/", os.sep)) or os.path.isdir(target)  # no error, unlike Path


def is_zarr(path: str | Path) -> bool:
    """Whether a path is named like a Zarr."""
    return Path(path).suffix.lower() == ".zarr"


def exists(path: Path) -> bool:
    """Whether there is a file of this name.

    Raises
    ------
    TargetError
        If there cannot be one, such as when the name is too long.
    """
    try:
        return path.exists()
    except OSError as error:
        raise TargetError(_refusal(path, error)) from error


def check_place(path: Path) -> None:
    """See that a result takes the place of nothing but a file, or a folder that is a result.

    Raises
    ------
    TargetError
        If there is a pipe or a device of this name.
    """
    if exists(path) and not (path.is_file() or path.is_dir()):
        raise TargetError(f"{path} is a pipe or a device, and no file; name a file with -o")


def check_folder(folder: Path, *, may_be_made: bool) -> None:
    """See that files can be written to a folder.

    Raises
    ------
    TargetError
        If it is not there, is no folder, or takes no files.
    """
    nearest = next(path for path in (folder, *folder.absolute().parents) if exists(path))
    if not nearest.is_dir():
        raise TargetError(f"{nearest} is a file, so nothing can be written below it; change -o")
    if nearest != folder and not may_be_made:
        raise TargetError(f"the folder {folder} does not exist; make it, or change -o")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise TargetError(f"{nearest} takes no files from you; change its rights, or use -o")


def check_kind(path: Path, *, folder: bool) -> None:
    """See that what is there can be replaced: a file by a file, or a folder by a folder.

    Raises
    ------
    TargetError
        If it cannot.
    """
    if exists(path) and path.is_dir() != folder:
        there, wanted = ("file", "folder") if folder else ("folder", "file")
        raise TargetError(
            f"{path} is a {there}, and a {wanted} is to have its name; rename it, or change -o"
        )


def check_space(target: Path, needed_bytes: int) -> None:
    """See that there is room for what a job writes beside its target; what it has counts.

    Raises
    ------
    TargetError
        If there is not.
    """
    there = 0
    for path in part_of(target).rglob("*"):
        with suppress(OSError):  # gone meanwhile
            there += path.stat().st_size
    nearest = next(path for path in target.absolute().parents if exists(path))
    free = shutil.disk_usage(nearest).free
    if needed_bytes > free + there:
        raise TargetError(
            f"{target} needs {_gib(needed_bytes - there)} more while it grows, and its disk has"
            f" {_gib(free)} free; make room, or use -o with another disk or with a .ome.zarr, which"
            " grows compressed"
        )


@contextmanager
def published(
    target: Path, *, restart: bool = False, claimed: Path | None = None
) -> Iterator[Path]:
    """A file to write to, in a folder `{target}.part`; it becomes the target at the block's end.

    When the block ends with an error, the file is gone, and so is a folder that was made for it.

    Parameters
    ----------
    restart, claimed : as for `workplace`

    Raises
    ------
    TargetError
        If the file cannot be made or written, another run is writing it, or an unfinished job
        lies there.
    """
    if has_work(part_of(target)) and not restart:
        raise TargetError(_in_the_way(part_of(target)))
    with workplace(target, restart=restart, claimed=claimed) as folder:
        yield folder / WHOLE


@contextmanager
def workplace(target: Path, *, restart: bool, claimed: Path | None = None) -> Iterator[Path]:
    """A folder `{target}.part` for a job; the file `whole` in it becomes the target at the end.

    When the block ends with an error, the folder stays if it holds a finished unit, and is gone
    if not, with the folders that were made for it.

    Parameters
    ----------
    restart : whether what an earlier run left in the folder is removed
    claimed : where it is noted first that the target is ours; see `srpipe.jobs.claims`

    Raises
    ------
    TargetError
        If the folder cannot be made or written, or another run is at work in it.
    """
    check_place(target)
    part = part_of(target)
    made = [path for path in (target.parent, *target.parent.parents) if not exists(path)]
    lock: int | None = None
    try:
        _make_folder(part)
        lock = _locked(part / LOCK)
        for path in part.iterdir():
            stale = path.suffix == ".part" or path.name == PUBLISHED
            if path.name != LOCK and (restart or stale):
                remove(path)
        yield part
        _all_synced(part / WHOLE)
        (part / PUBLISHED).touch()
        if claimed is not None:
            claim(claimed, part / WHOLE)
        if is_zarr(target) and target.is_dir():  # a folder cannot be renamed over another one
            os.replace(target, part / "replaced")
        os.replace(part / WHOLE, target)
        synced(target.parent)
        _discard(part, strictly=True)
    except BaseException as error:
        if lock is not None and not has_work(part):
            _discard(part)
        with suppress(OSError):
            for folder in made:
                folder.rmdir()
        if isinstance(error, OSError) and not isinstance(error, SrpipeError):
            raise TargetError(_refusal(target, error)) from error
        raise
    finally:
        if lock is not None:
            os.close(lock)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def abandon(part: Path) -> bool:
    """Clear away what is worth nothing of a job that is cut off; whether anything is kept."""
    if not part.is_dir():
        return False
    if has_work(part) or has_claims(part):
        return True
    if _is_a_jobs(part):
        _discard(part)
    return False


def clear(target: Path) -> None:
    """Remove what a run left that was killed when its target was there already."""
    part = part_of(target)
    if not exists(part / PUBLISHED) or exists(part / WHOLE):
        return
    with suppress(TargetError, OSError):  # or whoever publishes it is at that
        lock = _locked(part / LOCK)
        _discard(part)
        os.close(lock)


def part_of(target: Path) -> Path:
    """The name under which a target grows."""
    return target.with_name(f"{target.name}.part")


def _make_folder(part: Path) -> None:
    """Have a folder for a job, a new one or what an earlier run of it left."""
    if _is_a_file(part):
        raise TargetError(_in_the_way(part))
    part.mkdir(parents=True, exist_ok=True)
    if not _is_a_jobs(part):
        raise TargetError(_in_the_way(part))


def _discard(part: Path, *, strictly: bool = False) -> None:
    """Remove a job's folder, its marks last: by them it is known if we are killed meanwhile."""
    with suppress(OSError):  # what that leaves is for the last line
        for path in part.iterdir():
            if path.name not in (LOCK, PUBLISHED):
                remove(path)
    shutil.rmtree(part, ignore_errors=not strictly)


def _all_synced(path: Path) -> None:
    """Wait until a file, or a folder with all that is in it, is on the disk."""
    synced(path)
    for each in path.rglob("*"):
        synced(each)


def _is_a_jobs(folder: Path) -> bool:
    """Whether a folder is a job's, or empty, and not one with the user's files."""
    names = {path.name for path in folder.iterdir()}
    return not names or not names.isdisjoint((LOCK, PUBLISHED, FINGERPRINT, RECEIPTS))


def _is_a_file(part: Path) -> bool:
    """Whether what is there is none of ours, which are folders."""
    return exists(part) and not part.is_dir()


def _in_the_way(part: Path) -> str:
    what = "file" if part.is_file() else "folder"
    return f"{part} is in the way, a {what} that this job did not make; rename it, or change -o"


def _locked(part: Path) -> int:
    """Make the file and hold it against other runs; the system lets go of it if we are killed."""
    file = os.open(part, os.O_RDWR | os.O_CREAT, 0o666)
    try:  # its writer may just have removed it
        ours = taken(file) and os.path.samestat(os.fstat(file), part.stat())
    except OSError:
        ours = False
    if not ours:
        os.close(file)
        raise TargetError(f"another run is writing {part}; wait for its end, or change -o")
    return file


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:,.1f} GiB"


def _refusal(target: Path, error: OSError) -> str:
    reason = error.strerror or str(error) or type(error).__name__
    return f"{target} cannot be written: {reason}; make room or change its rights, or use -o"
