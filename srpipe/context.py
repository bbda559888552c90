"""Statistics of a whole image or shot, gathered from parts of it and shared by all of them.

A network whose layers average over their input needs them wherever it does not get the whole input
at once; see `srpipe.models.pooling`.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import TypeVar

from torch import Tensor, nn

from srpipe.errors import Cancelled
from srpipe.models.pooling import Core, GroupNorm, Statistics, held, recorded

MOST_PIXELS = 2**21
"""Of the parts of a large image that are looked at; their statistics stand for those of all."""

Part = tuple[Tensor, Sequence[Core]]
"""Images (N, 3, H, W) as the network takes them, and of each the part that counts."""

T = TypeVar("T")


def gathered(
    network: nn.Module, parts: Callable[[], Iterable[Part]], *, passes: int | None = None
) -> Statistics:
    """The statistics of an image that comes in parts, which are run through the network.

    Parameters
    ----------
    parts : yields all parts, the same ones each time it is called
    passes : in the first, a layer sees what earlier ones made of a batch by the batch's own
        statistics, and in each further one by those of all batches, found in the pass before. A
        batch should hold parts from all over the image. With as many passes as there are such
        layers, all would be exact; before that, norms that follow one another go astray together.
        So a network with more than two of them has one pass unless told otherwise, and any other
        has two, which come 4 to 15 times closer than one (RDAM, 16 parts in a batch)
    """
    found: Statistics = {}
    norms = sum(isinstance(layer, GroupNorm) for layer in network.modules())
    for _ in range(passes or (1 if norms > 2 else 2)):
        known = held(network, found) if found else nullcontext()
        with recorded(network) as record, known:
            for images, cores in parts():
                record.expect((images.shape[-2], images.shape[-1]), cores)
                network(images)
        found = record.statistics()
    return found


def look(cancelled: Callable[[], bool] | None) -> None:
    """Go on with gathering statistics, unless nobody wants them any more.

    Raises
    ------
    Cancelled
        If `cancelled` says so.
    """
    if cancelled is not None and cancelled():
        raise Cancelled("stopped while the statistics of the whole were gathered")


def spread(parts: Sequence[T], most: int) -> list[T]:
    """At most so many of the parts, at random, but always the same ones in the same order.

    What is evenly spread over a line may be one column of a grid.
    """
    return random.Random(0).sample(parts, min(len(parts), most))
