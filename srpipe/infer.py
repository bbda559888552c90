"""One network on one device in one precision, over one image, whole or in tiles."""

import copy
import itertools
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from srpipe.context import MOST_PIXELS, Part, gathered, look, spread
from srpipe.device import Cost, cost, found, free_bytes, give_back_cache, is_out_of_memory, said
from srpipe.ensemble import TURNS, Mean, turned
from srpipe.errors import Cancelled, ConfigError, DeviceError, PixelError
from srpipe.models.pooling import Core, Statistics, held, pools
from srpipe.precision import DTYPES, best, best_layout, lower, numbers, raised, whole_float32
from srpipe.tiling import Tile, Tiles, grid, smallest, window

T = TypeVar("T")
Way = TypeVar("Way")

BLENDS = ("crop", "hann")

_LEAST_FADE = 8  # pixels; a shorter ramp is as visible as a cut
_MOST_NUMBERS = 2**31 - 1  # in one tensor: beyond it many kernels fail or turn slow
_PIXELS_AT_ONCE = 2**20  # a GPU is busy with as many; larger batches only take memory
_PIXELS_AT_ONCE_CPU = 2**13  # and a CPU with these
_MOST_IMAGES_AT_ONCE = 16
_WINDOWS_ACROSS = 4  # a tile, from which statistics are gathered in place of it
_LOOK_S = 0.1  # between two looks at the free memory, which take as long as a small frame's colours
_TRIES = 8  # with ever smaller tiles; a 256th of the first is no tile any more


@dataclass(frozen=True)
class Plan:
    """How one call is cut: tiles of at most `size` pixels a side, `batch` of them at once."""

    size: int
    batch: int


class Upscaler:
    """Enlarge images with a network, in as many tiles as memory asks for.

    Parameters
    ----------
    network : takes and gives float32, (N, 3, H, W) in [0, 1] to (N, 3, H * scale, W * scale),
        whatever the type of its body; it is copied. What runs is the attribute `network`. Where it
        has an attribute ``smallest``, it brings what is smaller to this side
    scale : output pixels per input pixel, along each side
    halo : input pixels around a tile that its kept part depends on
    exact : whether no output pixel sees farther than the halo, so that cutting loses nothing
    alignment : tile starts must be multiples of this
    device : "auto", "cpu", "cuda", "cuda:1" or "mps"
    precision : "auto", "fp32", "bf16" or "fp16", but for the network's float32 parts; see `lower`
    tile : "auto", or the longest side that a tile may have, in input pixels, halos included
    blend : "crop" lets tiles touch, "hann" mixes them; "auto" crops where that is exact
    ensemble : whether all 8 flips and rotations are enlarged and their mean is what comes back

    Raises
    ------
    ConfigError
        If a name or number means nothing.
    DeviceError
        If the device is absent or cannot hold the network.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        scale: int,
        halo: int,
        exact: bool,
        alignment: int = 1,
        device: str = "auto",
        precision: str = "auto",
        tile: int | str = "auto",
        blend: str = "auto",
        ensemble: bool = False,
    ) -> None:
        self.scale, self.halo, self.alignment, self.exact = scale, halo, alignment, exact
        self.ensemble = ensemble
        self.device = found(device)
        self.precision = _one_of("precision", precision, DTYPES) or best(self.device)
        self._layout = best_layout(self.device, self.precision)
        self.blend = _one_of("blend", blend, BLENDS) or ("crop" if exact else "hann")
        self.tile = _tile(tile)
        self.recomputed = 0
        """Batches that were not finite in low precision and were computed again in float32."""
        self.shrunk = 0
        """Times that memory ran out and smaller tiles were taken."""
        self._alone = threading.RLock()
        self._most_pixels = math.inf  # at once; falls when memory runs out
        self._free_then = -math.inf, 0  # when it was looked at, and how much it was
        self._smallest: int = getattr(network, "smallest", 1)
        full = copy.deepcopy(network).float().eval().requires_grad_(False)
        self._weights = {} if self.precision == "fp32" else numbers(full)
        lowered = full if self.precision == "fp32" else lower(full, DTYPES[self.precision])
        try:
            self.network = lowered.to(self.device).to(memory_format=self._layout)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise DeviceError(f"{self.device} has no room for the network; free memory") from error

    def __call__(
        self,
        images: Tensor,
        *,
        statistics: Statistics | None = None,
        cancelled: Callable[[], bool] | None = None,
        on_tile: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """Enlarged images, (N, 3, H * scale, W * scale), float32, not clamped.

        They lie on the device, or on the CPU where the device has no room for all of them.
        Of an ensemble they are the mean.

        Parameters
        ----------
        images : Tensor of shape (N, 3, H, W), float32, in [0, 1], on any device
        statistics : what layers that look at the whole are to take for it; by default they take
            each image, whose statistics are gathered from its tiles where it does not fit whole
        cancelled : asked before each batch of tiles
        on_tile : told after each batch how many tiles of how many are done

        Raises
        ------
        PixelError
            If the shape or type is another, or the input is not finite.
        DeviceError
            If memory runs out with the smallest tile too, or the output is not finite.
        ConfigError
            If the tile has no room for the halo.
        Cancelled
            If `cancelled` said so.
        """
        if self.ensemble:
            return self._all_ways(images, statistics, cancelled, on_tile, spread=False).mean
        return self._whole(images, statistics, cancelled, on_tile)

    def statistics(
        self, images: Tensor, *, cancelled: Callable[[], bool] | None = None
    ) -> Statistics | None:
        """The statistics of one image, (1, 3, H, W), to be used for others like it.

        None where the network has no need of them, or the image fits whole: it needs none then.
        Raises what a call raises.
        """
        _, tiles = self.plan(*images.shape[2:])
        if len(tiles) == 1 or not self.looks_at_the_whole:
            return None
        return self._within_memory(
            images, lambda plan: self.gathered(lambda: self._parts(images, plan, cancelled))
        )

    def gathered(self, parts: Callable[[], Iterable[Part]]) -> Statistics:
        """The statistics of an image that comes in parts: see `srpipe.context.gathered`."""
        with self._at_work():
            found = gathered(self.network, parts)
            if self.precision != "fp32" and not all(_is_finite(s) for s in found.values()):
                self.recomputed += 1
                found = gathered(raised(self.network, self._weights), parts)
        return found

    def gathered_from(
        self,
        windows: Sequence[tuple[Tensor, Core]],
        at_once: int,
        *,
        cancelled: Callable[[], bool] | None = None,
    ) -> Statistics:
        """The statistics of an array of which there are windows, and of each the part that counts.

        Parameters
        ----------
        windows : (3, H, W) each, on the device, all of one shape; in an order that leaps about
        at_once : how many go through the network together; fewer where memory runs out

        Raises
        ------
        DeviceError
            If memory does not suffice for one of them.
        Cancelled
            If `cancelled` said so.
        """

        def parts(at_once: int) -> Iterator[Part]:
            for at in range(0, len(windows), at_once):
                look(cancelled)
                images, cores = zip(*windows[at : at + at_once], strict=True)
                yield torch.stack(images), cores

        side = max(windows[0][0].shape)
        return self._fitting(
            (at_once >> halved for halved in range(at_once.bit_length())),
            lambda at_once: self.gathered(partial(parts, at_once)),
            lambda _one, words: (
                f"memory of {self.device} ran out even with one window of {side} px{words};"
                " free memory or take a smaller model"
            ),
        )

    @cached_property
    def looks_at_the_whole(self) -> bool:
        """Whether the network has layers that average over all of their input."""
        return bool(pools(self.network))

    def mean_and_spread(
        self,
        images: Tensor,
        *,
        statistics: Statistics | None = None,
        cancelled: Callable[[], bool] | None = None,
        on_tile: Callable[[int, int], None] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """What an ensemble makes of images, and how far its eight results lie apart.

        The second is their standard deviation, of the same shape and in the same unit. Parameters
        and errors are those of a call.
        """
        found = self._all_ways(images, statistics, cancelled, on_tile, spread=True)
        return found.mean, found.spread

    def _all_ways(
        self,
        images: Tensor,
        statistics: Statistics | None,
        cancelled: Callable[[], bool] | None,
        on_tile: Callable[[int, int], None] | None,
        *,
        spread: bool,
    ) -> Mean:
        """Enlarge whole images as they lie, then in seven other ways: tiles start where they do."""

        def enlarged(turn: int) -> Tensor:
            def told(done: int, of: int) -> None:
                if on_tile is not None:
                    on_tile(turn * of + done, len(TURNS) * of)

            return self._whole(turned(images, turn), statistics, cancelled, told)

        found = Mean(enlarged(0), spread=spread)
        for turn in TURNS[1:]:
            found.add(enlarged(turn), turn)
        return found

    def _whole(
        self,
        images: Tensor,
        statistics: Statistics | None,
        cancelled: Callable[[], bool] | None,
        on_tile: Callable[[int, int], None] | None,
    ) -> Tensor:
        """Enlarged images, in as large tiles as memory turns out to hold."""
        _check(images)
        torch.get_num_threads()  # a new thread ignores set_num_threads until it asks
        with self._at_work():
            return self._within_memory(
                images,
                lambda plan: self._enlarged(images, plan, statistics, cancelled, on_tile),
            )

    def _within_memory(self, images: Tensor, make: Callable[[Plan], T]) -> T:
        """What `make` makes by the first plan for which memory suffices."""
        count, _, height, width = images.shape

        def plans() -> Iterator[Plan]:
            before = self._most_pixels
            for tries, plan in enumerate(self._plans(count, height, width)):
                if tries:
                    self._most_pixels = plan.batch * _pixels(plan.size, height, width)
                yield plan
            self._most_pixels = before  # no plan is to blame

        return self._fitting(plans(), make, self._exhausted)

    def _fitting(
        self, ways: Iterable[Way], make: Callable[[Way], T], exhausted: Callable[[Way, str], str]
    ) -> T:
        """What `make` makes in the first way for which memory suffices; each needs less of it.

        Parameters
        ----------
        exhausted : what to say if it did not even for the last one, and what the allocator said

        Raises
        ------
        DeviceError
            If there is no such way.
        """
        for way in ways:
            try:
                return make(way)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                words = said(error)
            self.shrunk += 1
            self._release()
        raise DeviceError(exhausted(way, words))

    def plan(self, height: int, width: int, images: int = 1) -> tuple[Plan, list[Tile]]:
        """How images of this size would be cut with the memory that is free now."""
        plan = next(self._plans(images, height, width))
        return plan, grid(height, width, self._tiles(plan.size))

    def at_once(self, height: int, width: int) -> int:
        """How many whole images of this size are best enlarged by one call."""
        plan, tiles = self.plan(height, width, _MOST_IMAGES_AT_ONCE)
        return plan.batch if len(tiles) == 1 else 1

    def windows(self, height: int, width: int, plan: Plan) -> tuple[list[Tile], int, int]:
        """Windows that statistics of an image can be gathered from.

        Also how many of them may be computed at once, and how many are enough. They are smaller
        than the plan's tiles, so that as many as fit at once come from all over the image; where
        tiles are small, they are still that many if memory has room: a batch of few windows is
        unlike the whole, and norms that follow one another make more of it with every layer.
        """
        tiles = replace(self._tiles(1), fade=0)
        side = max(smallest(height, width, tiles), 4 * self.halo, plan.size // _WINDOWS_ACROSS)
        tiles = replace(tiles, size=min(side, plan.size))
        room = min(int(self._room(0)) // tiles.size**2, _WINDOWS_ACROSS**2)
        at_once = max(1, room, plan.batch * plan.size**2 // tiles.size**2)
        return grid(height, width, tiles), at_once, max(at_once, MOST_PIXELS // tiles.size**2)

    def describe(self) -> dict[str, Any]:
        """What was chosen, in words and numbers, for a dry run or a summary."""
        return {
            "device": str(self.device),
            "precision": self.precision,
            "tile": self.tile,
            "blend": self.blend,
            "halo": self.halo,
            "alignment": self.alignment,
            "exact": self.exact,
            "scale": self.scale,
            "ensemble": self.ensemble,
            "bytes_per_pixel": round(self.cost.bytes_per_pixel),
        }

    @cached_property
    def cost(self) -> Cost:
        """What one input pixel costs, measured when first asked for."""
        try:
            return cost(self.network, self._smallest)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise DeviceError(
                f"{self.device} has no room to run the network; free memory"
            ) from error

    def _tiles(self, size: int) -> Tiles:
        fade = max(self.halo, _LEAST_FADE) if self.blend == "hann" else 0
        return Tiles(size=size, halo=self.halo, alignment=self.alignment, fade=fade)

    def _plans(self, images: int, height: int, width: int) -> Iterator[Plan]:
        """The plan that memory suggests, and smaller ones in case it is wrong."""
        fits = smallest(height, width, self._tiles(1))
        fixed = isinstance(self.tile, int)
        room = self._room(images * height * width)
        size = int(self.tile) if fixed else max(_side(room, height, width), fits)
        size = min(size, max(height, width))
        self._check_room(images, size, height, width)
        batch = self._batch(images, size, height, width, room)
        yield Plan(size, batch)
        if batch > 1:
            yield Plan(size, 1)
        for _ in range(0 if fixed else _TRIES - 1):
            if size <= fits:
                return
            size = max(size // 2, fits)
            yield Plan(size, 1)

    def _free(self) -> int:
        """Memory that is free on the device, or was a moment ago."""
        then, free = self._free_then
        now = time.monotonic()
        if now - then > _LOOK_S:
            free = free_bytes(self.device)
            self._free_then = now, free
        return free

    def _room(self, pixels: int) -> float:
        """Input pixels that may be computed at once: in half the free memory, beside the output."""
        free = self._free() // 2
        output = pixels * self._output_bytes
        beside = free - output if output <= free // 2 or self.device.type == "cpu" else free
        return min(
            max(beside, 0) / self.cost.bytes_per_pixel,
            _MOST_NUMBERS / self.cost.numbers_per_pixel,
            self._most_pixels,
        )

    def _check_room(self, images: int, size: int, height: int, width: int) -> None:
        """Stop before the system does: it would end the process and not say why."""
        pixels = _pixels(size, height, width)
        needed, free = pixels * self.cost.bytes_per_pixel, self._free()
        if self.device.type == "cpu" and pixels < images * height * width:
            needed += images * height * width * self._output_bytes
        if needed > free:
            raise DeviceError(
                f"{width} x {height} px in tiles of {size} px need {_mib(needed)} of memory and"
                f" {self.device} has {_mib(free)} free; free memory, or take a smaller"
                f" {'tile' if self.tile == size else 'image or model'}"
            )

    def _batch(self, images: int, size: int, height: int, width: int, room: float) -> int:
        """How many tiles at once; on a CPU, one of those that an image is cut into."""
        cpu = self.device.type == "cpu"
        if size < (max(height, width) if cpu else smallest(height, width, self._tiles(1))):
            return 1
        pixels = _pixels(size, height, width)
        busy = _PIXELS_AT_ONCE_CPU if cpu else _PIXELS_AT_ONCE
        most = min(busy // pixels, int(room / pixels), _MOST_IMAGES_AT_ONCE)
        work = images * len(grid(height, width, self._tiles(size)))
        rounds = math.ceil(work / max(most, 1))
        return math.ceil(work / rounds)

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """No gradients, all 24 bits in float32, and where layers hold statistics, one at a time."""
        alone = self._alone if self.looks_at_the_whole else nullcontext()
        exactly = whole_float32(self.device) if self.precision == "fp32" else nullcontext()
        # not inference_mode: its results cannot be changed in place outside it
        with torch.no_grad(), alone, exactly:
            yield

    def _enlarged(
        self,
        images: Tensor,
        plan: Plan,
        statistics: Statistics | None,
        cancelled: Callable[[], bool] | None,
        on_tile: Callable[[int, int], None] | None,
    ) -> Tensor:
        """Images in tiles that share the statistics of the whole, where the network has any."""
        height, width = images.shape[2:]
        tiles = grid(height, width, self._tiles(plan.size))
        if not self.looks_at_the_whole or (len(tiles) == 1 and statistics is None):
            return self._joined(images, tiles, plan.batch, cancelled, on_tile)
        results: list[Tensor] = []
        for image in images.split(1):

            def told(done: int, of: int, before: int = len(results)) -> None:
                if on_tile is not None:
                    on_tile(before * of + done, len(images) * of)

            def parts(image: Tensor = image) -> Iterator[Part]:
                return self._parts(image, plan, cancelled)

            known = self.gathered(parts) if statistics is None else statistics
            with held(self.network, known):
                results.append(self._joined(image, tiles, plan.batch, cancelled, told))
        return results[0] if len(results) == 1 else torch.cat(results)

    def _parts(
        self, image: Tensor, plan: Plan, cancelled: Callable[[], bool] | None
    ) -> Iterator[Part]:
        """What of one image its statistics are gathered from, in batches."""
        height, width = image.shape[2:]
        tiles, at_once, most = self.windows(height, width, plan)
        chosen = spread(tiles, most)
        for at in range(0, len(chosen), at_once):
            look(cancelled)
            part = [(0, tile) for tile in chosen[at : at + at_once]]
            yield self._read(image, part), [core(tile) for _image, tile in part]

    def _joined(
        self,
        images: Tensor,
        tiles: list[Tile],
        batch: int,
        cancelled: Callable[[], bool] | None,
        on_tile: Callable[[int, int], None] | None,
    ) -> Tensor:
        """Images in these tiles, one after the other."""
        work = list(itertools.product(range(len(images)), tiles))
        target: Tensor | None = None
        for at in range(0, len(work), batch):
            if cancelled is not None and cancelled():
                raise Cancelled(f"stopped before tile {at + 1} of {len(work)}")
            part = work[at : at + batch]
            enlarged = self._finite(self._read(images, part))
            if len(tiles) == 1 and len(part) == len(work):
                target = enlarged
            else:
                target = self._target(images) if target is None else target
                for (image, tile), pixels in zip(part, enlarged, strict=True):
                    self._place(target[image], pixels, tile)
            if on_tile is not None:
                on_tile(at + len(part), len(work))
        assert target is not None
        return target

    def _read(self, images: Tensor, part: list[tuple[int, Tile]]) -> Tensor:
        pieces = [
            images[i, :, t.y.read_from : t.y.read_to, t.x.read_from : t.x.read_to] for i, t in part
        ]
        return torch.stack(pieces).to(self.device, memory_format=self._layout)

    def _place(self, image: Tensor, enlarged: Tensor, tile: Tile) -> None:
        """Put the kept part of a tile where it belongs: (3, H, W) each."""
        y, x, scale = tile.y, tile.x, self.scale
        kept = enlarged[
            :,
            (y.keep_from - y.read_from) * scale : (y.keep_to - y.read_from) * scale,
            (x.keep_from - x.read_from) * scale : (x.keep_to - x.read_from) * scale,
        ]
        slot = image[
            :, y.keep_from * scale : y.keep_to * scale, x.keep_from * scale : x.keep_to * scale
        ]
        if self.blend == "crop":
            slot.copy_(kept)
            return
        down, across = (torch.from_numpy(window(span, scale)).to(kept.device) for span in (y, x))
        slot += (kept * down[:, None] * across).to(slot.device)

    def _target(self, images: Tensor) -> Tensor:
        """An empty output, on the device or, where that has no room, on the CPU."""
        n, channels, height, width = images.shape
        shape = n, channels, height * self.scale, width * self.scale
        if n * height * width * self._output_bytes <= free_bytes(self.device) // 4:
            with suppress(torch.OutOfMemoryError):
                return torch.zeros(shape, device=self.device)
        return torch.zeros(shape)

    @property
    def _output_bytes(self) -> int:
        return 3 * 4 * self.scale**2

    def _finite(self, x: Tensor) -> Tensor:
        """What the network makes of tiles; again in float32 where that is not finite."""
        y = self._applied(self.network, x)
        if _is_finite(y):
            return y
        if not _is_finite(x):
            raise PixelError("the image holds values that are not finite; mask or fill them first")
        if self.precision != "fp32":
            self.recomputed += 1
            y = self._applied(raised(self.network, self._weights), x)
            if _is_finite(y):
                return y
        raise DeviceError(f"the network gave values that are not finite on {self.device}, in fp32")

    def _applied(self, network: nn.Module, x: Tensor) -> Tensor:
        y = network(x)
        shape = (*x.shape[:2], x.shape[2] * self.scale, x.shape[3] * self.scale)
        if y.shape != shape or y.dtype != torch.float32:
            raise ConfigError(
                f"the network makes {y.dtype} {tuple(y.shape)} of {tuple(x.shape)}, and at scale"
                f" {self.scale} it should be torch.float32 {shape}"
            )
        return y

    def _release(self) -> None:
        self._free_then = -math.inf, 0
        give_back_cache(self.device)

    def _exhausted(self, plan: Plan, words: str) -> str:
        if isinstance(self.tile, int):
            return (
                f"memory of {self.device} ran out with the fixed tile of {self.tile} px{words};"
                ' use a smaller one or "auto"'
            )
        return (
            f"memory of {self.device} ran out even with tiles of {plan.size} px{words};"
            " free memory or take a smaller model"
        )


def core(tile: Tile) -> Core:
    """What of a tile no other tile keeps: all cores together are the image."""
    y, x = tile.y, tile.x
    return (
        y.keep_from - y.read_from,
        y.keep_to - y.read_from,
        x.keep_from - x.read_from,
        x.keep_to - x.read_from,
    )


def _one_of(what: str, name: str, names: Any) -> str | None:
    if name != "auto" and name not in names:
        raise ConfigError(f"no {what} is called {name!r}; use auto, {', '.join(names)}")
    return None if name == "auto" else name


def _tile(tile: int | str) -> int | str:
    if tile == "auto" or (isinstance(tile, int) and tile > 0):
        return tile
    raise ConfigError(f'a tile of {tile!r} makes no sense; use "auto" or a number of pixels')


def _check(images: Tensor) -> None:
    if not isinstance(images, Tensor) or images.dtype != torch.float32:
        raise PixelError(f"images must be a float32 tensor, not {_kind(images)}")
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
        raise PixelError(f"images must have the shape (N, 3, H, W), not {tuple(images.shape)}")


def _kind(images: Any) -> str:
    return str(images.dtype) if isinstance(images, Tensor) else type(images).__name__


def _is_finite(pixels: Tensor) -> bool:
    """Whether all are finite; the sum is one pass and says so in all but freak cases."""
    return bool(pixels.sum().isfinite()) or bool(pixels.isfinite().all())


def _pixels(size: int, height: int, width: int) -> int:
    return min(size, height) * min(size, width)


def _side(room: float, height: int, width: int) -> int:
    """The longest side of a tile of at most `room` pixels; a plane may be narrower than it."""
    if height * width <= room:
        return max(height, width)
    square = math.isqrt(int(room))
    return max(square, int(room) // min(height, width))


def _mib(size_bytes: float) -> str:
    return f"{size_bytes / 2**20:,.0f} MiB"
