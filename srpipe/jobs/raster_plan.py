"""What is settled of a raster before any of its numbers is read."""

import math
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from srpipe import trust, zoo
from srpipe.blocks import Numbers
from srpipe.errors import ConfigError
from srpipe.io.beside import refuse_stale
from srpipe.io.raster import TILE, Grid, Raster, grid_for
from srpipe.io.raster_formats import (
    as_held,
    left_out,
    open_raster,
    open_sink,
    target_format,
)
from srpipe.jobs.size import network
from srpipe.jobs.target import check_space, is_zarr, part_of
from srpipe.pixels import Range
from srpipe.settings import RunSettings, ends_of, groups_of

_HALOS = 8  # in the side of a block: then a third of what is computed is thrown away, not more
_SIDE_MAX = 4096  # pixels of a block of the target
_BLOCK_BYTES = 2**26  # of its numbers; a worker has a few times as much in its hands


@dataclass(frozen=True, kw_only=True)
class RasterPlan:
    """How a raster is enlarged.

    Parameters
    ----------
    source : what it is
    target : what it becomes; its format is that of the file
    grid : the blocks of the target
    numbers : what its numbers mean; percentiles are not looked up yet
    """

    source: Raster
    target: Raster
    grid: Grid
    numbers: Numbers

    @property
    def planes(self) -> int:
        """How many there are along T and Z."""
        return self.source.shape[0] * self.source.shape[2]

    @property
    def one_block(self) -> bool:
        """Whether every plane is within one block."""
        return max(self.grid.shape[3:]) <= self.grid.side


def look(source: Path, target: Path, settings: RunSettings) -> dict[str, Any]:
    """What a plan has to say of a raster.

    Raises
    ------
    SrpipeError
        If it cannot be read, its target cannot hold it, or a setting does not fit it.
    """
    entry = _network(settings)
    with closing(open_raster(source)) as opened:
        raster = opened.raster
    larger = raster.enlarged(entry.scale)
    name = target_format(target, larger)
    lost = [f"{source}: {notice}" for notice in left_out(raster, name)]
    numbers = _numbers(raster, settings)
    larger = replace(as_held(larger, name), bits=numbers.bits)
    grid = grid_for(larger.shape, entry.scale, side=_side(larger, entry))
    if settings.overwrite or not target.exists():
        refuse_stale(target)
    part = part_of(target)
    open_sink(larger.format, part, larger, grid, part)  # or it cannot hold it
    if not is_zarr(target):  # the blocks are kept as they are until the file is made of them
        check_space(target, math.prod(larger.shape) * larger.dtype.itemsize)
    return {
        "entry": entry,
        "size": raster.shape[3:],
        "size_after": larger.shape[3:],
        "frames": raster.shape[0] * raster.shape[2],
        "raster": RasterPlan(source=raster, target=larger, grid=grid, numbers=numbers),
        "notices": (*raster.notices, *lost),
    }


def warnings(perception: float | None) -> tuple[str, ...]:
    """What to say where this place on the dial meets measured data."""
    warning = trust.warning(perception)
    return () if warning is None else (warning,)


def _network(settings: RunSettings) -> zoo.Entry:
    """The network whose own scale is asked for: numbers are not resampled after it."""
    asked = settings.scale
    if settings.size is not None or (asked is not None and asked != int(asked)):
        raise ConfigError(
            "a raster is enlarged by a whole number, so that every pixel keeps its place; give"
            " --scale 2, 3, 4, ..."
        )
    entry = network(settings)
    if asked is not None and entry.scale != asked:
        known = ", ".join(map(str, zoo.scales(settings.model, folder=settings.weights)))
        raise ConfigError(
            f"{settings.model} enlarges a raster {known} times and not {asked:g} times; change"
            " --scale, or the model"
        )
    return entry


def _numbers(raster: Raster, settings: RunSettings) -> Numbers:
    ends = ends_of(settings.range)
    return Numbers.of(
        raster.dtype,
        [band.colour for band in raster.bands] or ["undefined"] * raster.shape[1],
        bits=raster.bits,
        within=Range(ends[0], ends[1]) if ends and not ends[2] else None,
        groups=groups_of(settings.bands),
        nodata=raster.nodata,
    )


def _side(raster: Raster, entry: zoo.Entry) -> int:
    """Of a block of the target, about: wide beside its halo, and small enough for memory."""
    wanted = max(2 * TILE, _HALOS * entry.halo * entry.scale)
    fits = math.isqrt(_BLOCK_BYTES // (raster.shape[1] * raster.dtype.itemsize))
    return max(min(wanted, fits, _SIDE_MAX), TILE)
