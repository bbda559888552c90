"""What a step has a GPU do, as one CUDA graph, and numbers that neither side waits for.

No kernel then waits for Python to launch it.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Generator, Tensor

WARM = 3
"""Calls before a function becomes a graph: in them libraries set themselves up."""


def sent(numbers: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on a device, for which CUDA is not waited."""
    if device.type != "cuda":
        return numbers.to(device)
    return numbers.pin_memory().to(device, non_blocking=True)


class Readings:
    """What steps tell of themselves, on its way from the device."""

    def __init__(self) -> None:
        self._way = deque[tuple[int, Sequence[str], Tensor, torch.cuda.Event | None]]()

    def put(self, step: int, names: Sequence[str], numbers: Tensor) -> None:
        """What the step of this number tells: as many numbers as names."""
        event = None
        if numbers.device.type == "cuda":
            numbers = torch.empty(numbers.shape, pin_memory=True).copy_(numbers, non_blocking=True)
            event = torch.cuda.Event()
            event.record()
        self._way.append((step, names, numbers, event))

    def take(self, keep: int = 0) -> Iterator[tuple[int, dict[str, float]]]:
        """Steps and what they tell, the oldest first; the last ``keep`` of them stay."""
        while len(self._way) > keep:
            step, names, numbers, event = self._way.popleft()
            if event is not None:
                event.synchronize()
            yield step, dict(zip(names, numbers.tolist(), strict=True))


class Replays:
    """Whether functions are replayed: all of a step's, or none, since they hand each other memory.

    Parameters
    ----------
    device : where the tensors are; on a CPU nothing is replayed
    wanted : whether to, where it can be
    """

    def __init__(self, device: torch.device, *, wanted: bool = True) -> None:
        self.on = wanted and device.type == "cuda"
        self.aside = torch.cuda.Stream(device) if self.on else None


class Replayed:
    """A function of tensors whose shapes never change.

    Until it is a graph, and where nothing is replayed, it is the function itself. All calls count:
    none is made for the graph's sake.

    Parameters
    ----------
    function : called with tensors on the device; waits for nothing that they hold. What it gives
        is overwritten by the next call
    noise : the generators on the device that it draws from; they may be seeded between calls
    """

    def __init__(
        self, function: Callable[..., Any], replays: Replays, noise: Sequence[Generator] = ()
    ) -> None:
        self.function, self.replays, self.noise = function, replays, noise
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._given: tuple[Tensor, ...] = ()
        self._made: Any = None

    def __call__(self, *given: Tensor) -> Any:
        """What the function gives."""
        self._calls += 1
        if self.replays.on and self._calls <= WARM:
            return self._warm(given)
        if self.replays.on and self._graph is None:
            self._graph = self._captured(given)
        if not self.replays.on or self._graph is None:
            return self.function(*given)
        for mine, its in zip(self._given, given, strict=True):
            mine.copy_(its)
        self._graph.replay()
        return self._made

    def _warm(self, given: tuple[Tensor, ...]) -> Any:
        """On another stream, as capturing will be."""
        aside, now = self.replays.aside, torch.cuda.current_stream()
        assert aside is not None
        aside.wait_stream(now)
        with torch.cuda.stream(aside):
            made = self.function(*given)
        now.wait_stream(aside)
        return made

    def _captured(self, given: tuple[Tensor, ...]) -> torch.cuda.CUDAGraph | None:
        """The graph, which has computed nothing yet; None, and no more replays, where it fails."""
        graph = torch.cuda.CUDAGraph()
        for each in self.noise:
            graph.register_generator_state(each)
        self._given = tuple(each.clone() for each in given)
        try:
            with torch.cuda.graph(graph, stream=self.replays.aside):
                self._made = self.function(*self._given)
        except RuntimeError as error:
            torch.cuda.synchronize()
            self.replays.on = False
            print(f"goes on without CUDA graphs: {str(error).splitlines()[0]}", flush=True)
            return None
        return graph
