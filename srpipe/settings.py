"""What a user may choose, written once; options, files and forms are made from it."""

import argparse
import dataclasses
import difflib
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from srpipe.errors import ConfigError

Blend = Literal["auto", "crop", "hann"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Options = tuple[tuple[str, str], ...]
S = TypeVar("S")


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What a user may choose about a run; the model itself settles the rest."""

    model: Annotated[str, "which model enlarges; `srpipe models` lists them"] = "eagcl"
    scale: Annotated[int | None, "output pixels per input pixel, along each side"] = None
    perception: Annotated[
        float | None,
        "0 keeps to what was measured, 1 looks sharpest; by default 0 for TIFF, 1 for the rest",
    ] = None
    tile: Annotated[
        int | Literal["auto"], "side of the square on the device at once, in input pixels"
    ] = "auto"
    blend: Annotated[Blend, "how tiles are joined"] = "auto"
    precision: Annotated[Precision, "number type the network computes in"] = "auto"
    device: Annotated[str, "cpu, cuda, cuda:1, ..."] = "auto"
    weights: Annotated[Path | None, "a folder of weights to use rather than those of srpipe"] = None
    codec: Annotated[str | None, "video encoder, as ffmpeg names it"] = None
    crf: Annotated[int | None, "video quality, 0 (best) to 63; the useful range is the codec's"] = (
        None
    )
    pix_fmt: Annotated[str | None, "video pixel format, as ffmpeg names it"] = None
    options: Annotated[Options, "one more option for the video encoder; may be repeated"] = ()
    allow_truncated: Annotated[bool, "deliver what a damaged video holds up to the damage"] = False
    overwrite: Annotated[bool, "replace an output that exists"] = False

    def __post_init__(self) -> None:
        if self.scale is not None and self.scale < 1:
            raise ConfigError(f"a scale of {self.scale} enlarges nothing; use 2 or more")
        if self.perception is not None and not 0 <= self.perception <= 1:
            raise ConfigError(
                f"perception {self.perception:g} is off the dial; use a number from 0 (fidelity)"
                " to 1 (perception)"
            )
        if self.tile != "auto" and self.tile < 1:
            raise ConfigError(f"a tile of {self.tile} px holds nothing; use auto, or 64 or more")
        if self.crf is not None and not 0 <= self.crf <= 63:
            raise ConfigError(f"crf {self.crf} is on no codec's scale; use 0 (best) to 63")
        _among("blend", self.blend, get_args(Blend))
        _among("precision", self.precision, get_args(Precision))


def from_mapping(settings: type[S], values: Mapping[str, Any]) -> S:
    """Settings of this type from names and values, as a file or a form has them.

    Raises
    ------
    ConfigError
        If a name is not a setting (the nearest is named), or a value is none it takes.
    """
    known = [field.name for field in dataclasses.fields(typing.cast(Any, settings))]
    for name in values:
        if name not in known:
            raise ConfigError(f"there is no setting {name!r}{nearest(name, known)}")
    return settings(**values)


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of a sentence that names the known word most like this one, or all of them."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(known)}"


def add_options(
    parser: argparse.ArgumentParser, settings: type, short: Mapping[str, str] | None = None
) -> None:
    """Give the parser one option for each setting: its name, its default and its help.

    ``short`` adds a one-letter flag to some, such as ``{"model": "-m"}``.
    """
    hints = typing.get_type_hints(settings, include_extras=True)
    for field in dataclasses.fields(settings):
        kind, text = get_args(hints[field.name])
        flags = [f"--{field.name.replace('_', '-')}"]
        if short and field.name in short:
            flags.insert(0, short[field.name])
        parser.add_argument(
            *flags,
            dest=field.name,
            default=list(field.default) if field.default == () else field.default,
            help=text if field.default in (None, (), False) else f"{text} (default: %(default)s)",
            **_reading(kind),
        )


def from_options(settings: type[S], args: argparse.Namespace) -> S:
    """The settings that were asked for on the command line."""
    fields = dataclasses.fields(typing.cast(Any, settings))
    return from_mapping(settings, {f.name: _plain(getattr(args, f.name)) for f in fields})


def _reading(kind: Any) -> dict[str, Any]:
    """How argparse reads a word as a value of this type."""
    if kind is bool:
        return {"action": "store_true"}
    if kind == Options:
        return {"action": "append", "type": _pair, "metavar": "KEY=VALUE"}
    if get_origin(kind) is Literal:
        return {"choices": get_args(kind)}
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


def _plain(value: Any) -> Any:
    """Lists, which argparse appends to, as the tuples that a frozen value holds."""
    return tuple(value) if isinstance(value, list) else value


def _among(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(f"{name} {value!r} does not exist{nearest(value, known)}")
