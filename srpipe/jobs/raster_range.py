"""Which numbers of a raster are 0 and 1 to the network, where that takes reading all of it."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import chain

import numpy as np

from srpipe.blocks import Counts, Numbers
from srpipe.errors import Cancelled, ConfigError, PixelError
from srpipe.io.raster import Grid
from srpipe.io.raster_formats import open_raster
from srpipe.jobs.job import Unit, part_of_slot, sealed, slot
from srpipe.jobs.journal import Journal
from srpipe.jobs.plan import Plan
from srpipe.jobs.raster_plan import RasterPlan
from srpipe.pixels import Range, extreme_range, percentile_range
from srpipe.settings import ends_of

RANGE = "range"
"""The unit that finds it, before all others; so it is found once, and for this job alone."""

_LOOK_SIDE = 1024  # of the windows in which it is read for that


def ranged(plan: Plan, journal: Journal, cancelled: threading.Event) -> Numbers:
    """What a raster's numbers mean, with their range looked up in all of them if it must be.

    Raises
    ------
    ConfigError
        If they have no such percentiles.
    Cancelled
        If that was asked for meanwhile.
    """
    assert plan.raster is not None
    numbers, ends = plan.raster.numbers, ends_of(plan.settings.range)
    if not (own_extremes(plan) or (ends and ends[2])):
        return numbers
    unit = Unit(RANGE, 1, {})
    if journal.kept(unit) is None:
        began = time.monotonic()
        found = _found(plan, numbers, cancelled)
        part = part_of_slot(journal.folder, RANGE)
        part.write_text(json.dumps([found.low, found.high]))
        seconds = time.monotonic() - began
        journal.add(sealed(part, journal.folder, unit, seconds=seconds, facts={}))
    low, high = json.loads(slot(journal.folder, RANGE).read_text())
    return replace(numbers, range=Range(low, high))


def own_extremes(plan: Plan) -> bool:
    """Whether the range is the raster's own least and largest number.

    Nobody named one then, and the network would not see the numbers in all that their type holds.
    """
    assert plan.raster is not None
    return plan.settings.range is None and plan.raster.numbers.range.coarse


def about_range(plan: Plan, numbers: Numbers, counts: Counts) -> list[str]:
    """What to say of the range, and of numbers outside it."""
    assert plan.raster is not None
    low, high = numbers.range.low, numbers.range.high
    said = []
    if own_extremes(plan):
        said.append(
            f"black and white to the network are the least and the largest number, {low:.17g} and"
            f" {high:.17g}: {numbers.dtype} holds more than float32 tells apart; --range gives"
            " others"
        )
    if counts.outside:
        said.append(
            f"{counts.outside / _measurable(plan.raster, numbers):.2%} of the numbers are not"
            f" between {low:g} and {high:g}, which are black and white to the network; --range"
            " gives others"
        )
    if counts.outside and counts.clipped and numbers.bits and high == 2**numbers.bits - 1:
        said.append(
            f"the file says that {numbers.bits} bits are in use, so numbers above {high:g} became"
            " that; a --range up to a larger one keeps them"
        )
    return said


def _measurable(raster: RasterPlan, numbers: Numbers) -> float:
    """How many numbers the network sees."""
    all_of_it = raster.source.nbytes / raster.source.dtype.itemsize / raster.source.shape[1]
    return all_of_it * sum(len(group) for group in numbers.groups)


def _found(plan: Plan, numbers: Numbers, cancelled: threading.Event) -> Range:
    ends = ends_of(plan.settings.range)
    values = _measured(plan, list(chain(*numbers.groups)), cancelled)
    if ends is None:
        return extreme_range(values)
    try:
        return percentile_range(values, ends[0], ends[1])
    except PixelError as error:
        raise ConfigError(f"{plan.source}: {error}") from error


def _measured(plan: Plan, bands: list[int], cancelled: threading.Event) -> Iterator[np.ndarray]:
    """All numbers that measure something."""
    with closing(open_raster(plan.source)) as source:
        for window in Grid(source.raster.shape, _LOOK_SIDE):
            if cancelled.is_set():
                raise Cancelled("stopped while the raster's range was looked for")
            block = source.read(window)
            pixels = block.pixels[:, bands]
            yield pixels if block.valid is None else pixels[block.valid[:, bands]]
