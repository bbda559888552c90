"""`srpipe.upscale`: arrays of any kind, and files, by one name; the same kind comes out.

Axes are told by letters, as TIFF and microscopes do: Y and X, which are enlarged; S for colour
samples, which belong together (RGB, maybe with opacity, or grey); C for channels, each on its own.
Any other letter (T, Z, ...) is an axis of pictures that have nothing to do with each other.
"""

import math
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, product
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from srpipe import jobs
from srpipe.blocks import Blocks, Numbers, Sample, Shared
from srpipe.device import memory_told
from srpipe.errors import ConfigError, PixelError
from srpipe.infer import Upscaler
from srpipe.io import raster_formats
from srpipe.jobs.engine import Engine
from srpipe.jobs.job import raise_failures
from srpipe.jobs.size import network
from srpipe.pixels import Range, extreme_range
from srpipe.settings import RunSettings, ends_of, from_mapping, groups_of
from srpipe.validity import valid_of
from srpipe.windows import Rect, Span, cut, within

BY_SHAPE = {2: "YX", 3: "YXS"}
"""The axes of an array unless somebody says: a plane, or a picture with its colours last."""

BY_SHAPE_OF_TENSOR = {2: "YX", 3: "SYX", 4: "TSYX"}

COLOURS = {1: ("gray",), 2: ("gray", "alpha"), 3: ("red", "green", "blue")}
COLOURS[4] = (*COLOURS[3], "alpha")

LEAST_SIDE = 256
"""Of a chunk of a Dask array that is computed by itself: smaller ones are joined first."""


def upscale(
    image: Any,
    target: str | Path | None = None,
    *,
    axes: str | None = None,
    nodata: float | None = None,
    **settings: Any,
) -> Any:
    """An enlarged image, as the kind that it was given as.

    Of a NumPy array a NumPy array, of a torch tensor a tensor on its device, of a Dask array a lazy
    one, each of the same type of numbers. Of a path the path of the result. Arrays are enlarged by
    the fidelity weights where there are any, unless `perception` says otherwise.

    Parameters
    ----------
    image : array, tensor, or path of a picture, a video, a raster or a folder of them
    target : for a path, where the result goes; see `srpipe.jobs.upscale`
    axes : of an array, a letter each; by default YX or YXS by its shape, of a tensor YX, SYX, TSYX
    nodata : the number of an array that stands for "nothing was measured here", as NaN always does
    settings : those of `RunSettings` by name: ``model="rdam"``, ``scale=2``, ``ensemble=True``;
        ``range="0,4095"`` are the two numbers of an array that are 0 and 1 to the network, by
        default the ends of an integer type, of 32 bits or more the least and the largest number
        of the array, and 0 and 1 for floats

    Raises
    ------
    SrpipeError
        If anything does not fit; a misspelt setting is named.
    """
    chosen = from_mapping(RunSettings, settings)
    if not isinstance(axes, str | None):
        raise ConfigError(f"axes takes letters, such as 'YXS', not {axes!r}")
    if not isinstance(nodata, Real | None):
        raise ConfigError(f"nodata takes a number, not {nodata!r}")
    if isinstance(image, str | Path):
        if axes is not None or nodata is not None:
            raise ConfigError("axes and nodata are told of arrays; a file has its own")
        return _file(Path(image), target, chosen)
    if target is not None:
        raise ConfigError("a target is for files; the result of an array is what comes back")
    if isinstance(image, Tensor):
        return _tensor(image, _axes(image.shape, axes, BY_SHAPE_OF_TENSOR), nodata, chosen)
    array = _plain(image)
    return _array(array, _axes(array.shape, axes, BY_SHAPE), nodata, chosen)


@dataclass(frozen=True)
class Recipe:
    """All that decides what becomes of a block, small enough to be sent to any process."""

    settings: RunSettings
    perception: float | None
    numbers: Numbers

    @property
    def range_is_open(self) -> bool:
        """Whether it takes the array to know what is 0 and 1: nobody said, and its type is wide."""
        return self.settings.range is None and self.numbers.range.coarse

    def valid(self, pixels: np.ndarray) -> np.ndarray | None:
        """Which numbers of (..., C, H, W) are measurements; None if all are."""
        return valid_of(pixels, self.numbers.nodata, self.numbers.nearest)

    def extremes(self, pixels: np.ndarray) -> np.ndarray:
        """The least and the largest number that the network sees of (..., C, H, W); or none."""
        bands, valid = list(chain(*self.numbers.groups)), self.valid(pixels)
        seen = pixels[..., bands, :, :]
        known = seen if valid is None else seen[valid[..., bands, :, :]]
        return np.array([known.min(), known.max()] if known.size else [], known.dtype)

    def ranged(self, extremes: Sequence[np.ndarray]) -> "Recipe":
        """The same with the least and the largest number of all pieces as the range."""
        return replace(self, numbers=replace(self.numbers, range=extreme_range(extremes)))

    def enlarged(self, pixels: np.ndarray) -> np.ndarray:
        """A whole picture (C, H, W)."""
        return self.block([[pixels]], (0, pixels.shape[1], 0, pixels.shape[2]), None)

    @memory_told("a block of the array")
    def block(
        self, window: Sequence[Sequence[np.ndarray]], inner: Rect, shared: Shared | None
    ) -> np.ndarray:
        """A block within a window of a picture, in rows of pieces (C, H, W)."""
        pixels = np.block([list(row) for row in window])
        valid = self.valid(pixels)
        with _turn:
            return self.blocks.enlarged(pixels, valid, inner, statistics=shared).pixels

    @memory_told("the statistics of the array")
    def statistics(self, sample: Sample, pixels: Sequence[np.ndarray]) -> Shared | None:
        """What the blocks of a picture are to take for the whole; pixels (C, H, W) by window."""
        known = {
            around: window for (_, around, _), window in zip(sample.windows, pixels, strict=True)
        }

        def read(_: int, rows: Span, columns: Span) -> tuple[np.ndarray, np.ndarray | None]:
            seen = known[*rows, *columns]
            return seen, self.valid(seen)

        with _turn:
            return self.blocks.statistics(read, sample)

    @property
    def upscaler(self) -> Upscaler:
        """The network, loaded once in each process."""
        bits = 8 * self.numbers.dtype.itemsize
        return _upscaler(self.settings, self.perception, bits)

    @property
    def blocks(self) -> Blocks:
        """What enlarges blocks of such numbers."""
        project = self.settings.consistency == "project"
        return Blocks(self.upscaler, self.numbers, project=project)


_turn = threading.Lock()  # threads of one process have one device, and torch uses all its cores


@lru_cache(maxsize=1)
def _upscaler(settings: RunSettings, perception: float | None, bits: int) -> Upscaler:
    return Engine().upscaler(settings, perception=perception, bits=bits)


# --- files -------------------------------------------------------------------------------------


def _file(source: Path, target: str | Path | None, settings: RunSettings) -> Path:
    if not os.path.isdir(source) or raster_formats.raster_format(source) is not None:
        return jobs.upscale(source, target, settings).target
    if not target:
        raise ConfigError(f"{source} is a folder; name another one for the results")
    done = jobs.folder.upscale(source, target, settings)
    raise_failures(dict(done.failures), done.files)
    return done.target


# --- arrays ------------------------------------------------------------------------------------


def _plain(image: Any) -> Any:
    """A NumPy array without what its class adds, such as a matrix; or a Dask array as it is.

    Raises
    ------
    PixelError
        If it is neither, or has a mask.
    """
    lazy = type(image).__module__.partition(".")[0] == "dask" and hasattr(image, "chunks")
    if not (lazy or isinstance(image, np.ndarray)):
        raise PixelError(
            f"{type(image).__name__} is no array, tensor or path; numpy.asarray makes an array of"
            " most others, and dask.array.from_array one that is read in parts"
        )
    if isinstance(image._meta if lazy else image, np.ma.MaskedArray):
        raise PixelError(
            "masks of NumPy are not read; fill a float array with NaN, array.filled(np.nan), or one"
            " of integers with a number that is named by nodata=..."
        )
    return image if lazy else np.asarray(image)


@memory_told("the array")
def _array(image: Any, order: str, nodata: float | None, settings: RunSettings) -> Any:
    recipe = _recipe(image.dtype, image.shape, order, nodata, settings)
    stack = _stacked(image, order)
    if not isinstance(image, np.ndarray):
        return _unstacked(_lazy(stack, recipe), order)
    if recipe.range_is_open:
        recipe = recipe.ranged([recipe.extremes(stack)])
    larger = np.stack([recipe.enlarged(each) for each in stack.reshape(-1, *stack.shape[-3:])])
    return _unstacked(larger.reshape(*stack.shape[:-3], *larger.shape[1:]), order)


def _tensor(image: Tensor, order: str, nodata: float | None, settings: RunSettings) -> Tensor:
    """The same by way of an array; NumPy has no bfloat16.

    Raises
    ------
    PixelError
        If it has no pixels one by one.
    """
    if image.layout != torch.strided or image.is_meta:
        raise PixelError("a tensor that is sparse or meta is not enlarged; give a dense one")
    plain = image.detach().cpu()
    plain = plain.float() if plain.dtype == torch.bfloat16 else plain
    larger = _array(plain.numpy(), order, nodata, settings)
    return torch.from_numpy(np.ascontiguousarray(larger)).to(image.device, image.dtype)


def _axes(shape: Sequence[int], axes: str | None, known: dict[int, str]) -> str:
    """The letters of an array's axes.

    Raises
    ------
    ConfigError
        If they do not fit, or the shape leaves them open.
    """
    if axes is None:
        order = known.get(len(shape), "")
        if not order or ("S" in order and shape[order.index("S")] not in (1, 3)):
            raise ConfigError(
                f"an array of shape {tuple(shape)} may be anything; say what its axes are, such as"
                " axes='YXC' for channels or axes='YXS' for RGB with opacity"
            )
        return order
    order = axes.upper()
    if len(order) != len(shape) or len(set(order)) != len(order) or not {"Y", "X"} <= set(order):
        raise ConfigError(
            f"axes {axes!r} do not fit an array of shape {tuple(shape)}; give a letter for each,"
            " each once, Y and X among them"
        )
    if "S" in order and ("C" in order or shape[order.index("S")] not in COLOURS):
        raise ConfigError(
            f"axes {axes!r} of shape {tuple(shape)}: S is for 1 to 4 colour samples and goes"
            " without C, which is for any number of channels"
        )
    return order


def _stacked(image: Any, order: str) -> Any:
    """Any array as (..., C, Y, X)."""
    last = [axis for axis in order if axis in "SC"] + ["Y", "X"]
    others = [axis for axis in order if axis not in last]
    stack = image.transpose([order.index(axis) for axis in (*others, *last)])
    return stack if len(last) == len("CYX") else stack[..., None, :, :]


def _unstacked(stack: Any, order: str) -> Any:
    """The inverse of `_stacked`."""
    last = [axis for axis in order if axis in "SC"] + ["Y", "X"]
    others = [axis for axis in order if axis not in last]
    lying = [*others, *last]
    stack = stack if len(last) == len("CYX") else stack[..., 0, :, :]
    return stack.transpose([lying.index(axis) for axis in order])


def _recipe(
    dtype: Any,
    shape: Sequence[int],
    order: str,
    nodata: float | None,
    settings: RunSettings,
) -> Recipe:
    if math.isnan(math.prod(shape)):
        raise PixelError(
            f"a Dask array of shape {tuple(shape)} does not know its size; call its"
            " compute_chunk_sizes() first"
        )
    if not math.prod(shape):
        raise PixelError(f"an array of shape {tuple(shape)} has no pixels")
    if np.dtype(dtype).kind not in "uif":
        raise PixelError(f"numbers of type {dtype} are not enlarged; convert them first")
    asked = settings.scale
    if settings.size is not None or (asked is not None and asked != int(asked)):
        raise ConfigError("an array is enlarged by a whole number; give scale=2, 3, 4, ...")
    entry = network(settings)
    if asked is not None and entry.scale != asked:
        raise ConfigError(
            f"{settings.model} does not enlarge {asked:g} times; change scale or model"
        )
    place = settings.perception
    if place is None and "fidelity" in entry.stages:
        place = 0.0
    ends = ends_of(settings.range)
    if ends is not None and ends[2]:
        raise ConfigError("percentiles are for files; give two numbers, such as range='0,4095'")
    return Recipe(
        settings=replace(settings, model=entry.model, scale=entry.scale),
        perception=entry.dial(place),
        numbers=Numbers.of(
            np.dtype(dtype),
            _colours(shape, order),
            within=None if ends is None else Range(ends[0], ends[1]),
            groups=groups_of(settings.bands),
            nodata=nodata,
        ),
    )


def _colours(shape: Sequence[int], order: str) -> Sequence[str]:
    """What the bands of an array are, as `Numbers.of` wants to know it."""
    if "S" in order:
        return COLOURS[shape[order.index("S")]]
    return ["undefined"] * (shape[order.index("C")] if "C" in order else 1)


# --- Dask --------------------------------------------------------------------------------------


def _lazy(stack: Any, recipe: Recipe) -> Any:
    """A Dask array (..., C, Y, X), enlarged chunk by chunk when it is computed."""
    import dask.array as da

    ready = _ready(stack, recipe)
    joined = stack.rechunk({-3: -1, **{axis: _least(stack.chunks[axis]) for axis in (-2, -1)}})
    pictures = [
        da.block(_chunks(joined[index], recipe, ready))
        for index in product(*(range(length) for length in stack.shape[:-3]))
    ]
    together = da.stack(pictures)
    return together.reshape(*stack.shape[:-3], *together.shape[1:])


def _ready(stack: Any, recipe: Recipe) -> Any:
    """The recipe, delayed; where its range is open, it is found in all chunks first.

    Dask keeps a chunk until all have had it. Copies are computed apart, and let go of at once.
    """
    from dask import delayed

    if not recipe.range_is_open:
        return delayed(recipe, traverse=False)
    chunks = stack.rechunk({-3: -1}).map_blocks(np.copy, dtype=stack.dtype).to_delayed().ravel()
    return delayed(recipe.ranged)([delayed(recipe.extremes)(chunk) for chunk in chunks])


def _chunks(picture: Any, recipe: Recipe, ready: Any) -> list[list[Any]]:
    """The enlarged chunks of a picture (C, Y, X), row by row."""
    import dask.array as da

    blocks, (bands, height, width) = recipe.blocks, picture.shape
    several = len(picture.chunks[1]) * len(picture.chunks[2]) > 1
    shared = _shared(picture, blocks.sample(height, width), ready) if several else None
    pieces = picture.to_delayed()[0]  # so that all windows are of the same ones, computed once
    rows, columns = (list(_spans(chunks)) for chunks in picture.chunks[1:])
    made: list[list[Any]] = []
    for top, bottom in rows:
        made.append([])
        for left, right in columns:
            here = (top, bottom, left, right)
            seen = blocks.read_for(here, height, width)
            window = [
                [cut(pieces[i, j], (*y, *x)) for j, x in _touched(columns, seen[2:])]
                for i, y in _touched(rows, seen[:2])
            ]
            block = ready.block(window, within(here, seen), shared)
            shape = (bands, (bottom - top) * blocks.scale, (right - left) * blocks.scale)
            made[-1].append(da.from_delayed(block, shape, dtype=picture.dtype))
    return made


def _shared(picture: Any, sample: Sample, ready: Any) -> Any:
    """The statistics of a picture (C, Y, X), delayed, by a sample of it.

    Of copies, for the reason given in `_ready`; a view would keep its whole chunk, too.
    """
    if not sample.windows:
        return None
    windows = (cut(picture, around) for _, around, _ in sample.windows)
    return ready.statistics(
        sample, [window.map_blocks(np.copy, dtype=picture.dtype) for window in windows]
    )


def _touched(spans: Sequence[Span], seen: Span) -> Iterator[tuple[int, Span]]:
    """Which spans a part touches, by number, and from where to where in them."""
    for number, (start, stop) in enumerate(spans):
        first, last = max(start, seen[0]), min(stop, seen[1])
        if first < last:
            yield number, (first - start, last - start)


def _spans(lengths: Sequence[int]) -> Iterator[Span]:
    """Where chunks of these lengths begin and end."""
    at = 0
    for length in lengths:
        yield at, at + length
        at += length


def _least(lengths: Sequence[int]) -> tuple[int, ...]:
    """The same chunks, those that are too small joined to the next."""
    joined = [0]
    for length in lengths:
        if joined[-1] >= LEAST_SIDE:
            joined.append(0)
        joined[-1] += length
    if len(joined) > 1 and joined[-1] < LEAST_SIDE:
        last = joined.pop()
        joined[-1] += last
    return tuple(joined)
