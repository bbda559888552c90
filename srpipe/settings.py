"""What a user may choose, written once; options, files and forms are made from it."""

import argparse
import dataclasses
import difflib
import math
import re
import typing
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from srpipe.errors import ConfigError

Blend = Literal["auto", "crop", "hann"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Deinterlace = Literal["auto", "off"]
Dedupe = Literal["exact", "off"]
Consistency = Literal["off", "project"]
Options = tuple[tuple[str, str], ...]
S = TypeVar("S")

RATE_MAX = 1_000_000
"""Pictures per second; of more, libav makes another rate."""

_LEAST, _MOST = 2.0**-126, 2.0**127  # between the ends of a range: float32 holds it in full
_GIVEN_AS: dict[type, tuple[type, ...]] = {
    str: (str, PathLike),
    Path: (str, PathLike),
    int: (Integral,),
    float: (Real,),
    bool: (),
    NoneType: (NoneType,),
}
"""As what a value of a type may be given, but for True and False; NumPy's numbers are numbers."""

_WORDS = {
    str: "text",
    Path: "a path",
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    NoneType: "None",
}


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What a user may choose about a run; the model itself settles the rest."""

    model: Annotated[
        str, "which model enlarges; `srpipe models` lists them; or a file of weights"
    ] = "eagcl"
    scale: Annotated[
        float | None, "output pixels per input pixel, along each side; may be a fraction"
    ] = None
    size: Annotated[
        str | None, "width and height of the output as it is shown, rather than a scale", "WxH"
    ] = None
    perception: Annotated[
        float | None,
        "0 keeps to what was measured, 1 looks sharpest; by default 0 for TIFF, 1 for the rest",
    ] = None
    ensemble: Annotated[
        bool, "enlarge all 8 flips and rotations and take the mean: 8 times slower, a bit closer"
    ] = False
    consistency: Annotated[
        Consistency, "project: change the result until it is the input when it is degraded back"
    ] = "off"
    report: Annotated[
        bool, "write OUT.report.json and .html too: what the result keeps, and what it adds"
    ] = False
    range: Annotated[
        str | None,
        "numbers of a raster that are black and white to the network: --range=0,10000, or"
        " percentiles, p1,p99; by default all that an integer type holds, of 32 bits or more the"
        " least and the largest there are, and 0 to 1 for floats",
        "LO,HI",
    ] = None
    bands: Annotated[
        str | None,
        "bands of a raster, from 0, that the network sees together as red, green and blue; the"
        " others go by themselves (default: those that the file calls so)",
        "A,B,C[;D...]",
    ] = None
    tile: Annotated[
        int | Literal["auto"], "side of the square on the device at once, in input pixels"
    ] = "auto"
    blend: Annotated[Blend, "how tiles are joined"] = "auto"
    precision: Annotated[Precision, "number type the network computes in"] = "auto"
    device: Annotated[str, "cpu, cuda, cuda:1, ..."] = "auto"
    weights: Annotated[Path | None, "a folder of weights to use rather than those of srpipe"] = None
    deinterlace: Annotated[
        Deinterlace, "make whole frames of a video's interlaced ones, or leave them as they are"
    ] = "auto"
    dedupe: Annotated[
        Dedupe, "whether a video's frame that equals the one before it is not computed again"
    ] = "exact"
    rate: Annotated[
        str,
        "pictures per second of numbered ones (frames/%05d.png), such as 24 or 30000/1001",
        "FPS",
    ] = "25"
    codec: Annotated[str | None, "video encoder or codec, as ffmpeg names it"] = None
    crf: Annotated[int | None, "video quality, 0 (best) to 63; the useful range is the codec's"] = (
        None
    )
    pix_fmt: Annotated[str | None, "video pixel format, as ffmpeg names it"] = None
    options: Annotated[Options, "one more option for the video encoder; may be repeated"] = ()
    allow_truncated: Annotated[bool, "deliver what a damaged video holds up to the damage"] = False
    overwrite: Annotated[bool, "replace an output that exists"] = False
    restart: Annotated[bool, "begin anew rather than go on with an unfinished job"] = False
    segment: Annotated[
        int | Literal["auto"], "frames of a video that are kept together when a run is cut short"
    ] = "auto"
    workers: Annotated[int | None, "processes of this machine that share the work"] = None
    scheduler: Annotated[
        str | None, "address of a Dask scheduler whose workers share the work", "ADDRESS"
    ] = None

    def __post_init__(self) -> None:
        if self.scale is not None and not 1 <= self.scale < float("inf"):
            raise ConfigError(f"a scale of {self.scale:g} enlarges nothing; use 2 or more")
        if self.size is not None:
            if self.scale is not None:
                raise ConfigError("a scale and a size both say how large; give one of them")
            size_of(self.size)
        rate_of(self.rate)
        ends_of(self.range)
        groups_of(self.bands)
        if self.perception is not None and not 0 <= self.perception <= 1:
            raise ConfigError(
                f"perception {self.perception:g} is off the dial; use a number from 0 (fidelity)"
                " to 1 (perception)"
            )
        if self.tile != "auto" and self.tile < 1:
            raise ConfigError(f"a tile of {self.tile} px holds nothing; use auto, or 64 or more")
        if self.crf is not None and not 0 <= self.crf <= 63:
            raise ConfigError(f"crf {self.crf} is on no codec's scale; use 0 (best) to 63")
        if self.segment != "auto" and self.segment < 1:
            raise ConfigError(f"a segment of {self.segment} frames holds nothing; use 1 or more")
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"{self.workers} workers do nothing; use 1 or more")
        if self.workers is not None and self.scheduler is not None:
            raise ConfigError("workers of this machine or those of a scheduler; give one of them")
        _among("blend", self.blend, get_args(Blend))
        _among("precision", self.precision, get_args(Precision))
        _among("deinterlace", self.deinterlace, get_args(Deinterlace))
        _among("dedupe", self.dedupe, get_args(Dedupe))
        _among("consistency", self.consistency, get_args(Consistency))


def size_of(text: str) -> tuple[int, int]:
    """Height and width of a size that is written as ``3840x2160``.

    Raises
    ------
    ConfigError
        If it is not written so.
    """
    found = re.fullmatch(r"([1-9]\d{0,8})x([1-9]\d{0,8})", text)
    if found is None:
        raise ConfigError(f"{text!r} is no size; write width and height, such as 3840x2160")
    return int(found[2]), int(found[1])


@dataclass(frozen=True, kw_only=True)
class EvalSettings:
    """What a user may choose about a measurement."""

    model: Annotated[
        tuple[str, ...],
        "measure this network: each PATH is reduced, then enlarged by it; repeatable",
    ] = ()
    scale: Annotated[int | None, "of the network, where its name leaves it open"] = None
    perception: Annotated[
        tuple[float, ...], "place on the dial, 0 to 1; repeatable (default: each stage there is)"
    ] = ()
    input: Annotated[
        Path | None, "what RESULT was made from: adds bicubic, and for videos flicker", "PATH"
    ] = None
    border: Annotated[int | None, "pixels left out on every side (default: the scale)"] = None
    h264: Annotated[
        int | None,
        "encode what is reduced, with x264 at this rate factor, 1 to 51: a video as one, each"
        " picture by itself",
        "CRF",
    ] = None
    jpeg: Annotated[int | None, "or keep it as JPEG of this quality, 1 to 95", "QUALITY"] = None
    lpips: Annotated[
        tuple[str, ...],
        "LPIPS with alex, vgg or squeeze; repeatable. NAME=FILE gives the weights of its backbone,"
        " which are otherwise those that torchvision has downloaded",
        "NAME[=FILE]",
    ] = ()
    vgg: Annotated[Path | None, "distance of VGG19's features; its weights", "FILE"] = None
    niqe: Annotated[bool, "NIQE, which needs no truth, by the package pyiqa"] = False
    pi: Annotated[bool, "the perceptual index, which needs no truth, by the package pyiqa"] = False
    weights: Annotated[Path | None, "a folder of weights to use rather than those of srpipe"] = None
    device: Annotated[str, "cpu, cuda, cuda:1, ..."] = "auto"
    precision: Annotated[Precision, "number type the network computes in"] = "fp32"
    tile: Annotated[
        int | Literal["auto"], "side of the square on the device at once, in input pixels"
    ] = "auto"

    def __post_init__(self) -> None:
        if self.border is not None and self.border < 0:
            raise ConfigError(f"a border of {self.border} px cannot be left out; use 0 or more")
        if self.h264 is not None and not 1 <= self.h264 <= 51:
            raise ConfigError(f"x264 has no rate factor {self.h264}; --h264 takes 1 to 51")
        if self.jpeg is not None and not 1 <= self.jpeg <= 95:
            raise ConfigError(f"JPEG has no quality {self.jpeg} here; --jpeg takes 1 to 95")
        if self.h264 and self.jpeg:
            raise ConfigError("what is reduced is encoded once; use --h264 or --jpeg")


def rate_of(text: str) -> Fraction:
    """Pictures per second.

    Raises
    ------
    ConfigError
        If it is no number above 0, or one above `RATE_MAX`.
    """
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if rate <= 0:
        raise ConfigError(f"{text!r} is no rate; write one such as 24, 23.976 or 24000/1001")
    if rate > RATE_MAX:
        raise ConfigError(f"{text} pictures per second are too many; {RATE_MAX} are the most")
    return rate


def ends_of(text: str | None) -> tuple[float, float, bool] | None:
    """Two numbers, written as ``0,10000``; or two percentiles, ``p1,p99``, which the last says.

    Raises
    ------
    ConfigError
        If they are neither, or the first is not smaller by a number that float32 holds in full.
    """
    if text is None:
        return None
    words = text.split(",")
    percentiles = all(word.startswith("p") for word in words)
    try:
        low, high = (float(word.removeprefix("p") if percentiles else word) for word in words)
    except ValueError:
        low, high = math.nan, math.nan
    apart = 0 <= low < high <= 100 if percentiles else _LEAST <= high - low <= _MOST
    if not apart:
        raise ConfigError(
            f"{text!r} is no range; write two numbers, such as --range=0,10000, or two"
            " percentiles, such as p1,p99, the smaller one first, and no closer or farther apart"
            " than float32 holds"
        )
    return low, high, percentiles


def groups_of(text: str | None) -> tuple[tuple[int, ...], ...]:
    """Groups of bands that are written as ``0,1,2;3``.

    Raises
    ------
    ConfigError
        If they are not written so.
    """
    if text is None:
        return ()
    if not re.fullmatch(r"\d+(,\d+)*(;\d+(,\d+)*)*", text):
        raise ConfigError(f"{text!r} names no bands; write their numbers, such as '0,1,2;3'")
    return tuple(tuple(map(int, group.split(","))) for group in text.split(";"))


def from_mapping(settings: type[S], values: Mapping[str, Any]) -> S:
    """Settings of this type from names and values, as a file or a form has them.

    Raises
    ------
    ConfigError
        If a name is not a setting (the nearest is named), or a value is none it takes.
    """
    hints = typing.get_type_hints(settings, include_extras=True)
    for name in values:
        if name not in hints:
            raise ConfigError(f"there is no setting {name!r}{nearest(name, hints)}")
    return settings(**{name: _setting(name, hints[name], value) for name, value in values.items()})


def nearest(word: str, known: Iterable[str], *, otherwise: str | None = None) -> str:
    """The end of a sentence that names the known word most like this one.

    Where none is like it, it names all, or is `otherwise`, which suits where there are hundreds.
    """
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there are {', '.join(known)}" if otherwise is None else otherwise


def add_options(
    parser: argparse.ArgumentParser, settings: type, short: Mapping[str, str] | None = None
) -> None:
    """Give the parser one option for each setting: its name, its default and its help.

    ``short`` adds a one-letter flag to some, such as ``{"model": "-m"}``.
    """
    hints = typing.get_type_hints(settings, include_extras=True)
    for field in dataclasses.fields(settings):
        kind, text, *shown = get_args(hints[field.name])
        text = text.replace("%", "%%")  # argparse fills in what follows a single one
        flags = [f"--{field.name.replace('_', '-')}"]
        if short and field.name in short:
            flags.insert(0, short[field.name])
        parser.add_argument(
            *flags,
            dest=field.name,
            default=list(field.default) if field.default == () else field.default,
            help=text if field.default in (None, (), False) else f"{text} (default: %(default)s)",
            **_reading(kind) | ({"metavar": shown[0]} if shown else {}),
        )


def from_options(settings: type[S], args: argparse.Namespace) -> S:
    """The settings that were asked for on the command line."""
    fields = dataclasses.fields(typing.cast(Any, settings))
    return from_mapping(settings, {f.name: getattr(args, f.name) for f in fields})


def _setting(name: str, hint: Any, value: Any) -> Any:
    """A value as its setting has it.

    Raises
    ------
    ConfigError
        If it is of another type.
    """
    kind, _, *shown = get_args(hint)
    if get_origin(kind) is Literal and isinstance(value, str):
        _among(name, value, get_args(kind))
    try:
        return _as(kind, value)
    except TypeError:
        how = f" ({shown[0]})" if shown else ""
        raise ConfigError(f"{name} takes {_in_words(kind)}{how}, not {value!r}") from None


def _as(kind: Any, value: Any) -> Any:
    """A value as this type has it: a path that is given as text, a tuple as a list, and so on.

    Raises
    ------
    TypeError
        If it is of another type.
    """
    if _is_union(kind):
        return _as_one_of(get_args(kind), value)
    if get_origin(kind) is tuple:
        return _as_tuple(get_args(kind), value)
    if get_origin(kind) is Literal:
        fits = isinstance(value, str) and value in get_args(kind)
        kind = str
    elif isinstance(value, bool):  # which is a whole number to Python
        fits = kind is bool
    else:
        fits = isinstance(value, _GIVEN_AS[kind]) or (kind is str and _is_device(value))
    if not fits:
        raise TypeError
    return None if kind is NoneType else kind(value)


def _is_device(value: Any) -> bool:
    """Whether it is one of PyTorch's, which takes long to import."""
    return (type(value).__module__, type(value).__name__) == ("torch", "device")


def _as_one_of(kinds: tuple[Any, ...], value: Any) -> Any:
    for kind in kinds:
        with suppress(TypeError):
            return _as(kind, value)
    raise TypeError


def _as_tuple(kinds: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    """A list, or a mapping's pairs, as a tuple of as many values as there are, or of any number."""
    if isinstance(value, Mapping):
        value = list(value.items())
    if not isinstance(value, list | tuple):
        raise TypeError
    if kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(value)
    if len(kinds) != len(value):
        raise TypeError
    return tuple(map(_as, kinds, value))


def _in_words(kind: Any) -> str:
    """What a setting of this type takes."""
    if _is_union(kind):
        return " or ".join(map(_in_words, get_args(kind)))
    if kind == Options:
        return "pairs of a name and a text"
    if get_origin(kind) is tuple:
        return f"a list, each of it {_in_words(get_args(kind)[0])}"
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, get_args(kind)))
    return _WORDS[kind]


def _reading(kind: Any) -> dict[str, Any]:
    """How argparse reads a word as a value of this type."""
    if kind is bool:
        return {"action": "store_true"}
    if kind == Options:
        return {"action": "append", "type": _pair, "metavar": "KEY=VALUE"}
    if get_origin(kind) is Literal:
        return {"choices": get_args(kind)}
    if get_origin(kind) is tuple:  # of any number of values, each given by an option of its own
        return {"action": "append", **_reading(get_args(kind)[0])}
    kinds = [k for k in get_args(kind) if k is not NoneType] if _is_union(kind) else [kind]
    if len(kinds) > 1:  # a number, or a word that stands for one
        number, word = kinds
        return {"type": _number_or(number, get_args(word)), "metavar": _metavar(number)}
    return {"type": kinds[0], "metavar": _metavar(kinds[0])}


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (UnionType, typing.Union)


def _metavar(kind: type) -> str:
    return {str: "NAME", Path: "DIR", int: "N", float: "X"}[kind]


def _number_or(number: type, words: tuple[str, ...]) -> Any:
    def read(word: str) -> Any:
        if word in words:
            return word
        try:
            return number(word)
        except ValueError:
            message = f"{word!r} is neither a whole number nor {' nor '.join(words)}"
            raise argparse.ArgumentTypeError(message) from None

    return read


def _pair(word: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"{word!r} is not KEY=VALUE, such as preset=slow")
    return key, value


def _among(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(f"{name} {value!r} does not exist{nearest(value, known)}")
