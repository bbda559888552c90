"""Blocks of an array that is too large to hold, each as if the whole had been enlarged at once.

Knows arrays and not files: numbers of any type, any bands, and pixels that hold no measurement.
Whoever has the array reads each block with pixels around it (`Blocks.read_for`); what comes back
does not depend on where else it was cut.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from srpipe.context import look, spread
from srpipe.errors import ConfigError
from srpipe.infer import Upscaler, core
from srpipe.models.pooling import Core, Statistics
from srpipe.pixels import Range, declared_range
from srpipe.tiling import Tile
from srpipe.trust import PROJECTION_REACH, REACH, Tally, projected
from srpipe.validity import enlarged, fill, restore
from srpipe.windows import A, Rect, Span, cut, grown, scaled, within

Shared = dict[str, Tensor]
"""What layers that look at the whole are to take for it: by group and layer."""

Read = Callable[[int, Span, Span], tuple[np.ndarray, np.ndarray | None]]
"""Numbers (C, H, W) of a plane's rows and columns, and which are valid; None where all are."""

_SAMPLE_SIDE = 1024  # of the square in whose tiles statistics are gathered
_RGB = ("red", "green", "blue")


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
    bits : that are in use, and that what comes back keeps to; None where it may take all
    """

    dtype: np.dtype
    range: Range
    groups: tuple[tuple[int, ...], ...]
    nearest: tuple[int, ...] = ()
    nodata: float | None = None
    bits: int | None = None

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
        bits : that are in use, where not all of an unsigned type are; a range beyond them says
            that they are more
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
        dtype = np.dtype(dtype)
        declared = declared_range(dtype, bits)
        more = within is not None and dtype.kind != "f" and within.high > declared.high
        return cls(
            dtype=dtype,
            range=within or declared,
            groups=tuple(sorted([*together, *alone])),
            nearest=nearest,
            nodata=nodata,
            bits=None if more else bits,
        )


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Numbers that something happened to; those of two blocks add up.

    Parameters
    ----------
    clipped : of the result, beyond what its type can hold, or the bits of it that are in use
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


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Windows of an array in which the statistics of the whole are gathered.

    Parameters
    ----------
    windows : of each the number of its plane, what is read of that, and what of it the network gets
    at_once : how many it gets together
    """

    windows: tuple[tuple[int, Rect, Tile], ...]
    at_once: int


def of_group(statistics: Shared | None, number: int) -> Statistics | None:
    """What of `Blocks.statistics` is about one group of bands."""
    if statistics is None:
        return None
    start = f"{number}."
    return {k.removeprefix(start): v for k, v in statistics.items() if k.startswith(start)}


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

    def read_for(self, block: Rect, height: int, width: int) -> Rect:
        """What to read for a block of an array of so many rows and columns."""
        return self._aligned(grown(block, self.margin, height, width), height, width)

    def enlarged(
        self,
        pixels: np.ndarray,
        valid: np.ndarray | None,
        inner: Rect,
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
        counted = grown(inner, self._compared, *pixels.shape[1:])
        top, bottom, left, right = scaled(counted, self.scale)
        made = np.zeros((len(pixels), bottom - top, right - left), numbers.dtype)
        clipped = 0
        for number, group in enumerate(numbers.groups):
            bands = list(group)
            if valid is not None and not cut(valid, inner)[bands].any():
                continue
            shared = of_group(statistics, number)
            unit = self._enlarged(filled[bands], counted, shared, cancelled)
            if valid is not None:  # what is filled in must not count as clipped
                unit[~torch.from_numpy(enlarged(cut(valid, counted)[bands], self.scale))] = 0
            made[bands], more = numbers.range.from_unit(unit, numbers.dtype, numbers.bits)
            if counted != inner:
                unit = self._fine(unit, inner, counted)
                _, more = numbers.range.from_unit(unit, numbers.dtype, numbers.bits)
            clipped += more
        repeated = list(numbers.nearest)
        made[repeated] = enlarged(cut(pixels, counted)[repeated], self.scale)
        return self._finished(pixels, valid, inner, counted, made, clipped)

    def statistics(
        self,
        read: Read,
        sample: Sample,
        *,
        cancelled: Callable[[], bool] | None = None,
    ) -> Shared | None:
        """What all blocks of an array, or of a stack of planes, are to take for the whole.

        None of an empty sample. Where a plane is one block, it is its own whole, and nothing is to
        be shared.

        Parameters
        ----------
        read : is asked for what the windows of the sample need, and for nothing else

        Raises
        ------
        PixelError, DeviceError, ConfigError, Cancelled
            As a call of `Upscaler` does.
        """
        if not sample.windows:
            return None
        found: Shared = {}
        for number, group in enumerate(self.numbers.groups):
            windows = self._windows(list(group), read, sample, cancelled)
            gathered = self._upscaler.gathered_from(windows, sample.at_once, cancelled=cancelled)
            found |= {f"{number}.{name}": statistic for name, statistic in gathered.items()}
        return found

    def sample(self, height: int, width: int, *, planes: int = 1) -> Sample:
        """Windows from all over an array, or a stack of planes, in which statistics are gathered.

        None of them where the network has no need of statistics; otherwise as many as are enough,
        the same ones each time that as much memory is free.
        """
        if not self._upscaler.looks_at_the_whole:
            return Sample(windows=(), at_once=1)
        plan, _ = self._upscaler.plan(min(height, _SAMPLE_SIDE), min(width, _SAMPLE_SIDE))
        tiles, at_once, most = self._upscaler.windows(height, width, plan)
        chosen = (divmod(place, len(tiles)) for place in spread(range(planes * len(tiles)), most))
        windows = tuple(
            (plane, self._around(tiles[at], height, width), tiles[at]) for plane, at in chosen
        )
        return Sample(windows=windows, at_once=at_once)

    def _enlarged(
        self,
        pixels: np.ndarray,
        inner: Rect,
        statistics: Statistics | None,
        cancelled: Callable[[], bool] | None,
    ) -> Tensor:
        """A block of one group, (1 or 3, H * scale, W * scale): float on the CPU, not clamped."""
        height, width = pixels.shape[1:]
        kept = grown(inner, self._made - self._compared, height, width)
        seen = self._aligned(grown(kept, self._seen, height, width), height, width)
        low = self.numbers.range.to_unit(pixels)
        x = cut(low, seen).expand(3, -1, -1)[None]
        y = self._upscaler(x, statistics=statistics, cancelled=cancelled)[0].cpu()
        y = self._fine(y, kept, seen)
        high = y if len(pixels) == 3 else y.mean(0, keepdim=True, dtype=torch.float64)
        if self._project:
            high = projected(cut(low, kept).to(high.dtype), high)
        return self._fine(high, inner, kept).clone()

    def _filled(self, pixels: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """Pixels without gaps, as far as the network sees; the mean of its band beyond that.

        Layers that average over all of a block see it there. Black would shift what they find.
        """
        rest = [self._mean(band[mask]) for band, mask in zip(pixels, valid, strict=True)]
        return fill(pixels, valid, reach=self._seen, rest=rest)

    def _mean(self, known: np.ndarray) -> float:
        """Of numbers, as one of their type; black if there are none."""
        mean = known.mean(dtype=np.float64) if known.size else self.numbers.range.low
        if known.dtype.kind == "f":
            return float(mean)
        limits = np.iinfo(known.dtype)
        return min(max(int(mean), limits.min), limits.max)

    def _finished(
        self,
        pixels: np.ndarray,
        valid: np.ndarray | None,
        inner: Rect,
        counted: Rect,
        made: np.ndarray,
        clipped: int,
    ) -> Enlarged:
        """A block with what was invalid as it was; `made` is what lies on all that is counted."""
        tally = None
        if self._tally:
            tally = self._tallied(pixels, valid, inner, counted, made, clipped)
        made = self._fine(made, inner, counted)
        source, known = cut(pixels, inner), None if valid is None else cut(valid, inner)
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
        inner: Rect,
        counted: Rect,
        made: np.ndarray,
        clipped: int,
    ) -> Tally:
        tally = Tally()
        low, high = (torch.from_numpy(x.astype(np.float64)) for x in (cut(pixels, counted), made))
        mask = None if valid is None else torch.from_numpy(cut(valid, counted).copy())
        tally.add(low, high, valid=mask, inner=within(inner, counted), clipped=clipped)
        return tally

    def _fine(self, made: A, part: Rect, of: Rect) -> A:
        """What lies on a part of the input; `made` lies on all `of` it that is known."""
        return cut(made, scaled(within(part, of), self.scale))

    def _aligned(self, rect: Rect, height: int, width: int) -> Rect:
        """A window of an array, so large that the network sees its grid where it was.

        Starts are multiples of the alignment, and so are the distances from the ends to the last
        row or column: they are starts as well, where an ensemble turns the array.
        """
        unit = self._upscaler.alignment
        top, bottom, left, right = rect
        return (
            top // unit * unit,
            height - (height - bottom) // unit * unit,
            left // unit * unit,
            width - (width - right) // unit * unit,
        )

    def _windows(
        self,
        group: list[int],
        read: Read,
        sample: Sample,
        cancelled: Callable[[], bool] | None,
    ) -> list[tuple[Tensor, Core]]:
        """What the network gets of each window, (3, H, W); those where nothing was measured not."""
        windows: list[tuple[Tensor, Core]] = []
        empty: list[tuple[Tensor, Core]] = []
        for plane, around, tile in sample.windows:
            look(cancelled)
            pixels, valid = read(plane, around[:2], around[2:])
            pixels, inner = pixels[group], within(_seen_of(tile), around)
            measured = valid is None or bool(cut(valid[group], inner).any())
            if valid is not None:
                pixels = self._filled(pixels, valid[group])
            unit = self.numbers.range.to_unit(cut(pixels, inner)).expand(3, -1, -1)
            found = windows if measured else empty
            found.append((unit.to(self._upscaler.device), core(tile)))
        return windows or empty

    def _around(self, tile: Tile, height: int, width: int) -> Rect:
        """What is read for a window: the numbers that its gaps are filled with as well."""
        return grown(_seen_of(tile), self._seen, height, width)


def _seen_of(tile: Tile) -> Rect:
    """What the network gets of a tile."""
    return tile.y.read_from, tile.y.read_to, tile.x.read_from, tile.x.read_to


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
