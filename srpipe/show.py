"""What a user sees of a run: a bar while it goes on, a summary or events, and notices.

Standard output has results: the summary of each input, or with ``--json`` one object a line and
nothing else. The bar, notices and errors go to standard error.
"""

import io
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srpipe.errors import SrpipeError, TargetError, TruncatedError

if TYPE_CHECKING:
    from srpipe.jobs import Event, Plan
    from srpipe.jobs.folder import FolderPlan

_BETWEEN_S = 0.2  # two progress events of --json


def take_any_name() -> None:
    """Let standard output take names of files that are no text."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """Print a line of results; nothing more is printed once nobody reads it.

    Raises
    ------
    TargetError
        If standard output cannot be written for another reason, such as a full disk.
    """
    try:
        print(text, flush=True)
    except OSError as error:
        _silence(sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise TargetError(f"standard output cannot be written: {error.strerror}") from error


def tell(text: str) -> None:
    """Print a line on standard error, if anybody reads it."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        _silence(sys.stderr.fileno())


def _silence(output: int) -> None:
    """Let an output take what is still to be written, and forget it."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, output)
    os.close(nothing)


def _say(text: str) -> None:
    """Print a line of results; that it cannot be written is told, and no reason to stop."""
    try:
        say(text)
    except TargetError as error:
        tell(f"srpipe: error: {one_line(error)}")


class Show:
    """What a user sees of the work, which goes on whether or not anybody sees it."""

    def __init__(self, *, as_json: bool, quiet: bool) -> None:
        self._json = as_json
        self._quiet = quiet
        self._bar: Any = None
        self._told = 0.0
        # what is being written, and folders made for it, for the case that we must leave now
        self.parts: list[Path] = []
        self.absent: list[Path] = []

    def __call__(self, event: "Event") -> None:
        """Show an event; it may come from any thread, one at a time."""
        if event.kind == "progress":
            self._progress(event)
            return
        self._end_bar()
        if self._json:
            _say(json.dumps(event.to_dict(), default=str))
        elif event.kind in ("done", "skipped") and not self._quiet:
            self._summary(event.facts)
        if event.kind in ("done", "skipped"):
            self.parts = []
            for notice in event.facts["notices"] if not self._quiet else ():
                tell(f"srpipe: notice: {notice}")

    def began(self, parts: list[Path]) -> None:
        """A job starts to write, under these names."""
        self.parts = parts
        above = {folder for part in parts for folder in part.parents}
        absent = [folder for folder in above if not os.path.isdir(folder)]
        self.absent = sorted(absent, key=lambda folder: len(folder.parts), reverse=True)

    def plan(self, plan: "Plan") -> None:
        """What would be done."""
        facts = plan.to_dict()
        if self._json:
            _say(json.dumps({"event": "plan", "source": str(plan.source), **facts}))
            return
        if plan.exists:
            _say(f"{plan.source} -> {plan.target}\n  exists, and would be skipped")
            return
        parts = [_sizes(facts), _amount(plan.frames, facts["bands"])]
        parts += [f"{plan.seconds:.1f} s"] if plan.seconds else []
        _say(f"{plan.source} -> {plan.target}\n  {', '.join(parts)}")
        _say(f"  {_network(plan.entry.name, plan.perception)}")
        for notice in plan.notices:
            _say(f"  notice: {notice}")

    def folder(self, plan: "FolderPlan") -> None:
        """What would be done of a folder."""
        if self._json:
            facts = {"event": "plan", "source": str(plan.source), **plan.to_dict()}
            _say(json.dumps(facts))
            return
        _say(f"{plan.source} -> {plan.target}")
        _say(f"  {_counts(plan.to_dict())}")
        for unit in plan.todo:
            _say(f"  {unit.name} -> {plan.target / unit.facts['target']}")
        for notice in plan.notices:
            _say(f"  notice: {notice}")

    def failed(self, source: Path, error: SrpipeError, *, name_it: bool) -> None:
        """One input could not be done; among several, its name is said."""
        text = one_line(error)
        if name_it and str(source) not in text:
            text = f"{source}: {text}"
        self._end_bar()
        self.parts = []
        if self._json:
            failure = {"event": "failed", "source": str(source), "error": text}
            _say(json.dumps(failure))
        tell(f"srpipe: error: {text}")
        for traceback in getattr(error, "__notes__", ()):
            tell(traceback.rstrip())

    def _progress(self, event: "Event") -> None:
        facts = event.facts
        if self._json:
            now = time.monotonic()
            if now - self._told >= _BETWEEN_S or facts["done"] == facts["of"]:
                self._told = now
                _say(json.dumps(event.to_dict()))
        elif not self._quiet:
            if self._bar is None:
                self._bar = _bar(event.source.name, facts)
            if facts.get("limited_by"):
                self._bar.set_postfix_str(f"limited by: {facts['limited_by']}", refresh=False)
            self._bar.update(facts["done"] - self._bar.n)

    def _end_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _summary(self, facts: Any) -> None:
        if facts["status"] == "skipped":
            _say(f"{facts['target']} exists: skipped; --overwrite replaces it")
            return
        _say(f"{facts['source']} -> {facts['target']}")
        if "files" in facts:
            _say(f"  {_counts(facts)}, {facts['seconds']:.1f} s")
            return
        amount = _amount(facts["frames"], facts["numbers"].get("bands"))
        parts = [amount, _sizes(facts), f"{facts['seconds']:.1f} s"]
        parts += [f"{facts['fps']:.2f} fps"] if facts["limited_by"] else []
        parts += [f"limited by: {facts['limited_by']}"] if facts["limited_by"] else []
        _say(f"  {', '.join(parts)}")
        parts = [_network(facts["model"], facts["perception"])]
        parts += [f"{facts['precision']} on {facts['device']}"]
        if facts["recomputed"]:
            parts.append(f"{facts['recomputed']} batches computed again in fp32")
        _say(f"  {', '.join(parts)}")
        if facts["repeated"]:
            _say(f"  {_frames(facts['repeated'])} equal to the one before, not computed again")
        if facts["status"] == "truncated":
            _say(f"  the input is damaged: {_frames(facts['frames'])} could be read, all are there")


class Bars:
    """A bar for each of several things that are done one after the other."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._name = ""

    def __enter__(self) -> "Bars":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, name: str, done: int, of: int | None) -> None:
        """So many pictures of a thing are done."""
        if self._bar is None or name != self._name:
            self.__exit__()
            self._bar, self._name = _bar(name, {"of": of, "unit": "picture"}), name
        self._bar.update(done - self._bar.n)


def _bar(name: str, facts: Any) -> Any:
    from tqdm import tqdm

    return tqdm(
        total=facts["of"],
        desc=name,
        unit=f" {facts['unit']}s",
        file=sys.stderr,
        disable=None,  # where standard error is no terminal
        dynamic_ncols=True,
        leave=False,
    )


def _amount(frames: int | None, bands: int | None) -> str:
    """How many frames; or how many planes, where they have bands."""
    if bands is None:
        return _frames(frames)
    return f"{frames} plane{'s' * (frames != 1)} of {bands} band{'s' * (bands != 1)}"


def _frames(count: int | None) -> str:
    if count is None:
        return "an unknown number of frames"
    return f"{count} frame{'s' * (count != 1)}"


def _counts(facts: Any) -> str:
    """How many files of a folder are done, are not, and why."""
    failed = len(facts.get("failures", ()))
    texts = {
        f"{facts.get('done')} done": facts.get("done"),
        f"{facts.get('todo')} to do": facts.get("todo"),
        f"{facts['kept']} done before": facts["kept"],
        f"{facts['foreign']} left alone, as there is a file already": facts["foreign"],
        f"{failed} failed": failed,
    }
    some = [text for text, count in texts.items() if count]
    return f"{facts['files']} file{'s' * (facts['files'] != 1)}: {', '.join(some)}"


def _sizes(facts: Any) -> str:
    (height, width), (tall, wide) = facts["size_before"], facts["size_after"]
    return f"{width} x {height} -> {wide} x {tall}"


def one_line(error: SrpipeError) -> str:
    """An error as it is printed."""
    hint = " (--allow-truncated)" if isinstance(error, TruncatedError) else ""
    return " ".join(str(error).split()) + hint


def _network(name: str, perception: float | None) -> str:
    """Which it is, and where its dial stands if it has one."""
    return name if perception is None else f"{name}, perception {perception:g}"
