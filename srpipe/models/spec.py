"""What others may know of a model: the facts that hold for every set of weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A family of networks.

    Parameters
    ----------
    build : makes the network: ``build(scale=4, **options)``; input (N, 3, H, W) RGB, float, in
        [0, 1], output (N, 3, H * scale, W * scale), not clamped; its attribute ``float32`` names
        the parts that are never computed in less
    scales : output pixels per input pixel, along each side
    presets : options for `build` by name; "paper" is the published size, "lite" is made for CPUs
    halo : receptive radius in input pixels, from the scale and the options: no output pixel sees
        farther
    alignment : tile starts must be multiples of this for a tiled run to equal the whole
    statistics : "local", or "global" where a layer averages over its whole input
    gradient : whether ``network(x, return_gradient=True)`` also gives the predicted gradient map
    compiled : a part that a network has many of, where it pays to compile it for training on CUDA
    source : where the network comes from
    """

    build: Callable[..., nn.Module]
    scales: tuple[int, ...]
    presets: Mapping[str, Mapping[str, Any]]
    halo: Callable[..., int]
    alignment: int = 1
    statistics: Literal["local", "global"] = "local"
    gradient: bool = False
    compiled: type[nn.Module] | None = None
    source: str
