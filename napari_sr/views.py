"""The layers that belong to a result: gradients, and what speaks for and against trusting it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from napari_sr.answers import Part, disagreement, predicted_gradient, predicts_gradient
from napari_sr.keep import MEMORY_BYTES
from napari_sr.maps import MASK, Make, Pair, largest, lazily, limit, settled
from napari_sr.region import Box
from napari_sr.run import Plan, Wish, planned
from srpipe.errors import ConfigError
from srpipe.jobs.engine import Engine

GRADIENT = "magma"
"""Even steps of the numbers look even in it."""

SPREAD = "viridis"

SIGNED = {
    "name": "srpipe signed",
    "colors": ["#8fd0ff", "#2a6fb8", "#000000", "#c4531c", "#ffc58a"],
}
"""Blue below, black at zero, orange above."""

MASK_COLOURS = {1: "#808080", 2: "#ff3030", 3: "#ffd000", 4: "#ff30ff", 5: "#3060ff"}

_SETTLED = 2**24  # pixels: beyond, a map is made where one looks


@dataclass(frozen=True)
class Map:
    """A layer to be.

    Parameters
    ----------
    coarse : whether it lies on the input's pixels rather than on the result's
    start : its first pixel, in those
    look : further arguments of the layer
    facts : metadata of the layer
    labels : whether its numbers are names
    shown : whether it is seen at once; the others are there to be chosen
    """

    name: str
    data: Any
    coarse: bool
    start: tuple[int, ...]
    look: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    labels: bool = False
    shown: bool = False


def gradients(pair: Pair, plane: tuple[int, ...], asked: Callable[[], bool]) -> Iterator[Map | str]:
    """The gradient maps of the input, of the result, and as the network predicted it.

    All have the same contrast. The first two are of the whole stack, the last of one plane.

    Raises
    ------
    Cancelled
        If `asked` said so.
    """
    shape, start = pair.box.shape, pair.box.start
    makes = {
        "gradient of input": (pair.input_gradient, shape, True),
        "gradient of result": (pair.output_gradient, pair.fine, False),
    }
    top = max(limit(make, size, plane, asked) for make, size, _ in makes.values())
    look = {"colormap": GRADIENT, "contrast_limits": (0.0, top), "gamma": 0.8}
    for name, (make, size, coarse) in makes.items():
        at = start if coarse else (0,) * len(start)
        data = _data(make, size, np.dtype(np.float32), asked)
        yield Map(name, data, coarse, at, look, shown=not coarse)
    if predicts_gradient(pair.wish):
        yield "asking the network for its own …"
        wish, plan = _one(pair, plane)
        found = yield from _gathered(predicted_gradient(wish, plan, asked), wish, plan)
        yield Map("gradient predicted", found, False, (*plane, 0, 0), look)


def judged(
    pair: Pair,
    plane: tuple[int, ...],
    engine: Engine,
    asked: Callable[[], bool],
    *,
    doubt: bool,
) -> Iterator[Map | str]:
    """Consistency with the input, added detail, where not to trust, and the network's doubt.

    Parameters
    ----------
    doubt : whether eight results are compared, which takes eight times as long as one

    Raises
    ------
    Cancelled
        If `asked` said so.
    """
    start, fine = pair.box.start, pair.fine
    origin = (0,) * len(start)
    yield "degrading the result back …"
    for name, make, size, coarse in (
        ("residual", pair.residual, pair.box.shape, True),
        ("added detail", pair.added_detail, fine, False),
    ):
        top = limit(make, size, plane, asked)
        look: dict[str, Any] = {"colormap": SIGNED, "contrast_limits": (-top, top)}
        data = _data(make, size, np.dtype(np.float32), asked)
        at = start if coarse else origin
        yield Map(name, data, coarse, at, look, shown=not coarse)
    mask = _data(pair.mask, fine, np.dtype(np.uint8), asked)
    look = {"colormap": {None: "#00000000", **MASK_COLOURS}, "opacity": 0.6}
    facts = {"srpipe": {str(value): text for value, text in MASK.items()}}
    yield Map("validity", mask, False, origin, look, facts, labels=True)
    if doubt:
        yield "comparing eight results …"
        wish, plan = _one(pair, plane)
        found = yield from _gathered(disagreement(wish, plan, engine, asked), wish, plan)
        look = {"colormap": SPREAD, "contrast_limits": (0.0, largest(found))}
        yield Map("model disagreement", found, False, (*plane, 0, 0), look)


def _data(make: Make, shape: tuple[int, ...], dtype: np.dtype, asked: Callable[[], bool]) -> Any:
    """A map of a whole stack: at once where that is little, else where one looks."""
    planes = int(np.prod(shape[:-2]))
    if planes == 1 and shape[-2] * shape[-1] <= _SETTLED:
        return settled(make, shape, (0,) * (len(shape) - 2), dtype, asked)
    return lazily(make, shape, dtype)


def _one(pair: Pair, plane: tuple[int, ...]) -> tuple[Wish, Plan]:
    """The run of one plane of a run."""
    box = pair.box
    start = (*(a + b for a, b in zip(plane, box.start, strict=False)), *box.start[-2:])
    stop = (*(at + 1 for at in start[:-2]), *box.stop[-2:])
    wish = replace(pair.wish, box=Box(start, stop))
    return wish, planned(wish)


def _gathered(parts: Iterator[Part], wish: Wish, plan: Plan) -> Any:
    """All parts of a map of one plane; says how many there are while they come."""
    shape = plan.shape(wish.box)
    if 4 * shape[-2] * shape[-1] > MEMORY_BYTES:
        raise ConfigError(
            f"a map of {shape[-1]} x {shape[-2]} px is too large for memory; run a current view"
        )
    found = np.zeros(shape, np.float32)
    for done, (cell, numbers) in enumerate(parts, 1):
        at: Any = (*cell.plane, slice(*cell.y), slice(*cell.x))
        found[at] = numbers
        yield f"tile {done} of {len(plan.cells)}"
    return found
