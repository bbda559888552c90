"""What only a network can answer, for one slice, tile by tile: its gradient map and its doubt."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from napari_sr.region import Cell
from napari_sr.run import Plan, Wish, calm, windows
from srpipe import zoo
from srpipe.blocks import Blocks, of_group
from srpipe.infer import Upscaler
from srpipe.jobs.engine import Engine
from srpipe.models import MODELS
from srpipe.models.pooling import Statistics
from srpipe.validity import fill
from srpipe.windows import cut, scaled

Part = tuple[Cell, np.ndarray]
"""A cell of the result, and the map (H, W) of it."""


def predicts_gradient(wish: Wish) -> bool:
    """Whether the network has a branch that predicts gradients."""
    settings = wish.settings
    entry = zoo.find(settings.model, scale=settings.scale, folder=settings.weights)
    return bool(entry.cards) and MODELS[entry.card.family].gradient


def predicted_gradient(wish: Wish, plan: Plan, cancelled: Callable[[], bool]) -> Iterator[Part]:
    """The gradient map of the result that the network's own branch predicts, in [0, 1].

    Raises
    ------
    Cancelled
        If `cancelled` said so.
    """
    settings = wish.settings
    loaded = zoo.load(
        settings.model,
        scale=settings.scale,
        perception=settings.perception,
        folder=settings.weights,
    )
    upscaler = Upscaler(
        _Branch(loaded.network),
        scale=loaded.scale,
        halo=loaded.halo,
        exact=loaded.exact,
        alignment=loaded.alignment,
        device=settings.device,
        precision="fp32",
    )

    def ask(x: Tensor, shared: Statistics | None) -> Tensor:
        return upscaler(x, statistics=shared, cancelled=cancelled)

    yield from _parts(wish, plan, upscaler, ask, cancelled)


def disagreement(
    wish: Wish, plan: Plan, engine: Engine, cancelled: Callable[[], bool]
) -> Iterator[Part]:
    """How far the results of eight ways to lay the picture are apart, in the layer's numbers.

    Raises
    ------
    Cancelled
        If `cancelled` said so.
    """
    upscaler = engine.upscaler(wish.settings, perception=wish.settings.perception, bits=wish.bits)
    unit = wish.within.high - wish.within.low

    def ask(x: Tensor, shared: Statistics | None) -> Tensor:
        return upscaler.mean_and_spread(x, statistics=shared, cancelled=cancelled)[1] * unit

    yield from _parts(wish, plan, upscaler, ask, cancelled)


class _Branch(nn.Module):
    """A network's gradient branch as a network of its own."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.smallest = getattr(network, "smallest", 1)

    def forward(self, x: Tensor) -> Tensor:
        """The finest map that it predicts, (N, 3, H * scale, W * scale)."""
        _, found = self.network(x, return_gradient=True)
        return found if isinstance(found, Tensor) else found[-1]


def _parts(
    wish: Wish,
    plan: Plan,
    upscaler: Upscaler,
    ask: Callable[[Tensor, Statistics | None], Tensor],
    cancelled: Callable[[], bool],
) -> Iterator[Part]:
    """Ask for every cell, of which each group of bands is one picture; the answers' mean."""
    calm()
    blocks = Blocks(upscaler, wish.numbers)
    for cell, seen in windows(wish, plan, blocks, cancelled):
        pixels = seen.pixels
        if seen.valid is not None:
            pixels = fill(pixels, seen.valid, reach=blocks.margin, rest=wish.within.low)
        unit = wish.within.to_unit(pixels)
        answers = [
            ask(unit[list(group)].expand(3, -1, -1)[None], of_group(seen.shared, number))[0]
            for number, group in enumerate(wish.numbers.groups)
        ]
        found = cut(torch.cat(answers), scaled(seen.inner, plan.scale)).mean(0)
        yield cell.enlarged(plan.scale), found.cpu().numpy()
