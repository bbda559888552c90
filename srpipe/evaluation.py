"""Measure networks by the literature's protocol, and results that exist against their truth.

The protocol reduces pictures and lets networks enlarge them again; `evaluate` does that where a
model is named, and compares what it is given where none is. Bicubic stands beside every result.
"""

import itertools
import json
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from srpipe import codecs, zoo
from srpipe.datasets import Pictures, together
from srpipe.errors import Cancelled, ConfigError, PixelError
from srpipe.figures import FLICKER, METRICS, Figure, Metric, asked
from srpipe.infer import Upscaler
from srpipe.jobs.engine import Engine
from srpipe.jobs.target import check_folder, published
from srpipe.metrics import Flicker, mean
from srpipe.pixels import from_unit, rounded, to_unit
from srpipe.resample import enlarge, low_resolution, resize
from srpipe.settings import EvalSettings, RunSettings

Enlarge = Callable[[Tensor], Tensor]
"""From an input (1, 3, h, w) in [0, 1] to the same in larger."""

Codec = Callable[[Iterable[Tensor]], Iterator[Tensor]]
"""From inputs to what is left of each of them, in their order."""

Progress = Callable[[str, int, int | None], None]
"""Told a data set's name, how many of its pictures are done, and how many there are."""

BICUBIC = "bicubic"

ODD_PIXELS = 8
"""A truth may be larger than a result by fewer: what was no multiple of the largest scale."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What was found for one way of enlarging one data set.

    Parameters
    ----------
    model, perception : what `zoo.find` finds the network by that made it, and where on the dial;
        None for other methods
    values : means over the pictures, and what belongs to the whole
    pictures : the values of each picture, by its name
    """

    data: str
    method: str
    scale: float | None
    values: Mapping[str, float]
    pictures: Mapping[str, Mapping[str, float]] = field(repr=False)
    model: str | None = None
    perception: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The row in plain values that JSON can hold; None for what is not finite."""
        pictures = {name: _finite(values) for name, values in self.pictures.items()}
        facts = {"data": self.data, "method": self.method, "scale": self.scale}
        facts |= {"model": self.model, "perception": self.perception}
        return facts | {"values": _finite(self.values), "pictures": pictures}


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Measurements, with all that one has to know to repeat them."""

    protocol: str
    rows: Sequence[Row]
    figures: Mapping[str, Figure] = field(repr=False)

    def markdown(self) -> str:
        """A table with a line for each row, and the protocol below it."""
        names = [n for n in self.figures if any(n in row.values for row in self.rows)]
        headings = [self.figures[name].heading for name in names]
        lines = [f"| data | scale | method | {' | '.join(headings)} |"]
        lines.append(f"|---|---|---|{'---:|' * len(names)}")
        for row in self.rows:
            scale = "" if row.scale is None else f"x{row.scale:g}"
            cells = [self._cell(row, name) for name in names]
            lines.append(f"| {' | '.join([row.data, scale, row.method, *cells])} |")
        return "\n".join([*lines, "", self.protocol])

    def to_dict(self) -> dict[str, Any]:
        """Protocol and rows in plain values that JSON can hold."""
        return {"protocol": self.protocol, "rows": [row.to_dict() for row in self.rows]}

    def write(self, target: Path) -> None:
        """Write a file that `check_target` accepts: JSON, or the table with its protocol.

        Raises
        ------
        TargetError
            If it cannot be written.
        """
        text = json.dumps(self.to_dict(), indent=2) if target.suffix == ".json" else self.markdown()
        with published(target) as part:
            part.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")

    def _cell(self, row: Row, name: str) -> str:
        return f"{row.values[name]:.{self.figures[name].digits}f}" if name in row.values else ""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One picture: what it should be, what was known of it, and what each method made of that."""

    name: str
    images: Mapping[str, Tensor]
    truth: Tensor | None = None
    low: Tensor | None = None


def check_target(target: Path) -> None:
    """See that figures can be written to a file, before they are measured.

    Raises
    ------
    ConfigError
        If its name ends neither in .json nor in .md.
    TargetError
        If its folder is not there or takes no files.
    """
    if target.suffix not in (".json", ".md"):
        raise ConfigError(f"figures are written as .json or .md, not as {target.name}; change -o")
    check_folder(target.parent, may_be_made=False)


def unheard(name: str, done: int, of: int | None) -> None:
    """Report to nobody."""


def never() -> bool:
    """Go on to the end."""
    return False


def evaluate(
    paths: Sequence[Path],
    settings: EvalSettings,
    *,
    report: Progress = unheard,
    cancelled: Callable[[], bool] = never,
) -> Evaluation:
    """Measure models on data sets, or a result against the truth.

    Parameters
    ----------
    paths : folders of pictures, pictures, or videos: with a model in the settings, data sets of
        full size; without one, a result and then, if it is known, its truth
    report : told after each picture
    cancelled : asked before each picture

    Raises
    ------
    SrpipeError
        If something cannot be read, or does not belong together.
    """
    metrics = METRICS | asked(settings)
    if settings.model:
        rows, how = _models(paths, settings, metrics, report, cancelled)
    else:
        rows, how = _pair(paths, settings, metrics, report, cancelled)
    figures = {**metrics, **FLICKER}
    used = [about.about for name, about in figures.items() if any(name in r.values for r in rows)]
    protocol = ". ".join(dict.fromkeys([*how, "Means over pictures", *used]))
    return Evaluation(protocol=f"{protocol}.", rows=rows, figures=figures)


# --- networks on data sets ---------------------------------------------------------------------


def reduced(
    pictures: Iterable[tuple[str, Tensor]],
    scale: int,
    enlargers: Mapping[str, Enlarge],
    spoilt: Codec = iter,
) -> Iterator[Sample]:
    """Pictures cropped, reduced by ``scale``, maybe encoded, and enlarged again, all in 8 bits."""
    waiting: deque[tuple[str, Tensor]] = deque()
    for low in spoilt(_lows(pictures, scale, waiting)):
        name, pixels = waiting.popleft()
        truth = to_unit(pixels, 8)
        with torch.no_grad():
            images = {m: rounded(larger(low).cpu(), 8) for m, larger in enlargers.items()}
        yield Sample(name=name, images=images, truth=truth, low=low)


def _lows(
    pictures: Iterable[tuple[str, Tensor]], scale: int, waiting: deque[tuple[str, Tensor]]
) -> Iterator[Tensor]:
    """Pictures cropped and reduced; the truth of each waits for what becomes of it."""
    for name, picture in pictures:
        height, width = (side // scale * scale for side in picture.shape[-2:])
        if not height * width:
            raise PixelError(
                f"{name} is {picture.shape[-1]} x {picture.shape[-2]} px, too small to be reduced"
                f" {scale} times; leave it out"
            )
        truth = rounded(picture[..., :height, :width], 8)
        waiting.append((name, from_unit(truth, 8)))  # for an encoder that looks ahead
        yield low_resolution(truth, scale)


def _codec(settings: EvalSettings, *, moving: bool) -> Codec:
    """What the low resolution goes through: a video as one, each picture by itself."""
    if settings.jpeg:
        return partial(codecs.jpeg, quality=settings.jpeg)
    if not settings.h264:
        return iter
    through = partial(codecs.h264, factor=settings.h264)
    return through if moving else lambda lows: (next(through([low])) for low in lows)


def _how(settings: EvalSettings) -> str:
    """The protocol's first sentence."""
    border = "`scale`" if settings.border is None else settings.border
    how = "Truth cropped at the top left to a multiple of the scale, in 8 bits; input reduced as by"
    how += " MATLAB's bicubic, in 8 bits"
    if settings.jpeg:
        how += f", and kept as JPEG of quality {settings.jpeg}, 4:2:0"
    if settings.h264:
        how += f", and encoded by x264 with a rate factor of {settings.h264} (preset medium, 4:2:0,"
        how += f" {codecs.RATE} frames a second; a video as one, each picture by itself)"
    return f"{how}; result in 8 bits; a border of {border} px left out"


def tally(
    data: str,
    samples: Iterable[Sample],
    metrics: Mapping[str, Metric],
    *,
    border: int | None = None,
    moving: bool = False,
) -> list[Row]:
    """What is found for each method.

    Parameters
    ----------
    data : what the samples are called
    border : pixels left out on every side; by default the scale, and none where that is unknown
    moving : whether the samples are frames of a video, so that flicker means something
    """
    pictures: dict[str, dict[str, dict[str, float]]] = {}
    flickers: dict[str, Flicker] = {}
    scale = None
    for sample in samples:
        for method, image in sample.images.items():
            scale = image.shape[-1] / sample.low.shape[-1] if sample.low is not None else None
            edge = math.ceil(scale or 0) if border is None else border
            values = _measured(sample, image, metrics, edge)
            pictures.setdefault(method, {})[sample.name] = values
            if moving and sample.low is not None:
                flickers.setdefault(method, Flicker()).add(sample.low, image)
    return [
        Row(
            data=data,
            method=method,
            scale=scale,
            values=_means(list(each.values())) | _steadiness(flickers.get(method)),
            pictures=each,
        )
        for method, each in pictures.items()
    ]


def _means(each: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(mean([values[name] for values in each]), 5) for name in each[0]}


def _steadiness(flicker: Flicker | None) -> dict[str, float]:
    if flicker is None:
        return {}
    found = flicker.total, flicker.coarse, flicker.still
    return {name: round(value, 5) for name, value in zip(FLICKER, found, strict=True)}


def _measured(
    sample: Sample, image: Tensor, metrics: Mapping[str, Metric], edge: int
) -> dict[str, float]:
    inner = (..., slice(edge, image.shape[-2] - edge), slice(edge, image.shape[-1] - edge))
    image, truth = image[inner], None if sample.truth is None else sample.truth[inner]
    values = {}
    try:
        for metric in metrics.values():
            metric.check_side(min(_size(image)))
        with torch.inference_mode():
            for name, metric in metrics.items():
                if metric.alone:
                    values[name] = float(metric.of(image))
                elif truth is not None:
                    values[name] = float(metric.of(image, truth))
    except PixelError as error:
        raise PixelError(f"{sample.name} without a border of {edge} px: {error}") from error
    return values


@dataclass(frozen=True)
class _Way:
    """A way to enlarge, and which network it is."""

    enlarge: Enlarge
    model: str | None = None
    perception: float | None = None


def _models(
    paths: Sequence[Path],
    settings: EvalSettings,
    metrics: Mapping[str, Metric],
    report: Progress,
    cancelled: Callable[[], bool],
) -> tuple[list[Row], list[str]]:
    if settings.input:
        raise ConfigError("--input belongs to a result that exists; leave it or --model out")
    apart = _names(paths)
    by_scale: dict[int, dict[str, _Way]] = {}
    run: list[str] = []
    for name in settings.model:
        entry = zoo.find(name, scale=settings.scale, folder=settings.weights)
        stages = [float(zoo.STAGES.index(stage)) for stage in entry.stages]
        dials: Sequence[float | None] = settings.perception or stages or [None]
        for perception in dials:
            upscaler = _upscaler(name, entry, perception, settings)
            run.append(f"Networks in {upscaler.precision} on {upscaler.device}")
            larger = partial(upscaler, cancelled=cancelled)
            way = _Way(larger, model=entry.model, perception=perception)
            bicubic = _Way(partial(enlarge, scale=entry.scale))
            ways = by_scale.setdefault(entry.scale, {BICUBIC: bicubic})
            ways[_method(name, entry, perception, ways)] = way
    rows = []
    for path, scale in itertools.product(paths, sorted(by_scale)):
        pictures, ways = Pictures.at(path), by_scale[scale]
        samples = reduced(
            _until(pictures, cancelled),
            scale,
            {method: way.enlarge for method, way in ways.items()},
            _codec(settings, moving=pictures.moving),
        )
        data = apart[path]
        found = tally(
            data,
            _reported(samples, pictures, report),
            metrics,
            border=settings.border,
            moving=pictures.moving,
        )
        for row in found:
            way = ways[row.method]
            rows.append(replace(row, model=way.model, perception=way.perception))
    return rows, [_how(settings), *run]


def _method(
    asked: str, entry: zoo.Entry, perception: float | None, taken: Mapping[str, _Way]
) -> str:
    """What a way is called: by its network, or as that was asked for where another is called so."""
    place = ""
    if perception is not None:
        stage = zoo.STAGES[int(perception)] if perception in (0, 1) else None
        place = f", {stage or f'perception {perception:g}'}"
    other = taken.get(f"{entry.name}{place}")
    return f"{entry.name if other is None or other.model == entry.model else asked}{place}"


def _names(paths: Sequence[Path]) -> dict[Path, str]:
    """What data sets are called: the ends of their paths that tell each from the others."""
    parts = {path: path.resolve().parts for path in paths}

    def name(own: tuple[str, ...]) -> str:
        others = {each for each in parts.values() if each != own}
        lengths = range(1, len(own) + 1)
        length = next(n for n in lengths if all(each[-n:] != own[-n:] for each in others))
        return "/".join(own[-length:])

    return {path: name(own) for path, own in parts.items()}


def _upscaler(
    name: str, entry: zoo.Entry, perception: float | None, settings: EvalSettings
) -> Upscaler:
    chosen = RunSettings(
        model=name,
        scale=entry.scale,
        perception=perception,
        weights=settings.weights,
        device=settings.device,
        precision=settings.precision,
        tile=settings.tile,
    )
    return Engine().upscaler(chosen, perception=perception, bits=8)


def _until(pictures: Pictures, cancelled: Callable[[], bool]) -> Iterator[tuple[str, Tensor]]:
    for name, picture in pictures:
        if cancelled():
            raise Cancelled(f"stopped before {name}")
        yield name, picture


def _reported(samples: Iterable[Sample], pictures: Pictures, report: Progress) -> Iterator[Sample]:
    """The samples; each is done when the next one is asked for."""
    report(pictures.name, 0, pictures.count)
    for done, sample in enumerate(samples, 1):
        yield sample
        report(pictures.name, done, pictures.count)


# --- results that exist ------------------------------------------------------------------------


def _pair(
    paths: Sequence[Path],
    settings: EvalSettings,
    metrics: Mapping[str, Metric],
    report: Progress,
    cancelled: Callable[[], bool],
) -> tuple[list[Row], list[str]]:
    if settings.h264 or settings.jpeg:
        raise ConfigError(
            "--h264 and --jpeg spoil what a model enlarges; name it with --model, or leave them out"
        )
    if len(paths) > 2:
        raise ConfigError(
            f"{len(paths)} paths and no --model: name a result and its truth, or the model to"
            " measure on these data sets"
        )
    result = Pictures.at(paths[0])
    truth = Pictures.at(paths[1]) if len(paths) == 2 else None
    low = Pictures.at(settings.input) if settings.input else None
    steady = result.moving and low is not None
    if truth is None and not steady and not any(metric.alone for metric in metrics.values()):
        raise ConfigError(
            f"there is nothing to compare {result.path} with; name its truth after it, or for a"
            " video the --input that it was made from"
        )
    samples = compared(result, truth, low, report=report, cancelled=cancelled)
    data = (truth or low or result).name
    rows = tally(data, samples, metrics, border=settings.border, moving=result.moving)
    border = settings.border if settings.border is not None else "the scale in" if low else 0
    how = "Pictures as they are, as RGB from 0 to 1; bicubic is the input enlarged as by MATLAB's"
    return rows, [f"{how}; a border of {border} px left out"]


def compared(
    result: Pictures,
    truth: Pictures | None,
    low: Pictures | None,
    *,
    report: Progress = unheard,
    cancelled: Callable[[], bool] = never,
) -> Iterator[Sample]:
    """Results beside the truth, and beside bicubic enlargements of their input, where there are."""
    base = truth or low or result
    parts = [part if part is base else base.beside(part) for part in (truth, low) if part]
    parts.append(result if result is base else base.beside(result))
    for done, (name, (*others, image)) in enumerate(together(parts)):
        report(result.name, done, result.count)
        if cancelled():
            raise Cancelled(f"stopped before {name}")
        wanted = _fitted(others[0], image, name) if truth else None
        images = {_method_of(result): image}
        if low:
            _check_ratio(others[-1], image, name)
            images[BICUBIC] = resize(others[-1], _size(image)).clamp(0, 1)
        yield Sample(name=name, images=images, truth=wanted, low=others[-1] if low else None)


def _method_of(result: Pictures) -> str:
    """What made a result is called as its folder or file is, unless bicubic is."""
    if result.name != BICUBIC:
        return result.name
    return "/".join(result.path.resolve().parts[-2:])


def _check_ratio(low: Tensor, image: Tensor, name: str) -> None:
    """See that a result has its input's shape, as far as whole pixels tell."""
    (height, width), (tall, wide) = _size(low), _size(image)
    if abs(wide * height - tall * width) > ODD_PIXELS * (height + width):
        raise PixelError(
            f"{name}: the result is {wide} x {tall} px and its input {width} x {height}, which is"
            " not of that shape; name the --input that it was made from"
        )


def _fitted(truth: Tensor, image: Tensor, name: str) -> Tensor:
    """The top left of a truth that is larger by what is no multiple of a scale."""
    height, width = _size(image)
    more = truth.shape[-2] - height, truth.shape[-1] - width
    if not all(0 <= extra < ODD_PIXELS for extra in more):
        raise PixelError(
            f"{name}: the result is {width} x {height} px and the truth {truth.shape[-1]} x"
            f" {truth.shape[-2]}; compare pictures of one size"
        )
    return truth[..., :height, :width]


def _size(x: Tensor) -> tuple[int, int]:
    return x.shape[-2], x.shape[-1]


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
