"""Blocks of an array that is too large to hold, each as if the whole had been enlarged at once.

Knows arrays and not files: numbers of any type, any bands, and pixels that hold no measurement.
Whoever has the array reads each block with pixels around it (`Blocks.read_for`); what comes back
does not depend on where else it was cut.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from srpipe.context import Part, spread
from srpipe.errors import Cancelled, ConfigError
from srpipe.infer import Upscaler, core
from srpipe.models.pooling import Statistics
from srpipe.pixels import Range, declared_range
from srpipe.tiling import Tile
from srpipe.trust import PROJECTION_REACH, REACH, Inner, Tally, projected
from srpipe.validity import enlarged, fill, restore

Span = tuple[int, int]
"""Rows, or columns, from and to."""

Shared = dict[str, Tensor]
"""What layers that look at the whole are to take for it: by group and layer."""

Read = Callable[[int, Span, Span], tuple[np.ndarray, np.ndarray | None]]
"""Numbers (C, H, W) of a plane's rows and columns, and which are valid; None where all are."""

_SAMPLE_SIDE = 1024  # of the square in whose tiles statistics are gathered
_RGB = ("red", "green", "blue")

A = TypeVar("A", np.ndarray, Tensor)


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """What the numbers of an array mean to a network.

    Parameters
    ----------
    dtype : of the array, and of what comes back
    range : what is 0 and 1 to the network
    groups : bands that it sees together: three as red, green and blue, or one as grey
    nearest : bands whose pixels are repeated, such as opacity
    nodata : the number that stands for "nothing was measured here"
    """

    dtype: np.dtype
    range: Range
    groups: tuple[tuple[int, ...], ...]
    nearest: tuple[int, ...] = ()
    nodata: float | None = None

    @classmethod
    def of(
        cls,
        dtype: np.dtype,
        colours: Sequence[str],
        *,
        bits: int | None = None,
        within: Range | None = None,
        groups: Sequence[Sequence[int]] = (),
        nodata: float | None = None,
    ) -> "Numbers":
        """What they mean unless somebody says otherwise.

        Red, green and blue go together, every other band by itself.

        Parameters
        ----------
        colours : of each band: "red", "green", "blue", "alpha", or any other word
        bits : that are in use, where not all of an unsigned type are
        within : the range; by default the declared one
        groups : bands to be seen together; those that are in none go by themselves

        Raises
        ------
        ConfigError
            If a group is not of one or three bands, or a band is in two, absent, or opacity.
        """
        nearest = tuple(i for i, colour in enumerate(colours) if colour == "alpha")
        together = [tuple(group) for group in groups] or _coloured(colours)
        _check_groups(together, len(colours), nearest)
        taken = {*nearest, *chain(*together)}
        alone = [(band,) for band in range(len(colours)) if band not in taken]
        return cls(
            dtype=np.dtype(dtype),
            range=within or declared_range(np.dtype(dtype), bits),
            groups=tuple(sorted([*together, *alone])),
            nearest=nearest,
            nodata=nodata,
        )


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Numbers that something happened to; those of two blocks add up.

    Parameters
    ----------
    clipped : of the result, beyond what its type can hold
    moved : of the result, that would have read as nodata, and became the number beside it
    invalid : of the input, that hold no measurement, and are repeated
    outside : of the input, beyond what is 0 and 1 to the network
    """

    clipped: int = 0
    moved: int = 0
    invalid: int = 0
    outside: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        mine, theirs = asdict(self), asdict(other)
        return Counts(**{name: mine[name] + theirs[name] for name in mine})


@dataclass(frozen=True, kw_only=True)
class Enlarged:
    """A block of the result.

    Parameters
    ----------
    pixels : array (C, H * scale, W * scale) of the input's type
    valid : which are measurements, of the same shape; None where all are
    counts : what happened to its numbers
    tally : how it agrees with its input, where that was asked for, in the numbers of the array
    """

    pixels: np.ndarray
    valid: np.ndarray | None
    counts: Counts
    tally: Tally | None = None


class Blocks:
    """Enlarge blocks.

    Parameters
    ----------
    project : whether each is made to be its input again when degraded back; see `srpipe.trust`
    tally : whether it is counted how each agrees with its input
    """

    def __init__(
        self, upscaler: Upscaler, numbers: Numbers, *, project: bool = False, tally: bool = False
    ) -> None:
        self.numbers = numbers
        self._upscaler = upscaler
        self._project, self._tally = project, tally
        self._compared = REACH if tally else 0  # pixels of the result around a block that count
        self._made = self._compared + (PROJECTION_REACH if project else 0)
        # what sees farther than its halo is mixed there: that far from where the block is cut
        self._seen = upscaler.halo * (1 if upscaler.exact else 2)

    @property
    def scale(self) -> int:
        """Output pixels per input pixel, along each side."""
        return self._upscaler.scale

    @property
    def margin(self) -> int:
        """Pixels to read around a block, apart from the alignment.

        So far the network sees, and as far again lie the numbers that gaps are filled with.
        """
        return self._made + 2 * self._seen

    def read_for(self, block: Span, length: int) -> Span:
        """The rows to read for those of a block, or the columns; the array has `length` of them."""
        return self._aligned((block[0] - self.margin, block[1] + self.margin), length)

    def enlarged(
        self,
        pixels: np.ndarray,
        valid: np.ndarray | None,
        inner: Inner,
        *,
        statistics: Shared | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Enlarged:
        """One block.

        Parameters
        ----------
        pixels : array (C, H, W), as `read_for` says
        valid : which of them are measurements; of the same shape, or None where all are
        inner : rows from, to, columns from, to: the block within `pixels`
        statistics : of the whole, as `statistics` found them; by default `pixels` is the whole

        Raises
        ------
        PixelError, DeviceError, ConfigError, Cancelled
            As a call of `Upscaler` does.
        """
        numbers = self.numbers
        filled = pixels if valid is None else self._filled(pixels, valid)
        counted = _grown(inner, self._compared, pixels)
        made = np.zeros(_shape(counted, len(pixels), self.scale), numbers.dtype)
        clipped = 0
        for number, group in enumerate(numbers.groups):
            bands = list(group)
            if valid is not None and not _cut(valid, inner)[bands].any():
                continue
            shared = None if statistics is None else _of_group(statistics, number)
            unit = self._enlarged(filled[bands], counted, shared, cancelled)
            if valid is not None:  # what is filled in must not count as clipped
                unit[~torch.from_numpy(enlarged(_cut(valid, counted)[bands], self.scale))] = 0
            made[bands], more = numbers.range.from_unit(unit, numbers.dtype)
            if counted != inner:
                unit = _cut(unit, _within(inner, counted), self.scale)
                _, more = numbers.range.from_unit(unit, numbers.dtype)
            clipped += more
        repeated = list(numbers.nearest)
        made[repeated] = enlarged(_cut(pixels, counted)[repeated], self.scale)
        return self._finished(pixels, valid, inner, made, clipped)

    def statistics(
        self,
        read: Read,
        height: int,
        width: int,
        *,
        planes: int = 1,
        cancelled: Callable[[], bool] | None = None,
    ) -> Shared | None:
        """What all blocks of an array, or of a stack of planes, are to take for the whole.

        None where the network has no need of it. Where a plane is one block, it is its own whole,
        and nothing is to be shared.
        """
        if not self._upscaler.looks_at_the_whole:
            return None
        found: Shared = {}
        for number, group in enumerate(self.numbers.groups):
            parts = list(self._parts(list(group), read, (height, width), planes, cancelled))

            def again(parts: list[Part] = parts) -> Iterator[Part]:
                for part in parts:
                    _look(cancelled)
                    yield part

            gathered = self._upscaler.gathered(again)
            found |= {f"{number}.{name}": statistic for name, statistic in gathered.items()}
        return found

    def _enlarged(
        self,
        pixels: np.ndarray,
        inner: Inner,
        statistics: Statistics | None,
        cancelled: Callable[[], bool] | None,
    ) -> Tensor:
        """A block of one group, (1 or 3, H * scale, W * scale): float on the CPU, not clamped."""
        kept = _grown(inner, self._made - self._compared, pixels)
        height, width = pixels.shape[1:]
        top, bottom, left, right = _grown(kept, self._seen, pixels)
        rows, columns = self._aligned((top, bottom), height), self._aligned((left, right), width)
        seen = (*rows, *columns)
        low = self.numbers.range.to_unit(pixels)
        x = _cut(low, seen).expand(3, -1, -1)[None]
        y = self._upscaler(x, statistics=statistics, cancelled=cancelled)[0].cpu()
        y = _cut(y, _within(kept, seen), self.scale)
        high = y if len(pixels) == 3 else y.mean(0, keepdim=True, dtype=torch.float64)
        if self._project:
            high = projected(_cut(low, kept).to(high.dtype), high)
        return _cut(high, _within(inner, kept), self.scale).clone()

    def _filled(self, pixels: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """Pixels without gaps, as far as the network sees; black beyond that."""
        rest, dtype = self.numbers.range.low, self.numbers.dtype
        if dtype.kind != "f":
            rest = min(max(rest, np.iinfo(dtype).min), np.iinfo(dtype).max)
        return fill(pixels, valid, reach=self._seen, rest=rest)

    def _finished(
        self,
        pixels: np.ndarray,
        valid: np.ndarray | None,
        inner: Inner,
        made: np.ndarray,
        clipped: int,
    ) -> Enlarged:
        """A block with what was invalid as it was; `made` may have pixels more around it."""
        counted = _grown(inner, self._compared, pixels)
        tally = self._tallied(pixels, valid, inner, made, clipped) if self._tally else None
        made = _cut(made, _within(inner, counted), self.scale)
        source, known = _cut(pixels, inner), None if valid is None else _cut(valid, inner)
        result, moved = restore(made, source, known, self.numbers.nodata)
        bands = list(chain(*self.numbers.groups))
        low, high = self.numbers.range.low, self.numbers.range.high
        outside = ((source < low) | (source > high))[bands]
        if known is not None:
            outside &= known[bands]
        return Enlarged(
            pixels=result,
            valid=None if known is None else enlarged(known, self.scale),
            counts=Counts(
                clipped=clipped,
                moved=moved,
                invalid=0 if known is None else int((~known).sum()),
                outside=int(outside.sum()),
            ),
            tally=tally,
        )

    def _tallied(
        self,
        pixels: np.ndarray,
        valid: np.ndarray | None,
        inner: Inner,
        made: np.ndarray,
        clipped: int,
    ) -> Tally:
        counted, tally = _grown(inner, self._compared, pixels), Tally()
        low, high = (torch.from_numpy(x.astype(np.float64)) for x in (_cut(pixels, counted), made))
        mask = None if valid is None else torch.from_numpy(_cut(valid, counted).copy())
        tally.add(low, high, valid=mask, inner=_within(inner, counted), clipped=clipped)
        return tally

    def _aligned(self, span: Span, length: int) -> Span:
        """A span of an array that is cut, so long that the network sees its grid where it was.

        Starts are multiples of the alignment, and so are the distances from the ends to the last
        row: they are starts as well, where an ensemble turns the array.
        """
        unit = self._upscaler.alignment
        start, stop = max(span[0], 0), min(span[1], length)
        return start // unit * unit, length - (length - stop) // unit * unit

    def _parts(
        self,
        group: list[int],
        read: Read,
        size: tuple[int, int],
        planes: int,
        cancelled: Callable[[], bool] | None,
    ) -> Iterator[Part]:
        """Windows from all over, as a group's bands appear to the network."""
        height, width = size
        plan, _ = self._upscaler.plan(min(height, _SAMPLE_SIDE), min(width, _SAMPLE_SIDE))
        tiles, at_once, most = self._upscaler.windows(height, width, plan)
        chosen = spread(range(planes * len(tiles)), most)
        windows = []
        for place in chosen:
            _look(cancelled)
            plane, at = divmod(place, len(tiles))
            windows.append((tiles[at], *self._window(read, plane, tiles[at], size, group)))
        known = [window for window in windows if window[2]] or windows
        for at in range(0, len(known), at_once):
            part = known[at : at + at_once]
            yield torch.stack([x for _, x, _ in part]), [core(tile) for tile, _, _ in part]

    def _window(
        self, read: Read, plane: int, tile: Tile, size: tuple[int, int], group: list[int]
    ) -> tuple[Tensor, bool]:
        """What the network gets of a tile, (3, H, W), and whether any of it was measured."""
        at = (tile.y.read_from, tile.y.read_to, tile.x.read_from, tile.x.read_to)
        around = [
            (max(start - self._seen, 0), min(stop + self._seen, length))
            for start, stop, length in ((*at[:2], size[0]), (*at[2:], size[1]))
        ]
        pixels, valid = read(plane, around[0], around[1])
        pixels, inner = pixels[group], _within(at, (*around[0], *around[1]))
        measured = valid is None or bool(_cut(valid[group], inner).any())
        if valid is not None:
            pixels = self._filled(pixels, valid[group])
        unit = self.numbers.range.to_unit(_cut(pixels, inner))
        return unit.expand(3, -1, -1).to(self._upscaler.device), measured


def _coloured(colours: Sequence[str]) -> list[tuple[int, ...]]:
    """The bands of a colour picture, if there is one."""
    found = [[i for i, colour in enumerate(colours) if colour == name] for name in _RGB]
    return [tuple(chain(*found))] if all(len(bands) == 1 for bands in found) else []


def _check_groups(groups: Sequence[Sequence[int]], bands: int, nearest: Sequence[int]) -> None:
    for group in groups:
        if len(group) not in (1, 3):
            raise ConfigError(
                f"bands {', '.join(map(str, group))} cannot go together: a network sees three, as"
                " red, green and blue, or one"
            )
    named = list(chain(*groups))
    for band in named:
        if not 0 <= band < bands:
            raise ConfigError(f"there is no band {band}; there are 0 to {bands - 1}")
        if band in nearest:
            raise ConfigError(f"band {band} is opacity, which is not enlarged by a network")
        if named.count(band) > 1:
            raise ConfigError(f"band {band} is in two groups; name it once")


def _of_group(statistics: Shared, number: int) -> Statistics:
    start = f"{number}."
    return {k.removeprefix(start): v for k, v in statistics.items() if k.startswith(start)}


def _grown(inner: Inner, by: int, pixels: np.ndarray) -> Inner:
    """With so many more pixels on each side, as far as there are any."""
    top, bottom, left, right = inner
    height, width = pixels.shape[1:]
    return (
        max(top - by, 0),
        min(bottom + by, height),
        max(left - by, 0),
        min(right + by, width),
    )


def _within(inner: Inner, outer: Inner) -> Inner:
    """A part of an array as a part of another part of it."""
    y, x = outer[0], outer[2]
    return inner[0] - y, inner[1] - y, inner[2] - x, inner[3] - x


def _cut(array: A, inner: Inner, scale: int = 1) -> A:
    """A part of the last two axes; of those of an array that is ``scale`` times as large."""
    top, bottom, left, right = (edge * scale for edge in inner)
    return array[..., top:bottom, left:right]


def _shape(inner: Inner, bands: int, scale: int) -> tuple[int, int, int]:
    top, bottom, left, right = inner
    return bands, (bottom - top) * scale, (right - left) * scale


def _look(cancelled: Callable[[], bool] | None) -> None:
    if cancelled is not None and cancelled():
        raise Cancelled("stopped while the statistics of the whole were gathered")
