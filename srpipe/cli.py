"""Words in, one library call, words out; what is seen meanwhile is in show.py.

Exit codes: 0 done, 1 failed, 2 usage, 3 some inputs failed, 4 done up to the damage in an input,
130 interrupted. The libraries that take long to import are imported by the commands that need them.
"""

import argparse
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from srpipe import __version__
from srpipe.errors import Cancelled, ConfigError, SrpipeError, WeightsError
from srpipe.settings import EvalSettings, RunSettings, add_options, from_options, nearest
from srpipe.show import Bars, Show, one_line, say, take_any_name, tell

if TYPE_CHECKING:
    from srpipe import zoo
    from srpipe.jobs import Engine, Plan, Result
    from srpipe.jobs.folder import FolderResult

FAILED, SOME_FAILED, TRUNCATED, INTERRUPTED = 1, 3, 4, 130
_EVAL = """
With --model, each PATH is a data set of full size: its pictures are reduced as the literature
does, enlarged by the model and by bicubic, and compared with what they were. Without, PATH is
RESULT TRUTH: they are compared as they are; --input adds what RESULT was made from.
"""
SHORT = {"model": "-m", "scale": "-s", "tile": "-t", "options": "-e"}

_GRACE_S = 0.3  # after Ctrl-C, until a call that does not come back is cut off
_FAREWELL_S = 10.0  # after a failure: ending under a thread that computes may crash
_HANGUP = getattr(signal, "SIGHUP", None)  # which Windows lacks
_STAGE_THREADS = "srpipe-"  # what stream.run calls the threads that it may leave behind


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; what comes back is the exit code."""
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what matters comes as an error
    take_any_name()
    try:
        args, rest = _parser().parse_known_args(argv)
        if rest:
            raise ConfigError(_not_understood(rest[0], args.known))
        return args.run(args)
    except SrpipeError as error:
        tell(f"srpipe: error: {one_line(error)}")
        return error.exit_code
    except KeyboardInterrupt:
        tell("srpipe: error: stopped")
        return INTERRUPTED


def upscale(args: argparse.Namespace) -> int:
    """Enlarge pictures and videos."""
    settings = from_options(RunSettings, args)
    show = Show(as_json=args.json, quiet=args.quiet)
    return _interruptible(lambda stop: _upscale_all(args, settings, show, stop), show)


def measure(args: argparse.Namespace) -> int:
    """Measure models on data sets, or results against the truth."""
    settings = from_options(EvalSettings, args)
    show = Show(as_json=False, quiet=True)
    return _interruptible(lambda stop: _measured(args, settings, stop), show)


def models(args: argparse.Namespace) -> int:
    """List models, describe one, or check the weights of one or of all."""
    from srpipe import zoo

    if args.name is None and args.what == "info":
        raise ConfigError("info on which model? `srpipe models` lists them")
    if args.name is None:
        entries = zoo.entries(args.weights)
    else:
        entries = [zoo.find(args.name, folder=args.weights)]
    if args.weights is not None and not entries:
        raise WeightsError(f"{args.weights} holds no weights with a card; check the name")
    return {"list": _list, "info": _describe, "verify": _verify}[args.what](entries, args.json)


def info(args: argparse.Namespace) -> int:
    """Say what srpipe finds on this machine."""
    facts = _facts()
    if args.json:
        say(json.dumps(facts))
    else:
        width = max(map(len, facts))
        for name, value in facts.items():
            say(f"{name:{width}}  {', '.join(value) if isinstance(value, list) else value}")
    return 0


class _Parser(argparse.ArgumentParser):
    """Errors in one line, raised like any other."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="srpipe", description="Super-resolution for pictures and videos.")
    parser.add_argument("--version", action="version", version=f"srpipe {__version__}")
    parser.set_defaults(known=["--version", "--help"])
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)

    command = commands.add_parser("upscale", help=upscale.__doc__, allow_abbrev=False)
    command.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="a picture, a video, a raster or a folder"
    )
    command.add_argument(
        *("-o", "--output"),
        metavar="OUT",
        help="a file for one input, or a folder, which exists or ends with a slash, for many"
        " (default: INPUT_MODEL_xSCALE beside each input)",
    )
    command.add_argument(
        "--glob", metavar="PATTERN", help="which files of a folder, such as '*.png' (default: all)"
    )
    command.add_argument(
        "--recursive", action="store_true", help="look into the folders of a folder, too"
    )
    add_options(command, RunSettings, SHORT)
    command.add_argument("--dry-run", action="store_true", help="print the plan, write nothing")
    command.add_argument("--quiet", action="store_true", help="print nothing but errors")
    _finish(command, upscale, "print events, one JSON object a line, on standard output")

    command = commands.add_parser(
        "eval", help=measure.__doc__, description=_EVAL, allow_abbrev=False
    )
    command.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="PATH",
        help="data sets for --model; or RESULT [TRUTH]. Each a folder, a picture or a video",
    )
    command.add_argument(
        *("-o", "--output"),
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="also write the figures to FILE.json or FILE.md; repeatable",
    )
    add_options(command, EvalSettings, SHORT)
    _finish(command, measure, "print JSON, with the figures of each picture")

    command = commands.add_parser("models", help=models.__doc__, allow_abbrev=False)
    command.add_argument("what", nargs="?", choices=("list", "info", "verify"), default="list")
    command.add_argument(
        "name", nargs="?", metavar="NAME", help="such as eagcl, or a file of weights"
    )
    command.add_argument(
        "--weights",
        type=Path,
        metavar="DIR",
        help="a folder of weights to use rather than those of srpipe",
    )
    _finish(command, models, "print JSON")

    command = commands.add_parser("info", help=info.__doc__, allow_abbrev=False)
    _finish(command, info, "print JSON")
    return parser


def _not_understood(word: str, known: Sequence[str]) -> str:
    if not word.startswith("-"):
        return f"one word too many: {word!r}"
    return f"there is no option {word}{nearest(word.partition('=')[0], known)}"


def _finish(
    command: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int], json_help: str
) -> None:
    command.add_argument("--json", action="store_true", help=json_help)
    options = [name for action in command._actions for name in action.option_strings]
    command.set_defaults(run=run, known=options)


# --- upscale -----------------------------------------------------------------------------------


def _upscale_all(
    args: argparse.Namespace, settings: RunSettings, show: Show, cancelled: threading.Event
) -> int:
    from srpipe import jobs, zoo
    from srpipe.device import give_back_freed_memory, keep_freed_memory, memory_told

    zoo.scales(settings.model, folder=settings.weights)  # once for all inputs
    keep_freed_memory()
    folder = _folder(args)
    if folder is not None:
        return _upscale_folder(folder, args, settings, show, cancelled)
    if args.output is not None and len(args.inputs) > 1 and not jobs.is_folder(args.output):
        raise ConfigError(
            f"-o {args.output} is one file for {len(args.inputs)} inputs; name a folder, which"
            " ends with a slash"
        )
    engine = None if args.dry_run else jobs.Engine()
    inputs = {Path(each).resolve() for each in args.inputs}
    targets: dict[Path, Path] = {}
    results: list[Result] = []
    errors: list[SrpipeError] = []
    for source in map(Path, args.inputs):
        give_back_freed_memory()  # of the one before, failed or not
        try:
            with memory_told(str(source)):
                plan = jobs.plan(source, args.output, settings, alone=len(args.inputs) == 1)
            _claim(plan, targets, inputs)
            results += _run(plan, engine, show, cancelled)
        except Cancelled:
            raise
        except SrpipeError as error:
            errors.append(error)
            show.failed(source, error, name_it=len(args.inputs) > 1)
    if errors and len(args.inputs) > 1:
        tell(f"srpipe: {len(errors)} of {len(args.inputs)} inputs failed")
    return _exit_code(len(args.inputs), results, errors)


def _folder(args: argparse.Namespace) -> Path | None:
    """The input, where it is a folder."""
    folders = [Path(w) for w in args.inputs if os.path.isdir(w) and not _is_image(w)]
    if not folders and (args.glob is not None or args.recursive):
        raise ConfigError("--glob and --recursive choose among a folder's files; name a folder")
    if folders and len(args.inputs) > 1:
        raise ConfigError(f"{folders[0]} is a folder; it is enlarged alone, name nothing beside it")
    if folders and not args.output:
        raise ConfigError(f"{folders[0]} is a folder; name another one for the results with -o")
    return folders[0] if folders else None


def _is_image(word: str) -> bool:
    """Whether a folder is an image: a Zarr."""
    from srpipe.io import is_raster

    return is_raster(Path(word))


def _upscale_folder(
    source: Path,
    args: argparse.Namespace,
    settings: RunSettings,
    show: Show,
    cancelled: threading.Event,
) -> int:
    from srpipe.jobs import folder

    plan = folder.plan(source, Path(args.output), settings, args.glob, args.recursive)
    if args.dry_run:
        show.folder(plan)
        return 0
    show.began(plan.parts)
    result = folder.run(plan, report=show, cancelled=cancelled)
    for name, error in result.failures.items():
        show.failed(source / name, error, name_it=True)
    if result.failures:
        tell(f"srpipe: {len(result.failures)} of {result.files} files failed")
    return _exit_code(result.files, [result], list(result.failures.values()))


def _claim(plan: "Plan", targets: dict[Path, Path], inputs: Set[Path]) -> None:
    """See that no input is written over, and no two to one file: the second would seem done."""
    target = plan.target.resolve()
    if not plan.exists and target in inputs:
        raise ConfigError(
            f"{plan.source} would become {plan.target}, which is an input too; choose another name"
            " with -o"
        )
    other = targets.setdefault(target, plan.source)
    if other != plan.source:
        raise ConfigError(f"{plan.source} and {other} would both become {plan.target}; rename one")


def _run(
    plan: "Plan", engine: "Engine | None", show: Show, cancelled: threading.Event
) -> "list[Result]":
    from srpipe import jobs

    if engine is None:
        show.plan(plan)
        return []
    show.began([] if plan.exists else [plan.part])
    return [jobs.run(plan, engine, report=show, cancelled=cancelled)]


def _exit_code(
    inputs: int, results: "Sequence[Result | FolderResult]", errors: list[SrpipeError]
) -> int:
    if errors:
        codes = {error.exit_code for error in errors}
        if len(errors) < inputs:
            return SOME_FAILED
        return codes.pop() if len(codes) == 1 else FAILED
    return TRUNCATED if any(result.status == "truncated" for result in results) else 0


# --- eval --------------------------------------------------------------------------------------


def _measured(args: argparse.Namespace, settings: EvalSettings, cancelled: threading.Event) -> int:
    from srpipe import evaluation
    from srpipe.device import memory_told

    for target in args.output:
        evaluation.check_target(target)
    with Bars() as bars, memory_told("the pictures that are measured"):
        found = evaluation.evaluate(args.paths, settings, report=bars, cancelled=cancelled.is_set)
    for target in args.output:
        found.write(target)
    say(json.dumps(found.to_dict()) if args.json else found.markdown())
    return 0


# --- Ctrl-C ------------------------------------------------------------------------------------


def _interruptible(work: Callable[[threading.Event], int], show: Show) -> int:
    """Do the work, and hear Ctrl-C also while it is inside a long call.

    Python runs a signal's handler between two steps of the main thread, and a long call is one
    step. The system writes to a socket at once, which a thread reads. (The work could be the
    thread instead, but the network is fastest in the main one; see stream.py.)
    """
    cancelled, over = threading.Event(), threading.Event()
    if threading.current_thread() is not threading.main_thread():
        return work(cancelled)  # only the main thread may listen to signals
    ear, mouth = socket.socketpair()
    mouth.setblocking(False)

    def listen() -> None:
        if ear.recv(1):  # nothing comes when the work is over and the other end is closed
            cancelled.set()
            if not over.wait(_GRACE_S):
                _leave(show)

    listener = threading.Thread(target=listen, name="srpipe listens", daemon=True)
    numbers = _signals()
    before = [signal.signal(number, lambda *_: None) for number in numbers]
    earlier = signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False)
    try:
        listener.start()
        return _ended(work, cancelled, show)
    finally:
        over.set()
        signal.set_wakeup_fd(earlier)
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
        mouth.close()
        listener.join()
        ear.close()


def _signals() -> list[int]:
    """What asks the work to stop; a closed terminal only where nohup does not say otherwise."""
    heard: list[int] = [signal.SIGINT, signal.SIGTERM]
    if _HANGUP is not None and signal.getsignal(_HANGUP) != signal.SIG_IGN:
        heard.append(_HANGUP)
    return heard


def _ended(work: Callable[[threading.Event], int], cancelled: threading.Event, show: Show) -> int:
    """The work's exit code, once the threads that it may leave behind are gone as well."""
    try:
        code = work(cancelled)
    except Cancelled:
        _wait_for(_stages(), time.monotonic() + _GRACE_S)
        if _stages():
            _leave(show)
        raise
    _wait_for(_stages(), time.monotonic() + _FAREWELL_S)
    return code


def _stages() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith(_STAGE_THREADS)]


def _wait_for(threads: list[threading.Thread], deadline: float) -> None:
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0))


def _leave(show: Show) -> NoReturn:
    """End the process, though a thread is inside a call that cannot be stopped."""
    kept = []
    if show.parts:  # or this would wait for an import that is under way
        from srpipe.jobs import abandon

        kept = [abandon(part) for part in show.parts]
    for folder in show.absent:
        with suppress(OSError):  # it holds something, or was not made yet
            folder.rmdir()
    what = (
        "what is finished is kept, and the same command goes on" if any(kept) else "nothing is left"
    )
    tell(f"srpipe: error: stopped; {what}")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(INTERRUPTED)


# --- models ------------------------------------------------------------------------------------


def _list(entries: "list[zoo.Entry]", as_json: bool) -> int:
    rows = [_row(entry) for entry in entries]
    if as_json:
        say(json.dumps(rows))
        return 0
    if not rows:
        say("no weights are installed")
    width = max((len(row["name"]) for row in rows), default=0)
    for row in rows:
        say(
            f"{row['name']:{width}}  x{row['scale']}  {row['parameters']:>11,} parameters"
            f"  {' + '.join(row['stages'])}  (--model {row['model']})"
        )
    return 0


def _row(entry: "zoo.Entry") -> dict[str, Any]:
    from srpipe import zoo

    return {
        "name": entry.name,
        "scale": entry.scale,
        "parameters": entry.parameters,
        "stages": entry.stages,
        "source": entry.card.source if entry.cards else None,
        "model": zoo.shortest(entry),
    }


def _describe(entries: "list[zoo.Entry]", as_json: bool) -> int:
    (entry,) = entries
    if not entry.cards:
        return _describe_file(entry, as_json)
    if as_json:
        say(json.dumps({stage: card.to_dict() for stage, card in entry.cards.items()}))
        return 0
    from srpipe.models import MODELS

    say(f"{entry.name}: {MODELS[entry.card.family].source}")
    for stage, card in entry.cards.items():
        say(f"\n{stage}")
        for name, value in _card_lines(card):
            say(f"  {name:12}{value}")
    return 0


def _describe_file(entry: "zoo.Entry", as_json: bool) -> int:
    """What is known of a network that others trained."""
    names = "name", "scale", "parameters", "halo", "exact", "alignment", "precisions", "files"
    facts = {name: getattr(entry, name) for name in names} | dict(entry.about)
    if as_json:
        say(json.dumps(facts))
        return 0
    sees = "all that it sees" if entry.exact else "it sees farther, so tiles are mixed"
    facts |= {
        "parameters": f"{entry.parameters:,}",
        "halo": f"{entry.halo} px: {sees}",
        "precisions": ", ".join(entry.precisions),
        "sha256": ", ".join(entry.files.values()),
    }
    say(f"{entry.name}: {entry.about['architecture']}, by others")
    for name in ("scale", "parameters", "tags", "halo", "precisions", "sha256"):
        say(f"  {name:12}{facts[name]}")
    return 0


def _card_lines(card: "zoo.Card") -> Iterator[tuple[str, str]]:
    """What of a card a person wants to read."""
    yield "made for", f"{card.source} pictures and video"
    yield "parameters", f"{card.parameters:,}"
    yield "halo", f"{card.halo} px"
    yield "precisions", ", ".join(card.precisions)
    spent, name = card.training.get("spent", {}), "training"
    while spent:
        facts = {key: value for key, value in spent.items() if key != "before"}
        yield name, ", ".join(f"{key} {value}" for key, value in facts.items())
        spent, name = spent.get("before"), "before that"
    yield "data", card.training.get("recipe", {}).get("data", {}).get("about") or "not stated"
    for data, values in card.metrics.get("values", {}).items():
        bicubic = card.metrics["bicubic"][data]
        yield data, ", ".join(f"{k} {v:g} (bicubic {bicubic[k]:g})" for k, v in values.items())
    if card.metrics:
        yield "protocol", card.metrics["protocol"]
    yield "licence", card.licence


def _verify(entries: "list[zoo.Entry]", as_json: bool) -> int:
    from srpipe import zoo

    failed = 0
    for entry in entries:
        if not entry.cards:
            raise ConfigError(f"{entry.name} has no card that says what it should be")
    for card in (card for entry in entries for card in entry.cards.values()):
        try:
            zoo.verify(card)
            problem = None
        except SrpipeError as error:
            problem = one_line(error)
            failed += 1
        if as_json:
            say(json.dumps({"weights": card.stem, "error": problem}))
        elif problem is None:
            say(f"{card.stem}: good")
        else:
            tell(f"srpipe: error: {problem}")
    return FAILED if failed else 0


# --- info --------------------------------------------------------------------------------------


def _facts() -> dict[str, Any]:
    import platform
    from importlib.metadata import version

    import psutil
    import torch

    from srpipe.device import found, passed_over
    from srpipe.precision import best

    device = found("auto")
    memory = psutil.virtual_memory()
    facts = {
        "srpipe": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "av", "numpy", "pillow", "tifffile")},
        "system": platform.platform(),
        "device": str(device),
        "precision": best(device),
        "cores": psutil.cpu_count(logical=False) or os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cpu features": _cpu_features(),
        "memory": f"{memory.total / 2**30:.1f} GiB, {memory.available / 2**30:.1f} GiB free",
    }
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        facts["graphics"] = f"{card.name}, {card.total_memory / 2**30:.1f} GiB"
    elif passed_over():
        facts["graphics"] = "; ".join(passed_over())
    return facts


def _cpu_features() -> list[str]:
    """What makes low precision fast, where Linux says it."""
    known = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_tile", "asimd")
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return []
    return [name for name in known if name in words]
