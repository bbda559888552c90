"""What a layer knows of its whole input, also where only a part of the input is at hand.

A layer that averages over space sees another image in a tile than in the picture that the tile is
cut from, and no halo mends that. Every such statistic is a `Pool` here, which is *local* by default
(of what it is given), can be *recorded* over the tiles of a picture, and can be *held* at what was
recorded, so that all tiles share the statistics of the whole.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from srpipe.models.layers import learns_on_cpu

Core = tuple[int, int, int, int]
"""Rows from, to, columns from, to: the part of an input that counts, in input pixels."""

Statistics = dict[str, Tensor]
"""What the pools of a network hold, by their names in it: float32, (1, kinds, channels, 1, 1)."""


_SQUARE = 16  # pixels


class Pool(nn.Module):
    """One or more statistics of every channel over space, in float32.

    A subclass measures them, and says how those of two parts make those of both.
    """

    held: Tensor | None = None
    record: "Record | None" = None

    @property
    def local(self) -> bool:
        """Whether it is of what it is given, and tells nobody."""
        return self.held is None and self.record is None

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, kinds, channels, 1, 1); or (1, ...) where all images share them."""
        shared = None if self.record is None else self.record.add(self, x)
        if self.held is not None:
            return self.held
        return self.measure(x) if shared is None else shared

    def measure(self, x: Tensor) -> Tensor:
        """The statistics of what is there."""
        raise NotImplementedError

    def joined(self, a: Tensor, b: Tensor, share: float) -> Tensor:
        """Of two parts; ``share`` is what part of all pixels lie in ``b``."""
        raise NotImplementedError


class Average(Pool):
    """The mean; with ``maximum`` the largest value as well."""

    def __init__(self, *, maximum: bool = False) -> None:
        super().__init__()
        self.maximum = maximum

    def measure(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, 1 or 2, C, 1, 1)."""
        means = x.mean((2, 3), keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32))
        if not self.maximum:
            return means.unsqueeze(1)
        # square by square first: over all at once, a CPU takes ten times as long in channels_last
        largest = F.max_pool2d(x, _SQUARE, ceil_mode=True).amax((2, 3), keepdim=True)
        return torch.stack((means, largest.to(means.dtype)), 1)

    def joined(self, a: Tensor, b: Tensor, share: float) -> Tensor:
        """Means by their share, and the larger maximum."""
        both = torch.lerp(a, b, share)
        if self.maximum:
            both[:, 1] = torch.maximum(a[:, 1], b[:, 1])
        return both


class Moments(Pool):
    """Mean and biased variance of each group of channels."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def measure(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, 2, groups, 1, 1)."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        grouped = wide.reshape(len(x), self.groups, -1)
        variance, mean = torch.var_mean(grouped, -1, correction=0)
        return torch.stack((mean, variance), 1)[..., None, None]

    def joined(self, a: Tensor, b: Tensor, share: float) -> Tensor:
        """Chan et al. 1983, doi:10.1080/00031305.1983.10483115: exact, without cancellation."""
        both = torch.lerp(a, b, share)
        both[:, 1] += share * (1 - share) * (a[:, 0] - b[:, 0]).square()
        return both


class GroupNorm(nn.Module):
    """`torch.nn.GroupNorm`, by the statistics of the whole image where those are held."""

    def __init__(self, groups: int, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.moments = Moments(groups)
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        groups = self.moments.groups
        if self.moments.local:
            return F.group_norm(x, groups, self.weight, self.bias, self.eps)
        mean, variance = self.moments(x).unbind(1)  # (N, groups, 1, 1) each
        each = x.shape[1] // groups
        mean, variance = (s.repeat_interleave(each, 1) for s in (mean, variance))
        slope = self.weight[:, None, None] * (variance + self.eps).rsqrt()
        return (x * slope + (self.bias[:, None, None] - mean * slope)).to(x.dtype)


class ChannelGate(nn.Module):
    """Weighs the channels by their averages over the image: squeeze and excitation.

    Hu et al. 2018, arXiv:1709.01507. With ``maximum`` also by their largest values, which go
    through the same two layers: the channel gate of CBAM, Woo et al. 2018, arXiv:1807.06521.
    """

    float32 = ("squeeze", "expand")
    """What stays in float32 where the rest is lowered, what is weighed as well: the networks add it
    to what is in float32 anyway."""

    def __init__(self, width: int, reduction: int = 16, *, maximum: bool = False) -> None:
        super().__init__()
        self.pool = Average(maximum=maximum)
        self.squeeze = _OnePixel(width, width // reduction)
        self.expand = _OnePixel(width // reduction, width)
        assert self.squeeze.bias is not None
        # Averages differ little between images: a ReLU that is shut for one would be for all.
        self.squeeze.bias.data.fill_(0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, H, W) to the same, weighed."""
        if self.pool.local and learns_on_cpu(x):
            x, found = _Averaged.apply(x, self.pool.maximum)
        else:
            found = self.pool(x)
        every = found.to(self.squeeze.weight.dtype).flatten(0, 1)  # (N kinds, width, 1, 1)
        each = self.expand(F.relu(self.squeeze(every))).unflatten(0, found.shape[:2])
        return x * torch.sigmoid(each.sum(1))


class _OnePixel(nn.Conv2d):
    """A convolution of images of one pixel each, a tenth of whose time a CPU takes to multiply."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, 1, 1) to (N, outputs, 1, 1)."""
        return F.linear(x.flatten(1), self.weight.flatten(1), self.bias)[..., None, None]


class _Averaged(torch.autograd.Function):
    """What `Average` measures, and its input, which is to be used in the input's place.

    Backward the gradients of both meet in one pass, where PyTorch's own takes five.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, maximum: bool) -> tuple[Tensor, Tensor]:
        found = [x.mean((2, 3), keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32))]
        if maximum:
            squares, where = F.max_pool2d(x, _SQUARE, ceil_mode=True, return_indices=True)
            largest, which = squares.flatten(2).max(2, keepdim=True)
            ctx.save_for_backward(where.flatten(2).gather(2, which))  # (N, C, 1), in H W
            found.append(largest.unsqueeze(-1).to(found[0].dtype))
        return x.view_as(x), torch.stack(found, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor, slopes: Tensor) -> tuple[Tensor, None]:
        each = slopes[:, 0] / given[0, 0].numel()
        to_x = given + each.to(given.dtype)
        for where in ctx.saved_tensors:
            image, channel = (torch.arange(length) for length in where.shape[:2])
            row, column = where // given.shape[-1], where % given.shape[-1]
            at = image[:, None, None], channel[:, None], row, column
            # scatter_add_ would copy it into another order
            to_x.index_put_(at, slopes[:, 1].flatten(2).to(given.dtype), accumulate=True)
        return to_x, None


class Record:
    """Statistics that grow while a network is run over the parts of an image."""

    def __init__(self, network: nn.Module) -> None:
        self._names = {pool: name for name, pool in pools(network).items()}
        self._found: dict[Pool, tuple[int, Tensor]] = {}
        self._size = (1, 1)
        self._cores: Sequence[Core] = ()

    def expect(self, size: tuple[int, int], cores: Sequence[Core]) -> None:
        """Say what the network gets next: images of this many rows and columns.

        For each of them the part that counts is named, so that no pixel of the whole counts twice.
        """
        self._size, self._cores = size, cores

    def add(self, pool: Pool, x: Tensor) -> Tensor:
        """Take in what a pool has before it: (N, C, H, W), whole multiples of the input's size.

        The statistics of all these images together come back, (1, kinds, channels, 1, 1).
        """
        if len(x) != len(self._cores):
            raise ValueError(f"{len(self._cores)} images were expected, and {len(x)} came")
        down, across = x.shape[-2] // self._size[0], x.shape[-1] // self._size[1]
        pixels = 0
        shared: Tensor | None = None
        for image, (top, bottom, left, right) in zip(x, self._cores, strict=True):
            part = image[None, :, top * down : bottom * down, left * across : right * across]
            more = part.shape[-2] * part.shape[-1]
            if more:
                pixels, shared = _joined(pool, pixels, shared, more, pool.measure(part))
        assert shared is not None, "no pixel of these images counts"
        before, known = self._found.get(pool, (0, None))
        self._found[pool] = _joined(pool, before, known, pixels, shared)
        return shared

    def statistics(self) -> Statistics:
        """What was found so far."""
        return {self._names[pool]: found for pool, (_pixels, found) in self._found.items()}


def _joined(
    pool: Pool, pixels: int, known: Tensor | None, more: int, found: Tensor
) -> tuple[int, Tensor]:
    """How many pixels two parts have, and their common statistics."""
    if known is None:
        return more, found
    return pixels + more, pool.joined(known, found, more / (pixels + more))


def pools(network: nn.Module) -> dict[str, Pool]:
    """The pools of a network by their names in it; none where all its layers are local."""
    return {name: part for name, part in network.named_modules() if isinstance(part, Pool)}


@contextmanager
def recorded(network: nn.Module) -> Iterator[Record]:
    """Within it, every run of the network adds to the record; tell it first what to expect."""
    found = pools(network).values()
    record = Record(network)
    for pool in found:
        pool.record = record
    try:
        yield record
    finally:
        for pool in found:
            pool.record = None


@contextmanager
def held(network: nn.Module, statistics: Mapping[str, Tensor]) -> Iterator[None]:
    """Within it, the network uses these statistics and not those of what it is given.

    Raises
    ------
    KeyError
        If one of its pools has none.
    """
    found = pools(network)
    device = next(network.parameters()).device
    for name, pool in found.items():
        pool.held = statistics[name].to(device)
    try:
        yield
    finally:
        for pool in found.values():
            pool.held = None


@torch.no_grad()
def whole(network: nn.Module, x: Tensor) -> Statistics:
    """The statistics of one whole image (1, 3, H, W)."""
    height, width = x.shape[-2:]
    with recorded(network) as record:
        record.expect((height, width), [(0, height, 0, width)])
        network(x)
    return record.statistics()
