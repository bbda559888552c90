"""Statistics of a whole image or shot, gathered from parts of it and shared by all of them.

A network whose layers average over their input needs them wherever it does not get the whole input
at once; see `srpipe.models.pooling`.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import TypeVar

from torch import Tensor, nn

from srpipe.models.pooling import Core, Statistics, held, recorded

PASSES = 2
"""Over the parts: by what a batch is like first, then by what all are; see `gathered`."""

MOST_PIXELS = 2**21
"""Of the parts of a large image that are looked at; their statistics stand for those of all."""

Part = tuple[Tensor, Sequence[Core]]
"""Images (N, 3, H, W) as the network takes them, and of each the part that counts."""

T = TypeVar("T")


def gathered(
    network: nn.Module, parts: Callable[[], Iterable[Part]], *, passes: int = PASSES
) -> Statistics:
    """The statistics of an image that comes in parts, which are run through the network.

    Parameters
    ----------
    parts : yields all parts, the same ones each time it is called
    passes : in the first, a layer sees what earlier ones made of a batch by the batch's own
        statistics, and in each further one by those of all batches, found in the pass before. A
        batch should hold parts from all over the image: then one pass is nearly right, which norms
        need, and two come close. With as many as there are such layers, all would be exact
    """
    found: Statistics = {}
    for _ in range(passes):
        known = held(network, found) if found else nullcontext()
        with recorded(network) as record, known:
            for images, cores in parts():
                record.expect((images.shape[-2], images.shape[-1]), cores)
                network(images)
        found = record.statistics()
    return found


def spread(parts: Sequence[T], most: int) -> list[T]:
    """At most so many of the parts, at random, but always the same ones in the same order.

    What is evenly spread over a line may be one column of a grid.
    """
    return random.Random(0).sample(parts, min(len(parts), most))
