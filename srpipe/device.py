"""Which devices are here, what memory they have left, and what a network needs of it."""

import copy
import ctypes
import functools
import gc
import re
import sys
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from traceback import clear_frames
from typing import Any, TypeVar

import psutil
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from srpipe.errors import ConfigError, DeviceError

T = TypeVar("T")

KEEP_FREED = {"MALLOC_ARENA_MAX": 1, "MALLOC_MMAP_MAX_": 0, "MALLOC_TRIM_THRESHOLD_": 2**62}
"""`keep_freed_memory` as the environment of a process that is to start; see mallopt(3)."""

_MALLOPT = (-8, 1), (-4, 0), (-1, -1)  # the same: parameters by their numbers in malloc.h
_ARCHITECTURE = re.compile(r"(sm|compute)_(\d+)(\d)([af]?)")
_WORTH_KEEPING = 2**28  # bytes, whatever comes next
_PROBE_SIDE = 16  # pixels, and twice that; less than a second for our largest network on one core
_SIGNS = (
    *("out of memory", "not enough memory", "can't allocate memory"),
    *("alloc_failed", "allocation_failed"),  # of cuBLAS and cuDNN
)


@dataclass(frozen=True)
class Cost:
    """What one more input pixel costs: bytes alive at the peak, numbers in the largest tensor."""

    bytes_per_pixel: float
    numbers_per_pixel: float


def found(device: str, turn: int = 0) -> torch.device:
    """The device of this name; "auto" is the fastest there is.

    Of several CUDA cards, "auto" and "cuda" are each in its turn.

    Raises
    ------
    ConfigError
        If the name is none.
    DeviceError
        If there is no such device here, or PyTorch cannot use it.
    """
    here = devices()
    cards = [name for name in here if name.startswith("cuda")]
    if device in ("auto", "cuda") and cards:
        usable = [card for card in cards if unusable(card) is None]
        if usable:
            return torch.device(usable[turn % len(usable)])
    if device == "auto":
        return torch.device(here[len(cards)])
    name = "cuda:0" if device == "cuda" else device
    why = unusable(name) if name in cards else None
    if why is not None:
        raise DeviceError(f"{why}; install a PyTorch that was made for it, or take the device cpu")
    if name in here:
        return torch.device(name)
    if name.partition(":")[0] not in ("cpu", "cuda", "mps"):
        raise ConfigError(f"no device is called {device!r}; use auto, cpu, cuda, cuda:1 or mps")
    raise DeviceError(f"there is no device {device} here; there is {', '.join(here)}")


def unusable(card: str) -> str | None:
    """Why PyTorch cannot use a CUDA card that is here, in words; None where it can."""
    with warnings.catch_warnings(action="ignore"):  # PyTorch tells it in five lines
        capability = torch.cuda.get_device_capability(card)
    compiled = torch.cuda.get_arch_list()
    if runs_on(capability, compiled):
        return None
    architecture = f"sm_{capability[0]}{capability[1]}"
    return (
        f"{card} is of the architecture {architecture}, and the installed PyTorch has code for"
        f" {', '.join(compiled)} only"
    )


def passed_over() -> tuple[str, ...]:
    """What to say of the cards that are here and that "auto" does not take."""
    cards = [name for name in devices() if name.startswith("cuda")]
    return tuple(f"{why}; it is not used" for why in map(unusable, cards) if why is not None)


def runs_on(capability: tuple[int, int], compiled: Sequence[str]) -> bool:
    """Whether a CUDA card has code among what was compiled, as `torch.cuda.get_arch_list` says.

    Code of its generation serves if it is for no newer card ("sm_80" on 8.6); PTX ("compute_80")
    also for all generations to come; what ends in "a" only the very card. AMD's are not judged.
    """
    known = [match for name in compiled if (match := _ARCHITECTURE.fullmatch(name))]
    if not known:
        return True
    for kind, major, minor, only in (match.groups() for match in known):
        made_for = int(major), int(minor)
        forward = kind == "compute" and not only
        serves = made_for <= capability and (forward or made_for[0] == capability[0])
        if made_for == capability or (serves and only != "a"):
            return True
    return False


def cost(network: nn.Module, smallest: int = 1) -> Cost:
    """What one more input pixel costs a network that takes (N, 3, H, W) float32.

    `smallest` is the side to which it brings what is smaller.

    Counts the bytes of all tensors alive at a time, input and output included, for two small
    pictures, and takes the slope. What a kernel allocates for itself is not seen: leave room for
    it. (The meta device would do without numbers, but its first use takes seconds.)
    """
    # a copy, so that a network that keeps statistics of what it sees keeps none of this
    side = max(smallest, _PROBE_SIDE)
    small, large = (_peak(copy.deepcopy(network), each) for each in (side, 2 * side))
    pixels = 3 * side**2
    return Cost(
        max((large.peak_bytes - small.peak_bytes) / pixels, 3 * 4),  # the picture itself
        max((large.most_numbers - small.most_numbers) / pixels, 3),
    )


def free_bytes(device: torch.device) -> int:
    """Memory that can still be had on a device, a container's limit included.

    What this process keeps of freed memory is part of it.
    """
    if device.type == "cuda":
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + held
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    return min([psutil.virtual_memory().available, *_left_to_container(Path("/"))]) + _kept_bytes()


def keep_freed_memory() -> None:
    """Let this process keep what its tensors leave behind, for the next ones.

    glibc's malloc gives large blocks back to the system at once, which has to clear every page of
    the next: half the time of a network over large frames. Only for a process of one's own: it
    then holds the most that it ever needed, and `free_bytes` counts that as free. Where sizes vary,
    gaps are left that fit nothing; see `give_back_freed_memory`. Does nothing where the C library
    is another.
    """
    libc = _glibc()
    if libc is not None:
        for parameter, value in _MALLOPT:
            libc.mallopt(parameter, value)


def give_back_freed_memory() -> None:
    """Let the system have what this process keeps of freed memory, unless it is little."""
    if _kept_bytes() > _WORTH_KEEPING:
        _glibc().malloc_trim(0)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, in whatever words."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)


def said(error: BaseException) -> str:
    """What an allocator said, in brackets, but for its advice to programmers; or nothing."""
    words = str(error).partition("\n")[0].partition(" If reserved but")[0].rstrip(".")
    return f" ({words})" if words else ""


@contextmanager
def memory_told(what: str) -> Iterator[None]:
    """Let memory that runs out in the block be an error in one line.

    Raises
    ------
    DeviceError
        In place of whatever it was that said so; what was in memory then is let go.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        clear_frames(error.__traceback__)  # one may be kept to the end of a job
        raise DeviceError(f"memory ran out at {what}{said(error)}; free memory") from None


def where_room_is(device: torch.device, make: Callable[[torch.device], T]) -> T:
    """What `make` makes on the device, or on the CPU where the device has no room for that."""
    try:
        return make(device)
    except (MemoryError, RuntimeError) as error:
        if device.type == "cpu" or not is_out_of_memory(error):
            raise
    give_back_cache(device)  # not before here: an error holds what was there when it was raised
    return make(torch.device("cpu"))


def give_back_cache(device: torch.device) -> None:
    """Let the device have what PyTorch keeps of freed memory."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    if device.type == "mps":
        torch.mps.empty_cache()


def devices() -> list[str]:
    """Names of the devices that are here, the fastest first."""
    cuda = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    return [*cuda, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]


class _Mallinfo(ctypes.Structure):
    """What glibc's malloc tells of itself; see mallinfo(3)."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


class _Live(TorchDispatchMode):
    """Count the bytes of tensors that are alive while it is on."""

    def __init__(self) -> None:
        super().__init__()
        self.peak_bytes = self.most_numbers = self._now = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        return tree_map_only(Tensor, self.add, func(*args, **(kwargs or {})))

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Do not bring in the compiler, which takes seconds; PyTorch asks this."""
        return False

    def add(self, tensor: Tensor) -> Tensor:
        """Count the memory of a tensor until it is freed, and once however many share it."""
        storage = tensor.untyped_storage()
        if id(storage) not in self._known:
            self._known.add(id(storage))
            self._now += storage.nbytes()
            weakref.finalize(storage, self._freed, id(storage), storage.nbytes())
        self.peak_bytes = max(self.peak_bytes, self._now)
        self.most_numbers = max(self.most_numbers, tensor.numel())
        return tensor

    def _freed(self, key: int, nbytes: int) -> None:
        self._known.discard(key)
        self._now -= nbytes


def _peak(network: nn.Module, side: int) -> _Live:
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    live = _Live()
    picture = live.add(torch.zeros(1, 3, side, side, device=device))
    with torch.no_grad(), live:
        network(picture)
    return live


def _kept_bytes() -> int:
    """Memory that malloc holds and nobody uses, but for what has been given back of it.

    Of what is this process's own, all that malloc does not say is in use; a little too much.
    """
    libc = _glibc()
    if libc is None:
        return 0
    malloc, memory = libc.mallinfo2(), psutil.Process().memory_info()
    return max(min(malloc.fordblks, memory.rss - memory.shared - malloc.uordblks), 0)


@functools.cache
def _glibc() -> Any:
    """The C library, if it is glibc 2.33 or newer."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is None or not hasattr(libc, "mallinfo2"):
        return None
    libc.mallinfo2.restype = _Mallinfo
    return libc


def _left_to_container(root: Path) -> list[int]:
    """What this process's control group may still take; nothing where there is no limit."""
    groups = root / "proc/self/cgroup"
    if not groups.exists():
        return []
    left = []
    for line in groups.read_text().splitlines():
        _, controllers, group = line.split(":", 2)
        if not controllers:  # version 2
            names, base = ("memory.max", "memory.current"), root / "sys/fs/cgroup"
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
            base = root / "sys/fs/cgroup/memory"
        else:
            continue
        for folder in (base / group.strip("/"), base):  # inside a container only the second exists
            left += _left(folder, *names)
    return left


def _left(folder: Path, limit: str, used: str) -> list[int]:
    try:
        total, taken = (folder / limit).read_text(), int((folder / used).read_text())
        stat = (folder / "memory.stat").read_text().split()
    except OSError:
        return []
    if total.strip() == "max":
        return []
    values = dict(zip(stat[::2], map(int, stat[1::2]), strict=True))
    cache = values.get("total_inactive_file", values.get("inactive_file", 0))
    return [max(int(total) - taken + cache, 0)]
